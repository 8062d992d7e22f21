//! Is one replica worse than the others of its pool? A CUSUM that asks twice.
//!
//! Each request moves a score: a failure up by how much likelier it is from a bad replica than from
//! a good one, a success down likewise (Page 1954). "Good" is what the other replicas do, so an
//! outage that all share moves nobody. A score at [`SUSPECT`] keeps false alarms a million requests
//! apart (e-detectors, Shin et al. 2022); then the second question is asked: over the same period,
//! did it fail more than its peers, beyond chance? A sudden shared outage passes the first (the
//! others' rate lags behind) and fails the second. Simulated: without it all ten of ten go.
use super::ejection::Cause;
use crate::stats::Moment;
use std::time::Duration;

/// The score of a suspect: ln(10⁶).
pub const SUSPECT: f64 = 13.815_510_557_964_274;
/// Evidence of the second question, which is asked often: ln(10⁶) too. With ln(10⁴) pools of two to four that all fail
/// every second request lost one in some four hours (simulated).
const CONFIRMED: f64 = SUSPECT;
/// The memory of the rates, as a time constant.
const FADES: Duration = Duration::from_mins(1);
/// Evidence from before so long a silence is none: it was another process, or another hour.
const STALE: Duration = Duration::from_mins(1);

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

    fn without(self, part: Self) -> Self {
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
    fn without(self, part: Self) -> Self {
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
}

/// What a replica did while its score rose, beside its peers in the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub own: Count,
    pub peers: Count,
    pub since: Moment,
    /// Its failures by their cause, in the order of [`Cause::FAILURES`].
    pub causes: [u32; Cause::FAILURES.len()],
}

impl Evidence {
    /// The most frequent.
    pub fn cause(&self) -> Cause {
        let causes = self.causes.iter().zip(Cause::FAILURES);
        // The first of equals.
        causes.rev().max_by_key(|(n, _)| **n).map_or(Cause::ServerError, |(_, cause)| cause)
    }

    /// "failed 14 of 15 requests in 3 s while its peers failed 0 of 42: `server_error` ×14".
    pub fn sentence(&self, now: Moment) -> String {
        let Self { own, peers, since, causes } = self;
        let took = now.since(*since).as_secs_f64();
        let took = if took < 10.0 { format!("{took:.1}") } else { format!("{took:.0}") };
        let mut by_cause: Vec<_> = causes.iter().zip(Cause::FAILURES).collect();
        by_cause.sort_by_key(|(n, _)| std::cmp::Reverse(**n));
        let happened = by_cause.iter().filter(|(n, _)| **n > 0);
        let causes: Vec<_> = happened.map(|(n, cause)| format!("{} ×{n}", cause.name())).collect();
        format!(
            "failed {} of {} requests in {took} s while its peers failed {} of {}: {}",
            own.failures,
            own.requests,
            peers.failures,
            peers.requests,
            causes.join(", ")
        )
    }
}

/// Where the counts stood when the score left zero.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    own: Count,
    others: Count,
    at: Moment,
    causes: [u32; Cause::FAILURES.len()],
}

/// What is held against one replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detector {
    score: f64,
    recent: Faded,
    ever: Count,
    mark: Mark,
    /// When the last ending was taken in.
    seen: Moment,
}

impl Detector {
    /// Takes in one ending: a failure with its cause, or a success. `pool` counts it already.
    pub fn observe(&mut self, failure: Option<Cause>, pool: &PoolCounts, now: Moment) {
        if now.since(std::mem::replace(&mut self.seen, now)) >= STALE {
            self.score = 0.0;
        }
        let before = self.ever;
        let failed = u8::from(failure.is_some());
        self.ever.requests += 1;
        self.ever.failures += u64::from(failed);
        self.recent.requests += 1.0;
        self.recent.failures += f64::from(failed);
        if self.score == 0.0 {
            let others = pool.ever.without(self.ever);
            self.mark = Mark { own: before, others, at: now, causes: [0; 4] };
        }
        if let Some(place) = Cause::FAILURES.iter().position(|cause| Some(*cause) == failure) {
            self.mark.causes[place] = self.mark.causes[place].saturating_add(1);
        }
        let step = step(self.usual(pool), failure.is_some());
        self.score = (self.score + step).clamp(0.0, SUSPECT);
    }

    /// How often the others failed lately.
    fn usual(&self, pool: &PoolCounts) -> f64 {
        let others = pool.recent.without(self.recent);
        ((others.failures + 1.0) / (others.requests + 100.0)).clamp(0.01, 0.5)
    }

    pub fn score(&self) -> f64 {
        self.score
    }

    pub fn suspect(&self) -> bool {
        self.score >= SUSPECT
    }

    /// What it did while its score rose.
    pub fn evidence(&self, pool: &PoolCounts) -> Evidence {
        Evidence {
            own: self.ever.without(self.mark.own),
            peers: pool.ever.without(self.ever).without(self.mark.others),
            since: self.mark.at,
            causes: self.mark.causes,
        }
    }

    /// The evidence, if it is a suspect and its peers did better in the same time, beyond chance.
    pub fn conviction(&self, pool: &PoolCounts) -> Option<Evidence> {
        if !self.suspect() {
            return None;
        }
        let evidence = self.evidence(pool);
        let Evidence { own, peers, .. } = evidence;
        let usual = self.usual(pool);
        let own = (own.failures as f64, own.requests as f64);
        // What they usually do counts as five requests of theirs.
        let peers = (peers.failures as f64 + 5.0 * usual, peers.requests as f64 + 5.0);
        (excess(own, peers) >= CONFIRMED).then_some(evidence)
    }

    /// Lets its rate fade, and what speaks against one that fell silent. Returns what is left of the rate.
    pub fn fade(&mut self, keeps: f64, now: Moment) -> Faded {
        if now.since(self.seen) >= STALE {
            self.score = 0.0;
        }
        self.recent.requests *= keeps;
        self.recent.failures *= keeps;
        self.recent
    }

    /// Forgets all that speaks for or against it. Returns what must leave the pool's fading sums: its peers must not be
    /// judged against it. What was counted for ever stays: others compare by differences, which would be wrong.
    pub fn forget(&mut self) -> Faded {
        let mark = Mark { own: self.ever, ..Mark::default() };
        std::mem::replace(self, Self { ever: self.ever, mark, ..Self::default() }).recent
    }
}

/// How much one ending speaks for "bad" against "as usual", as the logarithm of a likelihood ratio.
fn step(usual: f64, failed: bool) -> f64 {
    let bad = (4.0 * usual).max(0.2).min(0.5 + usual / 2.0);
    if failed { (bad / usual).ln() } else { ((1.0 - bad) / (1.0 - usual)).ln() }
}

/// How much speaks for the first rate being the higher one, against both being the same: the logarithm of the
/// generalized likelihood ratio. Both are (failures, requests). Few peers or few of their requests prove little, which
/// comparing with their rate as if it were known for sure would not see: in pools of two and three that ejected
/// equals (simulated).
fn excess(own: (f64, f64), peers: (f64, f64)) -> f64 {
    let (its, theirs) = (own.0 / own.1, peers.0 / peers.1);
    if its <= theirs {
        return 0.0;
    }
    let both = (own.0 + peers.0) / (own.1 + peers.1);
    own.1 * divergence(its, both) + peers.1 * divergence(theirs, both)
}

/// Kullback and Leibler's divergence of one rate from another.
fn divergence(p: f64, q: f64) -> f64 {
    let [p, q] = [p, q].map(|rate| rate.clamp(1e-9, 1.0 - 1e-9));
    p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln()
}

#[cfg(test)]
mod tests;
