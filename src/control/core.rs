//! The decisions of the control path, without files, sockets or clocks: simulations drive it too.
use super::action::{Action, Ruling};
use super::enlist::enlist;
use super::one_canary::Canary;
use super::order::{Act, CanaryVerb, Target, Unable};
use crate::canary::By;
use crate::fleet::{Fleet, Suspects};
use crate::stats::Moment;
use crate::table::{Hold, Overrides, Plan, Shares, Table, Version};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Forgetting what left long ago need not be done by the second.
const SWEEP: Duration = Duration::from_mins(1);

/// What the one writer knows.
#[derive(Debug)]
pub struct Core {
    pub(super) fleet: Fleet,
    pub(super) overrides: Overrides,
    table: Arc<Table>,
    chance: SmallRng,
    swept: Moment,
    ticked: Moment,
    /// By model.
    pub(super) canaries: BTreeMap<String, Canary>,
}

/// Something that happened, of which something may follow.
#[derive(Clone, Copy, Debug)]
pub enum Trigger<'a> {
    /// A checked file is to serve.
    Plan(&'a Arc<Plan>),
    /// Replicas wait for a ruling.
    Suspects,
    Second,
    /// The state cannot be written, for this reason: a restart would not know of what canaries do from now on.
    Unwritable(&'a str),
}

/// What an operator wants of replicas, canaries and splits.
#[derive(Clone, Debug)]
pub enum Instruction<'a> {
    Replicas {
        target: &'a Target,
        act: Act,
        hold: Hold,
    },
    Canary {
        model: &'a str,
        verb: CanaryVerb,
    },
    /// `shares`: `None` takes back what was set. `since`: on the wall.
    Split {
        model: &'a str,
        shares: Option<Shares>,
        hold: Hold,
        since: jiff::Timestamp,
    },
}

impl Core {
    /// Builds the first generation. `seed` starts the split's sequences.
    pub fn start(
        plan: &Arc<Plan>,
        overrides: Overrides,
        seed: u64,
        now: Moment,
    ) -> (Self, Vec<Action>) {
        let mut overrides = overrides;
        overrides.forget_gone(plan);
        let fleet = Fleet::default();
        let mut chance = SmallRng::seed_from_u64(seed);
        let ended = end_edited_splits(&mut overrides, plan);
        let mut offset = || chance.next_u64();
        let table = Table::build(1, plan, &overrides, &fleet, None, &mut offset, now);
        let table = Arc::new(table);
        let (swept, ticked) = (now, now);
        let canaries = BTreeMap::default();
        let mut core = Self { fleet, overrides, table, chance, swept, ticked, canaries };
        let actions = core.take_up(ended, now);
        (core, actions)
    }

    /// Decides what follows from what happened. What concerns replicas alone is carried out in place; everything else
    /// is in the new table, and in the actions.
    pub fn handle(&mut self, trigger: Trigger<'_>, now: Moment) -> Vec<Action> {
        let rules = |rulings: Vec<Ruling>| rulings.into_iter().map(Action::Rule);
        match trigger {
            Trigger::Plan(plan) => self.apply(plan, now),
            Trigger::Suspects => rules(self.judge_suspects(now)).collect(),
            Trigger::Second => {
                let mut actions: Vec<Action> = rules(self.tick(now)).collect();
                actions.extend(self.judge_canaries(now));
                actions
            }
            Trigger::Unwritable(why) => self.hold_canaries(why, now),
        }
    }

    /// Does what an operator wants, or says why that cannot be.
    pub fn obey(
        &mut self,
        instruction: Instruction<'_>,
        by: By<'_>,
        now: Moment,
    ) -> Result<Vec<Action>, Unable> {
        match instruction {
            Instruction::Replicas { target, act, hold } => {
                Ok(Vec::from_iter(self.act(target, act, hold, now)?))
            }
            Instruction::Canary { model, verb } => self.order_canary(model, verb, by, now),
            Instruction::Split { model, shares: Some(shares), hold, since } => {
                Ok(vec![self.set_split(model, shares, hold, (by.who, since), now)?])
            }
            Instruction::Split { model, shares: None, .. } => {
                Ok(Vec::from_iter(self.reset_split(model)?))
            }
        }
    }

