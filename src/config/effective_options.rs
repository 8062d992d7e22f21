//! What a model may say besides its versions, written out: see `effective`.
use super::effective::{Page, list, quoted, text};
use super::render::MASK;
use super::scalar::show_duration;
use crate::canary::{CanaryPlan, Check, DoWhenUndecided, OnFailure, Start};
use crate::health::{EjectionPlan, FailureCodes, HedgeAfter, HedgePlan, RetryPlan};

pub(super) fn canary(out: &mut Page, plan: &CanaryPlan) {
    out.open("canary");
    out.line("candidate", text(&plan.candidate));
    out.line("start", if plan.start == Start::Auto { "auto" } else { "manual" });
    out.line("steps", if plan.adapts { "auto".to_owned() } else { list(&plan.steps) });
    out.line("hold", show_duration(plan.hold));
    out.line("warmup", show_duration(plan.warmup));
    out.line("confirm", plan.confirm);
    out.block("checks", &plan.checks, check);
    out.line("false_alarm", plain(plan.false_alarm * 100.0));
    out.line("proxies", plan.proxies);
    let pauses = plan.on_failure == OnFailure::Pause;
    out.line("on_failure", if pauses { "pause" } else { "rollback" });
    let back = plan.on_undecided.act == DoWhenUndecided::Rollback;
    out.open("on_undecided");
    out.line("after", show_duration(plan.on_undecided.after));
    out.line("do", if back { "rollback" } else { "pause" });
    out.close();
    if let Some(notify) = &plan.notify {
        out.open("notify");
        // What is shown can be read back.
        let scheme = notify.webhook.split(':').next().unwrap_or_default();
        out.line("webhook", quoted(&format!("{scheme}://{MASK}")));
        if notify.secret.is_some() {
            out.line("secret", quoted(MASK));
        }
        out.close();
    }
    out.line("aa", plan.aa);
    out.close();
}

fn check(out: &mut Page, check: &Check) {
    out.line("metric", check.metric.name());
    let points = format!("\"+{}%\"", plain(check.at_most.points * 100.0));
    if check.metric.is_better_above() {
        return out.line("at_least", quoted(&format!("{}x", plain(1.0 / check.at_most.times))));
    }
    let times = format!("\"{}x\"", check.at_most.times);
    let bounds = if check.metric.compares_amounts() { vec![times] } else { vec![points, times] };
    out.line("at_most", list(bounds));
    let Some(rules) = check.metric.rules() else { return };
    out.open("when");
    out.line("empty", rules.empty);
    out.line("json_invalid", rules.json_invalid);
    out.line("truncated", rules.truncated);
    if let Some(pattern) = &rules.matches {
        out.line("matches", quoted(pattern));
    }
    out.pairs("json", rules.json.iter().map(|(at, value)| (at.as_str(), quoted(value))));
    out.close();
}

/// Without the dust of floating point; it reads back as the same.
fn plain(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

pub(super) fn retries(out: &mut Page, plan: &RetryPlan) {
    out.open("retries");
    out.line("max", plan.max);
    out.line("when", list(plan.when.iter().map(|failed| failed.word())));
    out.line("budget", plan.budget * 100.0);
    out.close();
}

pub(super) fn hedge(out: &mut Page, plan: &HedgePlan) {
    out.open("hedge");
    out.line(
        "after",
        match plan.after {
            HedgeAfter::Quantile(part) => format!("p{}", (part * 1e8).round() / 1e6),
            HedgeAfter::Fixed(fixed) => show_duration(fixed),
        },
    );
    out.line("budget", plan.budget * 100.0);
    out.close();
}

pub(super) fn ejection(out: &mut Page, plan: &EjectionPlan) {
    out.open("ejection");
    out.line("for", show_duration(plan.least));
    out.line("at_most", show_duration(plan.at_most));
    out.line("max_percent", plan.max_percent);
    let range = |range: &std::ops::RangeInclusive<u16>| {
        let (start, end) = (range.start(), range.end());
        quoted(&if start == end { start.to_string() } else { format!("{start}-{end}") })
    };
    out.line(
        "failure_codes",
        if plan.failure_codes == FailureCodes::ALL {
            "[5xx]".to_owned()
        } else {
            list(plan.failure_codes.ranges().iter().map(range))
        },
    );
    out.close();
}
