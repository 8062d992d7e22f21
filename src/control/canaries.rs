//! Canaries: which run, what they have seen, and what they do to the shares.
use super::action::{Action, CanaryNews};
use super::canary_shares::{candidate_share, judged_of, split_with, stable_name, world};
use super::core::Core;
use super::one_canary::{Canary, restored};
use super::order::{CanaryVerb, Unable};
use crate::canary::{By, Command, Effect, Ending, RollOut, Start};
use crate::observe::CanaryReport;
use crate::stats::Moment;
use crate::table::{KeptCanary, Model};
use std::sync::Arc;

impl Core {
    /// Takes up what the last process had, or begins what the file asks for. Called after each new plan.
    pub(super) fn follow_canaries(&mut self, now: Moment) -> Vec<Action> {
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
    ) -> Vec<Action> {
        let Some(plan) = &model.plan.canary else { return Vec::new() };
        let (name, split) = (model.name.to_string(), model.plan.split_by_name());
        let judged = judged_of(&model.plan, &plan.candidate);
        let share = candidate_share(&model.plan, &plan.candidate);
        let stable = stable_name(&model.plan, &plan.candidate);
        let base = base.unwrap_or_else(|| split.clone());
        self.overrides.shares.remove(&name);
        let mut told = if starts { self.yield_split(&name) } else { Vec::new() };
        let (rollout, effects) = if starts {
            RollOut::begin(plan.clone(), judged, stable, share, now)
        } else {
            (RollOut::idle(plan.clone(), judged, stable, now), Vec::new())
        };
        self.canaries.insert(name.clone(), Canary { rollout, split, base });
        self.set_share(&name);
        told.extend(self.carry_out(&name, effects));
        told
    }

    /// Pauses a canary that runs.
    fn hold_canary(&mut self, model: &str, why: &str, now: Moment) -> Vec<Action> {
        let by = By { who: "evener", reason: Some(why) };
        let Some(canary) = self.canaries.get_mut(model) else { return Vec::new() };
        // One that does not run need not be paused.
        let effects = canary.rollout.command(Command::Pause, by, now).unwrap_or_default();
        self.carry_out(model, effects)
    }

    /// Pauses all that run.
    pub(super) fn hold_canaries(&mut self, why: &str, now: Moment) -> Vec<Action> {
        let models: Vec<String> = self.canaries.keys().cloned().collect();
        let told = models.iter().flat_map(|model| self.hold_canary(model, why, now)).collect();
        self.reshare();
        told
    }

    /// What was seen since the last look, and what follows from it. Called by the second.
    pub(super) fn judge_canaries(&mut self, now: Moment) -> Vec<Action> {
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
    pub(super) fn order_canary(
        &mut self,
        model: &str,
        verb: CanaryVerb,
        by: By<'_>,
        now: Moment,
    ) -> Result<Vec<Action>, Unable> {
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
                let mut told = match command {
                    Command::Pause => Vec::new(),
                    Command::Resume | Command::Promote | Command::Abort => {
                        self.yield_split(&model.name)
                    }
                };
                told.extend(self.carry_out(&model.name, effects));
                told
            }
        };
        self.reshare();
        Ok(told)
    }

    fn carry_out(&mut self, model: &str, effects: Vec<Effect>) -> Vec<Action> {
        let mut told = Vec::new();
        for effect in effects {
            match effect {
                Effect::SetShare(_) => self.set_share(model),
                Effect::Finished(Ending::RolledBack) => self.count_roll_back(model),
                // Counted when it is told.
                Effect::Finished(Ending::Promoted) => {}
                Effect::Announce { occasion, sentence } => {
                    let model = model.to_owned();
                    told.push(Action::Tell(CanaryNews { model, occasion, sentence }));
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

    /// What the state kept last of those that get more.
    pub(super) fn kept_of(&self, actions: &[Action]) -> Vec<(String, KeptCanary)> {
        let raised = actions.iter().filter_map(Action::raises);
        let kept = |one: &CanaryNews| self.overrides.canaries.get_key_value(&one.model);
        raised.filter_map(kept).map(|(model, kept)| (model.clone(), kept.clone())).collect()
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
        let (second, actions) = Core::start(&plan, first.overrides().clone(), 7, Moment::ZERO);
        let begins = |action: &Action| action.moves().is_some();
        assert!(!actions.iter().any(begins), "it goes on, it does not begin");
        let written = |core: &Core| serde_json::to_string(&core.overrides().canaries).unwrap();
        assert_eq!(written(&second), written(&first));
        assert!((second.table().models[0].versions[1].share - 0.01).abs() < 1e-9);
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
