//! One replica as it lives: who it is, how busy, how fast, and whether it may serve.
use super::answered::Answered;
use super::custody::{Custody, Fate};
use super::learned::Learned;
use super::tally::ClassCounts;
use super::turns::Turns;
use crate::balance::Factor;
use crate::health::{Carried, Faded, PoolCounts, Senders, Standing};
use crate::stats::Moment;
use crate::wire::Upstream;
use parking_lot::Mutex;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What makes a replica the same one after a reload. Never its weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaId {
    pub model: Arc<str>,
    pub version: Arc<str>,
    pub url: Arc<str>,
}

impl Hash for ReplicaId {
    /// By its URL alone: models and versions are few, and ten thousand ids are hashed at a reload.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.url.hash(state);
    }
}

impl std::fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.model, self.version, self.url)
    }
}

/// What probes say of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Probed {
    Never,
    Passing,
    Failing,
}

impl Probed {
    const fn of(bits: u8) -> Self {
        match bits {
            0 => Self::Never,
            1 => Self::Passing,
            _ => Self::Failing,
        }
    }
}

/// Why it stands as it does.
#[derive(Debug, Default)]
struct Reasons {
    drain: Option<Arc<str>>,
    probe: Option<Arc<str>>,
    /// When its last health check ended, and what it failed with.
    last_probe: Option<(Moment, Option<Arc<str>>)>,
}

fn bits(Factor { busy, idle }: Factor) -> u64 {
    u64::from(busy.to_bits()) << 32 | u64::from(idle.to_bits())
}

/// A replica alive in memory. Shared by every table that lists it.
#[derive(Debug)]
pub struct Replica {
    pub id: ReplicaId,
    /// A stable hash of the URL, for rendezvous hashing.
    pub identity: u64,
    pub upstream: Upstream,
    /// How its exchanges ended.
    pub outcomes: ClassCounts,
    pub answered: Answered,
    pub(super) in_flight: AtomicU32,
    pub(super) learned: Mutex<Learned>,
    /// The learned [`Factor`], computed at each completion and by the second: two `f32`, `busy` above `idle`.
    slow: AtomicU64,
    /// `f32`: zero for nearly all, so that a pick need not look at the lock.
    phantom: AtomicU32,
    /// Requests that wait for their first byte.
    waiting: AtomicU32,
    /// When the last first byte came, or when somebody began to wait again.
    heard_at: AtomicU64,
    probed: AtomicU8,
    /// May serve although never probed: it was there when the process began.
    unprobed_serves: AtomicBool,
    drained: AtomicBool,
    since: AtomicU64,
    /// When slow start began; zero: no ramp.
    ready_at: AtomicU64,
    reasons: Mutex<Reasons>,
    pub(super) custody: Custody,
    /// Waits for a ruling.
    pub(super) suspected: AtomicBool,
    /// Something speaks against it: its score is above zero.
    raised: AtomicBool,
    pub(super) turns: Turns,
    /// The last generation that listed it.
    listed: AtomicU64,
}

impl Replica {
    /// One that nobody has asked yet. `unprobed_serves`: it may serve before its first probe.
    pub fn new(id: ReplicaId, upstream: Upstream, unprobed_serves: bool, now: Moment) -> Self {
        let identity = xxhash_rust::xxh3::xxh3_64(id.url.as_bytes());
        Self {
            id,
            identity,
            upstream,
            outcomes: ClassCounts::default(),
            answered: Answered::default(),
            in_flight: AtomicU32::default(),
            learned: Mutex::default(),
            slow: AtomicU64::new(bits(Factor::EQUAL)),
            phantom: AtomicU32::default(),
            waiting: AtomicU32::default(),
            heard_at: AtomicU64::default(),
            probed: AtomicU8::new(Probed::Never as u8),
            unprobed_serves: AtomicBool::new(unprobed_serves),
            drained: AtomicBool::default(),
            since: AtomicU64::new(now.as_nanos()),
            ready_at: AtomicU64::default(),
            reasons: Mutex::default(),
            custody: Custody::default(),
            suspected: AtomicBool::default(),
            raised: AtomicBool::default(),
            turns: Turns::default(),
            listed: AtomicU64::default(),
        }
    }

