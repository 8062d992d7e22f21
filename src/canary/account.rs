//! What a canary tells of itself in numbers: for the API, the metrics and its sentences.
use super::plan::Check;
use super::proof::Proof;
use super::rollout::{MIN_SAMPLES, RollOut, Stage, State};
use super::view::{CheckView, loudest};
use crate::stats::Moment;

impl RollOut {
    pub fn state(&self, now: Moment) -> State {
        match self.memory.stage {
            Stage::Idle => State::Idle,
            Stage::Paused => State::Paused,
            Stage::Undecided => State::Undecided,
            Stage::Promoted => State::Promoted,
            Stage::RolledBack => State::RolledBack,
            Stage::Running if self.memory.failing_since.is_some() => State::Failing,
            Stage::Running if self.is_safe() && self.is_judging(self.age(now)) => State::Passing,
            Stage::Running => State::Collecting,
        }
    }

    /// Counted from 0.
    pub fn step(&self) -> usize {
        self.memory.step
    }

    /// The fraction of the requests that the candidate gets.
    pub fn share(&self) -> f64 {
        self.memory.share
    }

    /// How many more requests of the candidate this step takes if they go on as so far; `None`: no number is known
    /// that would do.
    pub fn needs_requests(&self) -> Option<u64> {
        if !self.is_live() {
            return Some(0);
        }
        let mut most = MIN_SAMPLES.saturating_sub(self.memory.samples);
        for (proof, check) in self.memory.proofs.iter().zip(&self.plan.checks) {
            if !check.metric.compares_amounts() {
                // Not every request tells something.
                let each = match proof.on_step {
                    0 => 1.0,
                    told => self.memory.samples as f64 / told as f64,
                };
                let needs = proof.needs(check, self.memory.share)? * each.max(1.0);
                most = most.max(needs.ceil() as u64);
            }
        }
        Some(most)
    }

    /// Seconds to the end of this step at the present rate; `None`: nobody can tell.
    pub fn eta_seconds(&self, now: Moment) -> Option<u64> {
        (self.memory.stage == Stage::Running)
            .then(|| self.eta_at(self.age(now)))
            .flatten()
            .map(|seconds| seconds.ceil() as u64)
    }

    pub(super) fn eta_at(&self, age: f64) -> Option<f64> {
        let warm = (self.judged_from()? - age).max(0.0);
        let hold = self.plan.hold.as_secs_f64() - (age - self.memory.step_since);
        let needs = self.needs_requests()?;
        let (requests, seconds) = self.memory.recent;
        let collect = match needs {
            0 => 0.0,
            _ if requests < 0.5 || seconds <= 0.0 => return None,
            needs => needs as f64 * seconds / requests,
        };
        Some(hold.max(warm + collect).max(0.0))
    }

    /// The logarithm at which the evidence ends the canary.
    pub fn bar(&self) -> f64 {
        -self.plan.false_alarm.ln()
    }

    /// Is it passed over, after requests enough?
    pub(super) fn is_unread(&self, proof: &Proof, check: &Check) -> bool {
        self.memory.samples >= MIN_SAMPLES && proof.is_passed_over(check)
    }

    /// The check that failed it; `None`: none did, an operator or the time on a step ended it.
    pub fn failed_by(&self) -> Option<&'static str> {
        let loudest = loudest(&self.memory.proofs, &self.weights).filter(|_| self.memory.failed)?;
        Some(self.plan.checks[loudest].metric.name())
    }

    /// Every check, in the order of the plan.
    pub fn checks(&self) -> Vec<CheckView> {
        let each = self.memory.proofs.iter().zip(&self.plan.checks).zip(&self.weights);
        each.map(|((proof, check), weight)| {
            let (candidate, stable) = proof.counts();
            let unequal = check.metric.needs_equal_load() && !self.equal_load();
            let unread = self.is_unread(proof, check);
            let slow = "not comparable, the candidate is under-provisioned";
            CheckView {
                metric: check.metric.name(),
                candidate,
                stable,
                log_evidence: proof.harm(),
                weight: *weight,
                passes: proof.passes(check),
                note: unequal.then_some(slow).or(unread.then_some("no answer can be read")),
            }
        })
        .collect()
    }
}
