//! What is known of a version while replicas and generations come and go.
use super::answered::Answered;
use super::pace::Pace;
use super::paths::Paths;
use super::seconds::PoolSeconds;
use super::suspects::Suspects;
use super::tally::{Histogram, INTER_CHUNK_BOUNDS, LATENCY_BOUNDS, Tally};
use crate::balance::PoolSpeed;
use crate::dialect::Usage;
use crate::health::{Count, EjectionPlan, Evidence, Faded, PoolCounts, UsualLoad};
use crate::stats::Moment;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// So fine are the sums that fade: whole numbers can be added to without a loop.
const GRAIN: f64 = 1024.0;

/// Requests and failures of all replicas. Sums that many threads add to may differ from their parts by one or two.
#[derive(Debug, Default)]
struct Sums {
    /// In [`GRAIN`]s; recomputed from the replicas by the second.
    recent_requests: AtomicU64,
    recent_failures: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    by_second: PoolSeconds,
}

/// The living side of one version.
#[derive(Debug)]
pub struct VersionState {
    pub requests: Tally,
    pub answered: Answered,
    pub duration: Histogram,
    pub first_byte: Histogram,
    pub inter_chunk: Histogram,
    /// Tokens that its answers took and made, as far as they tell.
    pub tokens: Tokens,
    /// Requests that this version served: what the observed share is made of.
    pub served: AtomicU64,
    /// Requests that the split gave to this version while it had nothing usable.
    pub missed: AtomicU64,
    /// Requests served although no replica was usable.
    pub fail_open: AtomicU64,
    /// For policies that take turns.
    pub turn: AtomicU64,
    /// Replicas that should have been ejected and were not.
    pub ejections_refused: AtomicU64,
    /// Who waits for a ruling, in the whole fleet.
    pub suspects: Arc<Suspects>,
    sums: Sums,
    /// How failures are read; `None`: nobody is ejected for cause.
    rules: ArcSwapOption<EjectionPlan>,
    /// There are rules, and peers to compare with.
    watched: AtomicBool,
    replicas: AtomicU32,
    /// Replicas on probation.
    on_probation: AtomicU32,
    /// Replicas whose turn it is, as of the last second; and how often somebody could have asked one since.
    due: AtomicU32,
    chances: AtomicU32,
    /// What its replicas usually carry. The control path alone looks at it.
    pub usual_load: Mutex<UsualLoad>,
    /// The classes of paths on which its replicas failed.
    pub paths: Paths,
    ref_ln: AtomicU32,
    count: AtomicU32,
    /// `f32`, seconds.
    mean: AtomicU32,
    /// `f32`: [`PoolSpeed::noise`].
    noise: AtomicU32,
    /// How soon its replicas answer, and how many requests they usually run.
    pub pace: Pace,
}

/// Counted when an answer ends.
#[derive(Debug, Default)]
pub struct Tokens {
    pub prompt: AtomicU64,
    pub completion: AtomicU64,
}

impl Tokens {
    pub fn add(&self, usage: Usage) {
        self.prompt.fetch_add(usage.prompt.unwrap_or_default(), Relaxed);
        self.completion.fetch_add(usage.completion.unwrap_or_default(), Relaxed);
    }
}

impl VersionState {
    pub fn new(suspects: Arc<Suspects>) -> Self {
        Self {
            requests: Tally::default(),
            answered: Answered::default(),
            duration: Histogram::new(&LATENCY_BOUNDS),
            first_byte: Histogram::new(&LATENCY_BOUNDS),
            inter_chunk: Histogram::new(&INTER_CHUNK_BOUNDS),
            tokens: Tokens::default(),
            served: AtomicU64::default(),
            missed: AtomicU64::default(),
            fail_open: AtomicU64::default(),
            turn: AtomicU64::default(),
            ejections_refused: AtomicU64::default(),
            suspects,
            sums: Sums::default(),
            rules: ArcSwapOption::default(),
            watched: AtomicBool::default(),
            replicas: AtomicU32::default(),
            on_probation: AtomicU32::default(),
            due: AtomicU32::default(),
            chances: AtomicU32::default(),
            usual_load: Mutex::default(),
            paths: Paths::default(),
            ref_ln: AtomicU32::default(),
            count: AtomicU32::default(),
            mean: AtomicU32::default(),
            noise: AtomicU32::default(),
            pace: Pace::default(),
        }
    }

    /// Sets how failures are read from now on, in a version of `n` replicas. A single one has no peers.
    pub fn watch(&self, rules: Option<&EjectionPlan>, n: usize) {
        self.watched.store(rules.is_some() && n > 1, Relaxed);
        self.replicas.store(u32::try_from(n).unwrap_or(u32::MAX), Relaxed);
        if self.rules.load().as_deref() != rules {
            self.rules.store(rules.cloned().map(Arc::new));
        }
    }

