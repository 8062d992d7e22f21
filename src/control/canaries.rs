//! Canaries: which run, what they have seen, and what they do to the shares.
use super::canary_shares::{candidate_share, judged_of, split_with, stable_name, world};
use super::core::Core;
use super::replicas::Unable;
use crate::canary::{By, CanaryPlan, Command, Effect, Ending, Occasion, RollOut, Start, Unusable};
use crate::observe::CanaryReport;
use crate::stats::Moment;
use crate::table::{Ended, KeptCanary, Model, ModelPlan, is_split_of};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// The shares of the others are in proportion to these: the file's, or those of who was promoted before.
    base: Vec<(String, f64)>,
}

impl Canary {
    /// Does it move the shares by itself?
    pub(super) fn is_running(&self) -> bool {
        self.rollout.is_running()
    }

    /// Was its candidate promoted under the split that the file still has? Then it keeps its share, whatever else in the
    /// file is edited.
    fn keeps(&self, plan: &ModelPlan) -> bool {
        let candidate = &self.rollout.judged().candidate;
        self.rollout.ending() == Some(Ending::Promoted)
            && !self.rollout.plan().aa
            && is_split_of(&self.split, plan)
            && plan.versions.iter().any(|version| version.name == *candidate)
    }

    /// Does it go on under this plan?
    fn goes_on(&self, plan: &ModelPlan) -> bool {
        let candidate = &self.rollout.judged().candidate;
        let Some(canary) = &plan.canary else { return self.keeps(plan) };
        let same = self.split == plan.split_by_name()
            && *self.rollout.judged() == judged_of(plan, &canary.candidate)
            && self.rollout.plan().deciding() == canary.deciding();
        same || (*candidate == canary.candidate && self.keeps(plan))
    }

