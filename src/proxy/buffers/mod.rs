//! The bound on all request bodies kept in memory together, and who gives way when it is reached.
//!
//! Bytes count when they are here, not when a client announces them. A reservation that fails is refused at once:
//! waiting for room while holding a part of it is how buffers deadlock.
mod addresses;
mod reading;
#[cfg(test)]
mod tests;

use crate::access::{Claim, Verdict};
use crate::dialect::RefusalCode;
use crate::fleet::Holder;
use crate::flow::{Refusal, Stop};
use crate::observe::Meters;
use crate::stats::Moment;
use addresses::Addresses;
use reading::{Reading, Ticket};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// So long after a client had to be refused the others keep to their part.
const CONTENDED: Duration = Duration::from_secs(10);

/// The budget of bytes.
#[derive(Debug)]
pub struct Buffers {
    limit: AtomicU64,
    meters: Arc<Meters>,
    /// Until then everybody keeps to a part, in nanoseconds of the process's clock.
    contended_until: AtomicU64,
    reading: Arc<Reading>,
    addresses: Addresses,
}

/// Why a reservation does not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// No space is left, and nobody holds more than this client that could give something up.
    Full,
    /// This client holds its part, and others want space.
    Greedy { held: u64 },
    /// The body was given up for a client that holds less.
    GivenUp,
}

/// Why a body finds no space.
impl From<Shortage> for Stop {
    fn from(why: Shortage) -> Self {
        let message = match why {
            Shortage::Full => {
                "no space is left in `buffers` for request bodies; try again in a moment".to_owned()
            }
            Shortage::Greedy { held } => format!(
                "the requests of this client hold {held} bytes of `buffers`, and other clients need space: \
                 wait until some of them are answered"
            ),
            Shortage::GivenUp => {
                "`buffers` is full, and the requests of this client hold the most: send fewer at once"
                    .to_owned()
            }
        };
        Refusal::new(RefusalCode::OutOfBuffers, message).into()
    }
}

impl Buffers {
    pub(super) fn new(limit: u64, meters: Arc<Meters>) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            meters,
            contended_until: AtomicU64::new(0),
            reading: Arc::default(),
            addresses: Addresses::default(),
        }
    }

    /// Follows a reload. What is reserved beyond a smaller limit drains by itself.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    /// The account of a client that has no key.
    pub(super) fn holder_of(&self, address: IpAddr) -> Arc<Holder> {
        self.addresses.holder(address)
    }

    /// An empty reservation, to be grown. `holder`: whose it is; `None`: nobody's, and it makes no room for itself.
    pub(super) fn reservation(&self, holder: Option<Arc<Holder>>) -> Reservation {
        let (meters, reading) = (Arc::clone(&self.meters), None);
        Reservation { meters, holder, bytes: 0, reading }
    }

    /// As [`Self::grow`], for what may be done without: half of all space is left to requests.
    pub(super) fn grow_spare(&self, reservation: &mut Reservation, bytes: u64) -> bool {
        let more = bytes.saturating_sub(reservation.bytes);
        let half = self.limit.load(Relaxed) / 2;
        self.meters.buffered.load(Relaxed) + more <= half
            && self.grow(reservation, bytes, Moment::ZERO).is_ok()
    }

    /// Grows a reservation to `bytes`; an error changes nothing.
    pub(super) fn grow(
        &self,
        reservation: &mut Reservation,
        bytes: u64,
        now: Moment,
    ) -> Result<(), Shortage> {
        let more = bytes.saturating_sub(reservation.bytes()?);
        if more == 0 {
            return Ok(());
        }
        let limit = self.limit.load(Relaxed);
        let claim = Claim {
            limit,
            used: self.meters.buffered.fetch_add(more, Relaxed) + more,
            own: reservation.holder.as_ref().map_or(0, |holder| holder.add(more)),
            contended: now.as_nanos() < self.contended_until.load(Relaxed),
        };
        let granted = match claim.verdict() {
            Verdict::Granted => Ok(()),
            Verdict::Greedy if reservation.holder.is_some() => {
                Err(Shortage::Greedy { held: claim.own - more })
            }
            Verdict::Full | Verdict::Greedy => self.make_room(reservation, claim, now),
        };
        let added = granted.and_then(|()| reservation.add(more));
        if added.is_err() {
            release(&self.meters, reservation.holder.as_deref(), more);
        }
        added
    }

    /// Has those who hold more give something up, where there is somebody.
    fn make_room(&self, for_: &Reservation, claim: Claim, now: Moment) -> Result<(), Shortage> {
        if for_.holder.is_none() {
            return Err(Shortage::Full);
        }
        let needed = claim.used.saturating_sub(claim.limit);
        let released = |holder: &Holder, bytes| release(&self.meters, Some(holder), bytes);
        let made = self.reading.make_room(claim, needed, released);
        // A client that fills the space alone is refused, and takes it from nobody.
        if made || !claim.is_large() {
            self.contended_until.fetch_max((now + CONTENDED).as_nanos(), Relaxed);
        }
        if made { Ok(()) } else { Err(Shortage::Full) }
    }

    /// From now on the rest of the body is awaited: until it is here, it can be given up for another client.
    pub(super) fn await_rest(&self, reservation: &mut Reservation) {
        let Some(holder) = reservation.holder.as_ref().filter(|_| reservation.reading.is_none())
        else {
            return;
        };
        let ticket = self.reading.enter(Arc::clone(holder), reservation.bytes);
        reservation.bytes = 0;
        reservation.reading = Some((ticket, Arc::clone(&self.reading)));
    }
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    meters: Arc<Meters>,
    holder: Option<Arc<Holder>>,
    /// What it holds, unless a ticket says so.
    bytes: u64,
    /// While the rest of the body is awaited.
    reading: Option<(Arc<Ticket>, Arc<Reading>)>,
}

impl Reservation {
    fn bytes(&self) -> Result<u64, Shortage> {
        match &self.reading {
            None => Ok(self.bytes),
            Some((ticket, _)) => ticket.bytes().ok_or(Shortage::GivenUp),
        }
    }

    fn add(&mut self, more: u64) -> Result<(), Shortage> {
        match &self.reading {
            None => self.bytes += more,
            Some((ticket, _)) if ticket.grew(more) => {}
            Some(_) => return Err(Shortage::GivenUp),
        }
        Ok(())
    }

    /// Returns when the body was given up.
    pub(super) async fn given_up(&self) {
        match &self.reading {
            None => std::future::pending().await,
            Some((ticket, _)) => ticket.given_up().await,
        }
    }

    /// The body is here: it cannot be given up any more.
    pub(super) fn complete(&mut self) -> Result<(), Shortage> {
        let Some((ticket, reading)) = self.reading.take() else { return Ok(()) };
        reading.leave(&ticket);
        self.bytes = ticket.close().ok_or(Shortage::GivenUp)?;
        Ok(())
    }

    /// The client has its answer: what is kept from now on is not kept for it.
    pub(super) fn disown(&mut self) {
        if let Some(holder) = self.holder.take() {
            holder.remove(self.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.complete().is_ok() && self.bytes > 0 {
            release(&self.meters, self.holder.as_deref(), self.bytes);
        }
    }
}

fn release(meters: &Meters, holder: Option<&Holder>, bytes: u64) {
    meters.buffered.fetch_sub(bytes, Relaxed);
    if let Some(holder) = holder {
        holder.remove(bytes);
    }
}
