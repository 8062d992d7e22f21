//! The score and the second question, in pools whose time stands still.
use super::score::excess;
use super::*;
use proptest::prelude::*;

mod alike;

const FAILED: Option<Cause> = Some(Cause::ServerError);

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-4
}

fn reading(failure: Option<Cause>, began: Moment) -> Reading {
    Reading {
        failure,
        began,
        path: PathClass::OTHER,
        full: false,
        released: 0,
        beside: Count::default(),
    }
}

/// A pool whose members are watched; no time passes.
struct Pool {
    members: Vec<Detector>,
    counts: PoolCounts,
    seconds: Seconds,
}

impl Pool {
    fn of(n: usize) -> Self {
        let replicas = u32::try_from(n).unwrap();
        let counts = PoolCounts { replicas, ..PoolCounts::default() };
        Self { members: vec![Detector::default(); n], counts, seconds: Seconds::default() }
    }

    fn end(&mut self, i: usize, failure: Option<Cause>, now: Moment) {
        self.end_of(i, failure, now, now);
    }

    fn end_of(&mut self, i: usize, failure: Option<Cause>, began: Moment, now: Moment) {
        let failed = u8::from(failure.is_some());
        self.counts.ever.requests += 1;
        self.counts.ever.failures += u64::from(failed);
        self.counts.recent.requests += 1.0;
        self.counts.recent.failures += f64::from(failed);
        self.seconds.add(1, failure.is_some(), began);
        let beside = self.seconds.of(began);
        let reading = Reading { beside, ..reading(failure, began) };
        self.members[i].observe(&reading, &self.counts, now);
    }

    fn forget(&mut self, i: usize) {
        let left = self.members[i].forget();
        self.counts.recent = self.counts.recent.without(left);
    }

    fn conviction(&self, i: usize) -> Option<Evidence> {
        self.members[i].conviction(
            &self.counts,
            |began| self.seconds.of(began),
            self.members[i].seen,
        )
    }
}

/// The values of an independent implementation in Python.
#[test]
fn steps_are_the_golden_ones() {
    for (rule, usual, failed, step) in [
        (&QUICK, 0.01, true, 2.99573),
        (&QUICK, 0.01, false, -0.21309),
        (&QUICK, 0.1, true, 1.38629),
        (&QUICK, 0.1, false, -0.40547),
        (&SLOW, 0.01, true, 1.60944),
        (&SLOW, 0.01, false, -0.04124),
        (&SLOW, 0.1, true, std::f64::consts::LN_2),
        (&SLOW, 0.1, false, -0.11778),
    ] {
        assert!(near(rule.step(usual, failed), step), "{usual} {failed}");
    }
    assert!(near(QUICK.bar, 1e6_f64.ln()) && near(SLOW.bar, 1e8_f64.ln()));
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
    assert_eq!(evidence.sentence(None, Moment::from_millis(1000)), sentence);
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
    let bad = |pool: &mut Pool, i: usize, n: usize, now: Moment| {
        for _ in 0..n {
            pool.end(i, FAILED, now);
            pool.end(2, None, now);
        }
    };
    bad(&mut pool, 0, 40, Moment::ZERO);
    let usual_before = pool.members[1].usual(&pool.counts);
    pool.forget(0);
    assert!(usual_before > 0.2 && pool.members[1].usual(&pool.counts) < 0.011);
    // What both did with requests of one second stays.
    bad(&mut pool, 1, 10, Moment::from_millis(1_000));
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
    let peers = |pool: &Pool| pool.members[1].peers_since(&pool.counts, Moment::ZERO);
    let before = peers(&pool);
    pool.forget(0);
    assert_eq!(before, (30.0, 30.0));
    assert_eq!(peers(&pool), before);
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
    pool.end(0, FAILED, Moment::from_millis(300_000));
    assert!(!pool.members[0].suspect());
    assert!(near(pool.members[0].quick.level, QUICK.step(0.01, true)));
}

/// One of ten that is asked every other minute: silence is no sign of anything where all are asked seldom.
#[test]
fn a_dead_one_that_is_seldom_asked_is_found_within_ten_requests() {
    for minutes in [2, 10, 60] {
        let mut pool = Pool::of(10);
        let mut failures = 0;
        while pool.conviction(0).is_none() {
            failures += 1;
            let now = Moment::from_millis(failures * minutes * 60_000);
            // What fades by the tick: one of each peer in the last minute of each round.
            pool.counts.recent = Faded { requests: 9.0, failures: 0.0 };
            pool.members[0].recent = Faded::default();
            for i in 1..10 {
                pool.end(i, None, now);
            }
            pool.end(0, FAILED, now);
            pool.members[0].fade(1.0, &pool.counts, now);
            assert!(failures <= 10, "{minutes}");
        }
        let evidence = pool.conviction(0).unwrap();
        assert_eq!((evidence.own.failures, evidence.own.requests), (failures, failures));
    }
}

