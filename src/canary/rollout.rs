//! The life of one canary: from step to step as the evidence allows, or back.
//!
//! ```text
//! idle                      an operator starts it: a new life
//! running   ─ the last step is passed ─► promoted          ─ evidence stands against it ─► rolled back, or paused
//!           ─ too long on a step ─► undecided, or rolled back                ─ an operator ─► any of them
//! paused, undecided         ─ resume ─► running            ─ promote, abort ─► promoted, rolled back
//! promoted, rolled back     final: only a new life follows
//! ```
//! While it runs it is `collecting`, `passing` (proven safe on this step) or `failing` (evidence against it, which may
//! be a burst: it gets the first step's share until that is known).
use super::burst::Burst;
use super::evidence::log_sum;
use super::metric::{Arm, Ended, Observation};
use super::plan::{CanaryPlan, DoWhenUndecided, Judged, OnFailure};
use super::proof::{Conditions, Proof};
use super::view::{loudest, weights};
use super::world::{Fairness, World};
use crate::stats::Moment;
use serde::{Deserialize, Serialize};

/// Requests of the candidate on a step, at least.
pub(super) const MIN_SAMPLES: u64 = 100;
/// Fewer hits of the candidate roll nothing back.
const MIN_HITS: u64 = 3;
/// How long a candidate that failed is kept at the first step, in seconds, at least.
const KEPT_BACK: f64 = 300.0;
/// The memory of rates, as a time constant in seconds.
const RECENT: f64 = 60.0;

/// What a canary is, for the API and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Idle,
    Collecting,
    Passing,
    Failing,
    Paused,
    Promoted,
    RolledBack,
    Undecided,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Collecting,
        Self::Passing,
        Self::Failing,
        Self::Paused,
        Self::Promoted,
        Self::RolledBack,
        Self::Undecided,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Collecting => "collecting",
            Self::Passing => "passing",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Undecided => "undecided",
        }
    }
}

/// What is remembered of the state; the rest follows from the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    Idle,
    Running,
    Paused,
    Undecided,
    Promoted,
    RolledBack,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Give the candidate this fraction of the requests; the others keep their proportions.
    SetShare(f64),
    /// The canary is over.
    Finished(Ending),
    /// Tell: log, events, webhook.
    Announce { occasion: Occasion, sentence: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    Promoted,
    RolledBack,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Occasion {
    Began,
    Advanced,
    Failing,
    Recovered,
    Paused,
    Resumed,
    Undecided,
    Promoted,
    RolledBack,
}

impl Occasion {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Began => "canary_began",
            Self::Advanced => "canary_advanced",
            Self::Failing => "canary_failing",
            Self::Recovered => "canary_recovered",
            Self::Paused => "canary_paused",
            Self::Resumed => "canary_resumed",
            Self::Undecided => "canary_undecided",
            Self::Promoted => "canary_promoted",
            Self::RolledBack => "canary_rolled_back",
        }
    }
}

/// All that a canary remembers; times are seconds since it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) stage: Stage,
    pub(super) step: usize,
    /// Of the candidate now.
    pub(super) share: f64,
    pub(super) step_since: f64,
    /// When the candidate had its first usable replica.
    pub(super) usable_since: Option<f64>,
    pub(super) usable: bool,
    pub(super) failing_since: Option<f64>,
    /// Paused or rolled back because it failed.
    pub(super) failed: bool,
    pub(super) proofs: Vec<Proof>,
    pub(super) burst: Burst,
    /// When the evidence began.
    pub(super) evidence_since: f64,
    /// Judged requests of the candidate on this step.
    pub(super) samples: u64,
    /// All requests since the beginning: candidate, stable.
    pub(super) requests: [u64; 2],
    /// Those of them whose clients left.
    pub(super) cancelled: [u64; 2],
    /// When each side was last asked.
    pub(super) last_seen: [Option<f64>; 2],
    /// Requests of the candidate lately, and the seconds they took; both fade.
    pub(super) recent: (f64, f64),
    pub(super) ticked: f64,
    /// With whom speed is compared.
    pub(super) fairness: Fairness,
    /// When it was last compared with nobody: what began then was slowed by the crowd.
    pub(super) crowded_until: f64,
    /// Who did it and why, or what happened; what a final state says.
    pub(super) because: String,
    /// Halves the requests of an A/A test.
    coin: u64,
}

