//! What a reload would do to who owns which points, by the code that does it.
use super::canary_shares::{candidate_share, judged_of, split_with, stable_name};
use crate::balance::Segments;
use crate::canary::{RollOut, Start, State};
use crate::observe::CanaryReport;
use crate::stats::Moment;
use crate::table::{Hold, ModelPlan, Overrides, Plan, SetSplit, Shares, Table, is_split_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The division of all models' requests in a table that serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Running(pub BTreeMap<String, RunningModel>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningModel {
    pub segments: Segments,
    pub shares: Shares,
    /// Those that an operator set, and the file's that they stand in for.
    pub set: Option<(Shares, Shares)>,
    /// The candidate that was promoted, and keeps its share until the file's split changes.
    #[serde(default)]
    pub promoted: Option<String>,
}

/// What becomes of a model's canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryFate {
    None,
    GoesOn,
    /// Its candidate was promoted, and keeps its share because the file's split is the same.
    Promoted,
    /// The file has another split than that under which the candidate was promoted.
    Unseated,
    /// Its evidence is forgotten.
    BeginsAnew,
    /// Until an operator starts it.
    Waits,
}

/// How a model's requests are divided after a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    pub segments: Segments,
    pub canary: CanaryFate,
    /// A split that an operator set would be over.
    pub ends_set_split: bool,
}

impl Running {
    pub fn of(table: &Table, reports: &[CanaryReport]) -> Self {
        let promoted = |name: &str| {
            let of = |report: &&CanaryReport| report.model == name;
            let report = reports.iter().find(of)?;
            (report.state == State::Promoted).then(|| report.candidate.clone())
        };
        let each = table.models.iter().map(|model| {
            let share = |version: &crate::table::Version| (version.name.to_string(), version.share);
            let running = RunningModel {
                segments: model.segments.clone(),
                shares: model.versions.iter().map(share).collect(),
                set: model.set.as_ref().map(|set| (set.shares.clone(), set.file.clone())),
                promoted: promoted(&model.name),
            };
            (model.name.to_string(), running)
        });
        Self(each.collect())
    }

    /// What a reload of `new` makes of a model, where `old` serves. `old`: `None`, the model is new.
    pub fn forecast(&self, old: Option<&ModelPlan>, new: &ModelPlan) -> Forecast {
        let before = self.0.get(&new.name);
        let mut overrides = Overrides::default();
        let set = before.and_then(|before| before.set.as_ref());
        if let Some((shares, file)) = set {
            let set = SetSplit {
                shares: shares.clone(),
                file: file.clone(),
                who: String::new(),
                since: jiff::Timestamp::UNIX_EPOCH,
                hold: Hold::default(),
            };
            if set.fits(new) {
                overrides.splits.insert(new.name.clone(), Arc::new(set));
            }
        }
        let same_split = old.is_some_and(|old| is_split_of(&old.split_by_name(), new));
        let has = |name: &&String| new.versions.iter().any(|version| version.name == **name);
        let promoted = before.and_then(|before| before.promoted.as_ref());
        let promoted = promoted.filter(has).filter(|_| same_split);
        let candidate = new.canary.as_ref().map(|canary| &canary.candidate);
        let stays = promoted.is_some() && candidate.is_none_or(|own| Some(own) == promoted);
        let goes_on = stays || old.is_some_and(|old| same_canary(old, new));
        // A canary's shares last until something begins it anew, those of a promotion until the split changes.
        let had_canary = old.is_some_and(|old| old.canary.is_some()) && new.canary.is_some();
        if let Some(before) = before.filter(|_| had_canary && same_split && set.is_none()) {
            overrides.shares.insert(new.name.clone(), before.shares.clone());
        }
        // What the other versions share out while a canary runs: who was promoted has all.
        let mut base = new.split_by_name();
        if promoted.is_some() {
            for (name, share) in &mut base {
                *share = if Some(&*name) == promoted { 1.0 } else { 0.0 };
            }
            overrides.shares.insert(new.name.clone(), base.iter().cloned().collect());
        }
        let moved = |segments: Option<&Segments>, overrides: &Overrides| {
            let names = new.versions.iter().map(|version| version.name.as_str());
            let shares: Vec<(&str, f64)> = names.zip(overrides.shares_of(new)).collect();
            segments.map_or_else(|| Segments::new(&shares), |owned| owned.moved_to(&shares))
        };
        // As a table is built, and then as its canary moves it.
        let mut segments = moved(before.map(|before| &before.segments), &overrides);
        let unseated = promoted.is_none() && before.is_some_and(|b| b.promoted.is_some());
        let canary = match &new.canary {
            _ if stays => CanaryFate::Promoted,
            None if unseated => CanaryFate::Unseated,
            None => CanaryFate::None,
            Some(_) if goes_on => CanaryFate::GoesOn,
            Some(plan) => {
                overrides.shares.remove(&new.name);
                if promoted.is_some() {
                    overrides.shares.insert(new.name.clone(), base.iter().cloned().collect());
                }
                let starts = plan.start == Start::Auto;
                if starts {
                    overrides.splits.remove(&new.name);
                    let judged = judged_of(new, &plan.candidate);
                    let (stable, share) =
                        (stable_name(new, &plan.candidate), candidate_share(new, &plan.candidate));
                    let (rollout, _) =
                        RollOut::begin(plan.clone(), judged, stable, share, Moment::ZERO);
                    if let Some(shares) = split_with(&rollout, &base) {
                        overrides.shares.insert(new.name.clone(), shares);
                    }
                }
                segments = moved(Some(&segments), &overrides);
                if starts { CanaryFate::BeginsAnew } else { CanaryFate::Waits }
            }
        };
        let ends_set_split = set.is_some() && overrides.splits.is_empty();
        Forecast { segments, canary, ends_set_split }
    }

