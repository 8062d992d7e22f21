//! What all replicas of a version did, by the second in which requests began.
use crate::health::{Count, Second, Seconds};
use crate::stats::Moment;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// All replicas add to it without a lock. Of two that open a second at the same time, one may be lost.
#[derive(Debug)]
pub(super) struct PoolSeconds([AtomicU64; Second::KEPT]);

impl Default for PoolSeconds {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::default()))
    }
}

impl PoolSeconds {
    /// Counts requests that began then and ended alike.
    pub(super) fn add(&self, requests: u64, failed: bool, began: Moment) {
        let place = &self.0[Second::place(began)];
        let before = Second::from_bits(place.load(Relaxed));
        let after = before.with(requests, failed, began).bits();
        if before.is_of(began) {
            place.fetch_add(after - before.bits(), Relaxed);
        } else if after != before.bits() {
            place.store(after, Relaxed);
        }
    }

    /// Takes out what one replica did.
    pub(super) fn withdraw(&self, part: &Seconds) {
        for (place, part) in self.0.iter().zip(part.iter()) {
            let less = |bits| Some(Second::from_bits(bits).without(part).bits());
            let _ = place.fetch_update(Relaxed, Relaxed, less);
        }
    }

    /// What was done with the requests of that second, as far as they ended; nothing, once it is forgotten.
    pub(super) fn of(&self, began: Moment) -> Count {
        Second::from_bits(self.0[Second::place(began)].load(Relaxed)).of(began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_replicas_did_is_added_up_by_the_second() {
        let pool = PoolSeconds::default();
        let at = Moment::from_millis;
        pool.add(2, false, at(5_100));
        pool.add(1, true, at(5_900));
        pool.add(1, true, at(6_000));
        assert_eq!(pool.of(at(5_500)), Count { requests: 3, failures: 1 });
        assert_eq!(pool.of(at(6_500)), Count { requests: 1, failures: 1 });
        pool.add(1, false, at(133_000));
        assert_eq!(pool.of(at(5_500)), Count::default(), "its place is used by a later one");
        pool.add(9, true, at(5_500));
        assert_eq!(pool.of(at(133_000)), Count { requests: 1, failures: 0 });
    }
}