    fn to_keep(&self, now: Moment) -> KeptCanary {
        let ended = self.rollout.ending().map(|ending| Ended {
            ending,
            judged: self.rollout.judged().clone(),
            because: self.rollout.because().to_owned(),
        });
        let base = (self.base != self.split).then(|| self.base.clone());
        let snapshot = Some(self.rollout.snapshot(now));
        KeptCanary { split: self.split.clone(), base, ended, snapshot }
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
            let name = model.name.to_string();
            let mut unusable = self.overrides.unreadable.remove(&name);
            let saved = self.overrides.canaries.remove(&name);
            let mut kept = before.remove(&name);
            if let (None, Some(saved)) = (&kept, saved) {
                match restored(saved, &model.plan, now) {
                    Ok(restored) => kept = restored,
                    Err(why) => unusable = Some(why),
                }
            }
            let keeps = kept.as_ref().is_some_and(|kept| kept.keeps(&model.plan));
            let base = kept.as_ref().filter(|_| keeps).and_then(Canary::shares);
            if let Some(kept) = kept.filter(|kept| kept.goes_on(&model.plan)) {
                self.canaries.insert(name.clone(), kept);
                self.set_share(&name);
                continue;
            }
            let Some(plan) = &model.plan.canary else { continue };
            told.extend(self.begin_canary(model, base, plan.start == Start::Auto, now));
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

    /// `base`: the shares of now, where they are not the file's.
    fn begin_canary(
        &mut self,
        model: &Model,
        base: Option<Vec<(String, f64)>>,
        starts: bool,
        now: Moment,
    ) -> Vec<Told> {
        let Some(plan) = &model.plan.canary else { return Vec::new() };
        let (name, split) = (model.name.to_string(), model.plan.split_by_name());
        let judged = judged_of(&model.plan, &plan.candidate);
        let share = candidate_share(&model.plan, &plan.candidate);
        let stable = stable_name(&model.plan, &plan.candidate);
        let base = base.unwrap_or_else(|| split.clone());
        self.overrides.shares.remove(&name);
        if starts {
            self.yield_split(&name);
        }
        let (rollout, effects) = if starts {
            RollOut::begin(plan.clone(), judged, stable, share, now)
        } else {
            (RollOut::idle(plan.clone(), judged, stable, now), Vec::new())
        };
        self.canaries.insert(name.clone(), Canary { rollout, split, base });
        self.set_share(&name);
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
            // Those that are open come first: of one that ends meanwhile both are known, and it counts once.
            let open = if model.state.seen.is_open() {
                model.state.under_way.list(now)
            } else {
                Vec::new()
            };
            let (seen, rescued) = (model.state.seen.take(), model.state.take_rescued());
            let Some(canary) = self.canaries.get_mut(&*model.name) else {
                model.state.seen.set_open(false);
                continue;
            };
            // Under a split that was set by hand its share is not the one that it reckons with.
            if model.set.is_none() {
                canary.rollout.open(&open, now);
                for one in seen {
                    canary.rollout.observe(&one, now);
                }
                canary.rollout.rescued(rescued);
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
        let Some(canary) =
            self.canaries.get_mut(&*model.name).filter(|_| model.plan.canary.is_some())
        else {
            let why = format!("model `{}` has no `canary` in the file", model.name);
            return Err(Unable::Impossible(why));
        };
        let told = match verb {
            // Of one that runs nothing changes.
            CanaryVerb::Start if canary.rollout.is_live() => Vec::new(),
            CanaryVerb::Start => {
                let base = (canary.base != canary.split).then(|| canary.base.clone());
                self.begin_canary(model, base, true, now)
            }
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
                Effect::Finished(Ending::RolledBack) => self.count_roll_back(model),
                // Counted when it is told.
                Effect::Finished(Ending::Promoted) => {}
                Effect::Announce { occasion, sentence } => {
                    told.push(Told { model: model.to_owned(), occasion, sentence });
                }
            }
        }
        told
    }

    fn count_roll_back(&self, name: &str) {
        let Some(model) = self.table().model(name) else { return };
        let canary = self.canaries.get(name);
        model.state.rolled_back(canary.and_then(|canary| canary.rollout.failed_by()));
    }

    /// Gives the candidate its share; the others keep the file's proportions.
    fn set_share(&mut self, model: &str) {
        let Some(canary) = self.canaries.get(model) else { return };
        let waits = canary.rollout.is_idle();
        let moved = if waits { None } else { split_with(&canary.rollout, &canary.base) };
        // Where it moves nothing, who was promoted before keeps what it has.
        let held = || canary.base.iter().cloned().collect();
        let shares = moved.or_else(|| (canary.base != canary.split).then(held));
        if let Some(shares) = shares {
            self.overrides.shares.insert(model.to_owned(), shares);
        }
    }

    /// All canaries, for those who ask.
    pub fn canary_reports(&self, now: Moment) -> Vec<CanaryReport> {
        self.canaries.values().map(|canary| CanaryReport::of(&canary.rollout, now)).collect()
    }

    /// What the state keeps of them.
    pub fn keep_canaries(&mut self, now: Moment) {
        let kept = self.canaries.iter();
        let kept = kept.map(|(model, canary)| (model.clone(), canary.to_keep(now))).collect();
        self.overrides.canaries = kept;
    }

    /// What the state kept last of those that are told of.
    pub(super) fn kept_of(&self, told: &[Told]) -> Vec<(String, KeptCanary)> {
        let kept = |one: &Told| self.overrides.canaries.get_key_value(&one.model);
        told.iter().filter_map(kept).map(|(model, kept)| (model.clone(), kept.clone())).collect()
    }

    /// Takes canaries back to what is written of them, as a restart would.
    pub(super) fn take_back(&mut self, kept: Vec<(String, KeptCanary)>, now: Moment) {
        let table = Arc::clone(self.table());
        for (name, kept) in kept {
            let plan = table.model(&name).map(|model| &model.plan);
            if let Some(Ok(Some(canary))) = plan.map(|plan| restored(kept, plan, now)) {
                self.canaries.insert(name.clone(), canary);
                self.set_share(&name);
            }
        }
        self.reshare();
    }

    pub fn canary_runs(&self) -> bool {
        self.canaries.values().any(|canary| canary.rollout.is_live())
    }
}

impl Canary {
    /// Those of all versions, with its candidate's. `None`: it moves nothing.
    fn shares(&self) -> Option<Vec<(String, f64)>> {
        let live = split_with(&self.rollout, &self.base)?;
        let names = self.base.iter().map(|(version, _)| version.clone());
        Some(names.map(|name| (name.clone(), live.get(&name).copied().unwrap_or(0.0))).collect())
    }
}

/// What the last process left of a model's canary; `None`: the file was edited since. `Err`: why it cannot be used.
fn restored(saved: KeptCanary, plan: &ModelPlan, now: Moment) -> Result<Option<Canary>, String> {
    let KeptCanary { split, base, ended, snapshot } = saved;
    if !is_split_of(&split, plan) {
        return Ok(None);
    }
    let base = base.unwrap_or_else(|| split.clone());
    let mut unusable = None;
    if let (Some(snapshot), Some(canary)) = (snapshot, &plan.canary) {
        let judged = judged_of(plan, &canary.candidate);
        match RollOut::restore(snapshot, canary.clone(), &judged, now) {
            Ok(rollout) if split == plan.split_by_name() => {
                return Ok(Some(Canary { rollout, split, base }));
            }
            // An edit wins.
            Ok(_) | Err(Unusable::Changed) => {}
            Err(why @ (Unusable::Version | Unusable::Broken)) => unusable = Some(why.to_string()),
        }
    }
    // A verdict outlives what it was made of.
    let Some(Ended { ending, judged, because }) = ended else {
        return unusable.map_or(Ok(None), Err);
    };
    let same = plan.canary.as_ref().filter(|canary| canary.candidate == judged.candidate);
    let known = CanaryPlan { candidate: judged.candidate.clone(), ..CanaryPlan::default() };
    let canary = same.cloned().unwrap_or(known);
    let unread = unusable.is_some() || ending == Ending::Promoted;
    let rollout = RollOut::ended(canary, judged, ending, because, now);
    Ok(unread.then_some(Canary { rollout, split, base }))
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
        let written = |core: &Core| serde_json::to_string(&core.overrides().canaries).unwrap();
        assert_eq!(written(&second), written(&first));
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