/// One canary.
#[derive(Clone, Debug)]
pub struct RollOut {
    pub(super) plan: CanaryPlan,
    pub(super) judged: Judged,
    /// How sentences call the other side: the name of a version, or "the others".
    pub(super) stable: String,
    pub(super) weights: Vec<f64>,
    /// Age `before` was reached at `epoch`.
    pub(super) epoch: Moment,
    pub(super) before: f64,
    pub(super) memory: Memory,
}

impl RollOut {
    /// A canary that waits for an operator.
    pub fn idle(plan: CanaryPlan, judged: Judged, stable: String, now: Moment) -> Self {
        let memory = Memory {
            stage: Stage::Idle,
            step: 0,
            share: 0.0,
            step_since: 0.0,
            usable_since: None,
            usable: true,
            failing_since: None,
            failed: false,
            proofs: plan.checks.iter().map(Proof::new).collect(),
            burst: Burst::default(),
            evidence_since: 0.0,
            samples: 0,
            requests: [0; 2],
            cancelled: [0; 2],
            last_seen: [None; 2],
            recent: (0.0, 0.0),
            ticked: 0.0,
            fairness: Fairness::All,
            crowded_until: -1.0,
            because: String::new(),
            coin: 0x9E37_79B9_7F4A_7C15,
        };
        let weights = weights(&plan.checks);
        Self { plan, judged, stable, weights, epoch: now, before: 0.0, memory }
    }

    /// Begins at the first step that is not below the file's share. What the file gives everything is promoted: there
    /// is nothing to compare it with. A share beyond the last judged step begins there.
    pub fn begin(
        plan: CanaryPlan,
        judged: Judged,
        stable: String,
        share_of_the_file: f64,
        now: Moment,
    ) -> (Self, Vec<Effect>) {
        let mut new = Self::idle(plan, judged, stable, now);
        new.memory.stage = Stage::Running;
        if new.plan.aa {
            new.memory.share = 0.5;
        } else if share_of_the_file >= 1.0 {
            let effects = new.end(Ending::Promoted, "The file gives it everything.", now);
            return (new, effects);
        } else {
            let written = share_of_the_file * 100.0 - 1e-9;
            let last = new.last_judged();
            new.memory.step =
                new.plan.steps.iter().position(|s| *s >= written).map_or(last, |i| i.min(last));
            new.memory.share = new.step_share();
        }
        let mut effects = new.share_effect();
        effects.extend(new.announce(Occasion::Began, now));
        (new, effects)
    }

    /// Takes in one request. Between two ticks nothing but counts changes.
    pub fn observe(&mut self, seen: &Observation, now: Moment) {
        // What began before this life may be about another candidate.
        if !self.is_live() || seen.began < self.epoch {
            return;
        }
        let age = self.age(now);
        let arm = self.arm(seen.arm);
        let side = usize::from(arm == Arm::Stable);
        self.memory.requests[side] += 1;
        self.memory.cancelled[side] += u64::from(seen.ended == Ended::Cancelled);
        self.memory.last_seen[side] = Some(age);
        let tells = arm == Arm::Candidate && seen.ended == Ended::Seen;
        if tells {
            self.memory.recent.0 += 1.0;
        }
        let began = self.age(seen.began);
        if !self.is_judging(began) || began < self.memory.evidence_since {
            return;
        }
        if tells {
            self.memory.samples += 1;
        }
        let crowded = self.is_crowded() || began <= self.memory.crowded_until;
        let fairness = if crowded { Fairness::Nobody } else { self.memory.fairness };
        let at = Conditions { age, share: self.memory.share, fairness };
        for (proof, check) in self.memory.proofs.iter_mut().zip(&self.plan.checks) {
            proof.observe(check, seen, arm, at);
        }
    }

    /// In an A/A test a coin says which half a request belongs to; it knows nothing of the request.
    fn arm(&mut self, arm: Arm) -> Arm {
        if !self.plan.aa {
            return arm;
        }
        // SplitMix64 (Steele, Lea and Flood, 2014).
        self.memory.coin = self.memory.coin.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.memory.coin;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        if (z ^ (z >> 31)) >> 63 == 0 { Arm::Candidate } else { Arm::Stable }
    }

