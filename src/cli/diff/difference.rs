//! What differs between what serves and a new file, as data.
use crate::balance::moves;
use crate::config::{effective_values, path_below};
use crate::control::{CanaryFate, Running};
use crate::table::{Changes, ModelPlan, Plan, VersionPlan, in_percent};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What stands for a section that is not shown key by key.
const SECTION: &str = "{…}";

/// What serves.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) plan: Plan,
    pub(super) running: Running,
}

/// A key whose value differs; `None`: it is not there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changed {
    pub(super) key: String,
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
}

/// Points that change sides, as a fraction of all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moved {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) share: f64,
}

#[derive(Debug, Default)]
pub(super) struct Difference {
    /// As the log of a reload has them.
    pub(super) summary: Vec<String>,
    pub(super) needs_restart: Vec<&'static str>,
    pub(super) models: Vec<ModelDifference>,
    /// Top-level keys, listeners and routes.
    pub(super) keys: Vec<Changed>,
}

#[derive(Debug)]
pub(super) struct ModelDifference {
    pub(super) name: String,
    /// `added`, `removed`, `changed`.
    pub(super) change: &'static str,
    /// Do its clients stay on their side by a key?
    pub(super) sticky: bool,
    /// Sticky keys are made of something else: any client may move.
    pub(super) rekeyed: bool,
    /// Shares of all versions before and after.
    pub(super) shares: [Vec<(String, f64)>; 2],
    pub(super) moved: Vec<Moved>,
    /// By version: those that join, and those that leave.
    pub(super) replicas: BTreeMap<String, [Vec<String>; 2]>,
    pub(super) keys: Vec<Changed>,
    pub(super) canary: CanaryFate,
    pub(super) ends_set_split: bool,
}

impl Difference {
    pub(super) fn between(old: &Side, new: &Plan) -> Self {
        let before = of_both(effective_values(&old.plan), &old.plan, new);
        let after = of_both(effective_values(new), new, &old.plan);
        let mut keys = changed(&before, &after);
        if old.plan.admin.token != new.admin.token {
            let masked = |plan: &Plan| plan.admin.token.as_ref().map(|_| "***".to_owned());
            let key = "admin.token".to_owned();
            keys.retain(|one| one.key != key);
            keys.push(Changed { key, old: masked(&old.plan), new: masked(new) });
        }
        let mut models = Vec::new();
        let names = |plan: &Plan| plan.models.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        let mut all = names(new);
        all.extend(
            names(&old.plan).into_iter().filter(|gone| !all.contains(gone)).collect::<Vec<_>>(),
        );
        let mut own: BTreeMap<&str, Vec<Changed>> = BTreeMap::new();
        for name in &all {
            let prefix = path_below("models", name) + ".";
            let mine =
                keys.extract_if(.., |changed| changed.key.starts_with(&prefix)).map(|mut one| {
                    one.key.drain(..prefix.len());
                    one
                });
            own.insert(name, mine.collect());
        }
        for name in &all {
            let find = |plan: &Plan| plan.models.iter().position(|model| model.name == *name);
            let was = find(&old.plan).map(|i| &*old.plan.models[i]);
            let is = find(new).map(|i| &*new.models[i]);
            let keys = own.remove(name.as_str()).unwrap_or_default();
            let one = ModelDifference::between(name, was, is, &old.running, keys);
            if one.matters() || was.zip(is).is_some_and(|(was, is)| was != is) {
                models.push(one);
            }
        }
        Self {
            summary: Changes::between(&old.plan, new).0,
            needs_restart: Changes::needs_restart(&old.plan, new),
            models,
            keys,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.models.is_empty() && self.keys.is_empty() && self.needs_restart.is_empty()
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "applies": self.needs_restart.is_empty(),
            "needs_restart": self.needs_restart,
            "summary": self.summary,
            "models": self.models.iter().map(ModelDifference::to_json).collect::<Vec<_>>(),
            "keys": as_json(&self.keys),
        })
    }
}

