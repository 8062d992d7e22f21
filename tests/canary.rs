//! Whole roll-outs in simulated time: good candidates climb, bad ones go, bursts and bad hours of both sides do neither.
use evener::canary::{
    Arm, CanaryPlan, Check, Judged, Margin, Metric, Observation, RollOut, State, World,
};
use evener::stats::Moment;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

const WORLD: World =
    World { candidate_usable: true, candidate_load_per_weight: 0.5, stable_load_per_weight: 0.5 };

fn begin(confirm: bool) -> RollOut {
    let at_most = Margin { points: 0.005, times: 1.5 };
    let plan = CanaryPlan {
        candidate: "v2".into(),
        confirm,
        checks: vec![Check { metric: Metric::Errors, at_most }],
        ..CanaryPlan::default()
    };
    let judged = Judged { model: "m".into(), candidate: "v2".into(), upstream_model: None };
    RollOut::begin(plan, judged, "v1".into(), 0.0, Moment::ZERO).0
}

/// How a roll-out ended, after how many seconds, and how many requests of the candidate it took.
struct Ended {
    state: State,
    seconds: u64,
    candidate: u64,
}

/// `rates(second)` are the error rates of the candidate and of the others.
fn run(
    rollout: &mut RollOut,
    seed: u64,
    rps: u64,
    limit: u64,
    rates: impl Fn(u64) -> (f64, f64),
) -> Ended {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut candidate = 0;
    for second in 0..limit {
        let (bad, good) = rates(second);
        for i in 0..rps {
            let now = Moment::from_millis(second * 1000 + i * 1000 / rps);
            let is = rng.random_bool(rollout.share().clamp(0.0, 1.0));
            let (arm, rate) = if is { (Arm::Candidate, bad) } else { (Arm::Stable, good) };
            candidate += u64::from(is);
            let seen = Observation {
                arm,
                error: rng.random_bool(rate),
                client_error: false,
                bad_output: None,
                latency: None,
                first_byte: None,
                tokens: None,
            };
            rollout.observe(&seen, now);
        }
        let now = Moment::from_millis((second + 1) * 1000);
        rollout.tick(&WORLD, now);
        let state = rollout.state(now);
        if [State::Promoted, State::RolledBack, State::Undecided].contains(&state) {
            return Ended { state, seconds: second + 1, candidate };
        }
    }
    let state = rollout.state(Moment::from_millis(limit * 1000));
    Ended { state, seconds: limit, candidate }
}

#[test]
fn candidates_that_are_as_good_are_promoted_within_ten_minutes() {
    for (rate, rps) in [(0.001, 50), (0.01, 50), (0.03, 50), (0.01, 200)] {
        let mut took: Vec<u64> = (0..50)
            .map(|seed| {
                let ended = run(&mut begin(true), seed, rps, 3600, |_| (rate, rate));
                assert_eq!(ended.state, State::Promoted, "{rate} at {rps}/s, seed {seed}");
                ended.seconds
            })
            .collect();
        took.sort_unstable();
        assert!(took[25] <= 600, "{rate} at {rps}/s: {took:?} s");
    }
}

#[test]
fn ten_times_the_errors_are_found_in_some_eighty_requests() {
    let mut took: Vec<u64> = (0..101)
        .map(|seed| {
            let mut rollout = begin(false);
            let warm = Duration::from_secs(30).as_secs();
            let rates = |second| if second < warm { (0.01, 0.01) } else { (0.10, 0.01) };
            let ended = run(&mut rollout, seed, 150, 1800, rates);
            assert_eq!(ended.state, State::RolledBack, "seed {seed}");
            // What came in the warm-up was not judged.
            ended.candidate - (0.01 * 150.0 * 30.0) as u64
        })
        .collect();
    took.sort_unstable();
    assert!(took[50] <= 100, "{took:?}");
}

#[test]
fn a_dead_candidate_goes_within_forty_seconds_of_judging() {
    for seed in 0..50 {
        let ended = run(&mut begin(true), seed, 200, 600, |_| (1.0, 0.01));
        assert_eq!(ended.state, State::RolledBack);
        // After the warm-up of 30 s.
        assert!(ended.seconds <= 30 + 40, "{} s", ended.seconds);
    }
}

#[test]
fn one_outage_of_three_seconds_rolls_nothing_back_with_confirm() {
    for seed in 0..50 {
        let outage = |second| if (100..103).contains(&second) { (1.0, 0.01) } else { (0.01, 0.01) };
        let ended = run(&mut begin(true), seed, 100, 900, outage);
        assert_ne!(ended.state, State::RolledBack, "seed {seed}, after {} s", ended.seconds);
    }
}

#[test]
fn a_bad_hour_of_both_sides_speaks_against_neither() {
    for seed in 0..25 {
        let ended = run(&mut begin(true), seed, 50, 900, |_| (0.08, 0.08));
        assert_ne!(ended.state, State::RolledBack, "seed {seed}");
    }
}

#[test]
fn without_traffic_it_neither_passes_nor_fails() {
    let ended = run(&mut begin(true), 1, 0, 3600, |_| (0.0, 0.0));
    assert_eq!((ended.state, ended.candidate), (State::Collecting, 0));
}
