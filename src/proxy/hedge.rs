//! A second attempt elsewhere when the first is slow to its first byte: whichever answers first is passed on, the
//! other is cancelled (Dean and Barroso, "The Tail at Scale", CACM 2013).
use super::asking::{Begun, Carrier, Whole, alone, open};
use super::body::Body;
use super::chance::choose;
use super::exchange::{End, Exchange};
use super::forward::upstream;
use super::heard::Attempt;
use super::placed::Placed;
use super::receive::Answer;
use super::upload::FEED;
use crate::canary::Ended;
use crate::fleet::{Hedged, InFlight};
use crate::flow::{Happened, PastAttempt, Trouble};
use crate::health::{Class, Outcome, Repeatable, RetryOn, Standing};
use crate::table::{Choice, Model, Wish};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Begun, Trouble>> + Send + 'a>>;

/// One of the attempts that race.
struct Leg<'a> {
    choice: Choice<'a>,
    /// It is the second one.
    is_hedge: bool,
    in_flight: InFlight,
    carrier: Arc<Mutex<Carrier>>,
    opening: Opening<'a>,
}

/// How a race went.
struct Race<'a> {
    winner: Leg<'a>,
    opened: Result<Begun, Trouble>,
    loser: Leg<'a>,
    /// How the loser ended; `None` while it is under way.
    lost: Option<Result<Begun, Trouble>>,
}

