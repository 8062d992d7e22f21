//! A second attempt elsewhere when the first is slow to its first byte: whichever answers first is passed on, the
//! other is cancelled (Dean and Barroso, "The Tail at Scale", CACM 2013).
use super::attempt::harmless;
use super::body::Body;
use super::exchange::Exchange;
use super::forward::upstream;
use super::pick::{Choice, Wish, choose};
use super::placed::Placed;
use super::record::Note;
use super::relay::{Relayed, Trouble};
use super::send::{FEED, send_whole};
use super::shared::Proxy;
use crate::fleet::{Hedged, InFlight, Replica};
use crate::health::{Class, Outcome, Repeatable, RetryOn};
use crate::table::{Model, Timeouts};
use crate::wire::{Checkout, Reins};
use bytes::Bytes;
use parking_lot::Mutex;
use pingora_core::protocols::http::client::HttpSession;
use pingora_http::RequestHeader;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A replica that has begun to answer: its head is read.
pub(super) struct Begun {
    pub(super) session: HttpSession,
    pub(super) reins: Option<Arc<Reins>>,
    pub(super) first: First,
}

/// What the first read of a body gave.
#[derive(Debug)]
pub(super) enum First {
    /// There is no body to read.
    Nothing,
    Chunk(Bytes),
    /// It was empty.
    End,
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Begun, Trouble>> + Send + 'a>>;

/// One of the attempts that race.
struct Leg<'a> {
    choice: Choice<'a>,
    in_flight: InFlight,
    /// The shared connection that carries it.
    connection: Arc<Mutex<Option<u64>>>,
    opening: Opening<'a>,
}

impl Exchange<'_> {
    /// After how long a second attempt is due; `None`: this request is not hedged.
    pub(super) fn hedges_after(&self, placed: &Placed<'_>, choice: Choice<'_>) -> Option<Duration> {
        placed.model.plan.hedge.as_ref()?;
        let whole = matches!(placed.body, Body::Whole(..)) && !placed.upgrading;
        // A long body is fed while the replica is listened to: it may answer before it has read all.
        let whole = whole && placed.outgoing().len() <= FEED;
        let repeatable = self.attempts.repeatable == Repeatable::Always;
        let first = self.attempts.tried.is_empty() && !choice.fail_open;
        choice.version.state.pace.hedge_after().filter(|_| whole && repeatable && first)
    }

    /// Asks a replica, and after a while a second one.
    pub(super) async fn race<'m>(
        &mut self,
        placed: &Placed<'m>,
        choice: Choice<'m>,
        wish: Wish<'_>,
        after: Duration,
    ) -> Result<Relayed, Trouble> {
        let model = placed.model;
        let timeouts = &model.plan.timeouts;
        let mut first = self.leg(placed, choice)?;
        let opened = tokio::select! { biased;
            opened = &mut first.opening => Some(opened),
            trouble = self.interrupted(timeouts) => Some(Err(trouble)),
            () = sleep(after) => None,
        };
        if let Some(opened) = opened {
            return self.finish(placed, first, opened).await;
        }
        let Some(second) = self.second(placed, &first, wish) else {
            model.state.hedged(Hedged::Skipped);
            let opened = tokio::select! { biased;
                opened = &mut first.opening => opened,
                trouble = self.interrupted(timeouts) => Err(trouble),
            };
            return self.finish(placed, first, opened).await;
        };
        let tried = Arc::clone(&first.choice.member.replica);
        let (winner, loser, opened) = self.first_of(model, first, second).await;
        let hedge_won = !Arc::ptr_eq(&winner.choice.member.replica, &tried);
        model.state.hedged(if hedge_won { Hedged::Won } else { Hedged::Lost });
        self.give_way(loser);
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
        self.leg(placed, choice).ok()
    }

    fn leg<'a>(&mut self, placed: &Placed<'a>, choice: Choice<'a>) -> Result<Leg<'a>, Trouble> {
        let model: &'a Model = placed.model;
        let replica = Arc::clone(&choice.member.replica);
        let head = self
            .request_head(placed, &upstream(model.plan_of(choice.version), &replica))
            .map_err(|error| Trouble::BadRequest(error.to_string()))?;
        let mut in_flight = self.begin(choice);
        in_flight.waits(self.proxy.now());
        let (proxy, body) = (Arc::clone(self.proxy), placed.outgoing().clone());
        let connection = Arc::<Mutex<Option<u64>>>::default();
        let carried = Arc::clone(&connection);
        let opening = Box::pin(open(proxy, replica, head, body, &model.plan.timeouts, carried));
        Ok(Leg { choice, in_flight, connection, opening })
    }

    /// The leg that answers first, and the other. An answer that would be asked again elsewhere does not win while
    /// the other is still under way.
    async fn first_of<'a>(
        &mut self,
        model: &Model,
        mut one: Leg<'a>,
        mut two: Leg<'a>,
    ) -> (Leg<'a>, Leg<'a>, Result<Begun, Trouble>) {
        let timeouts = &model.plan.timeouts;
        let good = |opened: &Result<Begun, Trouble>| {
            let status = opened.as_ref().ok().and_then(|begun| begun.session.response_header());
            status.is_some_and(|head| {
                !model.plan.retries.when.contains(&RetryOn::Status(head.status.as_u16()))
            })
        };
        let (opened, by_two) = tokio::select! { biased;
            opened = &mut one.opening => (opened, false),
            opened = &mut two.opening => (opened, true),
            trouble = self.interrupted(timeouts) => return (one, two, Err(trouble)),
        };
        if by_two {
            std::mem::swap(&mut one, &mut two);
        }
        if good(&opened) {
            return (one, two, opened);
        }
        let other = tokio::select! { biased;
            other = &mut two.opening => other,
            trouble = self.interrupted(timeouts) => return (one, two, Err(trouble)),
        };
        if good(&other) || opened.is_err() { (two, one, other) } else { (one, two, opened) }
    }

    /// Passes on what the winner says.
    async fn finish(
        &mut self,
        placed: &Placed<'_>,
        leg: Leg<'_>,
        opened: Result<Begun, Trouble>,
    ) -> Result<Relayed, Trouble> {
        let Leg { choice, mut in_flight, connection, opening } = leg;
        drop(opening);
        in_flight.on_connection(*connection.lock());
        self.record.replica = Some(Arc::clone(&choice.member.replica));
        self.record.asked_at = Some(in_flight.began());
        self.in_flight = Some(in_flight);
        let relayed = match opened {
            Err(trouble) => Err(trouble),
            Ok(mut begun) => {
                let relayed = self.relay_begun(placed, &mut begun, choice.version).await;
                let reusable = relayed.as_ref().is_ok_and(|relayed| relayed.reusable);
                if reusable {
                    let Begun { session, reins, .. } = begun;
                    let upstream = &choice.member.replica.upstream;
                    upstream.park(session, reins, self.proxy.now()).await;
                }
                relayed
            }
        };
        self.settle_attempt(choice, &relayed);
        relayed
    }

    /// Cancels the attempt that lost.
    fn give_way(&mut self, loser: Leg<'_>) {
        let Leg { choice, in_flight, opening, .. } = loser;
        // The connection closes first: then the replica runs nothing for us.
        drop(opening);
        let now = self.proxy.now();
        let latency = now.since(in_flight.began());
        let outcome =
            Outcome { class: Class::Cancelled, latency, first_byte: None, bytes: 0, tunnel: false };
        self.record.earlier.push(Note {
            replica: Arc::clone(&choice.member.replica),
            version: Arc::clone(&choice.version.name),
            began: in_flight.began().since(self.record.began),
            took: latency,
            class: outcome.class,
            status: 499,
        });
        in_flight.finish(499, &outcome, now);
    }

    /// Returns when the client leaves, or the time for the whole is over.
    async fn interrupted(&mut self, timeouts: &Timeouts) -> Trouble {
        let left = self.time_left(timeouts);
        tokio::select! { biased;
            _ = self.session.read_body_or_idle(true) => Trouble::ClientGone,
            () = sleep(left) => Trouble::Total,
        }
    }
}

