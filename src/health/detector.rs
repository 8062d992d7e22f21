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
}

impl Detector {
    /// Takes in one ending: a failure with its cause, or a success. `pool` counts it already.
    pub fn observe(&mut self, failure: Option<Cause>, pool: &PoolCounts, now: Moment) {
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

    /// Lets its rate fade. Returns what is left of it.
    pub fn fade(&mut self, keeps: f64) -> Faded {
        self.recent.requests *= keeps;
        self.recent.failures *= keeps;
        self.recent
    }

    /// Forgets all that speaks for or against it. Returns what must leave the pool's sums: its
    /// peers must not be judged against it.
    pub fn forget(&mut self) -> PoolCounts {
        let left = PoolCounts { recent: self.recent, ever: self.ever.without(self.mark.own) };
        *self = Self { ever: self.mark.own, ..Self::default() };
        self.mark.own = self.ever;
        left
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAILED: Option<Cause> = Some(Cause::ServerError);

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-4
    }

    /// A pool whose members are watched; no time passes.
    struct Pool {
        members: Vec<Detector>,
        counts: PoolCounts,
    }

    impl Pool {
        fn of(n: usize) -> Self {
            Self { members: vec![Detector::default(); n], counts: PoolCounts::default() }
        }

        fn end(&mut self, i: usize, failure: Option<Cause>, now: Moment) {
            let failed = u8::from(failure.is_some());
            self.counts.ever.requests += 1;
            self.counts.ever.failures += u64::from(failed);
            self.counts.recent.requests += 1.0;
            self.counts.recent.failures += f64::from(failed);
            self.members[i].observe(failure, &self.counts, now);
        }

        fn conviction(&self, i: usize) -> Option<Evidence> {
            self.members[i].conviction(&self.counts)
        }
    }

    /// The values of an independent implementation in Python.
    #[test]
    fn steps_are_the_golden_ones() {
        assert!(near(step(0.01, true), 2.99573));
        assert!(near(step(0.01, false), -0.21309));
        assert!(near(step(0.1, true), 1.38629));
        assert!(near(step(0.1, false), -0.40547));
        assert!(near(SUSPECT, 13.81551));
    }

    #[test]
    fn an_excess_weighs_both_samples() {
        assert!(near(excess((5.0, 5.0), (0.0, 15.0)), 11.2467));
        assert!(near(excess((5.0, 5.0), (0.0, 5.0)), 6.93147));
        assert!(excess((1.0, 5.0), (2.0, 5.0)) < f64::EPSILON, "it is better than they are");
    }

    #[test]
    fn five_failures_in_a_row_among_good_peers_convict() {
        let mut pool = Pool::of(3);
        for _ in 0..50 {
            pool.end(1, None, Moment::ZERO);
            pool.end(2, None, Moment::ZERO);
        }
        for failures in 1..=5 {
            pool.end(0, FAILED, Moment::from_millis(failures * 100));
            for i in [1, 2, 1, 2, 1, 2] {
                pool.end(i, None, Moment::from_millis(failures * 100));
            }
            assert_eq!(pool.members[0].suspect(), failures == 5, "{failures}");
        }
        let evidence = pool.conviction(0).unwrap();
        assert_eq!(evidence.own, Count { requests: 5, failures: 5 });
        assert_eq!(evidence.peers, Count { requests: 30, failures: 0 });
        assert_eq!(evidence.cause(), Cause::ServerError);
        let sentence =
            "failed 5 of 5 requests in 0.9 s while its peers failed 0 of 30: server_error ×5";
        assert_eq!(evidence.sentence(Moment::from_millis(1000)), sentence);
    }

    #[test]
    fn an_outage_that_all_share_convicts_nobody() {
        let mut pool = Pool::of(4);
        for i in 0..4_000 {
            pool.end(i % 4, None, Moment::ZERO);
        }
        for i in 0..4_000 {
            pool.end(i % 4, FAILED, Moment::ZERO);
            assert_eq!(pool.conviction(i % 4), None, "after {i}");
        }
    }

    #[test]
    fn one_that_was_taken_out_is_no_yardstick_for_the_others() {
        let mut pool = Pool::of(3);
        let bad = |pool: &mut Pool, i: usize, n: usize| {
            for _ in 0..n {
                pool.end(i, FAILED, Moment::ZERO);
                pool.end(2, None, Moment::ZERO);
            }
        };
        bad(&mut pool, 0, 40);
        let usual_before = pool.members[1].usual(&pool.counts);
        let left = pool.members[0].forget();
        pool.counts.ever = pool.counts.ever.without(left.ever);
        pool.counts.recent = pool.counts.recent.without(left.recent);
        assert!(usual_before > 0.2 && pool.members[1].usual(&pool.counts) < 0.011);
        bad(&mut pool, 1, 10);
        assert_eq!(pool.conviction(1).unwrap().peers.failures, 0);
    }

    proptest! {
        #[test]
        fn the_score_stays_in_its_bounds_whatever_happens(
            ends in prop::collection::vec((0_usize..3, any::<bool>(), 0_u8..20), 0..400),
        ) {
            let mut pool = Pool::of(3);
            for (i, failed, what) in ends {
                match what {
                    0 => {
                        let left = pool.members[i].forget();
                        pool.counts.ever = pool.counts.ever.without(left.ever);
                        pool.counts.recent = pool.counts.recent.without(left.recent);
                        prop_assert!(pool.members[i].score() == 0.0);
                    }
                    1 => {
                        // The pool's sums may come from another moment than its own.
                        pool.counts.ever.requests = pool.counts.ever.requests.saturating_sub(7);
                        pool.members[i].fade(0.5);
                    }
                    _ => pool.end(i, failed.then_some(Cause::Timeout), Moment::ZERO),
                }
                let score = pool.members[i].score();
                prop_assert!((0.0..=SUSPECT).contains(&score), "{score}");
                let _ = pool.conviction(i);
            }
        }

        #[test]
        fn nobody_is_convicted_who_fails_no_more_than_its_peers(n in 1_u64..2_000) {
            let mut pool = Pool::of(2);
            for _ in 0..n {
                pool.end(0, FAILED, Moment::ZERO);
                pool.end(1, FAILED, Moment::ZERO);
            }
            prop_assert_eq!(pool.conviction(0), None);
        }
    }
}
