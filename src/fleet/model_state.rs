//! What is known of a model across generations.
use super::budget::Budget;
use super::foresight::Foresight;
use super::gather::Gather;
use super::mirror::Mirror;
use super::tally::{Refusals, Tally};
use super::under_way::UnderWay;
use crate::canary::{Arm, Metric, Observation};
use crate::health::{HedgePlan, RetryOn, RetryPlan};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Retries that are allowed each second whatever the traffic (Finagle's minimum is 10, Linkerd's too; model servers
/// are slower).
const FREE_RETRIES: f64 = 3.0;

/// Hedges that may be saved up: they are for stragglers, not for an hour when all are slow.
const MOST_HEDGES: f64 = 5.0;

/// The living side of one model.
#[derive(Debug)]
pub struct ModelState {
    /// Requests split so far: where the low-discrepancy sequence stands.
    pub turn: AtomicU64,
    /// Where this process's sequence starts.
    pub offset: u64,
    /// Requests that ended before they had a version.
    pub requests: Tally,
    /// What Evener answered itself.
    pub refusals: Refusals,
    pub retry_budget: Budget,
    pub hedge_budget: Budget,
    /// Retries by cause, in the order of [`RetryOn::WORDS`].
    retries: [AtomicU64; RetryOn::WORDS.len()],
    /// Retries that were not made for want of budget.
    pub retries_refused: AtomicU64,
    hedges: [AtomicU64; Hedged::ALL.len()],
    /// What a canary is judged by; open while one runs.
    pub seen: Gather<Observation>,
    /// And what has not ended yet.
    pub under_way: UnderWay,
    /// First attempts that failed, and whose requests ended well all the same: of the candidate, and of the others.
    rescued: [AtomicU64; 2],
    pub mirror: Mirror,
    /// What an answer may take of a key's tokens.
    pub foresight: Foresight,
    /// Canaries that ended well.
    pub promotions: AtomicU64,
    /// Those that were rolled back, by check; the last: by none.
    rollbacks: [AtomicU64; Metric::NAMES.len() + 1],
    /// Messages about canaries that arrived, and those that were given up.
    pub webhooks_delivered: AtomicU64,
    pub webhooks_failed: AtomicU64,
}

/// What became of a hedge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedged {
    /// It answered first.
    Won,
    /// The first attempt did after all.
    Lost,
    /// It was due, but the budget was spent, the version busy as a whole, or nobody else usable.
    Skipped,
}

impl Hedged {
    pub const ALL: [Self; 3] = [Self::Won, Self::Lost, Self::Skipped];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        }
    }
}

impl Default for ModelState {
    fn default() -> Self {
        Self::new(0)
    }
}

impl ModelState {
    pub fn new(offset: u64) -> Self {
        Self {
            turn: AtomicU64::default(),
            offset,
            requests: Tally::default(),
            refusals: Refusals::default(),
            retry_budget: Budget::holding(FREE_RETRIES),
            hedge_budget: Budget::default(),
            retries: Default::default(),
            retries_refused: AtomicU64::default(),
            hedges: Default::default(),
            seen: Gather::default(),
            under_way: UnderWay::default(),
            rescued: Default::default(),
            mirror: Mirror::default(),
            foresight: Foresight::default(),
            promotions: AtomicU64::default(),
            rollbacks: Default::default(),
            webhooks_delivered: AtomicU64::default(),
            webhooks_failed: AtomicU64::default(),
        }
    }

    /// A later attempt has hidden from its client that the first one failed, on this side of a canary.
    pub fn note_rescued(&self, arm: Arm) {
        self.rescued[usize::from(arm == Arm::Stable)].fetch_add(1, Relaxed);
    }

    /// How often that happened since the last look: to the candidate, and to the others.
    pub fn take_rescued(&self) -> [u64; 2] {
        [0, 1].map(|side: usize| self.rescued[side].swap(0, Relaxed))
    }

    pub fn retried(&self, failed: RetryOn) {
        let place = RetryOn::WORDS.iter().position(|word| *word == failed.word());
        self.retries[place.expect("every failure has its word")].fetch_add(1, Relaxed);
    }

    /// Retries by cause.
    pub fn retries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        RetryOn::WORDS.into_iter().zip(self.retries.iter().map(|count| count.load(Relaxed)))
    }

    pub fn hedged(&self, result: Hedged) {
        self.hedges[result as usize].fetch_add(1, Relaxed);
    }

    /// Hedges by result.
    pub fn hedges(&self) -> impl Iterator<Item = (Hedged, u64)> + '_ {
        Hedged::ALL.into_iter().zip(self.hedges.iter().map(|count| count.load(Relaxed)))
    }

    /// A canary was rolled back because of a check, or by none of them.
    pub fn rolled_back(&self, check: Option<&str>) {
        let place = Metric::NAMES.iter().position(|name| Some(*name) == check);
        self.rollbacks[place.unwrap_or(Metric::NAMES.len())].fetch_add(1, Relaxed);
    }

    /// Roll-backs by check.
    pub fn rollbacks(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = Metric::NAMES.into_iter().chain(["none"]);
        names.zip(self.rollbacks.iter().map(|count| count.load(Relaxed)))
    }

    /// Time has passed, mostly a second.
    pub fn tick(&self, retries: &RetryPlan, hedge: Option<&HedgePlan>, passed: Duration) {
        let passed = passed.as_secs_f64();
        let free = if retries.max > 0 { FREE_RETRIES } else { 0.0 };
        self.retry_budget.tick(retries.budget, free, passed, (0.0, f64::MAX));
        self.hedge_budget.tick(
            hedge.map_or(0.0, |plan| plan.budget),
            0.0,
            passed,
            (MOST_HEDGES, MOST_HEDGES),
        );
    }
}
