//! Whose turn it is, as picks read it without a lock.
use crate::stats::Moment;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What a pick looks at beside standing and load.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// When it was picked last.
    pub(super) asked_at: AtomicU64,
    pub(super) due: AtomicBool,
    pub(super) aside: AtomicU8,
    /// When a failure last had its health check asked; 0: never.
    pub(super) doubted_at: AtomicU64,
    /// [`Strain`](crate::health::Strain).
    pub(super) crowded: AtomicBool,
    pub(super) time_out: AtomicBool,
    /// `f32`, in requests.
    pub(super) peers_load: AtomicU32,
}

impl Turns {
    pub(super) fn asked(&self, now: Moment) {
        self.asked_at.store(now.as_nanos(), Relaxed);
    }
}
