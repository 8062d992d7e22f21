//! The certificates that a plan names, for those who watch over them and for the plan that follows.
use super::plan::{ModelPlan, Plan, VersionPlan};
use crate::tls::{ClientTls, ServerTls};
use std::sync::Arc;

impl Plan {
    /// Goes on with what the plan before has of the same files: sessions and connections are kept, and one watch over
    /// the files goes on.
    pub fn keep_certificates(&mut self, before: &Self) {
        for listener in &mut self.listeners {
            let same = before.listeners.iter().find(|old| old.name == listener.name);
            let same = same.filter(|old| old.tls == listener.tls);
            if let Some(old) = same {
                listener.tls.clone_from(&old.tls);
            }
        }
        for model in &mut self.models {
            let Some(old) = before.models.iter().find(|old| old.name == model.name) else {
                continue;
            };
            if model.versions.iter().any(|version| version.tls.is_some()) {
                Arc::make_mut(model).keep_certificates(old);
            }
        }
    }

    /// How URLs of a listener begin.
    pub fn scheme_of(&self, listener: &str) -> &'static str {
        let secure = self.server_tls().any(|(name, _)| name == listener);
        if secure { "https" } else { "http" }
    }

    /// Those of listeners, with the listeners' names.
    pub fn server_tls(&self) -> impl Iterator<Item = (&str, &Arc<ServerTls>)> {
        self.listeners.iter().filter_map(|plan| Some((plan.name.as_str(), plan.tls.as_ref()?)))
    }

    /// Those for replicas, with the names of model and version.
    pub fn client_tls(&self) -> impl Iterator<Item = (&str, &str, &Arc<ClientTls>)> {
        let versions = self.models.iter().flat_map(|model| {
            model.versions.iter().map(move |version| (model.name.as_str(), version))
        });
        versions.filter_map(|(model, version)| {
            Some((model, version.name.as_str(), version.tls.as_ref()?))
        })
    }
}

impl ModelPlan {
    fn keep_certificates(&mut self, before: &Self) {
        for version in &mut self.versions {
            let named = |old: &&VersionPlan| old.name == version.name;
            let same = before.versions.iter().find(named).filter(|old| old.tls == version.tls);
            if let Some(old) = same {
                version.tls.clone_from(&old.tls);
            }
        }
    }
}
