//! Counting probes: `fall` failures in a row take a replica out, `rise` successes bring it back.
use std::ops::RangeInclusive;
use std::time::Duration;

/// How replicas are probed (key `health`).
#[derive(Clone, Debug, PartialEq)]
pub struct ProbePlan {
    pub ask: ProbeKind,
    /// Replicas that speak HTTP/2 are asked over gRPC instead: for this service or model, or, empty, for the server.
    pub grpc: Option<String>,
    /// Between two probes of one replica; jittered by ±10 %.
    pub every: Duration,
    pub timeout: Duration,
    /// Failures in a row that make a replica unhealthy.
    pub fall: u32,
    /// Successes in a row that make it healthy again.
    pub rise: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// Can a connection be made?
    Tcp,
    /// Does `GET path` answer with an expected status?
    Get { path: String, expect: Vec<RangeInclusive<u16>> },
    /// Does `POST path` with this JSON body answer with an expected status?
    Post { path: String, body: String, expect: Vec<RangeInclusive<u16>> },
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    Passed,
    /// With the reason, for people.
    Failed(String),
}

/// Probes in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCount {
    passed: u32,
    failed: u32,
}

impl ProbeCount {
    /// Counts one result. Returns what it decides: `Some(true)` healthy, `Some(false)` unhealthy, `None` no change.
    ///
    /// The very first result decides at once (`fresh`): a new replica neither waits for `rise` probes to serve nor
    /// gets traffic for `fall` intervals while it is dead.
    pub fn count(&mut self, passed: bool, fresh: bool, plan: &ProbePlan) -> Option<bool> {
        if passed {
            self.failed = 0;
            self.passed = self.passed.saturating_add(1);
            (fresh || self.passed >= plan.rise).then_some(true)
        } else {
            self.passed = 0;
            self.failed = self.failed.saturating_add(1);
            (fresh || self.failed >= plan.fall).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> ProbePlan {
        let (every, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
        ProbePlan { ask: ProbeKind::Tcp, grpc: None, every, timeout, fall: 3, rise: 2 }
    }

    #[test]
    fn the_third_failure_in_a_row_decides() {
        let mut count = ProbeCount::default();
        assert_eq!(count.count(false, false, &plan()), None);
        assert_eq!(count.count(false, false, &plan()), None);
        assert_eq!(count.count(false, false, &plan()), Some(false));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let mut count = ProbeCount::default();
        for _ in 0..2 {
            assert_eq!(count.count(false, false, &plan()), None);
            assert_eq!(count.count(false, false, &plan()), None);
            assert_eq!(count.count(true, false, &plan()), None);
        }
    }

    #[test]
    fn the_first_probe_of_a_new_replica_decides_alone() {
        assert_eq!(ProbeCount::default().count(true, true, &plan()), Some(true));
        assert_eq!(ProbeCount::default().count(false, true, &plan()), Some(false));
    }
}
