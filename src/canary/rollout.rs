//! The life of one canary: from step to step as the evidence allows, or back.
//!
//! ```text
//! idle                      an operator starts it: a new life
//! running   ─ the last step is passed ─► promoted          ─ evidence stands against it ─► rolled back, or paused
//!           ─ clients wait in vain ─► paused at the first step
//!           ─ too long on a step ─► undecided, or rolled back                ─ an operator ─► any of them
//! paused, undecided         ─ resume ─► running            ─ promote, abort ─► promoted, rolled back
//!                           ─ evidence stands against it ─► rolled back, or kept at the first step
//! promoted, rolled back     final: only a new life follows
//! ```
//! While it runs it is `collecting`, `passing` (proven safe on this step) or `failing` (evidence against it, which may
//! be a burst: it gets the first step's share until that is known; see `falls`).
use super::burst::Burst;
use super::clients::Clients;
use super::evidence::log_sum;
use super::fall::{Fall, Peak};
use super::in_vain::InVain;
use super::keys::Keys;
use super::once::Once;
use super::plan::{CanaryPlan, DoWhenUndecided, Judged};
use super::prefixes::Prefixes;
use super::proof::Proof;
use super::state::{Effect, Ending, Occasion, Stage};
use super::typical::Typical;
use super::usual::Usual;
use super::view::weights;
use super::waiting::Waiting;
use super::world::{Fairness, World};
use crate::stats::Moment;
use serde::{Deserialize, Serialize};

/// Requests of the candidate on a step, at least.
pub(super) const MIN_SAMPLES: u64 = 100;
/// The memory of rates, as a time constant in seconds.
const RECENT: f64 = 60.0;
/// Seconds between two marks, at which a part of the reserve is bet.
const MARK: f64 = 15.0;

/// All that a canary remembers; times are seconds since it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states")]
pub(super) struct Memory {
    pub(super) stage: Stage,
    pub(super) step: usize,
    /// The step that it began with, and goes back to when it fails.
    pub(super) first: usize,
    /// It is known with which step it begins.
    pub(super) settled: bool,
    /// Of the candidate now.
    pub(super) share: f64,
    /// When each split began, with the candidate's share of it: the last ones.
    pub(super) splits: Vec<(f64, f64)>,
    /// The number of the first of them.
    pub(super) first_split: u32,
    pub(super) step_since: f64,
    /// When the highest step so far was first reached: falling back from it does not begin its time anew.
    pub(super) undecided_since: f64,
    /// When the candidate had its first usable replica.
    pub(super) usable_since: Option<f64>,
    pub(super) usable: bool,
    pub(super) failing_since: Option<f64>,
    /// Paused or rolled back because it failed.
    pub(super) failed: bool,
    pub(super) falls: Vec<Fall>,
    /// The step to which it returns after a fall.
    pub(super) returning: Option<usize>,
    /// The stakes of each check before what it fell by.
    pub(super) before_fall: Vec<[f64; 8]>,
    /// Of the event that it fell by; until that is forgiven.
    pub(super) peak: Option<Peak>,
    /// The evidence of times was begun anew once the candidate was warm.
    pub(super) warmed: bool,
    pub(super) proofs: Vec<Proof>,
    pub(super) burst: Burst,
    pub(super) marks: u32,
    /// When the evidence began.
    pub(super) evidence_since: f64,
    /// Judged requests of the candidate that began on this step.
    pub(super) samples: u64,
    /// All requests since the beginning: candidate, stable.
    pub(super) requests: [u64; 2],
    /// Those of them whose clients left, whose first attempt failed, and whose failure a retry hid.
    pub(super) cancelled: [u64; 2],
    pub(super) failures: [u64; 2],
    pub(super) rescued: [u64; 2],
    /// How often the stable side fails lately.
    pub(super) outage: Usual,
    /// It failed so much at the last look that nothing was proven.
    #[serde(default)]
    pub(super) in_outage: bool,
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
    pub(super) coin: u64,
    pub(super) typical: Typical,
    pub(super) keys: Keys,
    #[serde(skip)]
    pub(super) clients: Clients,
    /// Whose requests the outage was measured by.
    #[serde(skip)]
    pub(super) once: Once,
    #[serde(skip)]
    pub(super) prefixes: Prefixes,
    #[serde(skip)]
    pub(super) waiting: Waiting,
    #[serde(skip)]
    pub(super) in_vain: InVain,
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

impl Memory {
    fn new(plan: &CanaryPlan) -> Self {
        Self {
            stage: Stage::Idle,
            step: 0,
            first: 0,
            settled: !plan.adapts || plan.aa,
            share: 0.0,
            splits: Vec::new(),
            first_split: 0,
            step_since: 0.0,
            undecided_since: 0.0,
            usable_since: None,
            usable: true,
            failing_since: None,
            failed: false,
            falls: Vec::new(),
            returning: None,
            before_fall: Vec::new(),
            peak: None,
            warmed: false,
            proofs: plan.checks.iter().map(|_| Proof::new()).collect(),
            burst: Burst::default(),
            marks: 0,
            evidence_since: 0.0,
            samples: 0,
            requests: [0; 2],
            cancelled: [0; 2],
            failures: [0; 2],
            rescued: [0; 2],
            outage: Usual::default(),
            in_outage: false,
            last_seen: [None; 2],
            recent: (0.0, 0.0),
            ticked: 0.0,
            fairness: Fairness::All,
            crowded_until: -1.0,
            because: String::new(),
            coin: 0x9E37_79B9_7F4A_7C15,
            typical: Typical::default(),
            keys: Keys::new(plan.checks.len()),
            clients: Clients::default(),
            once: Once::default(),
            prefixes: Prefixes::default(),
            waiting: Waiting::default(),
            in_vain: InVain::default(),
        }
    }
}

impl RollOut {
    /// A canary that waits for an operator.
    pub fn idle(plan: CanaryPlan, judged: Judged, stable: String, now: Moment) -> Self {
        let (memory, weights) = (Memory::new(&plan), weights(&plan.checks));
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
        new.note_split(0.0);
        let mut effects = new.share_effect();
        effects.extend(new.announce(Occasion::Began, now));
        (new, effects)
    }

