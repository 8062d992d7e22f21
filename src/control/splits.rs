//! Splits that operators set instead of the file's: until their time is over, the file has another split, or a canary
//! sets the shares again.
use super::action::{Action, Ruling};
use super::core::Core;
use super::one_canary::Canary;
use super::order::{Unable, unknown};
use crate::stats::Moment;
use crate::table::{Hold, Model, SetSplit, Shares, shares_in_file, shares_in_words};
use std::sync::Arc;

impl Core {
    /// Divides the requests of a model so. `by`: who, and when on the wall.
    pub(super) fn set_split(
        &mut self,
        model: &str,
        shares: Shares,
        hold: Hold,
        (who, since): (&str, jiff::Timestamp),
        now: Moment,
    ) -> Result<Action, Unable> {
        let model = self.split_of(model)?;
        let plan = &model.plan;
        let names = || plan.versions.iter().map(|version| version.name.as_str());
        for name in shares.keys() {
            if names().all(|known| known != name) {
                return Err(Unable::Unknown(unknown("version", name, names())));
            }
        }
        let (who, file) = (who.to_owned(), shares_in_file(plan));
        let set = SetSplit { shares, file, who, since, hold };
        let lasts = set.hold.ends.map(|ends| ends.at.since(now));
        let lasts = lasts.and_then(|lasts| jiff::SignedDuration::try_from(lasts).ok());
        let lasts = lasts.map(|lasts| format!(" for {lasts:#}")).unwrap_or_default();
        let message = format!(
            "`{}` is split {}, where the file says {},{lasts}",
            model.name,
            shares_in_words(names().map(|name| (name, set.share_of(name)))),
            shares_in_words(names().zip(plan.split.iter().copied())),
        );
        self.overrides.splits.insert(plan.name.clone(), Arc::new(set));
        self.reshare();
        Ok(Action::Confirm { kind: "split", message, split: Some(plan.name.clone()) })
    }

    /// Takes back what was set. `None`: nothing was.
    pub(super) fn reset_split(&mut self, model: &str) -> Result<Option<Action>, Unable> {
        let model = self.split_of(model)?;
        let was_set = self.overrides.splits.remove(&model.plan.name).is_some();
        self.reshare();
        Ok(was_set.then(|| {
            let message = format!("`{}` is split {} again", model.name, self.present(&model));
            Action::Confirm { kind: "split", message, split: Some(model.plan.name.clone()) }
        }))
    }

    /// The model, if its split may be set: a canary that runs moves the shares itself.
    fn split_of(&self, name: &str) -> Result<Arc<Model>, Unable> {
        let models = || self.table().models.iter().map(|model| &*model.name);
        let found = self.table().model(name);
        let model = found.ok_or_else(|| Unable::Unknown(unknown("model", name, models())))?;
        let canary = self.canaries.get(&*model.name);
        if canary.is_some_and(Canary::is_running) {
            let name = &model.name;
            return Err(Unable::Impossible(format!(
                "the canary of `{name}` moves its shares; pause it first: `evener canary pause {name}`"
            )));
        }
        Ok(Arc::clone(model))
    }

    fn present(&self, model: &Model) -> String {
        let names = model.plan.versions.iter().map(|version| version.name.as_str());
        shares_in_words(names.zip(self.overrides.shares_of(&model.plan)))
    }

    /// Ends those whose time is over.
    pub(super) fn end_splits(&mut self, now: Moment) -> Vec<Ruling> {
        let over = |set: &SetSplit| set.hold.ends.is_some_and(|ends| ends.at <= now);
        let over: Vec<_> = self.overrides.splits.extract_if(.., |_, set| over(set)).collect();
        self.reshare();
        let table = Arc::clone(self.table());
        let ended = over.into_iter().filter_map(|(name, _)| {
            let model = table.model(&name)?;
            let why = format!("its time has passed, and it is {} again", self.present(model));
            Some(Ruling::SplitEnded { model: name, why })
        });
        ended.collect()
    }