    /// Looks at the evidence; about once a second.
    pub fn tick(&mut self, world: &World, now: Moment) -> Vec<Effect> {
        let age = self.age(now);
        self.learn(world, age);
        if !self.is_live() {
            return Vec::new();
        }
        let evidence = self.evidence();
        let marks = self.memory.burst.mark(evidence, age);
        self.memory.proofs.iter_mut().for_each(|proof| proof.raise(marks));
        if self.memory.stage != Stage::Running {
            return Vec::new();
        }
        self.rule(evidence, age, now)
    }

    fn learn(&mut self, world: &World, age: f64) {
        let passed = (age - self.memory.ticked).max(0.0);
        self.memory.ticked = age;
        let keeps = (-passed / RECENT).exp();
        let (requests, seconds) = self.memory.recent;
        self.memory.recent = (requests * keeps, (seconds + passed) * keeps);
        self.memory.fairness = world.fairness();
        if self.is_crowded() {
            self.memory.crowded_until = age;
        }
        self.memory.usable = world.candidate_usable || self.plan.aa;
        if self.memory.usable && self.memory.usable_since.is_none() {
            self.memory.usable_since = Some(age);
        }
    }

    /// What follows from the evidence.
    fn rule(&mut self, evidence: f64, age: f64, now: Moment) -> Vec<Effect> {
        let bar = -self.plan.false_alarm.ln();
        let against = evidence >= bar && self.hits_of_the_loudest() >= MIN_HITS;
        if against {
            let stands = !self.plan.confirm || self.memory.burst.without(evidence) >= bar;
            if stands && !self.plan.aa {
                self.memory.failing_since.get_or_insert(age);
                return self.fail(now);
            }
            if self.memory.failing_since.is_none() {
                self.memory.failing_since = Some(age);
                return self.keep_back(now);
            }
        } else if self.memory.failing_since.is_some_and(|since| age - since >= KEPT_BACK) {
            self.memory.failing_since = None;
            self.enter_step(age);
            let mut effects = self.share_effect();
            effects.extend(self.announce(Occasion::Recovered, now));
            return effects;
        }
        if self.plan.aa {
            return Vec::new();
        }
        if age - self.memory.step_since >= self.plan.on_undecided.after.as_secs_f64() {
            return self.give_up(now);
        }
        let held = age - self.memory.step_since >= self.plan.hold.as_secs_f64();
        if held && self.memory.failing_since.is_none() && self.is_safe() {
            return self.advance(age, now);
        }
        Vec::new()
    }

    /// Until it is known whether it was a burst.
    fn keep_back(&mut self, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        let first = self.plan.steps[0] / 100.0;
        let cut = !self.plan.aa && self.plan.on_failure == OnFailure::Rollback;
        if cut && self.memory.share > first {
            self.memory.share = first;
            effects = self.share_effect();
        }
        effects.extend(self.announce(Occasion::Failing, now));
        effects
    }

    fn give_up(&mut self, now: Moment) -> Vec<Effect> {
        match self.plan.on_undecided.act {
            DoWhenUndecided::Pause => {
                self.set_stage(Stage::Undecided, String::new());
                self.announce(Occasion::Undecided, now)
            }
            DoWhenUndecided::Rollback => {
                self.end(Ending::RolledBack, "Its step took too long without a verdict.", now)
            }
        }
    }

    fn advance(&mut self, age: f64, now: Moment) -> Vec<Effect> {
        if self.memory.step >= self.last_judged() {
            return self.end(Ending::Promoted, "", now);
        }
        self.memory.step += 1;
        self.enter_step(age);
        let mut effects = self.share_effect();
        effects.extend(self.announce(Occasion::Advanced, now));
        effects
    }

    /// The logarithm of all the evidence: a mean of e-processes is one, too.
    pub fn evidence(&self) -> f64 {
        let each = self.memory.proofs.iter().zip(&self.weights);
        log_sum(&each.map(|(proof, weight)| weight.ln() + proof.harm()).collect::<Vec<_>>())
    }

    fn hits_of_the_loudest(&self) -> u64 {
        let loudest = loudest(&self.memory.proofs, &self.weights);
        loudest.map_or(0, |i| self.memory.proofs[i].counts().0.hits)
    }
}
