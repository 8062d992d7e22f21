//! What the canaries tell of themselves, published by the control path each second for whoever asks.
use super::exposition::Page;
use super::meters::Meters;
use super::metrics::{CANARY_EVIDENCE, CANARY_STATE, PROMOTIONS, ROLLBACKS, WEBHOOKS};
use crate::canary::{CheckView, RollOut, State};
use crate::fleet::ModelState;
use crate::stats::Moment;
use crate::table::Table;
use std::sync::atomic::Ordering::Relaxed;

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

pub(super) fn expose(page: &mut Page, table: &Table, meters: &Meters) {
    let reports = meters.canaries.load();
    let family = page.family(&CANARY_STATE);
    for report in reports.iter() {
        for state in State::ALL {
            let is = f64::from(u8::from(state == report.state));
            family.gauge(&[&report.model, state.name()], is);
        }
    }
    let family = page.family(&CANARY_EVIDENCE);
    for report in reports.iter() {
        for check in &report.checks {
            family.gauge(&[&report.model, check.metric], check.log_evidence);
        }
    }
    let family = page.family(&ROLLBACKS);
    for model in &table.models {
        let checks = model.plan.canary.as_ref().map_or(&[][..], |plan| &plan.checks);
        let may = |name| checks.iter().any(|check| check.metric.name() == name);
        for (check, n) in model.state.rollbacks() {
            if n > 0 || may(check) || (check == "none" && !checks.is_empty()) {
                family.count(&[&model.name, check], n);
            }
        }
    }
    let family = page.family(&PROMOTIONS);
    for model in &table.models {
        family.count(&[&model.name], model.state.promotions.load(Relaxed));
    }
    let family = page.family(&WEBHOOKS);
    for model in &table.models {
        let ModelState { webhooks_delivered, webhooks_failed, .. } = &*model.state;
        for (result, count) in [("delivered", webhooks_delivered), ("failed", webhooks_failed)] {
            family.count(&[&model.name, result], count.load(Relaxed));
        }
    }
}
