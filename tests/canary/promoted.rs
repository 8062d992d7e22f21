//! What is promoted, and what that says: not who has just died, whatever one client does, and with the truth about it.
use crate::errors_only;
use crate::related::{Asked, Goes, anybody, coin, plan, roll_out, user};
use evener::canary::{Arm, CanaryPlan, State};

#[test]
fn who_has_just_died_is_not_promoted() {
    for seed in 0..4 {
        let run = |dies: f64| {
            let goes: Goes<'_> = &|_, arm, at, _, rng| {
                let usual = coin(rng, 0.001);
                (usual || arm == Arm::Candidate && at >= dies, 0.1)
            };
            roll_out(&plan(errors_only().checks), 50.0, 20.0, seed, &anybody, goes)
        };
        let good = run(f64::INFINITY);
        assert_eq!(good.state, State::Promoted);
        let end = good.minutes * 60.0;
        for before in [1.0, 2.0, 5.0] {
            let run = run(end - before);
            assert_ne!(run.state, State::Promoted, "dead {before} s before: {}", run.sentence);
        }
    }
}

#[test]
fn one_user_who_always_fails_is_no_outage_of_the_stable_side() {
    for seed in 0..4 {
        let asks = |rng: &mut _| {
            if coin(rng, 0.15) {
                return Asked { point: 0.99, ..user(7, true) };
            }
            Asked { odd: false, ..anybody(rng) }
        };
        let goes: Goes<'_> = &|asked, _, _, _, rng| (asked.odd || coin(rng, 0.002), 0.1);
        let run = roll_out(&plan(errors_only().checks), 50.0, 60.0, seed, &asks, goes);
        assert_eq!(run.state, State::Promoted, "{}", run.sentence);
    }
}

#[test]
fn a_promotion_says_that_failures_were_of_one_client() {
    let asks = |rng: &mut _| {
        if coin(rng, 0.01) {
            return Asked { point: 0.001, ..user(7, true) };
        }
        Asked { odd: false, ..anybody(rng) }
    };
    let goes: Goes<'_> =
        &|asked, arm, _, _, rng| (asked.odd && arm == Arm::Candidate || coin(rng, 0.0002), 0.1);
    let plan = CanaryPlan { adapts: true, ..plan(errors_only().checks) };
    let run = roll_out(&plan, 50.0, 120.0, 1, &asks, goes);
    assert_eq!(run.state, State::Promoted, "{}", run.sentence);
    let said = "hits of errors are of one client: that is not counted as the version's";
    assert!(run.sentence.contains(said), "{}", run.sentence);
}
