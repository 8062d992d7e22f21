//! The score and the second question, in pools whose time stands still.
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

    fn forget(&mut self, i: usize) {
        let left = self.members[i].forget();
        self.counts.recent = self.counts.recent.without(left);
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
    pool.forget(0);
    assert!(usual_before > 0.2 && pool.members[1].usual(&pool.counts) < 0.011);
    bad(&mut pool, 1, 10);
    assert_eq!(pool.conviction(1).unwrap().peers.failures, 0);
}

/// Of three that fail alike, one is taken out: for the others that is no proof of their guilt.
#[test]
fn what_a_peer_did_before_it_was_taken_out_still_counts() {
    let mut pool = Pool::of(3);
    for _ in 0..30 {
        pool.end(0, FAILED, Moment::ZERO);
    }
    pool.end(1, FAILED, Moment::ZERO);
    for _ in 0..30 {
        pool.end(0, FAILED, Moment::ZERO);
    }
    let before = pool.members[1].evidence(&pool.counts).peers;
    pool.forget(0);
    assert_eq!(before, Count { requests: 30, failures: 30 });
    assert_eq!(pool.members[1].evidence(&pool.counts).peers, before);
}

#[test]
fn failures_from_before_a_long_silence_are_no_evidence() {
    let mut pool = Pool::of(3);
    for _ in 0..4 {
        pool.end(0, FAILED, Moment::ZERO);
    }
    for i in 0..10_000 {
        pool.end(1 + i % 2, None, Moment::from_millis(30_000));
    }
    pool.end(0, FAILED, Moment::from_millis(60_000));
    assert!(!pool.members[0].suspect());
    assert_eq!(pool.members[0].evidence(&pool.counts).own, Count { requests: 1, failures: 1 });
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
                    pool.forget(i);
                    prop_assert!(pool.members[i].score() == 0.0);
                }
                1 => {
                    // The pool's sums may come from another moment than its own.
                    pool.counts.ever.requests = pool.counts.ever.requests.saturating_sub(7);
                    pool.members[i].fade(0.5, Moment::ZERO);
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
