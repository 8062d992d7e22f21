//! The key `canary`: how a candidate is brought in. What stops it is in `checks`.
use super::canary_keys;
use super::diagnostic::Diagnostic;
use super::reader::{Reader, Section, one_of};
use super::scalar::{self, Complaint, Read};
use super::tree::Value;
use crate::canary::{CanaryPlan, DoWhenUndecided, OnFailure, OnUndecided, Start};
use crate::table::VersionPlan;

/// Of a model, as far as its canary must fit to it.
pub(super) struct Around<'a> {
    pub(super) name: &'a str,
    pub(super) versions: &'a [VersionPlan],
    pub(super) split: &'a [f64],
    /// Is a client kept on one version?
    pub(super) sticky: bool,
}

impl Reader<'_> {
    pub(super) fn canary(
        &mut self,
        model: &Section<'_>,
        around: &Around<'_>,
    ) -> Option<CanaryPlan> {
        let entry = model.get("canary").filter(|entry| !entry.value.is_null())?;
        let section = self.inner(model, "canary", canary_keys::CANARY);
        if !matches!(entry.value.value, Value::Map(_)) {
            return None;
        }
        let aa = self.flag(&section, "aa");
        let candidate = self.candidate(&section, around, aa);
        let confirm = self.flag(&section, "confirm");
        if around.sticky && !confirm {
            let complaint =
                Complaint::new("conflicting-keys", "does not go with `hash_on`", "too hasty");
            let help = "with sticky keys the failures of one user come together: leave it on";
            let place = section.place_of("confirm");
            self.complain(&section.path_of("confirm"), place, complaint.help(help));
        }
        let undecided = self.inner(&section, "on_undecided", canary_keys::ON_UNDECIDED);
        let (steps, adapts) = self.steps(&section);
        // All that is wrong is told, with a candidate or without.
        let plan = CanaryPlan {
            candidate: String::new(),
            start: match self.word(&section, "start") {
                "manual" => Start::Manual,
                _ => Start::Auto,
            },
            steps,
            adapts,
            hold: self.duration(&section, "hold"),
            warmup: self.duration(&section, "warmup"),
            confirm,
            checks: self.checks(&section),
            false_alarm: self.parsed_or_default(&section, "false_alarm", false_alarm),
            proxies: u32::try_from(self.count(&section, "proxies")).unwrap_or(1),
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
            aa,
        };
        candidate.map(|candidate| CanaryPlan { candidate, ..plan })
    }

    /// An A/A test that names none is of the version that has most.
    fn candidate(
        &mut self,
        section: &Section<'_>,
        around: &Around<'_>,
        aa: bool,
    ) -> Option<String> {
        let Around { name, versions, split, .. } = around;
        let names: Vec<&str> = versions.iter().map(|version| version.name.as_str()).collect();
        let Some(written) = self.text(section, "candidate") else {
            if aa {
                let most = split.iter().copied().fold(0.0, f64::max);
                let place = split.iter().position(|share| *share >= most)?;
                return names.get(place).map(|name| (*name).to_owned());
            }
            if !section.has("candidate") {
                let last = names.last().copied().unwrap_or("v2");
                self.missing(section, "candidate", &format!("candidate: {last}"));
            }
            return None;
        };
        let place = section.place_of("candidate");
        if !names.contains(&written.as_str()) {
            self.unknown_version("canary", (&written, place), name, versions);
            return None;
        }
        if names.len() == 1 && !aa {
            let message =
                format!("`canary` of model `{name}` has nothing to compare `{written}` with");
            let help =
                "add the version that serves now, or compare this one with itself: `aa: true`";
            let diagnostic = Diagnostic::error("lone-candidate", place, message);
            self.report(diagnostic.label("the only version").help(help));
        }
        Some(written)
    }

    /// The steps, and whether the first of them are left out where little traffic comes.
    fn steps(&mut self, section: &Section<'_>) -> (Vec<f64>, bool) {
        let entry = section.get("steps").filter(|_| section.has("steps"));
        let written = entry.map(|entry| &entry.value.value);
        if !matches!(written, Some(Value::List(_))) {
            self.optional(section, "steps", |text| {
                let help = "write `auto`, or a list as `[1, 5, 25, 50, 100]`";
                one_of(text, &["auto"]).map_err(|complaint| complaint.help(help))
            });
            return (CanaryPlan::default().steps, true);
        }
        let found = self.items(section, "steps", "a percentage", step);
        let complete = found.len() == self.list(section, "steps").len();
        let steps: Vec<f64> = found.iter().map(|(step, _)| *step).collect();
        let fault = |what: String, label: &str| Complaint::new("impossible-steps", what, label);
        let path = section.path_of("steps");
        let falls = found.windows(2).find(|pair| pair[1].0 <= pair[0].0);
        if let Some([(before, _), (step, place)]) = falls {
            let what = format!("has {step} after {before}; each must be above the one before");
            let complaint = fault(what, "not rising").help("as in `[1, 5, 25, 50, 100]`");
            self.complain(&path, place.clone(), complaint);
        } else if complete && steps.last().is_none_or(|last| (last - 100.0).abs() > 1e-9) {
            let what = "does not end at 100: the candidate would never serve all".to_owned();
            let complaint = fault(what, "100 is missing").help("as in `[1, 5, 25, 50, 100]`");
            self.complain(&path, section.place_of("steps"), complaint);
        } else if complete && steps.len() == 1 {
            let what = "begins with 100, where nothing is left to compare with".to_owned();
            let complaint = fault(what, "no step below 100").help("as in `[10, 100]`");
            self.complain(&path, section.place_of("steps"), complaint);
        }
        (steps, false)
    }
}

fn step(text: &str) -> Read<f64> {
    let step = scalar::part(text)?;
    if step > 0.0 {
        return Ok(step);
    }
    let complaint =
        Complaint::new("impossible-steps", "holds 0, at which nothing can be learned", "0 percent");
    Err(complaint.help("begin with a small share, as 1"))
}

fn false_alarm(text: &str) -> Read<f64> {
    let percent = scalar::part(text)?;
    if (0.000_001..=50.0).contains(&percent) {
        return Ok(percent / 100.0);
    }
    let what = format!("is `{text}`; it must be above 0 and at most 50 percent");
    let complaint = Complaint::new("out-of-range", what, "out of range");
    Err(complaint.help("`1%`: of 100 good candidates one is rolled back at most"))
}
