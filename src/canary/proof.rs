//! What one check knows: counts of both sides, and what they prove.
use super::evidence::{Block, Harm, Safe, has_room, margin_of_step};
use super::metric::{Arm, Finding, Observation, Reading};
use super::plan::Check;
use super::sketch::Sketch;
use super::view::Count;
use super::world::Fairness;
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
    /// Readings of the candidate on this step: those that were compared, and those that must not be.
    pub(super) on_step: u64,
    /// What is compared with each other: all, or those whose replicas were as busy.
    strata: BTreeMap<u8, Stratum>,
}

/// Requests that are compared with each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stratum {
    block: Block,
    /// When the block began, in seconds since the canary did.
    opened: f64,
    /// For amounts: those of the stable side, and when the last one came.
    sketch: Sketch,
    last: f64,
    /// What amounts are compared with: what is usual on the stable side. The same for all of a block.
    threshold: Option<f64>,
    /// How many amounts were known when it was read, and how many came since.
    known: f64,
    since: u32,
}

/// The stratum of all.
const ALL: u8 = u8::MAX;

/// The stratum of a request by how many its replica had already: each number up to 8 for itself, above that a quarter
/// more.
fn as_busy(beside: u32) -> u8 {
    if beside <= 8 {
        return beside as u8;
    }
    8 + (f64::from(beside) / 8.0).log(1.25).ceil().min(20.0) as u8
}

impl Stratum {
    fn learn(&mut self, amount: f64, q: f64, at: f64) {
        self.sketch.add(amount, at);
        self.last = at;
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
    pub(super) fairness: Fairness,
}

impl Conditions {
    /// Has the candidate too few replicas for this check?
    pub(super) fn is_unfair_to(self, check: &Check) -> bool {
        check.metric.depends_on_load() && self.fairness == Fairness::Nobody
    }
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
        let place = self.place(check, reading, arm, seen.beside, at);
        let hit = place.and_then(|place| self.hit(check, reading, arm, place));
        if arm == Arm::Candidate && (hit.is_some() || at.is_unfair_to(check)) {
            self.on_step += 1;
            let found = seen.bad_output.filter(|_| check.metric.rules().is_some());
            let flaw = Finding::BAD.iter().position(|bad| Some(*bad) == found);
            if let Some(flaw) = flaw {
                self.flaws[flaw] += 1;
            }
        }
        if let (Some(place), Some(hit)) = (place, hit) {
            self.enter(check, hit, arm, place, at);
        }
        // Learned from after it was compared: the threshold knows only the past.
        if let (Reading::Amount(amount), Arm::Stable, Some(q)) =
            (reading, arm, check.metric.quantile())
        {
            self.strata.entry(ALL).or_default().learn(amount, q, at.age);
            if check.metric.depends_on_load() {
                let busy = self.strata.entry(as_busy(seen.beside)).or_default();
                busy.learn(amount, q, at.age);
            }
        }
    }

    /// The stratum in which it is compared; `None`: in none.
    fn place(
        &self,
        check: &Check,
        reading: Reading,
        arm: Arm,
        beside: u32,
        at: Conditions,
    ) -> Option<u8> {
        if !check.metric.depends_on_load() {
            return Some(ALL);
        }
        match (at.fairness, reading) {
            (Fairness::Nobody, _) => None,
            (Fairness::All, _) | (_, Reading::Hit(_)) => Some(ALL),
            (Fairness::Alike, _) if arm == Arm::Stable => Some(as_busy(beside)),
            // One that is less busy may be compared with one that is more so: it should be the faster one.
            (Fairness::Alike, _) => {
                let known = |stratum: &Stratum| {
                    stratum.threshold.is_some() && at.age - stratum.last <= SAME_MINUTES
                };
                let busier = self.strata.range(as_busy(beside)..ALL);
                busier.filter(|(_, stratum)| known(stratum)).map(|(place, _)| *place).next()
            }
        }
    }

    /// Is the reading a bad one? `None`: it cannot be compared.
    fn hit(&self, check: &Check, reading: Reading, arm: Arm, place: u8) -> Option<bool> {
        let (amount, exact) = match reading {
            Reading::Hit(hit) => return Some(hit),
            Reading::Amount(amount) => (amount, true),
            Reading::AtLeast(amount) => (amount, false),
        };
        let allowed = match arm {
            Arm::Candidate => check.at_most.times,
            Arm::Stable => check.metric.tie().min(check.at_most.times),
        };
        let above = amount > self.strata.get(&place)?.threshold? * allowed;
        // Both sides' are left out alike below what they are compared with: equal ones stay equal.
        (exact || above).then_some(above)
    }

    fn enter(&mut self, check: &Check, hit: bool, arm: Arm, place: u8, at: Conditions) {
        let amounts = check.metric.quantile();
        let stratum = self.strata.entry(place).or_default();
        if let Some(q) = amounts
            && at.age - stratum.opened > SAME_MINUTES
        {
            stratum.block = Block::default();
            stratum.refresh(q);
        }
        if stratum.block == Block::default() {
            stratum.opened = at.age;
        }
        let one = f64::from(u8::from(hit));
        let block = &mut stratum.block;
        match arm {
            Arm::Candidate => {
                block.candidate_hits += one;
                block.candidate += 1.0;
            }
            Arm::Stable => {
                block.stable_hits += one;
                block.stable += 1.0;
            }
        }
        let smaller = if at.share <= 0.5 { Arm::Candidate } else { Arm::Stable };
        let closed = (arm == smaller && block.has_both()).then(|| std::mem::take(block));
        if let Some(q) = amounts.filter(|_| closed.is_some()) {
            stratum.refresh(q);
        }
        // Of amounts only those count that were compared: in a stratum of one side nothing is.
        if amounts.is_none() {
            let side = if arm == Arm::Candidate { &mut self.candidate } else { &mut self.stable };
            side.add(u64::from(hit), 1);
        } else if let Some(block) = &closed {
            self.candidate.add(block.candidate_hits as u64, block.candidate as u64);
            self.stable.add(block.stable_hits as u64, block.stable as u64);
        }
        if let Some(block) = closed {
            self.close(check, &block, at.share);
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
    pub(super) fn passes(&self, check: &Check, at: Conditions) -> bool {
        if check.metric.compares_amounts() || at.is_unfair_to(check) {
            return self.on_step >= MIN_READINGS;
        }
        let room = has_room(self.harm.usual(), self.step_margin(check, at.share));
        self.safe.log() >= SAFE || (!room && self.on_step > 0)
    }

    /// How many more requests of the candidate that takes, if it goes on as so far; `None`: no number would do.
    pub(super) fn needs(&self, check: &Check, at: Conditions) -> Option<f64> {
        let left = SAFE - self.safe.log();
        let (usual, margin) = (self.harm.usual(), self.step_margin(check, at.share));
        let nothing = at.is_unfair_to(check) || self.is_passed_over(check);
        if left <= 0.0 || !has_room(usual, margin) || nothing {
            return Some(0.0);
        }
        let beside = (1.0 - at.share) / at.share.max(1e-6);
        Some(left / self.safe.pace(usual, margin, beside)?)
    }
}
