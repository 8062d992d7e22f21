//! The fleet: every replica, version and model alive in memory, by identity.
use super::allowance::Allowance;
use super::model_state::ModelState;
use super::replica::{Replica, ReplicaId};
use super::suspects::Suspects;
use super::version_state::VersionState;
use crate::stats::Moment;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What is known of a replica that left is kept for so long, in case it returns.
const REMEMBERED: Duration = Duration::from_mins(10);

#[derive(Debug)]
struct Enlisted {
    replica: Arc<Replica>,
    /// When no table listed it any more.
    left: Option<Moment>,
}

/// Owned by the one writer of tables.
#[derive(Debug, Default)]
pub struct Fleet {
    replicas: HashMap<ReplicaId, Enlisted>,
    versions: HashMap<(Arc<str>, Arc<str>), Arc<VersionState>>,
    models: HashMap<Arc<str>, Arc<ModelState>>,
    /// By the name of a key.
    allowances: HashMap<Arc<str>, Arc<Allowance>>,
    suspects: Arc<Suspects>,
}

impl Fleet {
    pub fn replica(&self, id: &ReplicaId) -> Option<&Arc<Replica>> {
        self.replicas.get(id).map(|enlisted| &enlisted.replica)
    }

    pub fn version(&self, model: &Arc<str>, version: &Arc<str>) -> Option<&Arc<VersionState>> {
        self.versions.get(&(Arc::clone(model), Arc::clone(version)))
    }

    pub fn model(&self, name: &str) -> Option<&Arc<ModelState>> {
        self.models.get(name)
    }

    /// What the key of this name has used.
    pub fn allowance(&self, key: &str) -> Option<&Arc<Allowance>> {
        self.allowances.get(key)
    }

    /// The replicas that wait for a ruling.
    pub fn suspects(&self) -> &Arc<Suspects> {
        &self.suspects
    }

    /// `generation` lists this replica. Did it join by that: did the generation before not list it?
    pub fn enlist(&mut self, replica: &Arc<Replica>, generation: u64) -> bool {
        let last = replica.list(generation);
        let joins = last == 0 || last + 1 < generation;
        if joins {
            let enlisted = self.replicas.entry(replica.id.clone());
            enlisted
                .or_insert_with(|| Enlisted { replica: Arc::clone(replica), left: None })
                .left = None;
        }
        joins
    }

    pub fn keep_version(
        &mut self,
        model: &Arc<str>,
        version: &Arc<str>,
        state: &Arc<VersionState>,
    ) {
        let key = (Arc::clone(model), Arc::clone(version));
        self.versions.entry(key).or_insert_with(|| Arc::clone(state));
    }

    pub fn keep_model(&mut self, name: &Arc<str>, state: &Arc<ModelState>) {
        self.models.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(state));
    }

    /// Never forgotten: taking a key out and putting it back gives it nothing.
    pub fn keep_allowance(&mut self, key: &Arc<str>, allowance: &Arc<Allowance>) {
        self.allowances.entry(Arc::clone(key)).or_insert_with(|| Arc::clone(allowance));
    }

    /// Marks replicas that `generation` does not list. Returns those that just left.
    pub fn retire(&mut self, generation: u64, now: Moment) -> Vec<Arc<Replica>> {
        let mut left = Vec::new();
        #[expect(
            clippy::iter_over_hash_type,
            reason = "each is let go by itself: the order shows nowhere"
        )]
        for enlisted in self.replicas.values_mut() {
            if enlisted.left.is_none() && enlisted.replica.listed() != generation {
                enlisted.left = Some(now);
                left.push(Arc::clone(&enlisted.replica));
            }
        }
        left
    }

    /// Forgets what left long ago and runs nothing any more.
    pub fn sweep(&mut self, now: Moment) {
        self.replicas.retain(|_, enlisted| {
            let old = enlisted.left.is_some_and(|left| now.since(left) > REMEMBERED);
            !old || enlisted.replica.in_flight() > 0
        });
        let replicas = &self.replicas;
        self.versions.retain(|(model, version), state| {
            Arc::strong_count(state) > 1
                || replicas.keys().any(|id| id.model == *model && id.version == *version)
        });
    }
}
