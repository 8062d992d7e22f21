//! A candidate that fails always for a part of the users, and well serves all others, who come back each minute.
use crate::errors_only;
use crate::related::{plan, roll_out, user};
use evener::canary::{Arm, State};
use rand::RngExt as _;

/// Of a thousand users those whose number ends so fail always, on the candidate's side or on both.
fn with_users_who_fail(each: u64, on_both: bool, seed: u64) -> crate::related::Run {
    roll_out(
        &plan(errors_only().checks),
        50.0,
        120.0,
        seed,
        &|rng| {
            let n = (1000.0 * rng.random::<f64>().powi(2)) as u64;
            user(n + 10_000 * seed, n % each == 7)
        },
        &|asked, arm, _, _, rng| {
            let fails = asked.odd && (on_both || arm == Arm::Candidate);
            (fails || rng.random::<f64>() < 0.001, 0.1)
        },
    )
}

#[test]
fn one_that_fails_for_one_user_in_twenty_is_rolled_back() {
    let runs: Vec<_> = (0..6).map(|seed| with_users_who_fail(20, false, seed)).collect();
    let ends: Vec<_> = runs.iter().map(|run| (run.state, &run.sentence)).collect();
    let count = |state| ends.iter().filter(|(end, _)| *end == state).count();
    // What few keys say within seconds is kept at the first step for long.
    assert!(count(State::RolledBack) >= 4 && count(State::Promoted) == 0, "{ends:#?}");
}

#[test]
fn users_who_fail_on_both_sides_keep_no_candidate_back() {
    for seed in 0..4 {
        let run = with_users_who_fail(50, true, seed);
        assert_eq!(run.state, State::Promoted, "{seed}: {}", run.sentence);
        assert!(run.sentence.contains("that it fails for"), "{}", run.sentence);
        assert!(run.sentence.contains("sticky keys"), "{}", run.sentence);
    }
}
