//! How much happens in a second: the difference between two statuses of the same process.
use super::terminal::{Paint, Tone};
use crate::admin::{ModelStatus, ReplicaStatus, Status};
use std::collections::BTreeMap;

/// Each a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) requests: f64,
    /// Attempts whose replica is to blame.
    pub(super) errors: f64,
}

/// What happened between two looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    versions: BTreeMap<(String, String), Rate>,
    replicas: BTreeMap<(String, String, String), Rate>,
}

impl Rates {
    /// `None`: they tell nothing together, because another process answered, or none of its time passed.
    pub(super) fn between(before: &Status, after: &Status) -> Option<Self> {
        let seconds = after.uptime_seconds - before.uptime_seconds;
        if after.started_at != before.started_at || seconds <= 0.0 {
            return None;
        }
        let a_second = |was: u64, is: u64| is.saturating_sub(was) as f64 / seconds;
        let mut rates = Self::default();
        for model in &after.models {
            let Some(old) = before.models.iter().find(|old| old.name == model.name) else {
                continue;
            };
            for version in &model.versions {
                let Some(old) = old.versions.iter().find(|old| old.name == version.name) else {
                    continue;
                };
                let mut whole = Rate::default();
                for replica in &version.replicas {
                    let Some(old) = old.replicas.iter().find(|old| old.url == replica.url) else {
                        continue;
                    };
                    let rate = Rate {
                        requests: a_second(old.requests_total, replica.requests_total),
                        errors: a_second(old.failures_total, replica.failures_total),
                    };
                    whole.errors += rate.errors;
                    let key = (model.name.clone(), version.name.clone(), replica.url.clone());
                    rates.replicas.insert(key, rate);
                }
                whole.requests = a_second(old.requests_total, version.requests_total);
                rates.versions.insert((model.name.clone(), version.name.clone()), whole);
            }
        }
        Some(rates)
    }

    pub(super) fn of_version(&self, model: &str, version: &str) -> Option<Rate> {
        self.versions.get(&(model.to_owned(), version.to_owned())).copied()
    }

    pub(super) fn of_replica(
        &self,
        model: &str,
        version: &str,
        replica: &ReplicaStatus,
    ) -> Option<Rate> {
        let key = (model.to_owned(), version.to_owned(), replica.url.clone());
        self.replicas.get(&key).copied()
    }

    /// All versions of a model together.
    pub(super) fn of_model(&self, model: &ModelStatus) -> Option<Rate> {
        let each = model.versions.iter().filter_map(|v| self.of_version(&model.name, &v.name));
        each.reduce(|a, b| Rate { requests: a.requests + b.requests, errors: a.errors + b.errors })
    }
}

/// "12.3 req/s, 0.4 err/s".
pub(super) fn in_words(rate: Rate, paint: Paint) -> String {
    let errors = format!("{} err/s", figure(rate.errors));
    let tone = if rate.errors > 0.0 { Tone::Bad } else { Tone::Faint };
    format!("{} req/s, {}", figure(rate.requests), paint.on(tone, &errors))
}

/// "0", "0.4", "12.3", "1204".
pub(super) fn figure(a_second: f64) -> String {
    if a_second <= 0.0 {
        "0".to_owned()
    } else if a_second < 100.0 {
        format!("{a_second:.1}")
    } else {
        format!("{a_second:.0}")
    }
}
