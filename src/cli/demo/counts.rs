//! What the table's counters say at one moment, and what happened between two.
use crate::table::Table;
use std::sync::atomic::Ordering::Relaxed;

/// The counters of one model's versions, in the file's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts(pub(super) Vec<VersionCounts>);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct VersionCounts {
    pub(super) name: String,
    /// Requests that belong to it.
    pub(super) served: u64,
    pub(super) replicas: Vec<ReplicaCounts>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReplicaCounts {
    pub(super) url: String,
    /// Requests that ended there.
    pub(super) ended: u64,
    /// Those of them whose failure is the replica's.
    pub(super) failed: u64,
    pub(super) in_flight: u32,
}

impl Counts {
    pub(super) fn read(table: &Table, model: &str) -> Self {
        let versions = table.model(model).into_iter().flat_map(|model| &model.versions);
        Self(
            versions
                .map(|version| VersionCounts {
                    name: version.name.to_string(),
                    served: version.state.served.load(Relaxed),
                    replicas: version.members.iter().map(|m| replica(&m.replica)).collect(),
                })
                .collect(),
        )
    }

    /// What was counted after `earlier`. Replicas and versions that are new count from zero.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.clone();
        for version in &mut counts.0 {
            let Some(before) = earlier.0.iter().find(|v| v.name == version.name) else { continue };
            version.served = version.served.saturating_sub(before.served);
            for replica in &mut version.replicas {
                if let Some(before) = before.replicas.iter().find(|r| r.url == replica.url) {
                    replica.ended = replica.ended.saturating_sub(before.ended);
                    replica.failed = replica.failed.saturating_sub(before.failed);
                }
            }
        }
        counts
    }

    pub(super) fn served(&self) -> u64 {
        self.0.iter().map(|version| version.served).sum()
    }

    /// The fraction of the requests that a version served.
    pub(super) fn share(&self, version: &str) -> f64 {
        let served = self.0.iter().find(|v| v.name == version).map_or(0, |v| v.served);
        fraction(served, self.served())
    }

    pub(super) fn replica(&self, url: &str) -> ReplicaCounts {
        self.replicas().find(|r| r.url == url).cloned().unwrap_or_default()
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = &ReplicaCounts> {
        self.0.iter().flat_map(|version| &version.replicas)
    }

    /// The fraction of its version's requests that ended at this replica.
    pub(super) fn share_in_version(&self, url: &str) -> f64 {
        let version = self.0.iter().find(|v| v.replicas.iter().any(|r| r.url == url));
        let all = version.map_or(0, |v| v.replicas.iter().map(|r| r.ended).sum());
        fraction(self.replica(url).ended, all)
    }
}

fn replica(replica: &crate::fleet::Replica) -> ReplicaCounts {
    let blames = replica.outcomes.counts().filter(|(class, _)| class.blames_replica());
    ReplicaCounts {
        url: replica.id.url.to_string(),
        ended: replica.outcomes.total(),
        failed: blames.map(|(_, n)| n).sum(),
        in_flight: replica.in_flight(),
    }
}

fn fraction(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, served: u64, ended: &[u64]) -> VersionCounts {
        let replicas = ended.iter().enumerate().map(|(i, ended)| ReplicaCounts {
            url: format!("http://{name}-{i}"),
            ended: *ended,
            ..ReplicaCounts::default()
        });
        VersionCounts { name: name.to_owned(), served, replicas: replicas.collect() }
    }

    #[test]
    fn shares_are_of_what_happened_in_between() {
        let before = Counts(vec![version("v1", 100, &[50, 50]), version("v2", 100, &[100])]);
        let after = Counts(vec![version("v1", 190, &[140, 50]), version("v2", 110, &[110])]);
        let between = after.since(&before);
        assert_eq!(between.served(), 100);
        assert!((between.share("v1") - 0.9).abs() < 1e-9);
        assert!((between.share_in_version("http://v1-0") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn without_requests_every_share_is_zero() {
        let idle = Counts(vec![version("v1", 0, &[0])]);
        assert!(idle.share("v1").abs() < 1e-9);
        assert!(idle.share_in_version("http://v1-0").abs() < 1e-9);
    }
}