    /// Builds the next generation from an accepted plan.
    pub fn apply(&mut self, plan: &Arc<Plan>, now: Moment) -> Vec<Action> {
        self.overrides.forget_gone(plan);
        let ended = end_edited_splits(&mut self.overrides, plan);
        let Self { fleet, overrides, table, chance, .. } = self;
        let mut offset = || chance.next_u64();
        let generation = table.generation + 1;
        let next = Table::build(generation, plan, overrides, fleet, Some(table), &mut offset, now);
        self.table = Arc::new(next);
        self.take_up(ended, now)
    }

    /// What follows from a table that was built; the splits that the file ended are told with it.
    fn take_up(&mut self, ended: Vec<Action>, now: Moment) -> Vec<Action> {
        let (joined, left) = enlist(&self.table, &self.overrides, &mut self.fleet, now);
        self.keep_segments();
        let versions = self.table.models.iter().flat_map(|model| &model.versions);
        versions.for_each(Version::count_probation);
        let mut actions = vec![Action::Swap];
        actions.extend(joined.into_iter().map(Action::Join));
        actions.extend(left.into_iter().map(Action::Retire));
        actions.extend(ended);
        actions.extend(self.follow_canaries(now));
        actions
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// What must outlive the process.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// What passes with time: what was learned fades, holds and ejections end, idle connections close, the long gone
    /// are forgotten. Called by the second.
    pub fn tick(&mut self, now: Moment) -> Vec<Ruling> {
        let passed = now.since(std::mem::replace(&mut self.ticked, now));
        let undrained = self.end_holds(now).into_iter().map(|held| Ruling::Undrained { held });
        let mut rulings: Vec<Ruling> = undrained.collect();
        rulings.extend(self.end_splits(now));
        rulings.extend(self.pass_time(passed, now));
        for model in &self.table.models {
            let hedge = model.plan.hedge.as_ref();
            model.state.tick(&model.plan.retries, hedge, passed);
            for version in &model.versions {
                version.state.pace.tick(version.in_flight(), hedge);
                for member in &version.members {
                    member.replica.upstream.close_parked(now - Duration::from_secs(4));
                }
            }
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.fleet.sweep(now);
        }
        rulings
    }

    /// Who waits for a ruling: see [`Self::judge_suspects`].
    pub fn suspects(&self) -> &Arc<Suspects> {
        self.fleet.suspects()
    }

    pub(super) fn chance(&mut self) -> &mut SmallRng {
        &mut self.chance
    }

    /// Swaps in a table with the live shares, where they are not those of the present one.
    pub(super) fn reshare(&mut self) {
        let shared = self.table.models.iter().all(|model| {
            let live = self.overrides.shares_of(&model.plan);
            model.set.as_ref() == self.overrides.splits.get(&model.plan.name)
                && model.versions.iter().zip(live).all(|(v, live)| (v.share - live).abs() < 1e-12)
        });
        if !shared {
            self.table = Arc::new(self.table.with_shares(&self.overrides));
            self.keep_segments();
        }
    }

    fn keep_segments(&mut self) {
        let models = self.table.models.iter();
        self.overrides.segments =
            models.map(|model| (model.name.to_string(), model.segments.clone())).collect();
    }
}

/// Ends the splits under which the file was edited: an edit wins.
fn end_edited_splits(overrides: &mut Overrides, plan: &Plan) -> Vec<Action> {
    let ended = |model| Ruling::SplitEnded { model, why: "the file was edited".to_owned() };
    overrides.forget_edited(plan).into_iter().map(ended).map(Action::Rule).collect()
}
