//! The fleet: every replica, version and model alive in memory, by identity.
use super::allowance::Allowance;
use super::model_state::ModelState;
use super::replica::{Replica, ReplicaId};
use super::suspects::Suspects;
use super::version_state::VersionState;
use crate::stats::Moment;
use crate::wire::{Dialed, Upstream};
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
    /// The replica of this identity: the one already known, or a new one.
    ///
    /// `at_start`: it may serve before its first probe, because the process began with it.
    pub fn enlist(
        &mut self,
        id: ReplicaId,
        dialed: impl FnOnce() -> Dialed,
        at_start: bool,
        now: Moment,
    ) -> Arc<Replica> {
        let enlisted = self.replicas.entry(id).or_insert_with_key(|id| Enlisted {
            replica: Arc::new(Replica::new(id.clone(), Upstream::new(dialed()), at_start, now)),
            left: None,
        });
        enlisted.left = None;
        Arc::clone(&enlisted.replica)
    }

    pub fn version(&mut self, model: &Arc<str>, version: &Arc<str>) -> Arc<VersionState> {
        let key = (Arc::clone(model), Arc::clone(version));
        let state = self.versions.entry(key);
        let suspects = &self.suspects;
        Arc::clone(state.or_insert_with(|| VersionState::new(Arc::clone(suspects)).into()))
    }

    /// The replicas that wait for a ruling.
    pub fn suspects(&self) -> &Arc<Suspects> {
        &self.suspects
    }

    /// The model of this name; `offset` starts the sequence of a new one.
    pub fn model(&mut self, name: &Arc<str>, offset: u64) -> Arc<ModelState> {
        let model = self.models.entry(Arc::clone(name));
        Arc::clone(model.or_insert_with(|| Arc::new(ModelState::new(offset))))
    }

    /// What the key of this name has used. Never forgotten: taking a key out and putting it back gives it nothing.
    pub fn allowance(&mut self, name: &Arc<str>) -> Arc<Allowance> {
        Arc::clone(self.allowances.entry(Arc::clone(name)).or_default())
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
