//! What a reload changed, in words for the log and the API.
use super::plan::{ModelPlan, Plan, ReplicaPlan};
use super::set_split::shares_in_words;
use std::collections::HashSet;

/// One sentence fragment per change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<String>);

impl Changes {
    /// What differs between two plans.
    pub fn between(old: &Plan, new: &Plan) -> Self {
        let mut changes = Vec::new();
        for model in &new.models {
            match old.models.iter().find(|m| m.name == model.name) {
                None => changes.push(format!("model `{}` added", model.name)),
                Some(before) => in_model(before, model, &mut changes),
            }
        }
        for gone in old.models.iter().filter(|m| new.models.iter().all(|n| n.name != m.name)) {
            changes.push(format!("model `{}` removed", gone.name));
        }
        for listener in &new.listeners {
            match old.listeners.iter().find(|l| l.name == listener.name) {
                None => changes.push(format!("listener `{}` added", listener.name)),
                Some(before) if before.address != listener.address => {
                    changes.push(format!("listener `{}` moved", listener.name));
                }
                Some(before) if before != listener => {
                    changes.push(format!("listener `{}` changed", listener.name));
                }
                Some(_) => {}
            }
        }
        for gone in old.listeners.iter().filter(|l| new.listeners.iter().all(|n| n.name != l.name))
        {
            changes.push(format!("listener `{}` removed", gone.name));
        }
        of_keys(old, new, &mut changes);
        if old.routes != new.routes {
            changes.push("routes changed".to_owned());
        }
        Self(changes)
    }

    /// The keys that cannot change while running.
    pub fn needs_restart(old: &Plan, new: &Plan) -> Vec<&'static str> {
        let mut fields = Vec::new();
        if old.threads != new.threads {
            fields.push("threads");
        }
        if old.admin.address != new.admin.address {
            fields.push("admin.address");
        }
        fields
    }
}

fn in_model(old: &ModelPlan, new: &ModelPlan, changes: &mut Vec<String>) {
    let name = &new.name;
    for version in &new.versions {
        let Some(before) = old.versions.iter().find(|v| v.name == version.name) else {
            changes.push(format!("version `{name}/{}` added", version.name));
            continue;
        };
        let (joined, left) = moved(&before.replicas, &version.replicas);
        if joined + left > 0 {
            changes
                .push(format!("`{name}/{}`: {joined} replicas join, {left} leave", version.name));
        } else if before != version {
            changes.push(format!("`{name}/{}` changed", version.name));
        }
    }
    for gone in old.versions.iter().filter(|v| new.versions.iter().all(|n| n.name != v.name)) {
        changes.push(format!("version `{name}/{}` removed", gone.name));
    }
    if shares(old) != shares(new) {
        changes.push(format!("split of `{name}`: {} → {}", shares(old), shares(new)));
    }
    if !same_options(old, new) {
        changes.push(format!("options of `{name}` changed"));
    }
}

fn of_keys(old: &Plan, new: &Plan, changes: &mut Vec<String>) {
    for key in &new.keys {
        match old.keys.iter().find(|before| before.name == key.name) {
            None => changes.push(format!("key `{}` added", key.name)),
            Some(before) if before != key => changes.push(format!("key `{}` changed", key.name)),
            Some(_) => {}
        }
    }
    for gone in old.keys.iter().filter(|key| new.keys.iter().all(|n| n.name != key.name)) {
        changes.push(format!("key `{}` removed", gone.name));
    }
    match (old.keys.is_empty(), new.keys.is_empty()) {
        (true, false) => changes.push("every request needs a key".to_owned()),
        (false, true) => changes.push("no request needs a key any more".to_owned()),
        _ => {}
    }
    if old.jwt != new.jwt {
        changes.push("`jwt` changed".to_owned());
    }
}

/// How many URLs are new, and how many are gone.
fn moved(was: &[ReplicaPlan], is: &[ReplicaPlan]) -> (usize, usize) {
    if was == is {
        return (0, 0);
    }
    // No version lists a URL twice.
    let before: HashSet<&str> = was.iter().map(|replica| &*replica.url.text).collect();
    let joined = is.iter().filter(|replica| !before.contains(&*replica.url.text)).count();
    (joined, was.len() + joined - is.len())
}

/// Is everything but versions and shares as it was? Written out, so that a new key cannot be forgotten.
fn same_options(old: &ModelPlan, new: &ModelPlan) -> bool {
    let ModelPlan {
        name: _,
        aliases,
        kind,
        answers,
        versions: _,
        split: _,
        hash_on,
        split_secret,
        allow_pin,
        balance,
        health,
        ejection,
        fail_open,
        slow_start,
        timeouts,
        retries,
        hedge,
        heartbeat,
        max_buffered_body,
        canary,
        mirror,
    } = old;
    *aliases == new.aliases
        && *kind == new.kind
        && *answers == new.answers
        && *hash_on == new.hash_on
        && *split_secret == new.split_secret
        && *allow_pin == new.allow_pin
        && *balance == new.balance
        && *health == new.health
        && *ejection == new.ejection
        && *fail_open == new.fail_open
        && *slow_start == new.slow_start
        && *timeouts == new.timeouts
        && *retries == new.retries
        && *hedge == new.hedge
        && *heartbeat == new.heartbeat
        && *max_buffered_body == new.max_buffered_body
        && *canary == new.canary
        && *mirror == new.mirror
}

fn shares(model: &ModelPlan) -> String {
    let names = model.versions.iter().map(|version| version.name.as_str());
    shares_in_words(names.zip(model.split.iter().copied()))
}
