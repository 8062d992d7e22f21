//! What a canary tells of itself in numbers: for the API, the metrics and its sentences.
use super::plan::Check;
use super::proof::Proof;
use super::rollout::{MIN_SAMPLES, RollOut};
use super::state::{Stage, State};
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
            Stage::Running if self.may_pass() && self.is_judging(self.age(now)) => State::Passing,
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
                let needs = proof.needs(check, self.at())? * each.max(1.0);
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
        // Eveners that judge apart share the chance among them.
        (f64::from(self.plan.proxies.max(1)) / self.plan.false_alarm).ln()
    }

    /// Is every check proven on this step?
    pub(super) fn is_safe(&self) -> bool {
        let mut each = self.memory.proofs.iter().zip(&self.plan.checks);
        self.memory.samples >= MIN_SAMPLES
            && each
                .all(|(proof, check)| proof.passes(check, self.at()) || proof.is_passed_over(check))
    }

    /// Is it passed over, after requests enough?
    pub(super) fn is_unread(&self, proof: &Proof, check: &Check) -> bool {
        self.memory.samples >= MIN_SAMPLES && proof.is_passed_over(check)
    }

    /// The check that failed it; `None`: none did, an operator or the time on a step ended it.
    pub fn failed_by(&self) -> Option<&'static str> {
        let (proofs, clients) = (&self.memory.proofs, &self.memory.clients);
        let loudest = loudest(proofs, &self.weights, clients).filter(|_| self.memory.failed)?;
        Some(self.plan.checks[loudest].metric.name())
    }

    /// Every check, in the order of the plan.
    pub fn checks(&self) -> Vec<CheckView> {
        let each = self.memory.proofs.iter().zip(&self.plan.checks).zip(&self.weights);
        each.map(|((proof, check), weight)| {
            let (candidate, stable) = proof.counts();
            let unequal = self.at().is_unfair_to(check);
            let unread = self.is_unread(proof, check);
            let slow = "not comparable, the candidate is under-provisioned";
            CheckView {
                metric: check.metric.name(),
                candidate,
                stable,
                log_evidence: proof.harm(&self.memory.clients),
                clients: proof.loud.whose(&self.memory.clients),
                weight: *weight,
                passes: proof.passes(check, self.at()) || unread,
                note: unequal.then_some(slow).or_else(|| unread.then(|| unread_note(check))),
            }
        })
        .collect()
    }
}