    /// Is anybody compared with anybody?
    pub fn watched(&self) -> bool {
        self.watched.load(Relaxed)
    }

    pub(super) fn rules(&self) -> arc_swap::Guard<Option<Arc<EjectionPlan>>> {
        self.rules.load()
    }

    pub fn on_probation(&self) -> bool {
        self.on_probation.load(Relaxed) > 0
    }

    pub fn set_on_probation(&self, n: usize) {
        self.on_probation.store(u32::try_from(n).unwrap_or(u32::MAX), Relaxed);
    }

    /// Is it some replica's turn to be asked? True for each fourth request that asks, so that the others go where the
    /// policy sends them, however few there are.
    pub fn draws_turn(&self) -> bool {
        self.has_turns() && self.chances.fetch_add(1, Relaxed).is_multiple_of(4)
    }

    /// Is it some replica's turn to be asked?
    pub fn has_turns(&self) -> bool {
        self.due.load(Relaxed) > 0
    }

    /// One of them was asked.
    pub fn turn_taken(&self) {
        self.due.fetch_update(Relaxed, Relaxed, |due| due.checked_sub(1)).ok();
    }

    pub fn set_due(&self, n: usize) {
        self.due.store(u32::try_from(n).unwrap_or(u32::MAX), Relaxed);
    }

    /// Counts requests that began then and ended alike.
    pub(super) fn add(&self, requests: u64, failed: bool, began: Moment) {
        let (sums, grains) = (&self.sums, requests * GRAIN as u64);
        sums.recent_requests.fetch_add(grains, Relaxed);
        sums.requests.fetch_add(requests, Relaxed);
        if failed {
            sums.recent_failures.fetch_add(grains, Relaxed);
            sums.failures.fetch_add(requests, Relaxed);
        }
        sums.by_second.add(requests, failed, began);
    }

    /// What its replicas did, by the second in which requests began.
    pub(super) fn seconds(&self) -> &PoolSeconds {
        &self.sums.by_second
    }

    /// What its replicas did.
    pub fn pool(&self) -> PoolCounts {
        let Sums { recent_requests, recent_failures, requests, failures, .. } = &self.sums;
        PoolCounts {
            recent: Faded {
                requests: recent_requests.load(Relaxed) as f64 / GRAIN,
                failures: recent_failures.load(Relaxed) as f64 / GRAIN,
            },
            ever: Count { requests: requests.load(Relaxed), failures: failures.load(Relaxed) },
            replicas: self.replicas.load(Relaxed),
        }
    }

    /// What an ejection is for, in words.
    pub fn sentence(&self, evidence: &Evidence, now: Moment) -> String {
        evidence.sentence(evidence.only_on.map(|class| self.paths.name(class)), now)
    }

    /// Takes out what a replica had added lately.
    pub(super) fn withdraw(&self, part: Faded) {
        let less = |sum: &AtomicU64, by: f64| {
            let by = (by * GRAIN) as u64;
            let _ = sum.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_sub(by)));
        };
        less(&self.sums.recent_requests, part.requests);
        less(&self.sums.recent_failures, part.failures);
    }

    /// Sets the sums that fade to what is left of their parts. What was added meanwhile is lost until the next time.
    pub fn fade(&self, left: Faded) {
        self.sums.recent_requests.store((left.requests * GRAIN) as u64, Relaxed);
        self.sums.recent_failures.store((left.failures * GRAIN) as u64, Relaxed);
    }

    /// How fast the pool is as a whole.
    pub fn speed(&self) -> PoolSpeed {
        PoolSpeed {
            ref_ln: f32::from_bits(self.ref_ln.load(Relaxed)),
            count: self.count.load(Relaxed),
            mean_latency: f32::from_bits(self.mean.load(Relaxed)),
            noise: f32::from_bits(self.noise.load(Relaxed)),
        }
    }

    /// Takes in one latency, and what [`Slowness::sample`](crate::balance::Slowness::sample) returned for it. Two at the
    /// same time may lose one of them: an average does not mind, and a lock here would be shared by every request of the
    /// version.
    pub fn observe_speed(&self, latency: Duration, strays: Option<f32>) -> PoolSpeed {
        let mut speed = self.speed();
        speed.observe(latency, strays);
        self.ref_ln.store(speed.ref_ln.to_bits(), Relaxed);
        self.count.store(speed.count, Relaxed);
        self.mean.store(speed.mean_latency.to_bits(), Relaxed);
        self.noise.store(speed.noise.to_bits(), Relaxed);
        speed
    }
}