    /// Notes that `generation` lists it. Returns the generation that listed it last; 0: none did.
    pub(super) fn list(&self, generation: u64) -> u64 {
        self.listed.swap(generation, Relaxed)
    }

    pub(super) fn listed(&self) -> u64 {
        self.listed.load(Relaxed)
    }

    /// Requests now at this replica.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The learned slowness: 1 is the pool's mean, 2 is twice as slow.
    pub fn slowness(&self) -> Factor {
        let bits = self.slow.load(Relaxed);
        let half = |bits: u64| f32::from_bits((bits & u64::from(u32::MAX)) as u32);
        Factor { busy: half(bits >> 32), idle: half(bits) }
    }

    pub(super) fn set_slowness(&self, factor: Factor) {
        self.slow.store(bits(factor), Relaxed);
    }

    pub(super) fn set_phantom(&self, level: f32) {
        self.phantom.store(level.to_bits(), Relaxed);
    }

    /// Load that recent failures stand for; zero for a replica that works.
    /// `lasts`: [`PoolSpeed::phantom_time`](crate::balance::PoolSpeed::phantom_time).
    pub fn phantom(&self, now: Moment, lasts: Duration) -> f32 {
        if self.phantom.load(Relaxed) == 0 {
            return 0.0;
        }
        self.learned.lock().phantom.level(now, lasts)
    }

    /// For how long it has let somebody wait without a first byte for anybody; zero when nobody waits.
    pub fn silence(&self, now: Moment) -> Duration {
        if self.waiting.load(Relaxed) == 0 {
            return Duration::ZERO;
        }
        now.since(Moment::from_nanos(self.heard_at.load(Relaxed)))
    }

    pub(super) fn waits(&self, now: Moment) {
        if self.waiting.fetch_add(1, Relaxed) == 0 {
            self.heard_at.store(now.as_nanos(), Relaxed);
        }
    }

    /// One waits no more: its first byte came (when), or it was given up.
    pub(super) fn heard(&self, at: Option<Moment>) {
        self.waiting.fetch_sub(1, Relaxed);
        if let Some(at) = at {
            self.heard_at.store(at.as_nanos(), Relaxed);
        }
    }

    pub fn standing(&self) -> Standing {
        if self.drained.load(Relaxed) {
            return Standing::Draining;
        }
        let probed = Probed::of(self.probed.load(Relaxed));
        match (probed, self.fate()) {
            (Probed::Failing, _) => Standing::Unhealthy,
            (_, Fate::Ejected) => Standing::Ejected,
            (_, Fate::Probation) => Standing::Probation,
            (Probed::Never, Fate::Free) => Standing::Starting,
            (Probed::Passing, Fate::Free) => Standing::Healthy,
        }
    }

    /// Has no probe ended yet?
    pub fn never_probed(&self) -> bool {
        Probed::of(self.probed.load(Relaxed)) == Probed::Never
    }

    /// Makes a change, and notes the time if it moved the standing.
    pub(super) fn shift<T>(&self, now: Moment, change: impl FnOnce() -> T) -> T {
        let before = self.standing();
        let done = change();
        if self.standing() != before {
            self.since.store(now.as_nanos(), Relaxed);
        }
        done
    }

    /// It serves again, or for the first time. What it did before says nothing of it now.
    pub(super) fn start_slowly(&self, now: Moment) {
        let mut learned = self.learned.lock();
        learned.detector.forget();
        learned.senders = Senders::default();
        drop(learned);
        self.stand_in_line(now);
        self.ready_at.store(now.as_nanos().max(1), Relaxed);
    }

    /// May it get traffic in the ordinary way?
    pub fn usable(&self) -> bool {
        match self.standing() {
            Standing::Healthy => true,
            Standing::Starting => self.unprobed_serves.load(Relaxed),
            Standing::Unhealthy | Standing::Ejected | Standing::Probation | Standing::Draining => {
                false
            }
        }
    }

    /// When it came to its present standing.
    pub fn since(&self) -> Moment {
        Moment::from_nanos(self.since.load(Relaxed))
    }

