//! How soon a version's replicas begin to answer, and how many requests they usually run: what hedging and the guard
//! against silence compare with.
use super::sketch::Sketch;
use crate::health::{HedgeAfter, HedgePlan};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// For so many seconds the usual load is looked back at.
const LOOK_BACK: usize = 300;
/// So often what is known of first bytes is let fade by half, in seconds.
const FADE: u64 = 60;
/// Fewer first bytes than this say nothing.
const ENOUGH: u64 = 100;

/// Learned as requests end, summed up by the second.
#[derive(Debug, Default)]
pub struct Pace {
    /// Times to the first byte, of successes.
    first_bytes: Sketch,
    /// `f32`: the moving average of the logarithm of their seconds, over some fifty of them.
    lately: AtomicU32,
    /// Nanoseconds: their median; zero while unknown.
    usual_first_byte: AtomicU64,
    /// Nanoseconds: when a first attempt is slow; zero: never.
    hedge_after: AtomicU64,
    /// Requests in flight as they usually are.
    usual_load: AtomicU32,
    loads: Mutex<Loads>,
}

/// Requests in flight, looked at each second in which there were any.
#[derive(Debug, Default)]
struct Loads {
    seen: VecDeque<u32>,
    seconds: u64,
}

impl Pace {
    pub fn observe(&self, first_byte: Duration) {
        self.first_bytes.observe(first_byte);
        let ln = first_byte.as_secs_f32().max(1e-6).ln();
        // The bits of zero stand for nothing: no average is exactly a second. Of two at once, one may be lost.
        let before = f32::from_bits(self.lately.load(Relaxed));
        let after = if before == 0.0 { ln } else { before + 0.02 * (ln - before) };
        self.lately.store(after.to_bits(), Relaxed);
    }

    /// Did first bytes take nearly so long lately, a third of it at least? Then waiting in vain for so long is part of a
    /// slowness that all share.
    pub fn is_slow_beside(&self, waited: Duration) -> bool {
        let lately = f32::from_bits(self.lately.load(Relaxed));
        lately != 0.0 && 3.0 * lately.exp() >= waited.as_secs_f32()
    }

    /// A second has passed, and `in_flight` requests run.
    pub fn tick(&self, in_flight: u32, hedge: Option<&HedgePlan>) {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).max(1);
        let usual = self.first_bytes.quantile(0.5, ENOUGH).map_or(0, nanos);
        self.usual_first_byte.store(usual, Relaxed);
        let after = match hedge.map(|plan| plan.after) {
            Some(HedgeAfter::Fixed(after)) => nanos(after),
            Some(HedgeAfter::Quantile(q)) => self.first_bytes.quantile(q, ENOUGH).map_or(0, nanos),
            None => 0,
        };
        self.hedge_after.store(after, Relaxed);
        let mut loads = self.loads.lock();
        loads.seconds += 1;
        if loads.seconds.is_multiple_of(FADE) {
            self.first_bytes.halve();
        }
        if in_flight == 0 {
            return;
        }
        if loads.seen.len() == LOOK_BACK {
            loads.seen.pop_front();
        }
        loads.seen.push_back(in_flight);
        let mut sorted: Vec<u32> = loads.seen.iter().copied().collect();
        sorted.sort_unstable();
        self.usual_load.store(sorted[sorted.len() / 2], Relaxed);
    }

    /// The usual time to the first byte; `None` while too little is known.
    pub fn usual_first_byte(&self) -> Option<Duration> {
        Some(self.usual_first_byte.load(Relaxed)).filter(|n| *n > 0).map(Duration::from_nanos)
    }

    /// When a first attempt is slow; `None`: not hedged, or too little is known yet.
    pub fn hedge_after(&self) -> Option<Duration> {
        Some(self.hedge_after.load(Relaxed)).filter(|n| *n > 0).map(Duration::from_nanos)
    }

    /// Does no more run than twice the usual, or two requests a replica? Where all are slow, a second attempt only
    /// makes it worse.
    pub fn is_calm(&self, in_flight: u32, replicas: usize) -> bool {
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        in_flight < self.usual_load.load(Relaxed).max(replicas).saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P95: HedgePlan = HedgePlan { after: HedgeAfter::Quantile(0.95), budget: 0.05 };

    #[test]
    fn nothing_is_slow_before_enough_is_known() {
        let pace = Pace::default();
        for _ in 0..99 {
            pace.observe(Duration::from_millis(20));
        }
        pace.tick(1, Some(&P95));
        assert_eq!((pace.hedge_after(), pace.usual_first_byte()), (None, None));
        pace.observe(Duration::from_millis(20));
        pace.tick(1, Some(&P95));
        let after = pace.hedge_after().unwrap().as_secs_f64();
        assert!((after / 0.02 - 1.0).abs() < 0.03, "{after}");
        pace.tick(1, None);
        assert_eq!(pace.hedge_after(), None);
    }

    #[test]
    fn a_version_that_runs_more_than_twice_the_usual_is_not_calm() {
        let pace = Pace::default();
        assert!(
            pace.is_calm(7, 4) && !pace.is_calm(8, 4),
            "two requests a replica are always calm"
        );
        for _ in 0..100 {
            pace.tick(30, None);
            pace.tick(0, None);
        }
        assert!(pace.is_calm(59, 4) && !pace.is_calm(60, 4));
    }
}
