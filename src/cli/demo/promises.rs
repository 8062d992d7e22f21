//! What the demo promises, and which of it what was seen does not keep.
use std::time::Duration;

/// At most so much of its version's traffic goes to the slow replica; a third would be fair.
pub(super) const SLOW_SHARE: f64 = 0.15;
/// Observed shares may be so far from those set.
pub(super) const TOLERANCE: f64 = 0.03;

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Observed {
    /// Of v1's traffic.
    pub(super) slow_share: f64,
    /// v2's, while 0.1 was set.
    pub(super) share_before: f64,
    /// v2's, while 0.5 was set.
    pub(super) share_after: f64,
    pub(super) death: Death,
    pub(super) reload: Reloaded,
    /// Requests that failed when nothing was killed, as the clients saw it.
    pub(super) failed_otherwise: u64,
    /// Requests that the traffic did not send because too many were running.
    pub(super) held_back: u64,
}

/// A replica that was killed and revived.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Death {
    /// Requests running there when it died.
    pub(super) cut: u64,
    /// Requests that failed, as the clients saw it.
    pub(super) failed: u64,
    /// Requests that failed at other replicas.
    pub(super) failed_elsewhere: u64,
    /// Requests served meanwhile.
    pub(super) served: u64,
    /// Until its health check took it out; `None`: it did not.
    pub(super) out_after: Option<Duration>,
    /// From its revival until it was back; `None`: it was not.
    pub(super) back_after: Option<Duration>,
    /// Requests it served once back.
    pub(super) served_again: u64,
}

/// A file that was rewritten while requests ran.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reloaded {
    /// Until the new generation served; `None`: it never did.
    pub(super) after: Option<Duration>,
    pub(super) failed: u64,
}

/// The promises that were not kept, a sentence each; none: all were.
pub(super) fn broken(seen: &Observed) -> Vec<String> {
    let Observed { slow_share, share_before, share_after, death, reload, .. } = seen;
    let percent = |share: &f64| format!("{:.1} %", share * 100.0);
    let near = |share: &f64, set: f64| (share - set).abs() <= TOLERANCE;
    let Death { cut, failed, failed_elsewhere, .. } = death;
    let claims = [
        (
            *slow_share < SLOW_SHARE,
            format!("the slow replica got {} of v1's traffic", percent(slow_share)),
        ),
        (near(share_before, 0.1), format!("v2 was set to 10 % and got {}", percent(share_before))),
        (
            // A stream that had begun cannot be asked again; everything else is.
            failed <= cut,
            format!("{failed} requests failed when a replica died with {cut} running there"),
        ),
        (
            *failed_elsewhere == 0,
            format!("{failed_elsewhere} requests failed at other replicas than the dying one"),
        ),
        (death.served > 0, "traffic did not go on while a replica was dead".to_owned()),
        (
            death.out_after.is_some(),
            "the health check did not take the dead replica out".to_owned(),
        ),
        (death.back_after.is_some(), "the revived replica did not come back".to_owned()),
        (death.served_again > 0, "the revived replica got no traffic".to_owned()),
        (reload.after.is_some(), "the rewritten file was not applied".to_owned()),
        (
            reload.failed == 0,
            format!("{} requests failed while the file was reloaded", reload.failed),
        ),
        (
            near(share_after, 0.5),
            format!("v2 was set to 50 % and got {} afterwards", percent(share_after)),
        ),
        (
            seen.failed_otherwise == 0,
            format!("{} requests failed although nothing was killed", seen.failed_otherwise),
        ),
        (
            seen.held_back == 0,
            format!("{} requests were not sent: this machine is too busy", seen.held_back),
        ),
    ];
    claims.into_iter().filter(|(kept, _)| !kept).map(|(_, sentence)| sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Observed {
        let second = Some(Duration::from_secs(1));
        Observed {
            slow_share: 0.06,
            share_before: 0.101,
            share_after: 0.499,
            death: Death {
                cut: 2,
                failed: 1,
                failed_elsewhere: 0,
                served: 300,
                out_after: second,
                back_after: second,
                served_again: 40,
            },
            reload: Reloaded { after: second, failed: 0 },
            failed_otherwise: 0,
            held_back: 0,
        }
    }

    fn only_broken(spoil: impl FnOnce(&mut Observed)) -> String {
        let mut seen = good();
        spoil(&mut seen);
        let mut sentences = broken(&seen);
        assert_eq!(sentences.len(), 1, "{sentences:?}");
        sentences.remove(0)
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        assert_eq!(broken(&good()), Vec::<String>::new());
    }

    #[test]
    fn each_promise_can_be_broken_alone() {
        let said = only_broken(|seen| seen.slow_share = 0.31);
        assert_eq!(said, "the slow replica got 31.0 % of v1's traffic");
        assert!(only_broken(|seen| seen.share_before = 0.2).contains("20.0 %"));
        assert!(only_broken(|seen| seen.share_after = 0.1).contains("10.0 % afterwards"));
        assert!(only_broken(|seen| seen.death.failed_elsewhere = 1).contains("other replicas"));
        assert!(only_broken(|seen| seen.death.served = 0).contains("did not go on"));
        assert!(only_broken(|seen| seen.death.out_after = None).contains("take the dead"));
        assert!(only_broken(|seen| seen.death.back_after = None).contains("come back"));
        assert!(only_broken(|seen| seen.death.served_again = 0).contains("no traffic"));
        assert!(only_broken(|seen| seen.reload.after = None).contains("not applied"));
        assert!(only_broken(|seen| seen.reload.failed = 3).contains("reloaded"));
        assert!(only_broken(|seen| seen.failed_otherwise = 1).contains("nothing was killed"));
        assert!(only_broken(|seen| seen.held_back = 9).contains("too busy"));
    }

    #[test]
    fn requests_that_ran_at_the_dying_replica_are_forgiven() {
        let mut seen = good();
        (seen.death.cut, seen.death.failed) = (6, 6);
        assert_eq!(broken(&seen), Vec::<String>::new());
        assert!(only_broken(|seen| seen.death.failed = 3).contains("died with 2 running"));
    }
}