/// Why a check is passed over.
fn unread_note(check: &Check) -> &'static str {
    if check.metric.needs_streams() { "no answer is a stream" } else { "no answer can be read" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{
        Arm, Block, CanaryPlan, Check, Finding, Judged, Load, Metric, Observation, Safe, World,
        margin_of_step,
    };
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};
    use std::time::Duration;

    const LOAD: Load = Load { weight: 1.0, share: 0.5 };
    /// The check that [`after`] puts in the place of the last.
    const LAST: usize = 6;
    const WORLD: World = World { candidate_usable: true, candidate: LOAD, stable: LOAD };

    /// A canary with this last check after 300 requests of each side.
    fn after(last: Check, told: impl Fn(u32, Arm) -> (Option<Finding>, Option<u32>)) -> RollOut {
        let mut checks = Check::usual();
        *checks.last_mut().unwrap() = last;
        let plan = CanaryPlan {
            candidate: "v2".into(),
            warmup: Duration::ZERO,
            checks,
            ..CanaryPlan::default()
        };
        let judged = Judged { model: "m".into(), candidate: "v2".into(), upstream_model: None };
        let (mut canary, _) = RollOut::begin(plan, judged, "v1".into(), 0.5, Moment::ZERO);
        canary.tick(&WORLD, Moment::ZERO);
        for n in 0..300 {
            for arm in [Arm::Candidate, Arm::Stable] {
                let (bad_output, tokens) = told(n, arm);
                let first_byte = Some(Duration::from_millis(50));
                let usual = Observation::of(arm, false, Moment::ZERO);
                let seen = Observation { bad_output, first_byte, tokens, ..usual };
                canary.observe(&seen, Moment::ZERO);
            }
        }
        canary
    }

    fn bad_output(optional: bool) -> Check {
        let mut check = Check::usual().pop().unwrap();
        if let Metric::BadOutput(rules) = &mut check.metric {
            rules.optional = optional;
        }
        check
    }

    #[test]
    fn a_usual_check_that_nothing_can_be_told_of_is_passed_over_aloud() {
        let canary = after(bad_output(true), |_, _| (None, None));
        let check = &canary.checks()[LAST];
        assert_eq!((check.passes, check.note), (true, Some("no answer can be read")));
        assert!(canary.sentence(Moment::ZERO).ends_with("bad_output is not checked."));
    }

    #[test]
    fn a_check_that_was_asked_for_or_that_one_side_tells_of_is_waited_for() {
        let canary = after(bad_output(false), |_, _| (None, None));
        assert!(!canary.checks()[LAST].passes && !canary.is_safe());
        let canary =
            after(bad_output(true), |_, arm| ((arm == Arm::Stable).then_some(Finding::Good), None));
        assert!(!canary.checks()[LAST].passes && !canary.is_safe());
    }

    #[test]
    fn what_only_some_requests_tell_takes_more_of_them() {
        let tells =
            |each: u32| move |n: u32, _| (n.is_multiple_of(each).then_some(Finding::Good), None);
        let needs = |each| after(bad_output(true), tells(each)).needs_requests().unwrap();
        assert!(needs(10) > needs(1) + 500, "{} {}", needs(10), needs(1));
    }

    #[test]
    fn what_nearly_all_answers_of_both_sides_are_is_passed_over_aloud() {
        let canary = after(bad_output(true), |_, _| (Some(Finding::Truncated), None));
        let check = canary.checks().pop().unwrap();
        assert!(check.passes && check.log_evidence < 1.0, "{check:?}");
        let sentence = canary.sentence(Moment::ZERO);
        assert!(sentence.contains("Nearly all answers of both sides are bad output"), "{sentence}");
        let canary = after(bad_output(false), |_, _| (Some(Finding::Truncated), None));
        assert!(!canary.checks().pop().unwrap().passes, "one that was asked for proves nothing");
    }

    #[test]
    fn what_is_often_bad_on_both_sides_keeps_no_candidate_back() {
        for rate in [0.05, 0.3, 0.7] {
            let mut rng = SmallRng::seed_from_u64(7);
            let mut draw = || f64::from(u8::from(rng.random::<f64>() < rate));
            let (mut safe, mut requests) = (Safe::default(), 0);
            let (mut hits, mut usual) = (0.0, rate);
            while safe.log() < 3.0 {
                let block = Block::new(draw(), 1.0, draw(), 1.0);
                let margin = (0.5 * usual).min((1.0 - usual) / 2.0);
                safe.add(&block, (usual, usual), margin_of_step(0.5, margin, usual));
                requests += 1;
                hits += block.stable_hits;
                usual = (hits + rate * 50.0) / (f64::from(requests) + 50.0);
                assert!(requests < 8_000, "{rate}");
            }
        }
    }

    #[test]
    fn answers_of_the_usual_length_are_longer_on_neither_side() {
        let tokens = || Check { metric: Metric::OutputTokens, ..Check::usual().swap_remove(3) };
        let hits = |canary: &RollOut| {
            let check = &canary.checks()[LAST];
            (check.candidate.hits, check.stable.hits)
        };
        for length in 1..300 {
            let canary = after(tokens(), |_, _| (None, Some(length)));
            assert_eq!(hits(&canary), (0, 0), "{length} tokens");
        }
        let longer = |_, arm| (None, Some(if arm == Arm::Candidate { 40 } else { 16 }));
        let canary = after(tokens(), longer);
        assert!(hits(&canary).0 > 200 && canary.checks()[LAST].log_evidence > 20.0);
    }
}