impl ModelDifference {
    fn between(
        name: &str,
        was: Option<&ModelPlan>,
        is: Option<&ModelPlan>,
        running: &Running,
        mut keys: Vec<Changed>,
    ) -> Self {
        let change = match (was, is) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        let mut replicas = BTreeMap::new();
        if let (Some(was), Some(is)) = (was, is) {
            replicas = joined_and_left(was, is);
            // The split is told by what moves, replicas by who comes and goes.
            keys.retain(|one| {
                let of_replicas = one.key.contains(".replicas[") || one.key.ends_with(".replicas");
                let comes_or_goes = of_replicas && (one.old.is_none() || one.new.is_none());
                !one.key.starts_with("split.") && !one.key.starts_with("split[") && !comes_or_goes
            });
        } else {
            keys.clear();
        }
        let forecast = is.map(|is| running.forecast(was, is));
        let before = running.0.get(name).filter(|_| was.is_some());
        let shares_of = |segments: &crate::balance::Segments| {
            let names: Vec<String> = segments.names().map(str::to_owned).collect();
            names.into_iter().map(|name| (name.clone(), segments.share_of(&name))).collect()
        };
        let after = forecast.as_ref().map(|forecast| &forecast.segments);
        let moved = before.zip(after).map(|(before, after)| both_ways(&before.segments, after));
        Self {
            name: name.to_owned(),
            change,
            sticky: is.or(was).is_some_and(|plan| !plan.hash_on.is_empty()),
            rekeyed: was.zip(is).is_some_and(|(was, is)| {
                was.hash_on != is.hash_on || was.split_secret != is.split_secret
            }),
            shares: [before.map(|before| &before.segments), after]
                .map(|segments| segments.map(shares_of).unwrap_or_default()),
            moved: moved.unwrap_or_default(),
            replicas,
            keys,
            canary: forecast.as_ref().map_or(CanaryFate::None, |forecast| forecast.canary),
            ends_set_split: forecast.is_some_and(|forecast| forecast.ends_set_split),
        }
    }

    fn matters(&self) -> bool {
        self.change != "changed"
            || !self.moved.is_empty()
            || !self.replicas.is_empty()
            || !self.keys.is_empty()
            || self.ends_set_split
    }

    fn to_json(&self) -> Value {
        let shares = |shares: &[(String, f64)]| -> BTreeMap<String, f64> {
            shares.iter().map(|(name, share)| (name.clone(), in_percent(*share))).collect()
        };
        let moved =
            |one: &Moved| json!({"from": one.from, "to": one.to, "percent": in_percent(one.share)});
        let replicas: BTreeMap<_, _> = self
            .replicas
            .iter()
            .map(|(version, [join, leave])| (version, json!({"join": join, "leave": leave})))
            .collect();
        json!({
            "name": self.name,
            "change": self.change,
            "sticky": self.sticky,
            "sticky_keys_change": self.rekeyed,
            "shares": {"old": shares(&self.shares[0]), "new": shares(&self.shares[1])},
            "moves": self.moved.iter().map(moved).collect::<Vec<_>>(),
            "replicas": replicas,
            "keys": as_json(&self.keys),
            "canary": match self.canary {
                CanaryFate::None => Value::Null,
                CanaryFate::GoesOn => json!("goes_on"),
                CanaryFate::Promoted => json!("promoted"),
                CanaryFate::Unseated => json!("unseated"),
                CanaryFate::BeginsAnew => json!("begins_anew"),
                CanaryFate::Waits => json!("waits_for_start"),
            },
            "ends_split_override": self.ends_set_split,
        })
    }
}

/// What moves, and for each pair that something moves between also the other direction.
fn both_ways(before: &crate::balance::Segments, after: &crate::balance::Segments) -> Vec<Moved> {
    let moved = moves(before, after);
    let pairs: BTreeSet<(String, String)> =
        moved.keys().flat_map(|(a, b)| [(a.clone(), b.clone()), (b.clone(), a.clone())]).collect();
    let mut all: Vec<Moved> = pairs
        .into_iter()
        .map(|pair| {
            let share = moved.get(&pair).copied().unwrap_or(0.0);
            Moved { from: pair.0, to: pair.1, share }
        })
        .collect();
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    all
}

fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Changed> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |key: &&&String| before.get(**key) != after.get(**key);
    let one = |key: &String| {
        let (old, new) = (before.get(key).cloned(), after.get(key).cloned());
        let key = match (&old, &new) {
            (None, Some(_)) => highest_without(key, before),
            (Some(_), None) => highest_without(key, after),
            _ => key.as_str(),
        };
        // A section that comes or goes is one change.
        let old =
            before.get(key).cloned().or_else(|| holds(before, key).then(|| SECTION.to_owned()));
        let new = after.get(key).cloned().or_else(|| holds(after, key).then(|| SECTION.to_owned()));
        Changed { key: key.to_owned(), old, new }
    };
    let mut all: Vec<Changed> = keys.iter().filter(differs).map(|key| one(key)).collect();
    all.dedup();
    all
}

/// The highest section around a key of which a file says nothing but, at most, that it is off.
fn highest_without<'a>(key: &'a str, file: &BTreeMap<String, String>) -> &'a str {
    // What is in brackets is one name, with dots or without.
    let mut depth = 0;
    let ends = key.char_indices().filter_map(|(at, c)| {
        let is_end = depth == 0 && matches!(c, '.' | '[');
        depth += i32::from(c == '[') - i32::from(c == ']');
        is_end.then_some(&key[..at])
    });
    ends.chain([key]).find(|section| !holds(file, section)).unwrap_or(key)
}

/// Leaves out the models and versions that only one of them has: who comes and goes is told otherwise.
fn of_both(
    values: BTreeMap<String, String>,
    plan: &Plan,
    other: &Plan,
) -> BTreeMap<String, String> {
    let mut left_out = Vec::new();
    for model in &plan.models {
        let prefix = path_below("models", &model.name) + ".";
        match other.models.iter().find(|one| one.name == model.name) {
            None => left_out.push(prefix),
            Some(there) => {
                let lacks = |v: &&VersionPlan| there.versions.iter().all(|one| one.name != v.name);
                let gone = model.versions.iter().filter(lacks);
                let versions = format!("{prefix}versions");
                left_out.extend(gone.map(|v| path_below(&versions, &v.name) + "."));
            }
        }
    }
    let stays = |key: &str| !left_out.iter().any(|prefix| key.starts_with(prefix));
    values.into_iter().filter(|(key, _)| stays(key)).collect()
}

/// Has it keys below this one?
fn holds(file: &BTreeMap<String, String>, section: &str) -> bool {
    ['.', '['].iter().any(|begin| {
        let prefix = format!("{section}{begin}");
        file.range(prefix.clone()..).next().is_some_and(|(key, _)| key.starts_with(&prefix))
    })
}

fn joined_and_left(was: &ModelPlan, is: &ModelPlan) -> BTreeMap<String, [Vec<String>; 2]> {
    let urls = |plan: &ModelPlan, name: &str| -> BTreeSet<String> {
        let version = plan.versions.iter().find(|version| version.name == name);
        let replicas = version.map(|version| &version.replicas[..]).unwrap_or_default();
        replicas.iter().map(|replica| replica.url.text.clone()).collect()
    };
    let name = |version: &VersionPlan| version.name.clone();
    let names: BTreeSet<String> = was.versions.iter().chain(&is.versions).map(name).collect();
    let each = names.into_iter().filter_map(|name| {
        let (before, after) = (urls(was, &name), urls(is, &name));
        let join: Vec<String> = after.difference(&before).cloned().collect();
        let leave: Vec<String> = before.difference(&after).cloned().collect();
        (!join.is_empty() || !leave.is_empty()).then_some((name, [join, leave]))
    });
    each.collect()
}

fn as_json(keys: &[Changed]) -> Value {
    keys.iter().map(|one| json!({"key": one.key, "old": one.old, "new": one.new})).collect()
}