    /// Whoever starts, resumes or ends a canary means its shares.
    pub(super) fn yield_split(&mut self, model: &str) -> Vec<Action> {
        let set = self.overrides.splits.remove(model);
        let why = || "the canary sets the shares again".to_owned();
        let ended = set.map(|_| Ruling::SplitEnded { model: model.to_owned(), why: why() });
        ended.into_iter().map(Action::Rule).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::table::{Ends, Overrides, Plan};

    const NOW: Moment = Moment::from_millis(60_000);
    const WALL: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    fn plan(split: &str, canary: &str) -> Arc<Plan> {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nmodels:\n  m:\n    aliases: [gpt]\n    \
             versions: {{v1: [http://a:1], v2: [http://b:1], v3: [http://c:1]}}\n    split: {{{split}}}\n{canary}"
        );
        Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan)
    }

    fn began(plan: &Arc<Plan>, overrides: Overrides) -> Core {
        Core::start(plan, overrides, 7, Moment::ZERO).0
    }

    /// What is told of splits.
    fn told(actions: &[Action]) -> Vec<String> {
        let told = |action: &Action| match action {
            Action::Rule(ruling) => Some(ruling.to_string()),
            Action::Confirm { message, .. } => Some(message.clone()),
            Action::Swap | Action::Join(_) | Action::Retire(_) | Action::Tell(_) => None,
        };
        actions.iter().filter_map(told).collect()
    }

    fn set(
        core: &mut Core,
        shares: &[(&str, f64)],
        ends: Option<Moment>,
    ) -> Result<String, Unable> {
        let shares = shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        let ends = ends.map(|at| Ends { at, wall: WALL });
        let hold = Hold { ends, reason: None };
        let action = core.set_split("gpt", shares, hold, ("api", WALL), Moment::ZERO)?;
        Ok(told(&[action]).concat())
    }

    /// Percents.
    fn shares(core: &Core) -> [u64; 3] {
        let model = &core.table().models[0];
        std::array::from_fn(|i| {
            let owned = model.segments.share_of(&model.versions[i].name);
            assert!((owned - model.versions[i].share).abs() < 1e-9);
            (owned * 100.0).round() as u64
        })
    }

    fn tick(core: &mut Core, now: Moment) -> Vec<String> {
        core.tick(now).iter().map(Ruling::to_string).collect()
    }

    #[test]
    fn a_split_that_was_set_holds_over_reload_and_restart_until_its_time_is_over() {
        let file = plan("v1: 95, v2: 5", "");
        let mut core = began(&file, Overrides::default());
        let said = set(&mut core, &[("v1", 0.6), ("v3", 0.4)], Some(NOW)).unwrap();
        assert_eq!(
            said,
            "`m` is split v1=60 v2=0 v3=40, where the file says v1=95 v2=5 v3=0, for 1m"
        );
        assert_eq!(shares(&core), [60, 0, 40]);
        // Another key than the split, and a version that gets nothing.
        core.apply(&plan("v1: 95, v2: 5, v3: 0", "    fail_open: false\n"), Moment::ZERO);
        assert_eq!(shares(&core), [60, 0, 40]);
        let mut core = began(&file, core.overrides().clone());
        assert_eq!(shares(&core), [60, 0, 40]);
        assert!(tick(&mut core, Moment::from_millis(59_999)).is_empty());
        let ended = "the split that was set for `m` is over: its time has passed, and it is v1=95 v2=5 v3=0 again";
        assert_eq!(tick(&mut core, NOW), [ended]);
        assert_eq!(shares(&core), [95, 5, 0]);
        assert_eq!(core.table().models[0].set, None);
    }

    #[test]
    fn an_edit_of_the_split_wins_and_an_operator_may_take_his_back() {
        let file = plan("v1: 95, v2: 5", "");
        let mut core = began(&file, Overrides::default());
        set(&mut core, &[("v2", 1.0)], None).unwrap();
        let again = core.reset_split("m").unwrap();
        assert_eq!(told(&Vec::from_iter(again)), ["`m` is split v1=95 v2=5 v3=0 again"]);
        assert_eq!(shares(&core), [95, 5, 0]);
        assert!(matches!(core.reset_split("m"), Ok(None)));
        set(&mut core, &[("v2", 1.0)], None).unwrap();
        let actions = core.apply(&plan("v1: 90, v2: 10", ""), NOW);
        assert_eq!(shares(&core), [90, 10, 0]);
        let ended = "the split that was set for `m` is over: the file was edited";
        assert_eq!(told(&actions), [ended]);
        // Also while nothing ran.
        set(&mut core, &[("v2", 1.0)], None).unwrap();
        let (core, actions) = Core::start(&file, core.overrides().clone(), 7, Moment::ZERO);
        assert_eq!(shares(&core), [95, 5, 0]);
        assert_eq!(told(&actions), [ended]);
    }

    #[test]
    fn only_keys_that_must_move_and_nobody_else() {
        let mut core = began(&plan("v1: 80, v2: 20", ""), Overrides::default());
        let before = core.table().models[0].segments.clone();
        set(&mut core, &[("v1", 0.7), ("v2", 0.2), ("v3", 0.1)], None).unwrap();
        let after = &core.table().models[0].segments;
        for point in (0..1000_u64).map(|i| i << 54) {
            let (from, to) = (before.version(point), after.version(point));
            assert!(from == to || (from, to) == (0, 2), "{from} to {to}");
        }
    }

    #[test]
    fn a_canary_that_runs_is_paused_first_and_takes_the_shares_back() {
        use crate::canary::{By, Command};
        use crate::control::CanaryVerb;
        let canary = "    canary: {candidate: v2, steps: [10, 100]}\n";
        let mut core = began(&plan("v1: 100, v2: 0", canary), Overrides::default());
        let refused = set(&mut core, &[("v1", 1.0)], None);
        assert!(matches!(refused, Err(Unable::Impossible(why)) if why.contains("pause it first")));
        let by = By { who: "api", reason: None };
        let say = |core: &mut Core, command| {
            told(&core.order_canary("m", CanaryVerb::Say(command), by, NOW).unwrap())
        };
        say(&mut core, Command::Pause);
        set(&mut core, &[("v1", 1.0)], Some(NOW)).unwrap();
        assert_eq!(shares(&core), [100, 0, 0]);
        // Its end gives the paused canary back what it had.
        assert_eq!(tick(&mut core, NOW).len(), 1);
        assert_eq!(shares(&core), [90, 10, 0]);
        set(&mut core, &[("v1", 1.0)], None).unwrap();
        let ended = "the split that was set for `m` is over: the canary sets the shares again";
        assert_eq!(say(&mut core, Command::Resume), [ended]);
        assert_eq!(shares(&core), [90, 10, 0]);
        say(&mut core, Command::Abort);
        set(&mut core, &[("v2", 1.0)], None).unwrap();
        assert_eq!(shares(&core), [0, 100, 0], "one that is over is in nobody's way");
    }

    #[test]
    fn what_it_names_wrongly_is_said() {
        let mut core = began(&plan("v1: 95, v2: 5", ""), Overrides::default());
        let wrong = set(&mut core, &[("v22", 1.0)], None);
        let why = match wrong {
            Err(Unable::Unknown(why)) => why,
            other => unreachable!("{other:?}"),
        };
        assert!(why.starts_with("there is no version `v22`; did you mean `v"), "{why}");
        assert!(matches!(core.reset_split("x"), Err(Unable::Unknown(_))));
    }
}
