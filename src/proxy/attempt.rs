//! One replica, asked once: connect, send, relay, and what its ending means.
use super::answer::Refusal;
use super::body::Body;
use super::exchange::{End, Exchange, Placed, Stop};
use super::forward::upstream;
use super::pick::Choice;
use super::relay::{Relayed, Trouble};
use crate::dialect::{FoundIn, RefusalCode, rename_in_body, rename_in_form};
use crate::fleet::{InFlight, Replica};
use crate::health::{Class, Outcome};
use crate::table::{Timeouts, VersionPlan};
use crate::wire::Checkout;
use http::StatusCode;
use pingora_error::{Error, ErrorType, RetryType};
use std::sync::Arc;
use std::time::Duration;

impl Exchange<'_> {
    /// Asks the chosen replica, and answers the client with what comes of it.
    pub(super) async fn attempt(
        &mut self,
        placed: &mut Placed<'_>,
        choice: Choice<'_>,
    ) -> Result<End, Stop> {
        if self.time_left(&placed.model.plan.timeouts).is_zero() {
            return Err(total_over(&placed.model.plan.timeouts).into());
        }
        let now = self.proxy.now();
        let replica = &choice.member.replica;
        // HTTP/2 has no `Upgrade`: the replica is asked without it, and says what it thinks of that.
        placed.upgrade &= !replica.upstream.http2();
        let in_flight = replica.begin(&choice.version.state, now);
        self.asked_at = Some(now);
        self.record.attempts += 1;
        self.record.replica = Some(Arc::clone(replica));
        let plan = placed.model.plan_of(choice.version);
        rename(placed, plan);
        let asked = self.ask(placed, choice, plan).await;
        self.settle_attempt(in_flight, &asked);
        match asked {
            Ok(relayed) => Ok(relayed.end),
            Err(trouble) => self.give_up(trouble, replica, placed).await,
        }
    }

    /// Sends on a kept connection, and once more on a fresh one where the kept one had died unnoticed: the replica
    /// closed it while idle, which is nobody's fault.
    async fn ask(
        &mut self,
        placed: &Placed<'_>,
        choice: Choice<'_>,
        plan: &VersionPlan,
    ) -> Result<Relayed, Trouble> {
        let replica = &choice.member.replica;
        let timeouts = &placed.model.plan.timeouts;
        let mut fresh = false;
        loop {
            let now = self.proxy.now();
            let checkout = replica.upstream.checkout(timeouts.connect, fresh, now);
            let Checkout { mut session, reins, reused } = match placed.body {
                Body::Whole(..) => self.or_gone(checkout).await?,
                Body::Stream(..) => checkout.await,
            }
            .map_err(|error| Trouble::Connect(error.to_string()))?;
            let to = upstream(plan, replica);
            let head = self
                .request_head(placed, &to)
                .map_err(|error| Trouble::BadRequest(error.to_string()))?;
            let relayed =
                self.relay(placed, head, &mut session, reins.as_ref(), choice.version).await;
            match relayed {
                Ok(relayed) if relayed.reusable => {
                    replica.upstream.park(session, reins, self.proxy.now()).await;
                    return Ok(relayed);
                }
                Err(Trouble::Died(_)) if reused && !fresh && self.may_ask_again(placed) => {
                    fresh = true;
                }
                other => {
                    drop(session);
                    return other;
                }
            }
        }
    }

    /// Nothing of the answer was seen, and the whole request is still there to send.
    fn may_ask_again(&self, placed: &Placed<'_>) -> bool {
        !self.answer_seen && matches!(placed.body, Body::Whole(..))
    }

    /// Waits while watching the client, whose request was read to its end.
    async fn or_gone<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::select! { biased;
            done = wait => Ok(done),
            _ = self.session.read_body_or_idle(true) => Err(Trouble::ClientGone),
        }
    }

    /// What is left of the time for the whole exchange.
    pub(super) fn time_left(&self, timeouts: &Timeouts) -> Duration {
        timeouts.total.saturating_sub(self.proxy.now().since(self.record.began))
    }

    fn settle_attempt(&mut self, in_flight: InFlight, asked: &Result<Relayed, Trouble>) {
        let now = self.proxy.now();
        let class = match asked {
            Ok(relayed) => relayed.class,
            Err(trouble) => trouble.class(),
        };
        let status = match asked {
            Ok(_) => self.record.status,
            Err(trouble) => trouble.code().map_or(499, RefusalCode::status),
        };
        let waited = asked.as_ref().map_or(Duration::ZERO, |relayed| relayed.client_waits);
        let began = in_flight.began();
        let first_byte = self.record.first_byte.map(|took| (self.record.began + took).since(began));
        let outcome = Outcome {
            class,
            latency: now.since(began).saturating_sub(waited),
            first_byte,
            bytes: self.record.bytes_out,
            tunnel: self.record.tunnel,
        };
        self.record.class = class;
        if asked.is_err() {
            self.record.status = status;
        }
        in_flight.finish(status, &outcome, now);
    }

    /// Tells the client of a replica that failed, as far as it can still be told.
    async fn give_up(
        &mut self,
        trouble: Trouble,
        replica: &Replica,
        placed: &Placed<'_>,
    ) -> Result<End, Stop> {
        let begun = self.session.response_written().is_some_and(|head| {
            !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
        });
        let Some(code) = trouble.code() else {
            return if let (Trouble::Client(stop), false) = (trouble, begun) {
                Err(stop)
            } else {
                Ok(End::Cut)
            };
        };
        let what = trouble.describe(&placed.model.plan.timeouts);
        tracing::debug!(replica = %replica.id, %trouble, "attempt failed");
        if begun {
            self.record.refusal = Some(code);
            return Ok(self.end_broken_stream(code, &what).await);
        }
        let message = format!("the model server of `{}` {what}", placed.model.name);
        Err(Refusal::new(code, message).caused_by(trouble.class()).into())
    }
}

