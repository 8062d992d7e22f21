//! One replica, asked once: connect, send, relay, and what its ending means.
use super::asking::{Asking, Carrier, alone};
use super::body::Body;
use super::exchange::{End, Exchange};
use super::heard::Attempt;
use super::placed::Placed;
use super::receive::Answer;
use crate::canary::Ended;
use crate::fleet::{InFlight, Replica};
use crate::flow::{Happened, Refusal, Stop, Trouble};
use crate::health::{Class, Outcome};
use crate::observe::During;
use crate::stats::Moment;
use crate::table::{Choice, Timeouts, Wish};
use crate::wire::{Checkout, Exhausted};
use http::StatusCode;
use tokio::time::{sleep, timeout};

impl Exchange<'_> {
    /// Asks one replica, or two where the model hedges.
    pub(super) async fn attempt<'m>(
        &mut self,
        placed: &mut Placed<'m>,
        choice: Choice<'m>,
        wish: Wish<'_>,
    ) -> Result<End, Trouble> {
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
    ) -> Result<End, Trouble> {
        if let Some(after) = self.hedges_after(placed, choice) {
            return self.race(placed, choice, wish, after).await;
        }
        let attempt = Attempt::new(self.begin(choice));
        self.checkpoint("attempt");
        let (attempt, asked) = self.ask(placed, choice, attempt).await;
        self.settle_attempt(choice, attempt, asked.as_ref().err());
        asked
    }

    /// Notes that a replica is asked.
    pub(super) fn begin(&mut self, choice: Choice<'_>) -> InFlight {
        let now = self.proxy.now();
        self.note_candidates(choice, now);
        let replica = &choice.member.replica;
        self.asked_at.get_or_insert(now);
        self.stream = None;
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
    async fn ask(
        &mut self,
        placed: &Placed<'_>,
        choice: Choice<'_>,
        mut attempt: Attempt,
    ) -> (Attempt, Result<End, Trouble>) {
        let replica = &choice.member.replica;
        let timeouts = &placed.model.plan.timeouts;
        let mut asking = Asking::new(replica, timeouts, placed.upgrading, self.is_call());
        loop {
            let checkout = match self.connect(placed, &asking).await {
                Ok(checkout) => checkout,
                Err(trouble) => return (attempt, Err(trouble)),
            };
            Carrier::of(&checkout, || self.proxy.now()).tell(&mut attempt.in_flight);
            let reused = checkout.reused;
            let mut answer = Answer::over(checkout, attempt);
            let relayed = self.relay(placed, choice, &mut answer).await;
            let begun = answer.attempt.seen || self.attempts.body_spent;
            if let Err(trouble) = &relayed
                && asking.again(reused, trouble, self.attempts.repeatable, begun)
            {
                attempt = answer.give_up();
                continue;
            }
            let trouble = relayed.as_ref().err();
            return (answer.hand_back(trouble, || self.proxy.now()).await, relayed);
        }
    }

    async fn connect(
        &mut self,
        placed: &Placed<'_>,
        asking: &Asking<'_>,
    ) -> Result<Checkout, Trouble> {
        let timeouts = &placed.model.plan.timeouts;
        let connecting = asking.connect(self.proxy.now());
        match placed.body {
            Body::Whole(..) => self.watched(timeouts, connecting).await?,
            Body::Stream(..) => self.in_time(timeouts, connecting).await?,
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
        self.downstream().watch();
        tokio::select! { biased;
            _ = self.session.read_body_or_idle(true) => Trouble::ClientGone,
            () = sleep(left) => Trouble::Total,
        }
    }

    /// Records how an attempt ended, once its connection is back or closed. `trouble`: it broke.
    pub(super) fn settle_attempt(
        &mut self,
        choice: Choice<'_>,
        attempt: Attempt,
        trouble: Option<&Trouble>,
    ) {
        let now = self.proxy.now();
        let (outcome, status) = attempt.outcome(trouble, now);
        let (mut in_flight, output) = attempt.over(trouble.is_none());
        let began = in_flight.began();
        alone(outcome.class, &mut in_flight);
        let code = trouble.is_some().then_some(status);
        self.record.course.note(Happened::Ended { class: outcome.class, code });
        if matches!(trouble, Some(Trouble::Exhausted(_))) {
            self.witness = None;
            return in_flight.forget();
        }
        if self.record.is_test {
            return in_flight.forget();
        }
        let total = matches!(trouble, Some(Trouble::Total));
        let model = self.record.model.as_ref();
        let over =
            total && model.is_some_and(|model| self.deadline.is_of_client(&model.plan.timeouts));
        let left =
            matches!(trouble, Some(Trouble::ClientGone)) && outcome.class == Class::Cancelled;
        let ended = if left || over { Ended::Cancelled } else { Ended::Seen };
        self.testify(&outcome, output, ended);
        let impatient = total && self.was_impatient(choice, began, now);
        let class = if impatient { Class::Cancelled } else { outcome.class };
        in_flight.on_path(&self.record.path, class);
        in_flight.finish(status, &Outcome { class, ..outcome }, now);
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
