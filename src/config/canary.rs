//! The key `canary`: how a candidate is brought in, and what stops it.
use super::keys;
use super::reader::{Reader, Section};
use super::scalar::{self, Complaint, Read};
use super::tree::{Node, Value};
use crate::canary::{
    CanaryPlan, Check, DoWhenUndecided, Margin, Metric, OnFailure, OnUndecided, Start,
};
use crate::dialect::nearest;
use crate::table::VersionPlan;

impl Reader<'_> {
    pub(super) fn canary(
        &mut self,
        model: &Section<'_>,
        versions: &[VersionPlan],
        sticky: bool,
    ) -> Option<CanaryPlan> {
        let entry = model.get("canary").filter(|entry| !entry.value.is_null())?;
        let section = self.inner(model, "canary", keys::CANARY);
        if !matches!(entry.value.value, Value::Map(_)) {
            return None;
        }
        let Some(candidate) = self.text(&section, "candidate") else {
            self.missing(&section, "candidate", "candidate: v2");
            return None;
        };
        if !versions.iter().any(|version| version.name == candidate) {
            let names = || versions.iter().map(|version| version.name.as_str());
            let near = nearest(&candidate, names());
            let hint = if near.is_empty() { names().collect::<Vec<_>>() } else { near };
            let complaint = Complaint::new(
                "unknown-version",
                format!("is `{candidate}`, which is no version"),
                "no such version",
            );
            let help = format!("versions: `{}`", hint.join("`, `"));
            let place = section.place_of("candidate");
            self.complain(&section.path_of("candidate"), place, complaint.help(help));
            return None;
        }
        let confirm = self.flag(&section, "confirm");
        if sticky && !confirm {
            let complaint =
                Complaint::new("conflicting-keys", "does not go with `hash_on`", "too hasty");
            let help = "with sticky keys the failures of one user come together: leave it on";
            let place = section.place_of("confirm");
            self.complain(&section.path_of("confirm"), place, complaint.help(help));
        }
        let undecided = self.inner(&section, "on_undecided", keys::ON_UNDECIDED);
        Some(CanaryPlan {
            candidate,
            start: match self.word(&section, "start") {
                "manual" => Start::Manual,
                _ => Start::Auto,
            },
            steps: self.steps(&section),
            hold: self.duration(&section, "hold"),
            warmup: self.duration(&section, "warmup"),
            confirm,
            checks: self.checks(&section),
            false_alarm: self.parsed_or_default(&section, "false_alarm", false_alarm),
            on_failure: match self.word(&section, "on_failure") {
                "pause" => OnFailure::Pause,
                _ => OnFailure::Rollback,
            },
            on_undecided: OnUndecided {
                after: self.duration(&undecided, "after"),
                act: match self.word(&undecided, "do") {
                    "rollback" => DoWhenUndecided::Rollback,
                    _ => DoWhenUndecided::Pause,
                },
            },
            notify: self.notify(&section),
            aa: self.flag(&section, "aa"),
        })
    }

    fn steps(&mut self, section: &Section<'_>) -> Vec<f64> {
        if !section.has("steps") {
            return CanaryPlan::default().steps;
        }
        let items = self.items(section, "steps", "a percentage", scalar::part);
        let steps: Vec<f64> = items.into_iter().map(|(step, _)| step).collect();
        let rising = steps.is_sorted_by(|a, b| a < b) && steps.first().is_some_and(|s| *s > 0.0);
        let ends = steps.last().is_some_and(|last| (last - 100.0).abs() < 1e-9);
        if rising && ends && steps.len() > 1 {
            return steps;
        }
        let what = match (rising, ends) {
            (false, _) => "do not rise",
            (true, false) => "do not end at 100",
            (true, true) => "are 100 alone: there is nothing to judge below",
        };
        let complaint = Complaint::new("impossible-steps", what, "impossible");
        let help = "write for example `[1, 5, 25, 50, 100]`";
        let place = section.place_of("steps");
        self.complain(&section.path_of("steps"), place, complaint.help(help));
        CanaryPlan::default().steps
    }

    fn checks(&mut self, section: &Section<'_>) -> Vec<Check> {
        if !section.has("checks") {
            return Check::usual().into_iter().filter(|check| is_there(&check.metric)).collect();
        }
        let mut checks = Vec::new();
        for (index, node) in self.list(section, "checks").iter().enumerate() {
            let path = format!("{}[{index}]", section.path_of("checks"));
            checks.extend(self.check(node, path));
        }
        checks
    }

    fn check(&mut self, node: &Node, path: String) -> Option<Check> {
        let section = self.section(node, node.span.clone(), keys::CHECK, path);
        if !section.has("metric") {
            self.missing(&section, "metric", "metric: errors");
            return None;
        }
        let metric = self.optional(&section, "metric", metric)?;
        let usual = if metric.compares_amounts() { "1.1x" } else { "+0.5%" };
        let mut at_most = Margin { points: 0.0, times: 1.0 };
        let mut widen = |part: Margin| {
            at_most.points = at_most.points.max(part.points);
            at_most.times = at_most.times.max(part.times);
        };
        match section.get("at_most").map(|entry| &entry.value.value) {
            Some(Value::List(_)) => {
                let margins = self.items(&section, "at_most", "a margin", margin);
                for (part, _) in margins {
                    widen(part);
                }
            }
            Some(Value::Scalar(_) | Value::Map(_)) => {
                self.optional(&section, "at_most", margin).into_iter().for_each(widen);
            }
            None => margin(usual).into_iter().for_each(widen),
        }
        Some(Check { metric, at_most })
    }
}

