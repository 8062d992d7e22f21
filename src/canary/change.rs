//! The changes of a canary that several ways lead to, and what they are made of.
use super::burst::Burst;
use super::proof::{At, Proof};
use super::rollout::RollOut;
use super::state::{Effect, Ending, Occasion, Stage};
use super::world::Fairness;
use super::{CanaryPlan, Judged};
use crate::stats::Moment;

impl RollOut {
    pub fn plan(&self) -> &CanaryPlan {
        &self.plan
    }

    /// What the verdict is about.
    pub fn judged(&self) -> &Judged {
        &self.judged
    }

    pub(super) fn stage(&self) -> Stage {
        self.memory.stage
    }

    /// Seconds since it began; the time between a stop and a start is none.
    pub(super) fn age(&self, now: Moment) -> f64 {
        self.before + now.since(self.epoch).as_secs_f64()
    }

    /// Is there still something to decide?
    pub fn is_live(&self) -> bool {
        matches!(self.memory.stage, Stage::Running | Stage::Paused | Stage::Undecided)
    }

    /// Does it wait for an operator to start it?
    pub fn is_idle(&self) -> bool {
        self.memory.stage == Stage::Idle
    }

    /// Does it move the shares by itself?
    pub fn is_running(&self) -> bool {
        self.memory.stage == Stage::Running
    }

    /// When requests begin to be judged; `None`: not before the candidate has a usable replica.
    pub(super) fn judged_from(&self) -> Option<f64> {
        self.memory.usable_since.map(|since| since + self.plan.warmup.as_secs_f64())
    }

    pub(super) fn is_judging(&self, age: f64) -> bool {
        self.judged_from().is_some_and(|from| age >= from)
    }

    /// What the evidence now is looked at under.
    pub(super) fn at(&self) -> At {
        let memory = &self.memory;
        At {
            share: memory.share,
            fairness: memory.fairness,
            lenient: self.is_lenient(),
            requests: (memory.samples, memory.requests[1]),
        }
    }

    /// Has the candidate too few replicas to compare its speed?
    pub(super) fn is_crowded(&self) -> bool {
        self.memory.fairness == Fairness::Nobody
    }

    /// The step before the one that gives everything: no other side is left to compare with at that one.
    pub(super) fn last_judged(&self) -> usize {
        self.plan.steps.len().saturating_sub(2)
    }

    pub(super) fn step_share(&self) -> f64 {
        if self.plan.aa { 0.5 } else { self.plan.steps[self.memory.step] / 100.0 }
    }

    pub(super) fn enter_step(&mut self, step: usize, age: f64) {
        self.memory.step = step;
        self.memory.share = self.step_share();
        self.note_split(age);
        self.begin_step(age);
    }

    /// A step begins, or begins anew.
    pub(super) fn begin_step(&mut self, age: f64) {
        self.memory.step_since = age;
        self.memory.samples = 0;
        self.memory.proofs.iter_mut().for_each(Proof::step);
        self.memory.waiting.step();
        self.memory.in_vain.restart();
    }

    /// Is it on its way back to a step that it had reached before?
    pub(super) fn is_returning(&self) -> bool {
        self.memory.returning.is_some_and(|back| back > self.memory.step)
    }

    pub(super) fn set_stage(&mut self, stage: Stage, because: String) {
        self.memory.stage = stage;
        self.memory.because = because;
    }

    /// Nothing of what was seen counts any more.
    pub(super) fn forget_evidence(&mut self, age: f64) {
        self.memory.proofs = self.plan.checks.iter().map(|_| Proof::new()).collect();
        self.memory.burst = Burst::default();
        self.memory.evidence_since = age;
        self.memory.failing_since = None;
        self.memory.falls.clear();
        self.memory.before_fall.clear();
        self.memory.peak = None;
        self.memory.returning = None;
        self.begin_step(age);
    }

    /// An A/A test moves nothing.
    pub(super) fn share_effect(&self) -> Vec<Effect> {
        if self.plan.aa { Vec::new() } else { vec![Effect::SetShare(self.memory.share)] }
    }

    pub(super) fn announce(&self, occasion: Occasion, now: Moment) -> Vec<Effect> {
        vec![Effect::Announce { occasion, sentence: self.sentence(now) }]
    }

    /// Ends for good. `why`: a sentence, where it was not the evidence.
    pub(super) fn end(&mut self, ending: Ending, why: &str, now: Moment) -> Vec<Effect> {
        let sentence = self.last_sentence(ending, why, now);
        let (stage, occasion, share) = match ending {
            Ending::Promoted => (Stage::Promoted, Occasion::Promoted, 1.0),
            Ending::RolledBack => (Stage::RolledBack, Occasion::RolledBack, 0.0),
        };
        if ending == Ending::Promoted {
            self.memory.step = self.plan.steps.len() - 1;
        }
        self.memory.share = share;
        self.set_stage(stage, sentence.clone());
        let mut effects = self.share_effect();
        effects.push(Effect::Finished(ending));
        effects.push(Effect::Announce { occasion, sentence });
        effects
    }
}
