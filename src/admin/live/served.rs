//! Which models replicas say they serve, asked when the list of problems wants to know.
use crate::control::served_models;
use crate::fleet::ReplicaId;
use crate::problems::{ReplicaName, Serves};
use crate::table::{Model, Table, Version};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Replicas asked at once; further ones are asked with the next look that wants to know.
const AT_ONCE: usize = 4;

/// What was answered, by replica.
#[derive(Clone, Debug)]
pub(super) struct Served {
    lists: Arc<Mutex<BTreeMap<ReplicaId, Arc<Serves>>>>,
    places: Arc<Semaphore>,
}

impl Default for Served {
    fn default() -> Self {
        Self { lists: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Served {
    pub(super) fn of(&self, id: &ReplicaId) -> Option<Arc<Serves>> {
        self.lists.lock().get(id).cloned()
    }

    /// Asks these, in the background. What was known of replicas that left is forgotten.
    pub(super) fn ask(&self, wanted: &[ReplicaName], table: &Table) {
        if wanted.is_empty() {
            return;
        }
        let listed = |id: &ReplicaId| {
            let versions = table.models.iter().flat_map(|model| &model.versions);
            versions.flat_map(|version| &version.members).any(|member| member.replica.id == *id)
        };
        self.lists.lock().retain(|id, _| listed(id));
        for (model, version, url) in wanted {
            let Some(model) = table.models.iter().find(|each| each.name == *model) else {
                continue;
            };
            let Some(version) = model.versions.iter().find(|each| each.name == *version) else {
                continue;
            };
            let mut members = version.members.iter();
            let Some(member) = members.find(|each| each.replica.id.url == *url) else { continue };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
            let (replica, lists) = (Arc::clone(&member.replica), Arc::clone(&self.lists));
            let wanted = wanted_names(model, version);
            let edits = model.plan_of(version).headers.clone();
            tokio::spawn(async move {
                let _place = place;
                let served = served_models(&replica, &edits).await;
                let serves = served.and_then(|listed| Serves::new(&wanted, listed));
                let mut lists = lists.lock();
                match serves {
                    Some(serves) => lists.insert(replica.id.clone(), Arc::new(serves)),
                    None => lists.remove(&replica.id),
                };
            });
        }
    }
}

/// The names that the replicas of this version are asked for.
pub(super) fn wanted_names(model: &Model, version: &Version) -> Vec<String> {
    if let Some(upstream) = &model.plan_of(version).upstream_model {
        return vec![upstream.clone()];
    }
    let own = std::iter::once(model.name.to_string());
    own.chain(model.plan.aliases.iter().cloned()).collect()
}
