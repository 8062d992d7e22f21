//! Canaries: which run, what they have seen, and what they do to the shares.
use super::core::Core;
use super::replicas::Unable;
use crate::canary::{
    By, Command, Effect, Ending, Judged, Load, Occasion, RollOut, Snapshot, Start, Unusable, World,
};
use crate::observe::CanaryReport;
use crate::stats::Moment;
use crate::table::{KeptCanary, Model, ModelPlan, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What an operator may say to a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryVerb {
    Start,
    Say(Command),
}

/// Something that happened to a canary, for events, log and journal.
#[derive(Clone, Debug)]
pub struct Told {
    pub model: String,
    pub occasion: Occasion,
    pub sentence: String,
}

/// A canary, and the file's split that it began with: another one begins it anew.
#[derive(Debug)]
pub(super) struct Canary {
    rollout: RollOut,
    split: Vec<(String, f64)>,
}

impl Canary {
    /// Does it move the shares by itself?
    pub(super) fn is_running(&self) -> bool {
        self.rollout.is_running()
    }
}

pub(super) type Canaries = BTreeMap<String, Canary>;

impl Core {
    /// Takes up what the last process had, or begins what the file asks for. Called after each new plan.
    pub(super) fn follow_canaries(&mut self, now: Moment) -> Vec<Told> {
        let table = Arc::clone(self.table());
        let mut before = std::mem::take(&mut self.canaries);
        let mut told = Vec::new();
        for model in &table.models {
            let Some(plan) = &model.plan.canary else { continue };
            let (name, split) = (model.name.to_string(), model.plan.split_by_name());
            let judged = judged_of(&model.plan, &plan.candidate);
            let same = |canary: &Canary| {
                canary.split == split
                    && *canary.rollout.judged() == judged
                    && canary.rollout.plan().deciding() == plan.deciding()
            };
            if let Some(kept) = before.remove(&name).filter(same) {
                self.canaries.insert(name, kept);
                continue;
            }
            let mut unusable = self.overrides.unreadable.remove(&name);
            let saved = self.overrides.canaries.remove(&name);
            if let Some(restored) = saved.filter(|saved| saved.split == split) {
                match RollOut::restore(restored.snapshot, plan.clone(), &judged, now) {
                    Ok(rollout) => {
                        self.canaries.insert(name.clone(), Canary { rollout, split });
                        self.set_share(&name);
                        continue;
                    }
                    // An edit wins.
                    Err(Unusable::Changed) => {}
                    Err(why @ (Unusable::Version | Unusable::Broken)) => {
                        unusable = Some(why.to_string());
                    }
                }
            }
            told.extend(self.begin_canary(model, plan.start == Start::Auto, now));
            // What was seen before is lost: somebody must look before it goes on.
            if let Some(why) = unusable {
                tracing::error!(model = name, %why, "the canary's journal cannot be used");
                told.extend(self.hold_canary(
                    &name,
                    &format!("its journal cannot be used: {why}"),
                    now,
                ));
            }
        }
        // Whatever is written next has them: a crash in between must not forget what they know.
        self.keep_canaries(now);
        self.reshare();
        told
    }

    fn begin_canary(&mut self, model: &Model, starts: bool, now: Moment) -> Vec<Told> {
        let Some(plan) = &model.plan.canary else { return Vec::new() };
        let (name, split) = (model.name.to_string(), model.plan.split_by_name());
        let judged = judged_of(&model.plan, &plan.candidate);
        let share = split.iter().find(|(version, _)| *version == plan.candidate);
        let share = share.map_or(0.0, |(_, share)| *share);
        let stable = stable_name(&model.plan, &plan.candidate);
        self.overrides.shares.remove(&name);
        if starts {
            self.yield_split(&name);
        }
        let (rollout, effects) = if starts {
            RollOut::begin(plan.clone(), judged, stable, share, now)
        } else {
            (RollOut::idle(plan.clone(), judged, stable, now), Vec::new())
        };
        self.canaries.insert(name.clone(), Canary { rollout, split });
        self.carry_out(&name, effects)
    }

    /// Pauses a canary that runs.
    fn hold_canary(&mut self, model: &str, why: &str, now: Moment) -> Vec<Told> {
        let by = By { who: "evener", reason: Some(why) };
        let Some(canary) = self.canaries.get_mut(model) else { return Vec::new() };
        // One that does not run need not be paused.
        let effects = canary.rollout.command(Command::Pause, by, now).unwrap_or_default();
        self.carry_out(model, effects)
    }

    /// Pauses all that run.
    pub fn hold_canaries(&mut self, why: &str, now: Moment) -> Vec<Told> {
        let models: Vec<String> = self.canaries.keys().cloned().collect();
        let told = models.iter().flat_map(|model| self.hold_canary(model, why, now)).collect();
        self.reshare();
        told
    }

    /// What was seen since the last look, and what follows from it. Called by the second.
    pub(super) fn judge_canaries(&mut self, now: Moment) -> Vec<Told> {
        let table = Arc::clone(self.table());
        let mut told = Vec::new();
        for model in &table.models {
            let seen = model.state.seen.take();
            let Some(canary) = self.canaries.get_mut(&*model.name) else {
                model.state.seen.set_open(false);
                continue;
            };
            // Under a split that was set by hand its share is not the one that it reckons with.
            let judged = if model.set.is_none() { &seen[..] } else { &[] };
            for one in judged {
                canary.rollout.observe(one, now);
            }
            let world = world(model, &canary.rollout);
            let effects = canary.rollout.tick(&world, now);
            told.extend(self.carry_out(&model.name, effects));
            let live = self.canaries.get(&*model.name).is_some_and(|c| c.rollout.is_live());
            model.state.seen.set_open(live);
        }
        self.reshare();
        told
    }

    /// Does what an operator says.
    pub fn order_canary(
        &mut self,
        model: &str,
        verb: CanaryVerb,
        by: By<'_>,
        now: Moment,
    ) -> Result<Vec<Told>, Unable> {
        let table = Arc::clone(self.table());
        let model = table
            .model(model)
            .ok_or_else(|| Unable::Unknown(format!("there is no model `{model}`")))?;
        let Some(canary) = self.canaries.get_mut(&*model.name) else {
            let why = format!("model `{}` has no `canary` in the file", model.name);
            return Err(Unable::Impossible(why));
        };
        let told = match verb {
            // Of one that runs nothing changes.
            CanaryVerb::Start if canary.rollout.is_live() => Vec::new(),
            CanaryVerb::Start => self.begin_canary(model, true, now),
            CanaryVerb::Say(command) => {
                let effects =
                    canary.rollout.command(command, by, now).map_err(Unable::Impossible)?;
                if command != Command::Pause {
                    self.yield_split(&model.name);
                }
                self.carry_out(&model.name, effects)
            }
        };
        self.reshare();
        Ok(told)
    }

    fn carry_out(&mut self, model: &str, effects: Vec<Effect>) -> Vec<Told> {
        let mut told = Vec::new();
        for effect in effects {
            match effect {
                Effect::SetShare(_) => self.set_share(model),
                Effect::Finished(ending) => self.count_ending(model, ending),
                Effect::Announce { occasion, sentence } => {
                    told.push(Told { model: model.to_owned(), occasion, sentence });
                }
            }
        }
        told
    }

    fn count_ending(&self, name: &str, ending: Ending) {
        let Some(model) = self.table().model(name) else { return };
        match ending {
            Ending::Promoted => {
                model.state.promotions.fetch_add(1, Relaxed);
            }
            Ending::RolledBack => {
                let canary = self.canaries.get(name);
                model.state.rolled_back(canary.and_then(|canary| canary.rollout.failed_by()));
            }
        }
    }

    /// Gives the candidate its share; the others keep the file's proportions.
    fn set_share(&mut self, model: &str) {
        let Some(Canary { rollout, split }) = self.canaries.get(model) else { return };
        if rollout.plan().aa {
            return;
        }
        let (candidate, share) = (&rollout.judged().candidate, rollout.share());
        let rest: f64 = split.iter().filter(|(v, _)| v != candidate).map(|(_, s)| s).sum();
        let others = split.len().saturating_sub(1).max(1) as f64;
        let of = |(version, file): &(String, f64)| {
            let live = match (version == candidate, rest > 0.0) {
                (true, _) => share,
                (false, true) => (1.0 - share) * file / rest,
                (false, false) => (1.0 - share) / others,
            };
            (version.clone(), live)
        };
        let shares = split.iter().map(of).collect();
        self.overrides.shares.insert(model.to_owned(), shares);
    }

    /// All canaries, for those who ask.
    pub fn canary_reports(&self, now: Moment) -> Vec<CanaryReport> {
        self.canaries.values().map(|canary| CanaryReport::of(&canary.rollout, now)).collect()
    }

    /// What the state keeps of them.
    pub fn keep_canaries(&mut self, now: Moment) {
        let kept = |(model, canary): (&String, &Canary)| {
            let snapshot: Snapshot = canary.rollout.snapshot(now);
            (model.clone(), KeptCanary { split: canary.split.clone(), snapshot })
        };
        let kept = self.canaries.iter().map(kept).collect();
        self.overrides.canaries = kept;
    }

    pub fn canary_runs(&self) -> bool {
        self.canaries.values().any(|canary| canary.rollout.is_live())
    }
}

fn judged_of(plan: &ModelPlan, candidate: &str) -> Judged {
    let version = plan.versions.iter().find(|version| version.name == candidate);
    Judged {
        model: plan.name.clone(),
        candidate: candidate.to_owned(),
        upstream_model: version.and_then(|version| version.upstream_model.clone()),
    }
}

/// What sentences call the other side.
fn stable_name(plan: &ModelPlan, candidate: &str) -> String {
    let mut others = plan.versions.iter().filter(|version| version.name != candidate);
    match (others.next(), others.next()) {
        (Some(only), None) => only.name.clone(),
        _ => "the others".to_owned(),
    }
}

fn world(model: &Model, rollout: &RollOut) -> World {
    let name = &rollout.judged().candidate;
    let is = |version: &&Version| *version.name == *name;
    let candidate_usable = model.versions.iter().find(is).is_some_and(|v| v.any_usable(&[]));
    let candidate = load(model.versions.iter().filter(is));
    // Compared with itself, its load is its own.
    let stable = if rollout.plan().aa {
        candidate
    } else {
        load(model.versions.iter().filter(|version| !is(version)))
    };
    World { candidate_usable, candidate, stable }
}

fn load<'a>(versions: impl Iterator<Item = &'a Version>) -> Load {
    let mut load = Load::default();
    // Who is given nothing carries nothing.
    for version in versions.filter(|version| version.share > 0.0) {
        load.share += version.share;
        let usable = version.members.iter().filter(|member| member.replica.usable());
        load.weight += usable.map(|member| f64::from(member.weight)).sum::<f64>();
    }
    load
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::table::Overrides;

    #[test]
    fn what_is_written_right_after_a_start_has_the_canaries_that_go_on() {
        let text = "listeners: [{address: 127.0.0.1:0}]\nmodels:\n  m:\n    versions: {v1: [http://a:1], \
                    v2: [http://b:1]}\n    split: {v1: 100, v2: 0}\n    canary: {candidate: v2}\n";
        let plan = parse_text(text.to_owned(), "test.yaml", &|_| None).unwrap().plan;
        let plan = Arc::new(plan);
        let (mut first, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
        let later = Moment::from_millis(90_000);
        first.keep_canaries(later);
        let (second, applied) = Core::start(&plan, first.overrides().clone(), 7, Moment::ZERO);
        assert!(applied.told.is_empty(), "it goes on, it does not begin");
        assert_eq!(second.overrides().canaries, first.overrides().canaries);
        assert!((applied.table.models[0].versions[1].share - 0.01).abs() < 1e-9);
    }

    #[test]
    fn a_version_that_is_compared_with_itself_has_equal_loads() {
        let text = "listeners: [{address: 127.0.0.1:0}]\nmodels:\n  m:\n    versions: {v1: [http://a:1]}\n    canary: {aa: true}\n";
        let plan = Arc::new(parse_text(text.to_owned(), "test.yaml", &|_| None).unwrap().plan);
        let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
        let model = &core.table().models[0];
        let world = world(model, &core.canaries["m"].rollout);
        assert!((world.candidate.weight - 1.0).abs() < 1e-9);
        assert_eq!(world.candidate, world.stable);
    }
}
