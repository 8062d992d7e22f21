//! What became of a split: who got which part, and who serves although it should not.
use crate::health::Standing;
use crate::table::{Model, Version};
use std::sync::atomic::Ordering::Relaxed;

/// Each version's fraction of what the model served since its shares last changed, in their order.
/// `None`: it served nothing yet.
pub fn observed_shares(model: &Model) -> Option<Vec<f64>> {
    let served = |(i, version): (usize, &Version)| {
        let before = model.baseline.get(i).copied().unwrap_or(0);
        version.state.served.load(Relaxed).saturating_sub(before)
    };
    let served: Vec<u64> = model.versions.iter().enumerate().map(served).collect();
    let total: u64 = served.iter().sum();
    (total > 0).then(|| served.iter().map(|n| *n as f64 / total as f64).collect())
}

/// Does this version serve although none of its replicas is usable?
///
/// No other version can take its requests, and it has replicas that are neither draining nor waiting for their
/// first probe: those would be asked in the ordinary way.
pub fn fails_open(model: &Model, version: &Version) -> bool {
    let taken_over = || model.versions.iter().any(|v| v.share > 0.0 && v.any_usable(&[]));
    let unprobed = |version: &Version| {
        version.members.iter().any(|m| m.replica.standing() == Standing::Starting)
    };
    model.plan.fail_open
        && version.share > 0.0
        && !version.members.is_empty()
        && !version.any_usable(&[])
        && !version.drained()
        && !unprobed(version)
        && !taken_over()
}
