//! What a canary tells of itself, published by the control path each second for whoever asks.
use crate::canary::{CheckView, RollOut, State};
use crate::stats::Moment;

/// One canary as it stands.
#[derive(Clone, Debug)]
pub struct CanaryReport {
    pub model: String,
    pub candidate: String,
    pub state: State,
    pub step: usize,
    /// Percents.
    pub steps: Vec<f64>,
    /// Fraction.
    pub share: f64,
    pub sentence: String,
    pub needs_requests: Option<u64>,
    pub eta_seconds: Option<u64>,
    pub checks: Vec<CheckView>,
    /// The logarithm of the evidence, and where it ends the canary.
    pub evidence: f64,
    pub bar: f64,
}

impl CanaryReport {
    pub fn of(rollout: &RollOut, now: Moment) -> Self {
        Self {
            model: rollout.judged().model.clone(),
            candidate: rollout.judged().candidate.clone(),
            state: rollout.state(now),
            step: rollout.step(),
            steps: rollout.plan().steps.clone(),
            share: rollout.share(),
            sentence: rollout.sentence(now),
            needs_requests: rollout.needs_requests(),
            eta_seconds: rollout.eta_seconds(now),
            checks: rollout.checks(),
            evidence: rollout.evidence(),
            bar: rollout.bar(),
        }
    }
}