    /// Looks at the evidence; about once a second.
    pub fn tick(&mut self, world: &World, now: Moment) -> Vec<Effect> {
        let age = self.age(now);
        self.learn(world, age);
        if !self.is_live() {
            return Vec::new();
        }
        let marks = (age / MARK) as u32;
        let passed = marks.saturating_sub(self.memory.marks);
        self.memory.marks = marks;
        self.memory.proofs.iter_mut().for_each(|proof| proof.raise(passed));
        self.warm_up(age);
        self.end_outage(age);
        let evidence = self.evidence();
        self.memory.burst.note(evidence, age);
        self.memory.in_vain.look(self.memory.waiting.late(), age, self.plan.hold);
        match self.memory.stage {
            Stage::Running => self.rule(evidence, age, now),
            Stage::Paused | Stage::Undecided => self.guard(evidence, age, now),
            Stage::Idle | Stage::Promoted | Stage::RolledBack => Vec::new(),
        }
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
        if self.is_against(evidence) {
            if self.is_confirmed(evidence, age) && !self.plan.aa {
                self.memory.failing_since.get_or_insert(age);
                return self.fail(now);
            }
            if self.memory.peak.is_none() {
                return self.fall(evidence, age, now);
            }
        }
        if self.memory.failing_since.is_some() {
            if let Some(relapse) = self.relapse(age).filter(|_| !self.plan.aa) {
                return self.end_climb(relapse, now);
            }
            self.forgive(evidence, age);
            if self.may_recover(age) {
                return self.recover(age, now);
            }
        }
        if self.plan.aa {
            return Vec::new();
        }
        if let Some(waits) = self.waits_in_vain(age) {
            return self.spare(waits, age, now);
        }
        if age - self.memory.undecided_since >= self.plan.on_undecided.after.as_secs_f64() {
            return self.give_up(now);
        }
        if self.memory.failing_since.is_some() {
            return Vec::new();
        }
        if self.may_return(age) {
            return self.step_back_up(age, now);
        }
        if !self.memory.settled && self.is_judging(age) {
            return self.settle(age, now);
        }
        let held = age - self.memory.step_since >= self.plan.hold.as_secs_f64();
        if held && !self.is_returning() {
            let last = self.memory.step >= self.last_judged();
            if self.may_pass() && (!last || self.is_long_well(age)) {
                return self.advance(age, now);
            }
            if self.is_too_small(evidence) {
                return self.begin_higher(age, now);
            }
        }
        Vec::new()
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
        self.memory.undecided_since = age;
        self.enter_step(self.memory.step + 1, age);
        let mut effects = self.share_effect();
        effects.extend(self.announce(Occasion::Advanced, now));
        effects
    }

    /// The logarithm of all the evidence, without what the loudest client and key of each check said: a mean of
    /// e-processes is one, too.
    pub fn evidence(&self) -> f64 {
        self.evidence_of(|_| true)
    }

    /// That of some checks; what the others have is the capital that they began with.
    pub(super) fn evidence_of(&self, counts: impl Fn(usize) -> bool) -> f64 {
        let each = self.memory.proofs.iter().zip(&self.weights).enumerate();
        let logs: Vec<f64> = each
            .map(|(i, (proof, weight))| {
                let own = if counts(i) { proof.harm(&self.memory.clients) } else { 0.0 };
                weight.ln() + own
            })
            .collect();
        log_sum(&logs)
    }
}
