//! What is known of a version while replicas and generations come and go.
use super::tally::{Histogram, INTER_CHUNK_BOUNDS, LATENCY_BOUNDS, Tally};
use crate::balance::PoolSpeed;
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
        }
    }
}

impl VersionState {
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