/// Answers are not looked into yet.
fn is_there(metric: &Metric) -> bool {
    !matches!(metric, Metric::BadOutput(_) | Metric::OutputTokens)
}

fn metric(text: &str) -> Read<Metric> {
    let there = || {
        let named = Metric::NAMES.into_iter();
        named.filter(|name| Metric::of_name(name).is_some_and(|metric| is_there(&metric)))
    };
    match Metric::of_name(text) {
        Some(metric) if is_there(&metric) => Ok(metric),
        Some(_) => {
            let what = format!("is `{text}`, but answers are not looked into yet");
            Err(Complaint::new("not-available", what, "not supported yet"))
        }
        None => {
            let near = nearest(text, there());
            let known = there().collect::<Vec<_>>().join(", ");
            let help = match near.first() {
                Some(near) => format!("did you mean `{near}`? metrics: {known}"),
                None => format!("metrics: {known}"),
            };
            let what = format!("is `{text}`, which is no metric");
            Err(Complaint::new("unknown-value", what, "no such metric").help(help))
        }
    }
}

/// `+0.5%`: percentage points; `1.5x`: times.
fn margin(text: &str) -> Read<Margin> {
    let bad = || {
        Complaint::new("bad-margin", format!("is `{text}`, which is no margin"), "not a margin")
            .help("write `+0.5%` for percentage points more, or `1.5x` for times as much")
    };
    if let Some(times) = text.strip_suffix('x') {
        let times = scalar::number(times).map_err(|_| bad())?;
        return if (1.0..=1000.0).contains(&times) {
            Ok(Margin { points: 0.0, times })
        } else {
            Err(bad())
        };
    }
    let points = text.strip_prefix('+').filter(|points| points.ends_with('%')).ok_or_else(bad)?;
    let points = scalar::part(points).map_err(|_| bad())?;
    Ok(Margin { points: points / 100.0, times: 1.0 })
}

fn false_alarm(text: &str) -> Read<f64> {
    let percent = scalar::part(text)?;
    if percent > 0.0 && percent <= 50.0 {
        return Ok(percent / 100.0);
    }
    let what = format!("is `{text}`; it must be above 0 and at most 50");
    Err(Complaint::new("out-of-range", what, "out of range"))
}
