//! What one check knows: counts of both sides, and what they prove.
use super::evidence::{Block, Harm, Safe, has_room, margin_of_step};
use super::metric::{Arm, Finding, Observation, Reading};
use super::plan::Check;
use super::sketch::Sketch;
use super::view::Count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The chance of letting a candidate advance that is worse by a step's margin, as the logarithm of 1/0.05.
const SAFE: f64 = 2.995_732_273_553_991;

/// The part of the capital that is not put on bets at once, and how much of what is left of it each mark puts on: never
/// less than e^-8 of the whole in the first half hour.
const RESERVE: f64 = 0.1;
const RAISE: f64 = 0.01;

/// A block of amounts may grow so old, in seconds: in a stratum that is seldom met, what the one side did minutes ago is
/// not compared with what the other does now.
const SAME_MINUTES: f64 = 120.0;

/// Readings of an amount on a step, at least: what was never measured has not passed.
const MIN_READINGS: u64 = 20;

/// The state of one check over a whole roll-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Proof {
    harm: Harm,
    safe: Safe,
    candidate: Count,
    stable: Count,
    /// The candidate's bad answers, as [`Finding::BAD`] names them.
    flaws: [u64; Finding::BAD.len()],
    /// Readings of the candidate on this step, compared or not.
    pub(super) on_step: u64,
    /// Like is compared with like: by how busy the replica was.
    strata: BTreeMap<u8, Stratum>,
}

/// Requests whose replica was about as busy when it was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stratum {
    block: Block,
    /// When the block began, in seconds since the canary did.
    opened: f64,
    /// For amounts: those of the stable side.
    sketch: Sketch,
    /// What amounts are compared with: what is usual on the stable side. The same for all of a block.
    threshold: Option<f64>,
    /// How many amounts were known when it was read, and how many came since.
    known: f64,
    since: u32,
}

impl Stratum {
    /// Of a request, by how many its replica had already: each number up to 8 for itself, above that a quarter more.
    fn of(beside: u32) -> u8 {
        if beside <= 8 {
            return beside as u8;
        }
        8 + (f64::from(beside) / 8.0).log(1.25).ceil().min(20.0) as u8
    }

    fn learn(&mut self, amount: f64, q: f64, at: f64) {
        self.sketch.add(amount, at);
        self.since += 1;
        if self.threshold.is_none() {
            self.refresh(q);
        }
    }

    /// Reads the threshold anew, once enough is new.
    fn refresh(&mut self, q: f64) {
        if self.threshold.is_none() || f64::from(self.since) * 50.0 >= self.known {
            self.threshold = self.sketch.quantile(q).or(self.threshold);
            (self.known, self.since) = (self.sketch.total(), 0);
        }
    }
}

/// What a reading is taken under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// Seconds since the canary began.
    pub(super) age: f64,
    /// The candidate's.
    pub(super) share: f64,
    /// Has the candidate too few replicas to compare its speed?
    pub(super) crowded: bool,
}

impl Proof {
    pub(super) fn new(check: &Check) -> Self {
        let prior = check.metric.prior();
        Self {
            harm: Harm::keeping(prior, RESERVE),
            safe: Safe::new(prior),
            candidate: Count::default(),
            stable: Count::default(),
            flaws: Default::default(),
            on_step: 0,
            strata: BTreeMap::new(),
        }
    }

    /// Takes in a request.
    pub(super) fn observe(&mut self, check: &Check, seen: &Observation, arm: Arm, at: Conditions) {
        let Some(reading) = check.metric.read(seen) else { return };
        let alike = if check.metric.depends_on_load() { Stratum::of(seen.beside) } else { 0 };
        let hit = self.hit(check, reading, arm, alike, at);
        if hit.is_none() && matches!(reading, Reading::AtLeast(_)) {
            return;
        }
        if arm == Arm::Candidate {
            self.on_step += 1;
            let found = seen.bad_output.filter(|_| check.metric.rules().is_some());
            let flaw = Finding::BAD.iter().position(|bad| Some(*bad) == found);
            if let Some(flaw) = flaw {
                self.flaws[flaw] += 1;
            }
        }
        if let Some(hit) = hit {
            self.count(check, hit, arm, alike, at);
        }
    }

