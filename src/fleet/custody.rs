//! What is known of a replica's ejections: what picks read, and the rest behind a lock that is seldom taken.
use super::trial::Slot;
use crate::health::{Cause, Evidence, Life, Recent};
use crate::stats::Moment;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use tokio::sync::Notify;

/// What a pick needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fate {
    Free,
    Ejected,
    Probation,
}

impl Fate {
    pub(super) const fn of(bits: u8) -> Self {
        match bits {
            0 => Self::Free,
            1 => Self::Ejected,
            _ => Self::Probation,
        }
    }
}

/// A replica's ejections: what picks read, and the rest behind a lock that is seldom taken.
#[derive(Debug, Default)]
pub(super) struct Custody {
    pub(super) fate: AtomicU8,
    pub(super) slot: Slot,
    /// Convicted, but not ejected. Requests need not ask for a ruling again.
    pub(super) refused: AtomicBool,
    /// When a probe last passed.
    pub(super) probe_passed: AtomicU64,
    /// Wakes its prober.
    pub(super) poke: Notify,
    /// By cause, in the order of [`Cause::ALL`].
    pub(super) counts: [AtomicU64; Cause::ALL.len()],
    pub(super) file: Mutex<File>,
}

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) life: Life,
    /// Of the last ejection or refusal, with what was seen.
    pub(super) cause: Option<Cause>,
    pub(super) seen: Option<(Evidence, Recent)>,
    pub(super) reason: Option<Arc<str>>,
    /// What convicted it, while it is out for that.
    pub(super) began_with: Option<Arc<str>>,
    /// Why it is not ejected.
    pub(super) refused: Option<Arc<str>>,
    /// When that was last news.
    pub(super) told: Option<Moment>,
    /// What its last trial failed with.
    pub(super) failed: Option<Cause>,
    /// Its time is over, and its prober knows.
    pub(super) poked: bool,
}