/// Asks a replica, up to the first byte of its answer.
async fn open(
    proxy: Arc<Proxy>,
    replica: Arc<Replica>,
    head: Box<RequestHeader>,
    body: Bytes,
    timeouts: &Timeouts,
    carried: Arc<Mutex<Option<u64>>>,
) -> Result<Begun, Trouble> {
    let mut fresh = false;
    loop {
        let checkout = replica.upstream.checkout(timeouts.connect, fresh, proxy.now()).await;
        let Checkout { mut session, reins, reused, connection } =
            checkout.map_err(|error| Trouble::Connect(error.to_string()))?;
        *carried.lock() = connection;
        session.set_write_timeout(Some(timeouts.between_chunks));
        let sent =
            send_whole(&mut session, reins.as_ref(), head.clone(), body.clone(), false).await;
        let begun = match sent {
            Ok(()) => {
                let answer = timeout(timeouts.first_byte, first_byte(&mut session)).await;
                answer.unwrap_or(Err(Trouble::FirstByte))
            }
            Err(trouble) => Err(trouble),
        };
        match begun {
            Ok(first) => return Ok(Begun { session, reins, first }),
            Err(trouble) if reused && !fresh && harmless(&trouble, Repeatable::Always) => {
                fresh = true;
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

/// The head, and the first read of the body where there is one.
async fn first_byte(session: &mut HttpSession) -> Result<First, Trouble> {
    loop {
        session.read_response_header().await?;
        let head = session.response_header();
        if head.is_some_and(|head| !head.status.is_informational()) {
            break;
        }
    }
    if session.response_done() {
        return Ok(First::Nothing);
    }
    Ok(session.read_response_body().await?.map_or(First::End, First::Chunk))
}
