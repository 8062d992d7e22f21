//! What a replica did beside its peers while it failed: the numbers that eject it, and the sentence that says so.
use super::ejection::Cause;
use crate::stats::Moment;
use std::time::Duration;

/// The memory of the rates, as a time constant.
const FADES: Duration = Duration::from_mins(1);

/// More to do than its peers is so many times as much.
const MORE: f64 = 1.25;
/// As much as they is so much at least.
const AS_MUCH: f64 = 0.75;

/// Requests and failures that fade with time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faded {
    pub requests: f64,
    pub failures: f64,
}

impl Faded {
    /// What is left of one after `passed`.
    pub fn keeps(passed: Duration) -> f64 {
        (-passed.as_secs_f64() / FADES.as_secs_f64()).exp()
    }

    pub(super) fn without(self, part: Self) -> Self {
        Self {
            requests: (self.requests - part.requests).max(0.0),
            failures: (self.failures - part.failures).max(0.0),
        }
    }
}

/// Requests and failures that do not fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub requests: u64,
    pub failures: u64,
}

impl Count {
    /// Saturating: sums that others change meanwhile may be behind by one or two.
    pub(super) fn without(self, part: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(part.requests),
            failures: self.failures.saturating_sub(part.failures),
        }
    }
}

/// What all replicas of a version did together, the one in question included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolCounts {
    pub recent: Faded,
    pub ever: Count,
    /// How many replicas that is.
    pub replicas: u32,
}

/// What a replica did while its score rose, beside its peers in the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub own: Count,
    pub peers: Count,
    pub since: Moment,
    /// Its failures by their cause, in the order of [`Cause::FAILURES`].
    pub causes: [u32; Cause::FAILURES.len()],
    /// Of its failures those that say that it is full: status 503.
    pub full: u64,
    /// The class of path that all its failures were on, where it answered requests on others.
    pub only_on: Option<PathClass>,
    /// Further failures, which say more of the clients that sent them than of the replica.
    pub held: u32,
}

/// The class of a request's path, as the place of its name in a list of the version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathClass(u8);

impl PathClass {
    /// How many classes a version tells apart; the last stands for all others.
    pub const CLASSES: usize = 8;
    pub const OTHER: Self = Self(Self::CLASSES as u8 - 1);

    /// The `place`th; beyond the last: [`Self::OTHER`].
    pub fn new(place: usize) -> Self {
        u8::try_from(place).map_or(Self::OTHER, |place| Self(place.min(Self::OTHER.0)))
    }

    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}

impl Evidence {
    /// The most frequent.
    pub fn cause(&self) -> Cause {
        let causes = self.causes.iter().zip(Cause::FAILURES);
        // The first of equals.
        causes.rev().max_by_key(|(n, _)| **n).map_or(Cause::ServerError, |(_, cause)| cause)
    }

    /// Is it for nearly all requests (nine in ten) that it failed?
    pub fn fails_nearly_all(&self) -> bool {
        self.own.failures * 10 >= self.own.requests * 9
    }

    /// Did it fail because it had more to do than its peers, and did it do as much as they? Of a pool that refuses
    /// what it has no room for, chance and policy give one more than the others for a moment.
    ///
    /// `part`: the peers' requests that stand for one of its own, by their weights.
    pub fn is_overload(&self, part: f64) -> bool {
        let Self { own, peers, full, .. } = self;
        let good = |count: &Count| count.requests.saturating_sub(count.failures) as f64;
        2 * full >= own.failures
            && part * own.requests as f64 >= MORE * peers.requests as f64
            && part * good(own) >= AS_MUCH * good(peers)
    }

    /// "failed 14 of 15 requests in 3 s while its peers failed 0 of 42: `server_error` ×14, all on /v1/embeddings".
    ///
    /// `path`: the name of [`Self::only_on`].
    pub fn sentence(&self, path: Option<&str>, now: Moment) -> String {
        let Self { own, peers, since, causes, held, .. } = self;
        let took = now.since(*since).as_secs_f64();
        let took = if took < 10.0 { format!("{took:.1}") } else { format!("{took:.0}") };
        let mut by_cause: Vec<_> = causes.iter().zip(Cause::FAILURES).collect();
        by_cause.sort_by_key(|(n, _)| std::cmp::Reverse(**n));
        let happened = by_cause.iter().filter(|(n, _)| **n > 0);
        let causes: Vec<_> = happened.map(|(n, cause)| format!("{} ×{n}", cause.name())).collect();
        let only = path.as_ref().map(|path| format!(", only on {path}")).unwrap_or_default();
        let more = match held {
            0 => String::new(),
            _ => format!(" ({held} more of the same clients are not counted)"),
        };
        format!(
            "failed {} of {} requests in {took} s while its peers failed {} of {}: {}{only}{more}",
            own.failures,
            own.requests,
            peers.failures,
            peers.requests,
            causes.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_full_and_does_as_much_as_its_peers_has_too_much_to_do() {
        // Of four alike.
        let overload = |own: (u64, u64), full, peers: (u64, u64)| {
            let count = |(failures, requests)| Count { requests, failures };
            let evidence = Evidence {
                own: count(own),
                peers: count(peers),
                since: Moment::ZERO,
                causes: [0; Cause::FAILURES.len()],
                full,
                only_on: None,
                held: 0,
            };
            evidence.is_overload(3.0)
        };
        assert!(overload((40, 71), 40, (28, 138)));
        assert!(!overload((40, 71), 10, (28, 138)), "it fails otherwise");
        assert!(!overload((60, 71), 60, (28, 138)), "it does less than they");
        assert!(!overload((20, 46), 20, (28, 138)), "it has no more to do than they");
        assert!(!overload((20, 20), 20, (0, 20)), "it does nothing");
    }
}
