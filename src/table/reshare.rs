//! New shares in the present generation: replicas and names stay, the division among versions moves.
use super::build::Overrides;
use super::generation::Table;
use super::model::{Model, Version};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Table {
    /// This table with the live shares of `overrides`.
    #[must_use]
    pub fn with_shares(&self, overrides: &Overrides) -> Self {
        let models = self.models.iter().map(|model| reshared(model, overrides)).collect();
        Self { models, ..self.clone() }
    }
}

/// The model itself where its shares stay.
fn reshared(model: &Arc<Model>, overrides: &Overrides) -> Arc<Model> {
    let live = overrides.shares_of(&model.plan);
    let names = model.versions.iter().map(|version| &*version.name);
    let shares: Vec<(&str, f64)> = names.zip(live.iter().copied()).collect();
    let segments = model.segments.moved_to(&shares);
    let set = overrides.splits.get(&model.plan.name);
    if segments == model.segments && set == model.set.as_ref() {
        return Arc::clone(model);
    }
    let version = |(version, share): (&Version, &f64)| Version { share: *share, ..version.clone() };
    let versions: Box<[Version]> = model.versions.iter().zip(&live).map(version).collect();
    let baseline = if segments == model.segments {
        model.baseline.clone()
    } else {
        versions.iter().map(|v| v.state.served.load(Relaxed)).collect()
    };
    Arc::new(Model {
        name: Arc::clone(&model.name),
        plan: Arc::clone(&model.plan),
        state: Arc::clone(&model.state),
        versions,
        segments,
        set: set.cloned(),
        output: model.output.clone(),
        lightest: model.lightest,
        baseline,
    })
}
