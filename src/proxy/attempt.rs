//! One replica, asked once: connect, send, relay, and what its ending means.
use super::asking::{Asking, Carrier, alone, hand_back};
use super::body::Body;
use super::exchange::{End, Exchange};
use super::forward::upstream;
use super::placed::Placed;
use super::relay::Relayed;
use crate::canary::Ended;
use crate::fleet::{InFlight, Replica};
use crate::flow::{Happened, Refusal, Stop, Trouble};
use crate::health::{Class, Outcome};
use crate::observe::During;
use crate::stats::Moment;
use crate::table::{Choice, Timeouts, Wish};
use crate::wire::{Checkout, Exhausted};
use http::StatusCode;
use pingora_core::protocols::http::client::HttpSession;
use std::time::Duration;
use tokio::time::{sleep, timeout};

impl Exchange<'_> {
    /// Asks one replica, or two where the model hedges.
    pub(super) async fn attempt<'m>(
        &mut self,
        placed: &mut Placed<'m>,
        choice: Choice<'m>,
        wish: Wish<'_>,
    ) -> Result<Relayed, Trouble> {
        placed.prepare(choice);
        let asked = self.attempt_prepared(placed, choice, wish).await;
        if let Err(trouble) = &asked
            && trouble.is_of_no_work()
        {
            self.record.course.note(Happened::Spared);
        }
        asked
    }

    async fn attempt_prepared<'m>(
        &mut self,
        placed: &Placed<'m>,
        choice: Choice<'m>,
        wish: Wish<'_>,
    ) -> Result<Relayed, Trouble> {
        if let Some(after) = self.hedges_after(placed, choice) {
            return self.race(placed, choice, wish, after).await;
        }
        self.in_flight = Some(self.begin(choice));
        self.checkpoint("attempt");
        let asked = self.ask(placed, choice).await;
        self.settle_attempt(choice, &asked);
        asked
    }

    /// Notes that a replica is asked.
    pub(super) fn begin(&mut self, choice: Choice<'_>) -> InFlight {
        let now = self.proxy.now();
        self.note_candidates(choice, now);
        let replica = &choice.member.replica;
        self.asked_at.get_or_insert(now);
        (self.answer_seen, self.stream) = (false, None);
        self.record.course.note(Happened::Asked { replica, at: now });
        let mut in_flight = replica.begin(&choice.version.state, now);
        if self.record.course.converses() {
            in_flight.converse();
        }
        if let Some(sender) = self.sender {
            in_flight.sent_by(sender);
        }
        in_flight
    }

    /// Connects, sends and relays.
    async fn ask(&mut self, placed: &Placed<'_>, choice: Choice<'_>) -> Result<Relayed, Trouble> {
        let replica = &choice.member.replica;
        let timeouts = &placed.model.plan.timeouts;
        let mut asking = Asking::new(replica, timeouts, placed.upgrading, self.is_call());
        loop {
            let connecting = asking.connect(self.proxy.now());
            let checkout = match placed.body {
                Body::Whole(..) => self.watched(timeouts, connecting).await?,
                Body::Stream(..) => self.in_time(timeouts, connecting).await?,
            }?;
            if let Some(in_flight) = &mut self.in_flight {
                Carrier::of(&checkout, || self.proxy.now()).tell(in_flight);
            }
            let Checkout { mut session, reins, reused, .. } = checkout;
            let http2 = matches!(session, HttpSession::H2(_));
            let to = upstream(placed.model.plan_of(choice.version), replica, http2);
            let head = self
                .request_head(placed, &to)
                .map_err(|error| Trouble::BadRequest(error.to_string()))?;
            let relayed =
                self.relay(placed, head, &mut session, reins.as_ref(), choice.version).await;
            let begun = self.answer_seen || self.attempts.body_spent;
            if let Err(trouble) = &relayed
                && asking.again(reused, trouble, self.attempts.repeatable, begun)
            {
                continue;
            }
            let ended = relayed.as_ref().map(|relayed| relayed.reusable);
            hand_back(&replica.upstream, session, reins, ended, || self.proxy.now()).await;
            return relayed;
        }
    }

    /// Waits while the client is there, whose request was read to its end, and no longer than the whole may take.
    pub(super) async fn watched<T>(
        &mut self,
        timeouts: &Timeouts,
        wait: impl Future<Output = T>,
    ) -> Result<T, Trouble> {
        tokio::select! { biased;
            done = wait => Ok(done),
            trouble = self.interrupted(timeouts) => Err(trouble),
        }
    }

    /// Waits no longer than the whole may take.
    pub(super) async fn in_time<T>(
        &self,
        timeouts: &Timeouts,
        wait: impl Future<Output = T>,
    ) -> Result<T, Trouble> {
        timeout(self.time_left(timeouts), wait).await.map_err(|_| Trouble::Total)
    }

    /// Returns when the client leaves, or the time for the whole is over.
    pub(super) async fn interrupted(&mut self, timeouts: &Timeouts) -> Trouble {
        let left = self.time_left(timeouts);
        self.watch_client();
        tokio::select! { biased;
            _ = self.session.read_body_or_idle(true) => Trouble::ClientGone,
            () = sleep(left) => Trouble::Total,
        }
    }

    /// Records how an attempt ended, once its connection is back or closed.
    pub(super) fn settle_attempt(&mut self, choice: Choice<'_>, asked: &Result<Relayed, Trouble>) {
        let now = self.proxy.now();
        let Some(mut in_flight) = self.in_flight.take() else { return };
        let began = in_flight.began();
        let (class, status) = match asked {
            Ok(relayed) => (relayed.class, self.record.course.code()),
            Err(trouble) => trouble.meaning(),
        };
        alone(class, &choice.member.replica, &mut in_flight);
        let waited = asked.as_ref().map_or(Duration::ZERO, |relayed| relayed.client_waits);
        let first_byte = self.record.course.first_byte().map(|at| at.since(began));
        let outcome = Outcome {
            class,
            latency: now.since(began).saturating_sub(waited),
            first_byte,
            bytes: self.record.course.bytes_out(),
            tunnel: self.record.course.tunnels(),
        };
        let code = asked.is_err().then_some(status);
        self.record.course.note(Happened::Ended { class, code });
        let over = matches!(asked, Err(Trouble::Total))
            && self
                .record
                .model
                .as_ref()
                .is_some_and(|model| self.deadline.is_of_client(&model.plan.timeouts));
        let left = matches!(asked, Err(Trouble::ClientGone));
        let ended = if left || over { Ended::Cancelled } else { Ended::Seen };
        if matches!(asked, Err(Trouble::Exhausted(_))) {
            self.witness = None;
            return in_flight.forget();
        }
        if self.record.is_test {
            return in_flight.forget();
        }
        self.testify(&outcome, asked.as_ref().ok().and_then(|relayed| relayed.output), ended);
        let impatient =
            matches!(asked, Err(Trouble::Total)) && self.was_impatient(choice, began, now);
        let class = if impatient { Class::Cancelled } else { class };
        let outcome = Outcome { class, ..outcome };
        in_flight.on_path(&self.record.path, class);
        in_flight.finish(status, &outcome, now);
    }

    /// Was it the client's own deadline that ended it, too soon to speak against the replica? Otherwise a client could
    /// have replicas ejected by giving them no time.
    fn was_impatient(&self, choice: Choice<'_>, began: Moment, now: Moment) -> bool {
        let usual = choice.version.state.speed().typical();
        self.deadline.own.is_some() && usual.is_none_or(|usual| now.since(began) < usual * 8)
    }

    /// Was a part of an answer passed on?
    pub(super) fn begun(&self) -> bool {
        self.session.response_written().is_some_and(|head| {
            !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
        })
    }

    /// Tells the client of a replica that failed, as far as it can still be told.
    pub(super) async fn give_up(
        &mut self,
        trouble: Trouble,
        replica: &Replica,
        placed: &Placed<'_>,
    ) -> Result<End, Stop> {
        let begun = self.begun();
        if let Trouble::Client(stop) = trouble {
            return match (stop, begun) {
                (stop, false) => Err(stop),
                (Stop::Refused(refusal), true) => Ok(self.end_call(refusal.code, &refusal.message)),
                (Stop::Gone, true) => Ok(End::Cut),
            };
        }
        if let Trouble::Exhausted(Exhausted(resource)) = &trouble {
            let now = self.proxy.now();
            self.proxy.meters.exhaustion.note(*resource, During::Connect, now);
        }
        let Some(code) = trouble.code() else { return Ok(End::Cut) };
        let timeouts = &placed.model.plan.timeouts;
        let what = trouble.describe(timeouts, &self.deadline.given(timeouts));
        tracing::debug!(replica = %replica.id, %trouble, "attempt failed");
        if begun {
            self.record.course.note(Happened::Broke { error: code, code: None });
            return Ok(self.end_broken_stream(code, &what).await);
        }
        let times = match self.record.course.attempts() {
            0 | 1 => String::new(),
            n => format!(" ({n} attempts)"),
        };
        let message = format!("the model server of `{}` {what}{times}", placed.model.name);
        Err(Refusal::new(code, message).caused_by(trouble.class()).into())
    }
}
