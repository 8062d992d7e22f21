//! What is known of a version while replicas and generations come and go.
use super::sketch::Sketch;
use super::tally::{Histogram, INTER_CHUNK_BOUNDS, LATENCY_BOUNDS, Tally};
use crate::balance::PoolSpeed;
use crate::health::{HedgeAfter, HedgePlan};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The living side of one version.
#[derive(Debug)]
pub struct VersionState {
    pub requests: Tally,
    pub duration: Histogram,
    pub first_byte: Histogram,
    pub inter_chunk: Histogram,
    /// Requests that this version served: what the observed share is made of.
    pub served: AtomicU64,
    /// Requests that the split gave to this version while it had nothing usable.
    pub missed: AtomicU64,
    /// Requests served although no replica was usable.
    pub fail_open: AtomicU64,
    /// For policies that take turns.
    pub turn: AtomicU64,
    ref_ln: AtomicU32,
    count: AtomicU32,
    /// `f32`, seconds.
    mean: AtomicU32,
    /// Times to the first byte, of successes.
    pub first_bytes: Sketch,
    /// Nanoseconds: their median; zero while unknown.
    usual_first_byte: AtomicU64,
    /// Nanoseconds: when a first attempt is slow; zero: never.
    hedge_after: AtomicU64,
    /// Requests in flight as they usually are.
    usual_load: AtomicU32,
    loads: Mutex<Loads>,
}

/// Requests in flight, looked at each second in which there were any, for five minutes.
#[derive(Debug, Default)]
struct Loads {
    seen: VecDeque<u32>,
    seconds: u64,
}

impl Default for VersionState {
    fn default() -> Self {
        Self {
            requests: Tally::default(),
            duration: Histogram::new(&LATENCY_BOUNDS),
            first_byte: Histogram::new(&LATENCY_BOUNDS),
            inter_chunk: Histogram::new(&INTER_CHUNK_BOUNDS),
            served: AtomicU64::default(),
            missed: AtomicU64::default(),
            fail_open: AtomicU64::default(),
            turn: AtomicU64::default(),
            ref_ln: AtomicU32::default(),
            count: AtomicU32::default(),
            mean: AtomicU32::default(),
            first_bytes: Sketch::default(),
            usual_first_byte: AtomicU64::default(),
            hedge_after: AtomicU64::default(),
            usual_load: AtomicU32::default(),
            loads: Mutex::default(),
        }
    }
}

/// For so many seconds the usual load is looked back at.
const LOOK_BACK: usize = 300;
/// So often what is known of first bytes is let fade by half, in seconds.
const FADE: u64 = 60;

impl VersionState {
    /// A second has passed, and `in_flight` requests run.
    pub fn tick(&self, in_flight: u32, hedge: Option<&HedgePlan>) {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).max(1);
        let usual = self.first_bytes.quantile(0.5).map_or(0, nanos);
        self.usual_first_byte.store(usual, Relaxed);
        let after = match hedge.map(|plan| plan.after) {
            Some(HedgeAfter::Fixed(after)) => nanos(after),
            Some(HedgeAfter::Quantile(q)) => self.first_bytes.quantile(q).map_or(0, nanos),
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

    /// How fast the pool is as a whole.
    pub fn speed(&self) -> PoolSpeed {
        PoolSpeed {
            ref_ln: f32::from_bits(self.ref_ln.load(Relaxed)),
            count: self.count.load(Relaxed),
            mean_latency: f32::from_bits(self.mean.load(Relaxed)),
        }
    }

    /// Takes in one latency. Two at the same time may lose one of them: an average does not mind, and a lock here
    /// would be shared by every request of the version.
    pub fn observe_speed(&self, latency: Duration) -> PoolSpeed {
        let mut speed = self.speed();
        speed.observe(latency);
        self.ref_ln.store(speed.ref_ln.to_bits(), Relaxed);
        self.count.store(speed.count, Relaxed);
        self.mean.store(speed.mean_latency.to_bits(), Relaxed);
        speed
    }
}