impl Exchange<'_> {
    /// After how long a second attempt is due; `None`: this request is not hedged.
    pub(super) fn hedges_after(&self, placed: &Placed<'_>, choice: Choice<'_>) -> Option<Duration> {
        placed.model.plan.hedge.as_ref()?;
        let whole = matches!(placed.body, Body::Whole(..)) && !placed.upgrading;
        // A long body is fed while the replica is listened to: it may answer before it has read all.
        let whole = whole && placed.outgoing().len() <= FEED;
        let repeatable = self.attempts.repeatable == Repeatable::Always;
        // A trial that is cancelled because another was faster would never end a probation.
        let trial = choice.member.replica.standing() == Standing::Probation;
        let first = self.attempts.tried.is_empty() && !choice.fail_open && !trial;
        let first = first && !self.record.is_test;
        choice.version.state.pace.hedge_after().filter(|_| whole && repeatable && first)
    }

    /// Asks a replica, and after a while a second one.
    pub(super) async fn race<'m>(
        &mut self,
        placed: &Placed<'m>,
        choice: Choice<'m>,
        wish: Wish<'_>,
        after: Duration,
    ) -> Result<End, Trouble> {
        let model = placed.model;
        let timeouts = &model.plan.timeouts;
        let mut first = self.leg(placed, choice)?;
        self.record.course.note(Happened::Sent);
        // That the client left is seen before an answer that came meanwhile.
        let opened = tokio::select! { biased;
            trouble = self.interrupted(timeouts) => Some(Err(trouble)),
            opened = &mut first.opening => Some(opened),
            () = sleep(after) => None,
        };
        if let Some(opened) = opened {
            return self.finish(placed, first, opened).await;
        }
        let Some(second) = self.second(placed, &first, wish) else {
            model.state.hedged(Hedged::Skipped);
            let opened = tokio::select! { biased;
                trouble = self.interrupted(timeouts) => Err(trouble),
                opened = &mut first.opening => opened,
            };
            return self.finish(placed, first, opened).await;
        };
        let Race { winner, loser, opened, lost } = self.first_of(model, first, second).await;
        let hedge_won = winner.is_hedge && opened.is_ok();
        model.state.hedged(if hedge_won { Hedged::Won } else { Hedged::Lost });
        self.give_way(loser, lost);
        self.finish(placed, winner, opened).await
    }

    /// Another replica of the same version, if the budget and the version's load allow it.
    fn second<'a>(
        &mut self,
        placed: &Placed<'a>,
        first: &Leg<'a>,
        wish: Wish<'_>,
    ) -> Option<Leg<'a>> {
        let model: &'a Model = placed.model;
        let version = first.choice.version;
        let tried = [Arc::clone(&first.choice.member.replica)];
        let wish = Wish { pinned: Some(version.index), tried: &tried, ..wish };
        let calm = version.state.pace.is_calm(version.in_flight(), version.members.len());
        let choice = calm.then(|| choose(model, wish, self.proxy.now()).ok()).flatten()?;
        let other = !Arc::ptr_eq(&choice.member.replica, &tried[0]) && !choice.fail_open;
        if !other || !model.state.hedge_budget.take() {
            return None;
        }
        let leg = self.leg(placed, choice).ok()?;
        Some(Leg { is_hedge: true, ..leg })
    }

    fn leg<'a>(&mut self, placed: &Placed<'a>, choice: Choice<'a>) -> Result<Leg<'a>, Trouble> {
        let model: &'a Model = placed.model;
        let replica = Arc::clone(&choice.member.replica);
        // The head tells of the attempt that it belongs to.
        let mut in_flight = self.begin(choice);
        let head = self
            .request_head(placed, &upstream(model.plan_of(choice.version), &replica, true))
            .map_err(|error| Trouble::BadRequest(error.to_string()))?;
        in_flight.waits(self.proxy.now());
        let whole = Whole { head, body: placed.outgoing().clone(), call: self.is_call() };
        let (proxy, timeouts) = (Arc::clone(self.proxy), &model.plan.timeouts);
        let carrier = Arc::<Mutex<Carrier>>::default();
        let opening = Box::pin(open(proxy, replica, whole, timeouts, Arc::clone(&carrier)));
        Ok(Leg { choice, is_hedge: false, in_flight, carrier, opening })
    }

    /// Which leg answers first. An answer that would be asked again elsewhere does not win while the other is still
    /// under way.
    async fn first_of<'a>(
        &mut self,
        model: &Model,
        mut one: Leg<'a>,
        mut two: Leg<'a>,
    ) -> Race<'a> {
        let timeouts = &model.plan.timeouts;
        let call = self.is_call();
        let good = |opened: &Result<Begun, Trouble>| {
            let meaning = opened.as_ref().ok().and_then(|begun| begun.meaning(call));
            meaning.is_some_and(|meaning| {
                !model.plan.retries.when.contains(&RetryOn::Status(meaning.severity))
            })
        };
        let (opened, by_two) = tokio::select! { biased;
            trouble = self.interrupted(timeouts) => {
                return Race { winner: one, opened: Err(trouble), loser: two, lost: None };
            }
            opened = &mut one.opening => (opened, false),
            opened = &mut two.opening => (opened, true),
        };
        if by_two {
            std::mem::swap(&mut one, &mut two);
        }
        if good(&opened) {
            return Race { winner: one, opened, loser: two, lost: None };
        }
        let (other, interrupted) = tokio::select! { biased;
            trouble = self.interrupted(timeouts) => (Err(trouble), true),
            other = &mut two.opening => (other, false),
        };
        if interrupted || opened.is_err() || good(&other) {
            return Race { winner: two, opened: other, loser: one, lost: Some(opened) };
        }
        Race { winner: one, opened, loser: two, lost: Some(other) }
    }

    /// Passes on what the winner says.
    async fn finish(
        &mut self,
        placed: &Placed<'_>,
        leg: Leg<'_>,
        opened: Result<Begun, Trouble>,
    ) -> Result<End, Trouble> {
        let Leg { choice, mut in_flight, carrier, opening, .. } = leg;
        drop(opening);
        carrier.lock().tell(&mut in_flight);
        let (replica, began) = (&choice.member.replica, in_flight.began());
        self.record.course.note(Happened::Won { replica, began });
        let attempt = Attempt::new(in_flight);
        let (attempt, relayed) = match opened {
            Err(trouble) => (attempt, Err(trouble)),
            Ok(begun) => {
                let mut answer = Answer::begun(begun, attempt);
                let relayed = self.relay_begun(placed, &mut answer).await;
                let trouble = relayed.as_ref().err();
                (answer.hand_back(trouble, || self.proxy.now()).await, relayed)
            }
        };
        self.settle_attempt(choice, attempt, relayed.as_ref().err());
        relayed
    }

    /// Settles the attempt that lost: cancelled where it is under way, else as it ended.
    fn give_way(&mut self, loser: Leg<'_>, ended: Option<Result<Begun, Trouble>>) {
        let Leg { choice, is_hedge, mut in_flight, carrier, opening } = loser;
        let replica = &choice.member.replica;
        carrier.lock().tell(&mut in_flight);
        let (class, status) = match &ended {
            Some(Ok(begun)) => {
                let meaning = begun.meaning(self.is_call());
                meaning.map_or((Class::Reset, 502), |meaning| (meaning.class, meaning.code))
            }
            Some(Err(trouble)) => trouble.meaning(),
            None => (Class::Cancelled, 499),
        };
        alone(class, &mut in_flight);
        // The connection closes first: then the replica runs nothing for us.
        drop((opening, ended));
        let now = self.proxy.now();
        let latency = now.since(in_flight.began());
        let outcome = Outcome { class, latency, first_byte: None, tunnel: false };
        self.record.course.note(Happened::Lost(PastAttempt {
            replica: Arc::clone(replica),
            version: Arc::clone(&choice.version.name),
            began: in_flight.began(),
            took: latency,
            class,
            code: status,
        }));
        if class != Class::Cancelled {
            self.attempts.tried.push(Arc::clone(replica));
        }
        // Of the two, the first is the one that a canary judges.
        if !is_hedge {
            let outrun = class == Class::Cancelled;
            self.testify(&outcome, None, if outrun { Ended::Outrun } else { Ended::Seen });
        }
        if class == Class::Refused {
            return in_flight.forget();
        }
        in_flight.on_path(&self.record.path, class);
        in_flight.finish(status, &outcome, now);
    }
}
