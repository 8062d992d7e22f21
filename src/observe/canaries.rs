//! The metrics of canaries.
use super::exposition::Page;
use super::meters::Meters;
use super::metrics::{CANARY_EVIDENCE, CANARY_STATE, PROMOTIONS, ROLLBACKS, WEBHOOKS};
use crate::canary::State;
use crate::fleet::ModelState;
use crate::table::Table;
use std::sync::atomic::Ordering::Relaxed;

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
