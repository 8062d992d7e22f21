//! What is known of a model across generations.
use super::tally::{Refusals, Tally};
use std::sync::atomic::AtomicU64;

/// The living side of one model.
#[derive(Debug, Default)]
pub struct ModelState {
    /// Requests split so far: where the low-discrepancy sequence stands.
    pub turn: AtomicU64,
    /// Where this process's sequence starts.
    pub offset: u64,
    /// Requests that ended before they had a version.
    pub requests: Tally,
    /// What Evener answered itself.
    pub refusals: Refusals,
}

impl ModelState {
    pub fn new(offset: u64) -> Self {
        Self { offset, ..Self::default() }
    }
}
