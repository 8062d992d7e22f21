//! The decisions of the control path, without files, sockets or clocks: simulations drive it too.
use super::canaries::{Canaries, Told};
use super::ejections::{Ruling, count_probation};
use super::enlist::enlist;
use super::splits::edited;
use crate::fleet::{Fleet, Replica, Suspects};
use crate::stats::Moment;
use crate::table::{Changes, Overrides, Plan, Table};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
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
    pub(super) canaries: Canaries,
    /// Splits that ended otherwise than by an operator's order, to be told.
    pub(super) ended_splits: Vec<Ruling>,
}

/// A new table to swap in, and what follows from it.
#[derive(Debug)]
pub struct Applied {
    pub table: Arc<Table>,
    pub joined: Vec<Arc<Replica>>,
    pub left: Vec<Arc<Replica>>,
    pub changes: Changes,
    /// What became of canaries.
    pub told: Vec<Told>,
}

impl Core {
    /// Builds the first generation. `seed` starts the split's sequences.
    pub fn start(
        plan: &Arc<Plan>,
        overrides: Overrides,
        seed: u64,
        now: Moment,
    ) -> (Self, Applied) {
        let mut overrides = overrides;
        overrides.forget_gone(plan);
        let ended_splits = edited(&mut overrides, plan);
        let fleet = Fleet::default();
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut offset = || chance.next_u64();
        let table = Table::build(1, plan, &overrides, &fleet, None, &mut offset, now);
        let table = Arc::new(table);
        let (swept, ticked) = (now, now);
        let canaries = Canaries::default();
        let mut core =
            Self { fleet, overrides, table, chance, swept, ticked, canaries, ended_splits };
        let applied = core.take_up(Changes::default(), now);
        (core, applied)
    }

    /// Builds the next generation from an accepted plan.
    pub fn apply(&mut self, plan: &Arc<Plan>, now: Moment) -> Applied {
        let changes = Changes::between(&self.table.plan, plan);
        self.overrides.forget_gone(plan);
        self.ended_splits.extend(edited(&mut self.overrides, plan));
        let Self { fleet, overrides, table, chance, .. } = self;
        let mut offset = || chance.next_u64();
        let generation = table.generation + 1;
        let next = Table::build(generation, plan, overrides, fleet, Some(table), &mut offset, now);
        self.table = Arc::new(next);
        self.take_up(changes, now)
    }

    /// What follows from a table that was built.
    fn take_up(&mut self, changes: Changes, now: Moment) -> Applied {
        let (joined, left) = enlist(&self.table, &self.overrides, &mut self.fleet, now);
        self.keep_segments();
        self.table.models.iter().flat_map(|model| &model.versions).for_each(count_probation);
        let told = self.follow_canaries(now);
        Applied { table: Arc::clone(&self.table), joined, left, changes, told }
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