    /// Is the reading a bad one? `None`: it cannot be compared.
    fn hit(
        &mut self,
        check: &Check,
        reading: Reading,
        arm: Arm,
        alike: u8,
        at: Conditions,
    ) -> Option<bool> {
        let (amount, exact) = match reading {
            Reading::Hit(hit) => return Some(hit),
            Reading::Amount(amount) => (amount, true),
            Reading::AtLeast(amount) => (amount, false),
        };
        let stratum = self.strata.entry(alike).or_default();
        // Learned from after it was compared: the threshold knows only the past.
        let threshold = stratum.threshold;
        if arm == Arm::Stable && exact {
            stratum.learn(amount, check.metric.quantile()?, at.age);
        }
        if check.metric.depends_on_load() && at.crowded {
            return None;
        }
        let allowed = match arm {
            Arm::Candidate => check.at_most.times,
            Arm::Stable => check.metric.tie().min(check.at_most.times),
        };
        let above = amount > threshold? * allowed;
        // Both sides' are left out alike below what they are compared with: equal ones stay equal.
        (exact || above).then_some(above)
    }

    fn count(&mut self, check: &Check, hit: bool, arm: Arm, alike: u8, at: Conditions) {
        let Stratum { block, opened, .. } = self.strata.entry(alike).or_default();
        let old = check.metric.compares_amounts() && at.age - *opened > SAME_MINUTES;
        if old || *block == Block::default() {
            (*block, *opened) = (Block::default(), at.age);
        }
        let (hits, one) = (u64::from(hit), f64::from(u8::from(hit)));
        match arm {
            Arm::Candidate => {
                self.candidate.add(hits, 1);
                block.candidate_hits += one;
                block.candidate += 1.0;
            }
            Arm::Stable => {
                self.stable.add(hits, 1);
                block.stable_hits += one;
                block.stable += 1.0;
            }
        }
        let smaller = if at.share <= 0.5 { Arm::Candidate } else { Arm::Stable };
        if arm == smaller && block.has_both() {
            let block = std::mem::take(block);
            self.close(check, &block, at.share);
            if let (Some(stratum), Some(q)) = (self.strata.get_mut(&alike), check.metric.quantile())
            {
                stratum.refresh(q);
            }
        }
    }

    fn close(&mut self, check: &Check, block: &Block, share: f64) {
        let stops = self.margin(check);
        if !check.metric.compares_amounts() {
            self.safe.add(block, self.harm.usual(), self.step_margin(check, share));
        }
        self.harm.add(block, stops);
    }

    /// By how much the candidate's rate may exceed the stable one. For amounts the margin is in the comparison.
    fn margin(&self, check: &Check) -> f64 {
        if check.metric.compares_amounts() { 0.0 } else { check.at_most.above(self.harm.usual()) }
    }

    /// By how much it may exceed it without being kept from the next step.
    fn step_margin(&self, check: &Check, share: f64) -> f64 {
        margin_of_step(share, self.margin(check), self.harm.usual())
    }

    /// A new step asks for new proof of safety; what speaks against the candidate stays.
    pub(super) fn step(&mut self) {
        self.safe.restart();
        self.on_step = 0;
    }

    /// So many marks have passed.
    pub(super) fn raise(&mut self, marks: u32) {
        self.harm.raise(1.0 - (1.0 - RAISE).powi(marks.cast_signed()));
    }

    /// The logarithm of what speaks against the candidate.
    pub(super) fn harm(&self) -> f64 {
        self.harm.log()
    }

    pub(super) fn counts(&self) -> (Count, Count) {
        (self.candidate, self.stable)
    }

    /// What was wrong with the candidate's answers, and how often.
    pub(super) fn flaws(&self) -> impl Iterator<Item = (Finding, u64)> {
        Finding::BAD.into_iter().zip(self.flaws).filter(|(_, count)| *count > 0)
    }

    /// Is it a check that nobody asked for, and of which no request tells anything?
    pub(super) fn is_passed_over(&self, check: &Check) -> bool {
        let none = self.candidate.requests == 0 && self.stable.requests == 0;
        none && check.metric.rules().is_some_and(|rules| rules.optional)
    }

    /// Is there proof enough on this step that it is no worse? Amounts only veto, but must have been measured.
    /// Where nothing could be worse by the margin, nothing need be proven; what harms is found all the same.
    pub(super) fn passes(&self, check: &Check, share: f64) -> bool {
        if check.metric.compares_amounts() {
            return self.on_step >= MIN_READINGS;
        }
        let room = has_room(self.harm.usual(), self.step_margin(check, share));
        self.safe.log() >= SAFE || (!room && self.on_step > 0)
    }

    /// How many more requests of the candidate that takes, if it goes on as so far; `None`: no number would do.
    pub(super) fn needs(&self, check: &Check, share: f64) -> Option<f64> {
        let left = SAFE - self.safe.log();
        let (usual, margin) = (self.harm.usual(), self.step_margin(check, share));
        if left <= 0.0 || !has_room(usual, margin) || self.is_passed_over(check) {
            return Some(0.0);
        }
        let beside = (1.0 - share) / share.max(1e-6);
        Some(left / self.safe.pace(usual, margin, beside)?)
    }
}
