//! The decisions of the control path, without files, sockets or clocks: simulations drive it too.
use super::order::Target;
use crate::dialect::nearest;
use crate::fleet::{Fleet, Replica};
use crate::stats::Moment;
use crate::table::{Built, Changes, Member, Overrides, Plan, Table, Version};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;
use std::time::Duration;

/// Forgetting what left long ago need not be done by the second.
const SWEEP: Duration = Duration::from_mins(1);

/// What the one writer knows.
#[derive(Debug)]
pub struct Core {
    fleet: Fleet,
    overrides: Overrides,
    table: Arc<Table>,
    chance: SmallRng,
    swept: Moment,
}

/// A new table to swap in, and what follows from it.
#[derive(Debug)]
pub struct Applied {
    pub table: Arc<Table>,
    pub joined: Vec<Arc<Replica>>,
    pub left: Vec<Arc<Replica>>,
    pub changes: Changes,
}

impl Core {
    /// Builds the first generation. `seed` starts the split's sequences.
    pub fn start(
        plan: &Arc<Plan>,
        overrides: Overrides,
        seed: u64,
        now: Moment,
    ) -> (Self, Applied) {
        let mut fleet = Fleet::default();
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut offset = || chance.next_u64();
        let built = Table::build(1, plan, &overrides, &mut fleet, None, &mut offset, now);
        let table = Arc::new(built.table);
        let mut core = Self { fleet, overrides, table: Arc::clone(&table), chance, swept: now };
        core.keep_segments();
        let (joined, left) = (built.joined, built.left);
        (core, Applied { table, joined, left, changes: Changes::default() })
    }

    /// Builds the next generation from an accepted plan.
    pub fn apply(&mut self, plan: &Arc<Plan>, now: Moment) -> Applied {
        let changes = Changes::between(&self.table.plan, plan);
        self.forget_drains(plan);
        let Self { fleet, overrides, table, chance, .. } = self;
        let mut offset = || chance.next_u64();
        let generation = table.generation + 1;
        let Built { table: next, joined, left } =
            Table::build(generation, plan, overrides, fleet, Some(table), &mut offset, now);
        self.table = Arc::new(next);
        self.keep_segments();
        Applied { table: Arc::clone(&self.table), joined, left, changes }
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// What must outlive the process.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Drains replicas or puts them back, in place. `Err` says what does not exist.
    pub fn drain(
        &mut self,
        target: &Target,
        drained: bool,
        reason: Option<&str>,
        now: Moment,
    ) -> Result<usize, String> {
        let table = Arc::clone(&self.table);
        let members = find(&table, target)?;
        let why = reason.unwrap_or("drained by an operator");
        let changed = members
            .iter()
            .filter(|member| member.replica.drain(drained, drained.then_some(why), now))
            .count();
        let target = resolved(&table, target, &members);
        if drained {
            let Target { model, version, replica } = target;
            self.overrides.drained.insert((model, version, replica));
        } else {
            self.undrain(&table, &target);
        }
        Ok(changed)
    }

    /// Undraining one replica of a drained version leaves the others drained.
    fn undrain(&mut self, table: &Table, target: &Target) {
        let Target { model, version, replica } = target;
        let drained = &mut self.overrides.drained;
        match replica {
            None => drained.retain(|(m, v, _)| m != model || v != version),
            Some(url) => {
                drained.remove(&(model.clone(), version.clone(), Some(url.clone())));
                if drained.remove(&(model.clone(), version.clone(), None)) {
                    let whole = Target { replica: None, ..target.clone() };
                    let others = find(table, &whole).unwrap_or_default();
                    let others = others.iter().map(|m| m.replica.id.url.to_string());
                    drained.extend(
                        others
                            .filter(|other| other != url)
                            .map(|other| (model.clone(), version.clone(), Some(other))),
                    );
                }
            }
        }
    }

    /// What passes with time: learned slowness fades, idle connections close, the long gone are forgotten.
    pub fn tick(&mut self, now: Moment) {
        for model in &self.table.models {
            let hedge = model.plan.hedge.as_ref();
            model.state.tick(&model.plan.retries, hedge);
            for version in &model.versions {
                version.state.tick(version.in_flight(), hedge);
                let speed = version.state.speed();
                for member in &version.members {
                    member.replica.fade(&speed, now);
                    member.replica.upstream.close_parked(Some(now - Duration::from_secs(4)));
                }
            }
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.fleet.sweep(now);
        }
    }

    /// A drain ends with what it names: a version that returns under the same name serves.
    fn forget_drains(&mut self, plan: &Plan) {
        self.overrides.drained.retain(|(model, version, url)| {
            let model = plan.models.iter().find(|m| m.name == *model);
            let version = model.and_then(|m| m.versions.iter().find(|v| v.name == *version));
            version.is_some_and(|version| {
                let mut urls = version.replicas.iter().map(|replica| &replica.url.text);
                url.as_ref().is_none_or(|url| urls.any(|known| known == url))
            })
        });
    }

    fn keep_segments(&mut self) {
        let models = self.table.models.iter();
        self.overrides.segments =
            models.map(|model| (model.name.to_string(), model.segments.clone())).collect();
    }
}

/// A target by the names that last: an alias or a trailing slash may come and go.
fn resolved(table: &Table, target: &Target, members: &[&Member]) -> Target {
    let model = table.model(&target.model).map_or(&*target.model, |model| &*model.name);
    let url = members.first().map(|member| member.replica.id.url.to_string());
    Target {
        model: model.to_owned(),
        version: target.version.clone(),
        replica: target.replica.as_ref().and(url),
    }
}

/// The members that a target names.
fn find<'a>(table: &'a Table, target: &Target) -> Result<Vec<&'a Member>, String> {
    let model = table.model(&target.model).ok_or_else(|| {
        unknown("model", &target.model, table.models.iter().map(|model| &*model.name))
    })?;
    let mut versions = model.versions.iter();
    let version: &Version = versions.find(|v| *v.name == *target.version).ok_or_else(|| {
        unknown("version", &target.version, model.versions.iter().map(|version| &*version.name))
    })?;
    let Some(url) = &target.replica else { return Ok(version.members.iter().collect()) };
    let wanted = url.trim_end_matches('/');
    let found = version.members.iter().find(|member| *member.replica.id.url == *wanted);
    found.map(|member| vec![member]).ok_or_else(|| {
        unknown("replica", url, version.members.iter().map(|member| &*member.replica.id.url))
    })
}

fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = nearest(name, names.clone());
    if near.is_empty() {
        let all: Vec<_> = names.take(20).collect();
        format!("there is no {what} `{name}`; there is `{}`", all.join("`, `"))
    } else {
        format!("there is no {what} `{name}`; did you mean `{}`?", near.join("` or `"))
    }
}