/// Peers that went on in the meantime say nothing of the time in which it was asked.
#[test]
fn a_shared_outage_after_a_silence_convicts_nobody() {
    let mut pool = Pool::of(3);
    for _ in 0..3 {
        pool.end(0, FAILED, Moment::ZERO);
    }
    for i in 0..40 {
        pool.end(1 + i % 2, None, Moment::from_millis(60_000));
    }
    let now = Moment::from_millis(240_000);
    pool.counts.recent = Faded::default();
    for i in 0..300 {
        pool.end(i % 3, FAILED, now);
        assert_eq!(pool.conviction(0), None, "after {i}");
    }
}

/// Of requests that take long, only those that fail end late: they stand where they began.
#[test]
fn a_slow_failure_comes_before_what_began_later() {
    let mut pool = Pool::of(2);
    let at = Moment::from_millis;
    for i in 0..200 {
        pool.end(1, None, at(i * 10));
        pool.end(0, None, at(i * 10));
    }
    let mut late = |began: u64, now: u64| {
        pool.counts.ever.requests += 1;
        pool.counts.ever.failures += 1;
        let reading = reading(Some(Cause::Timeout), at(began));
        pool.members[0].observe(&reading, &pool.counts, at(now));
        pool.members[0].quick.level
    };
    // Twenty that began after it went well.
    assert!(late(1_790, 2_000) < 1e-9);
    // None did after this one.
    assert!(near(late(1_990, 2_100), QUICK.step(0.01, true)));
}

/// A third of a second of each five: too little for who looks for 20 %.
#[test]
fn what_comes_now_and_then_is_found_by_the_longer_memory() {
    let mut pool = Pool::of(3);
    let mut requests = 0;
    while pool.conviction(0).is_none() {
        let now = Moment::from_millis(requests * 100);
        let failure = if requests % 50 < 3 { FAILED } else { None };
        pool.end(0, failure, now);
        for i in [1, 2, 1, 2] {
            pool.end(i, None, now);
        }
        requests += 1;
        assert!(requests < 1_000, "a hundred seconds");
    }
    assert!(!pool.members[0].quick.level.ge(&QUICK.bar) && requests > 50);
}

#[test]
fn the_only_path_that_fails_is_named() {
    let mut pool = Pool::of(2);
    let now = Moment::from_millis(100);
    for i in 0..12 {
        pool.end(1, None, now);
        let (failure, place) = if i % 2 == 0 { (FAILED, 3) } else { (None, 1) };
        pool.counts.ever.requests += 1;
        pool.counts.ever.failures += u64::from(failure.is_some());
        let path = PathClass::new(place);
        let reading = Reading { path, ..reading(failure, now) };
        pool.members[0].observe(&reading, &pool.counts, now);
    }
    let evidence = pool.members[0].quick.evidence((0.0, 0.0));
    assert_eq!(evidence.only_on, Some(PathClass::new(3)));
    let sentence = evidence.sentence(Some("/v1/embeddings"), now);
    assert!(sentence.ends_with(": server_error ×6, only on /v1/embeddings"), "{sentence}");
    let reading = reading(FAILED, now);
    pool.members[0].observe(&reading, &pool.counts, now);
    assert_eq!(pool.members[0].quick.evidence((0.0, 0.0)).only_on, None);
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
                    prop_assert!(!pool.members[i].is_raised());
                }
                1 => {
                    // The pool's sums may come from another moment than its own.
                    pool.counts.ever.requests = pool.counts.ever.requests.saturating_sub(7);
                    pool.members[i].fade(0.5, &pool.counts, Moment::ZERO);
                }
                _ => pool.end(i, failed.then_some(Cause::Timeout), Moment::ZERO),
            }
            let Detector { quick, slow, .. } = &pool.members[i];
            prop_assert!((0.0..=QUICK.bar).contains(&quick.level), "{}", quick.level);
            prop_assert!((0.0..=SLOW.bar).contains(&slow.level), "{}", slow.level);
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