/// The whole exchange took too long, and no replica is to blame.
pub(super) fn total_over(timeouts: &Timeouts) -> Refusal {
    let message = format!("the request was not done within {:?}", timeouts.total);
    Refusal::new(RefusalCode::TotalTimeout, message)
}

impl Trouble {
    /// An error while the head was written. What cannot be written at all is the client's fault.
    pub(super) fn of_head(error: Box<Error>) -> Self {
        let ours = error.root_cause().downcast_ref::<h2::Error>().is_some_and(|error| {
            !(error.is_io() || error.is_go_away() || error.is_reset() || error.is_library())
        });
        if ours || *error.etype() == ErrorType::InvalidHTTPHeader {
            Self::BadRequest(error.to_string())
        } else {
            error.into()
        }
    }

    /// What the client is told; nothing when it left.
    fn code(&self) -> Option<RefusalCode> {
        Some(match self {
            Self::ClientGone | Self::ClientStalled | Self::Client(_) => return None,
            Self::Connect(_) | Self::Died(_) | Self::Reset(_) => RefusalCode::UpstreamFailed,
            Self::BadRequest(_) => RefusalCode::BadRequest,
            Self::FirstByte => RefusalCode::FirstByteTimeout,
            Self::Stalled => RefusalCode::StreamStalled,
            Self::Total => RefusalCode::TotalTimeout,
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::ClientGone | Self::ClientStalled | Self::Client(Stop::Gone) => Class::Cancelled,
            Self::Client(Stop::Refused(_)) | Self::BadRequest(_) => Class::Refused,
            Self::Connect(_) => Class::ConnectFailure,
            Self::Died(_) | Self::Reset(_) => Class::Reset,
            Self::FirstByte | Self::Stalled | Self::Total => Class::Timeout,
        }
    }

    fn describe(&self, timeouts: &Timeouts) -> String {
        match self {
            Self::Connect(_) => "could not be reached".to_owned(),
            Self::Died(_) | Self::Reset(_) => {
                "closed the connection or did not answer in HTTP".to_owned()
            }
            Self::FirstByte => format!("sent nothing within {:?}", timeouts.first_byte),
            Self::Stalled => format!("fell silent for {:?}", timeouts.between_chunks),
            Self::Total => format!("was not done within {:?}", timeouts.total),
            Self::BadRequest(_) => "cannot be sent this request".to_owned(),
            Self::ClientGone | Self::ClientStalled | Self::Client(_) => "was abandoned".to_owned(),
        }
    }
}

impl From<Box<Error>> for Trouble {
    /// An error on the replica's side of the exchange.
    fn from(error: Box<Error>) -> Self {
        use ErrorType::{
            ConnectionClosed, H2Error, ReadError, ReadTimedout, WriteError, WriteTimedout,
        };
        let etype = error.etype();
        if [ReadTimedout, WriteTimedout].contains(etype) {
            return Self::Stalled;
        }
        // A stream that was reset may have been worked on; pingora marks those that were not.
        let unseen = *etype == H2Error && error.retry != RetryType::Decided(false);
        let died = unseen || [ConnectionClosed, ReadError, WriteError].contains(etype);
        if died { Self::Died(error.to_string()) } else { Self::Reset(error.to_string()) }
    }
}

/// Puts the version's own name for the model into the body. The path is renamed with the head.
fn rename(placed: &mut Placed<'_>, plan: &VersionPlan) {
    let Some(name) = &plan.upstream_model else { return };
    let renamed = match &placed.facts.found_in {
        Some(FoundIn::Body(range)) => {
            rename_in_body(placed.body.read_so_far(), range.clone(), name)
        }
        Some(FoundIn::Form(range)) => {
            rename_in_form(placed.body.read_so_far(), range.clone(), name)
        }
        Some(FoundIn::Path(_) | FoundIn::Header(_)) | None => return,
    };
    placed.length_change = length_change(placed.body.read_so_far().len(), renamed.len());
    placed.body.replace(renamed);
}

/// Names are short: the difference always fits.
fn length_change(before: usize, after: usize) -> i64 {
    let of = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    of(after) - of(before)
}
