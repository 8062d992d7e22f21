//! The bound on all request bodies kept in memory together.
//!
//! A reservation that fails is refused at once: waiting for room while holding a part of it is how buffers deadlock.
use crate::observe::Meters;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The budget of bytes.
#[derive(Debug)]
pub struct Buffers {
    limit: AtomicU64,
    meters: Arc<Meters>,
}

impl Buffers {
    pub(super) fn new(limit: u64, meters: Arc<Meters>) -> Self {
        Self { limit: AtomicU64::new(limit), meters }
    }

    /// Follows a reload. What is reserved beyond a smaller limit drains by itself.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    /// An empty reservation, to be grown.
    pub(super) fn reservation(&self) -> Reservation {
        Reservation { meters: Arc::clone(&self.meters), bytes: 0 }
    }

    /// As [`Self::grow`], for what may be done without: half of all space is left to requests.
    pub(super) fn grow_spare(&self, reservation: &mut Reservation, bytes: u64) -> bool {
        let more = bytes.saturating_sub(reservation.bytes);
        let half = self.limit.load(Relaxed) / 2;
        self.meters.buffered.load(Relaxed) + more <= half && self.grow(reservation, bytes)
    }

    /// Grows a reservation to `bytes`; `false` when there is no room, and nothing changed.
    pub(super) fn grow(&self, reservation: &mut Reservation, bytes: u64) -> bool {
        let more = bytes.saturating_sub(reservation.bytes);
        if more == 0 {
            return true;
        }
        let used = self.meters.buffered.fetch_add(more, Relaxed);
        if used + more > self.limit.load(Relaxed) {
            self.meters.buffered.fetch_sub(more, Relaxed);
            return false;
        }
        reservation.bytes = bytes;
        true
    }
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    meters: Arc<Meters>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.meters.buffered.fetch_sub(self.bytes, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_beyond_the_limit_changes_nothing() {
        let buffers = Buffers::new(100, Arc::default());
        let (mut one, mut two) = (buffers.reservation(), buffers.reservation());
        assert!(buffers.grow(&mut one, 60));
        assert!(!buffers.grow(&mut two, 60));
        assert_eq!(buffers.meters.buffered.load(Relaxed), 60);
        drop(one);
        assert!(buffers.grow(&mut two, 60));
        drop(two);
        assert_eq!(buffers.meters.buffered.load(Relaxed), 0);
    }

    #[test]
    fn what_may_be_done_without_leaves_half_of_all_space() {
        let buffers = Buffers::new(100, Arc::default());
        let (mut one, mut two) = (buffers.reservation(), buffers.reservation());
        assert!(buffers.grow_spare(&mut one, 50));
        assert!(!buffers.grow_spare(&mut one, 51));
        assert!(buffers.grow(&mut two, 50));
        drop(one);
        assert!(!buffers.grow_spare(&mut two, 60));
        assert_eq!(buffers.meters.buffered.load(Relaxed), 50);
    }
}
