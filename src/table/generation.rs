//! The table: everything a request needs to know of the configuration, immutable.
use super::access::{Access, Key};
use super::model::Model;
use super::plan::Plan;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// One generation. A request holds the same one from its first byte to its last.
#[derive(Clone, Debug)]
pub struct Table {
    /// Counts applied files, from 1.
    pub generation: u64,
    pub plan: Arc<Plan>,
    /// In the file's order.
    pub models: Box<[Arc<Model>]>,
    /// Models and aliases.
    pub(super) names: HashMap<Box<str>, usize>,
    pub(super) catch_all: Option<usize>,
    pub(super) default_model: Option<usize>,
    /// Who is let in; `None`: everybody.
    pub access: Option<Arc<Access>>,
    /// Top-level JSON fields that some model's sticky key reads.
    pub wanted_fields: Box<[String]>,
    /// The longest body that some model wants whole.
    pub max_buffered_body: u64,
    /// The longest that an exchange with some model may take.
    pub longest_total: Duration,
}

/// The present table, swapped as a whole.
pub type Current = Arc<ArcSwap<Table>>;

impl Table {
    /// The model of this name or alias; not by `*`.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.names.get(name).map(|i| &self.models[*i])
    }

    /// Every name a client may use, models first, each with its aliases behind it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().flat_map(|model| {
            let aliases = model.plan.aliases.iter().map(String::as_str).filter(|a| *a != "*");
            std::iter::once(&*model.name).chain(aliases)
        })
    }

    /// Requests now at replicas.
    pub fn in_flight(&self) -> u64 {
        let versions = self.models.iter().flat_map(|model| &model.versions);
        versions.flat_map(|v| &v.members).map(|m| u64::from(m.replica.in_flight())).sum()
    }

    /// Is this a name of a model that the key may use, here or as sent upstream?
    pub fn is_theirs(&self, key: &Key, name: &str) -> bool {
        // Ollama's clients write out the tag that it takes where there is none.
        let untagged = name.strip_suffix(":latest").unwrap_or(name);
        let spoken = self.access.as_ref().map(|access| &access.spoken);
        match spoken.and_then(|spoken| spoken.get(name).or_else(|| spoken.get(untagged))) {
            Some(models) => models.iter().any(|model| key.may_use(model)),
            None => self.catch_all.is_some_and(|model| key.may_use(&self.models[model].name)),
        }
    }

    /// The names that a key may use, models first, each with its aliases behind it.
    pub fn names_for(&self, key: Option<&Key>) -> impl Iterator<Item = &str> {
        let usable = move |name: &&str| {
            key.is_none_or(|key| self.model(name).is_some_and(|model| key.may_use(&model.name)))
        };
        self.names().filter(usable)
    }
}