    /// As a start with this plan would divide.
    pub fn started(plan: &Plan) -> Self {
        let each = plan.models.iter().map(|model| {
            let Forecast { segments, .. } = Self::default().forecast(None, model);
            let names = model.versions.iter().map(|version| version.name.clone());
            let shares = names.map(|name| (name.clone(), segments.share_of(&name))).collect();
            (model.name.clone(), RunningModel { segments, shares, set: None, promoted: None })
        });
        Self(each.collect())
    }
}

fn same_canary(old: &ModelPlan, new: &ModelPlan) -> bool {
    let (Some(was), Some(is)) = (&old.canary, &new.canary) else { return false };
    was.deciding() == is.deciding()
        && old.split_by_name() == new.split_by_name()
        && judged_of(old, &was.candidate) == judged_of(new, &is.candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{By, Command};
    use crate::config::parse_text;
    use crate::control::{CanaryVerb, Core};

    fn plan(split: &str, more: &str) -> Arc<Plan> {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nmodels:\n  m:\n    versions: {{v1: [http://a:1], \
             v2: [http://b:1], v3: [http://c:1]}}\n    split: {{{split}}}\n{more}"
        );
        Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan)
    }

    fn canary(steps: &str) -> String {
        format!("    canary: {{candidate: v2, steps: {steps}}}\n")
    }

    #[test]
    fn what_is_foretold_is_what_a_reload_does() {
        let (a, b) = (canary("[10, 50, 100]"), canary("[30, 100]"));
        let manual = "    canary: {candidate: v2, start: manual}\n";
        let aa = "    canary: {aa: true}\n";
        let plans = [
            plan("v1: 90, v2: 10", ""),
            plan("v1: 80, v2: 20", ""),
            plan("v1: 20, v3: 80", "    fail_open: false\n"),
            plan("v1: 90, v2: 10", &a),
            plan("v1: 90, v2: 10", &b),
            plan("v1: 60, v2: 40", &a),
            plan("v1: 60, v2: 40", manual),
            plan("v1: 60, v2: 40", aa),
            plan("v1: 60, v2: 40", "    canary: {candidate: v3}\n"),
            plan("v1: 60, v2: 40", "    canary: {candidate: v3, start: manual}\n"),
            plan("v1: 60, v2: 40, v3: 0", ""),
        ];
        let by = By { who: "api", reason: None };
        for old in &plans {
            for new in &plans {
                for promoted in [false, true] {
                    for set in [false, true] {
                        let (mut core, _) = Core::start(old, Overrides::default(), 7, Moment::ZERO);
                        // Not all have one, and not all of those can be told so.
                        let say = |core: &mut Core, command| {
                            core.order_canary("m", CanaryVerb::Say(command), by, Moment::ZERO).ok()
                        };
                        if promoted {
                            say(&mut core, Command::Promote);
                        }
                        say(&mut core, Command::Pause);
                        if set {
                            let shares = [("v1".to_owned(), 0.5), ("v3".to_owned(), 0.5)].into();
                            let by = ("api", jiff::Timestamp::UNIX_EPOCH);
                            core.set_split("m", shares, Hold::default(), by, Moment::ZERO).unwrap();
                        }
                        core.keep_canaries(Moment::ZERO);
                        let reports = core.canary_reports(Moment::ZERO);
                        let running = Running::of(core.table(), &reports);
                        let told = running.forecast(Some(&old.models[0]), &new.models[0]);
                        core.apply(new, Moment::ZERO);
                        let model = &core.table().models[0];
                        assert_eq!(
                            told.segments, model.segments,
                            "{old:?}\n{new:?}\n{promoted} {set}"
                        );
                        assert_eq!(told.ends_set_split, set && model.set.is_none());
                    }
                }
            }
        }
    }

    #[test]
    fn a_start_is_foretold_too() {
        let plan = plan("v1: 90, v2: 10", &canary("[30, 100]"));
        let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
        let (foretold, real) = (Running::started(&plan), Running::of(core.table(), &[]));
        assert_eq!(foretold.0["m"].segments, real.0["m"].segments);
    }
}
