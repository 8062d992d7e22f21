//! From step to step: which is the first, and when is one passed?
use super::proof::Proof;
use super::rollout::{MIN_SAMPLES, RollOut};
use super::state::{Effect, Occasion};
use crate::stats::Moment;

/// Traffic is measured for so long, in seconds, before the first step is chosen by it.
const MEASURED: f64 = 10.0;
/// Requests of both sides on a step, from which on it is known that few of the candidate come by its share.
const SOME: u64 = 20;
/// Where the stable side fails in this part of its requests, nothing is proven.
const OUTAGE: f64 = 0.2;
/// A step waits for proof of times for so many times `hold` at most.
const PATIENCE: f64 = 4.0;

impl RollOut {
    /// Does the stable side itself fail so much that equal failure proves nothing?
    pub(super) fn stable_fails(&self) -> bool {
        !self.plan.aa && self.outage() >= OUTAGE
    }

    /// What both sides did in an outage of the stable side is not usual once it is over: the step begins anew.
    pub(super) fn end_outage(&mut self, age: f64) {
        let fails = self.stable_fails();
        if std::mem::replace(&mut self.memory.in_outage, fails) && !fails {
            self.memory.proofs.iter_mut().for_each(Proof::forget_usual);
            self.begin_step(age);
        }
    }

    /// How often the stable side fails lately.
    pub(super) fn outage(&self) -> f64 {
        self.memory.outage.rate(0.0, 10.0)
    }

    /// Is every check proven on this step, with nothing that casts doubt on it?
    pub(super) fn may_pass(&self) -> bool {
        self.is_calm_elsewhere() && self.is_safe() && self.evidence() < self.bar()
    }

    /// Chooses the first step by the traffic, once that is known.
    pub(super) fn settle(&mut self, age: f64, now: Moment) -> Vec<Effect> {
        let [candidate, stable] = self.memory.requests;
        if age < MEASURED || candidate + stable == 0 {
            return Vec::new();
        }
        self.memory.settled = true;
        let rate = (candidate + stable) as f64 / age;
        let held = rate * self.plan.hold.as_secs_f64();
        let fits = |step: &usize| self.plan.steps[*step] / 100.0 * held >= MIN_SAMPLES as f64;
        let last = self.last_judged();
        let first = (0..=last).find(fits).unwrap_or(last);
        if first <= self.memory.step {
            self.memory.first = first;
            return Vec::new();
        }
        self.begin_at(first, age, now)
    }

    /// Do fewer than 100 of its requests come in the time of a step, although there are some of the other side's?
    pub(super) fn is_too_small(&self, evidence: f64) -> bool {
        let memory = &self.memory;
        let [candidate, stable] = memory.waiting.on_step();
        self.plan.adapts
            && memory.step == memory.first
            && memory.step < self.last_judged()
            && memory.samples < MIN_SAMPLES
            && candidate + stable >= SOME
            && evidence < self.bar() / 2.0
            && self.is_calm_elsewhere()
    }

    /// Begins with the next step.
    pub(super) fn begin_higher(&mut self, age: f64, now: Moment) -> Vec<Effect> {
        self.begin_at(self.memory.step + 1, age, now)
    }

    fn begin_at(&mut self, step: usize, age: f64, now: Moment) -> Vec<Effect> {
        self.memory.first = step;
        self.memory.undecided_since = age;
        self.enter_step(step, age);
        let mut effects = self.share_effect();
        let sentence = self.begins_higher(now);
        effects.push(Effect::Announce { occasion: Occasion::Advanced, sentence });
        effects
    }

    /// Has this step waited for proof of times for long enough?
    pub(super) fn is_lenient(&self) -> bool {
        let on_step = self.memory.ticked - self.memory.step_since;
        on_step >= PATIENCE * self.plan.hold.as_secs_f64()
    }
}