    /// When its slow start began; `None`: it has none.
    pub fn ready_at(&self) -> Option<Moment> {
        match self.ready_at.load(Relaxed) {
            0 => None,
            at => Some(Moment::from_nanos(at)),
        }
    }

    /// Why it stands as it does, for people.
    pub fn reason(&self) -> Option<Arc<str>> {
        let reason = self.reason_of_standing();
        let Some(distrust) = self.upstream.distrust() else { return reason };
        match reason {
            Some(reason) if reason.contains(&**distrust) => Some(reason),
            Some(reason) => Some(format!("{reason}; {distrust}").into()),
            None => Some(distrust.as_str().into()),
        }
    }

    fn reason_of_standing(&self) -> Option<Arc<str>> {
        match self.standing() {
            Standing::Draining => self.reasons.lock().drain.clone(),
            Standing::Unhealthy => self.reasons.lock().probe.clone(),
            Standing::Ejected | Standing::Probation => self.ejection_reason(),
            Standing::Starting | Standing::Healthy => self.why_aside().map(Arc::from),
        }
    }

    /// Takes in what probes decided. Returns whether that changed what is held of it.
    ///
    /// A replica that comes back, or that joined a running fleet, starts slowly.
    pub fn probed(&self, healthy: bool, reason: Option<&str>, now: Moment) -> bool {
        let next = if healthy { Probed::Passing } else { Probed::Failing };
        let before = self.shift(now, || Probed::of(self.probed.swap(next as u8, Relaxed)));
        self.reasons.lock().probe = reason.map(Arc::from);
        if before == next {
            return false;
        }
        let joined = before == Probed::Never && !self.unprobed_serves.load(Relaxed);
        if healthy && (joined || before == Probed::Failing) {
            self.start_slowly(now);
        }
        true
    }

    /// Notes how a health check ended, whether that decides anything or not.
    pub fn note_probe(&self, failed: Option<&str>, now: Moment) {
        self.reasons.lock().last_probe = Some((now, failed.map(Arc::from)));
    }

    /// When its last health check ended, and what it failed with.
    pub fn last_probe(&self) -> Option<(Moment, Option<Arc<str>>)> {
        self.reasons.lock().last_probe.clone()
    }

    /// No probes are configured: it serves.
    pub fn trust(&self, now: Moment) {
        if Probed::of(self.probed.load(Relaxed)) != Probed::Passing {
            self.probed(true, None, now);
        }
    }

    /// Takes it out or puts it back, as an operator says. Returns whether that changed anything.
    pub fn drain(&self, drained: bool, reason: Option<&str>, now: Moment) -> bool {
        let changed = self.shift(now, || self.drained.swap(drained, Relaxed)) != drained;
        if changed {
            self.reasons.lock().drain = reason.map(Arc::from);
            if !drained {
                self.start_slowly(now);
            }
        }
        changed
    }

    /// Does anything speak against it at present?
    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Relaxed)
    }

    pub(super) fn set_raised(&self, raised: bool) {
        if self.raised.load(Relaxed) != raised {
            self.raised.store(raised, Relaxed);
        }
    }

    /// Recomputes what fades with time. Called by the second, after `passed`.
    pub fn fade(
        &self,
        speed: &crate::balance::PoolSpeed,
        pool: &PoolCounts,
        passed: Duration,
        now: Moment,
    ) -> Left {
        let mut learned = self.learned.lock();
        self.set_slowness(learned.slowness.factor(speed, now));
        let level = learned.phantom.level(now, speed.phantom_time());
        if level < 0.01 && self.phantom.load(Relaxed) != 0 {
            learned.phantom.level = 0.0;
            self.phantom.store(0, Relaxed);
        }
        self.carry(&mut learned, passed);
        let counts = learned.detector.fade(Faded::keeps(passed), pool, now);
        self.set_raised(learned.detector.is_raised());
        Left { counts, carried: learned.carried(now), due: self.look_at_turn(&learned, now) }
    }
}

/// What is left of what a replica did, a second later.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// What its version should still count of it.
    pub counts: Faded,
    pub carried: Carried,
    /// It is its turn to be asked.
    pub due: bool,
}
