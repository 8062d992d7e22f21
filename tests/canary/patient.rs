//! One client whose requests are open for long: it is one client, however often they are looked at meanwhile.
use crate::related::{Asked, Goes, coin, plan, roll_out, user};
use evener::canary::{CanaryPlan, State};
use rand::RngExt;

/// A twentieth of the requests are of one client, who chose its keys for the candidate's side and reads slowly.
#[test]
fn a_client_who_keeps_its_requests_open_is_no_proxy_with_many_behind_it() {
    for seed in 0..4 {
        let asks = move |rng: &mut _| {
            if coin(rng, 0.05) {
                let (key, point) = (Some(rng.random()), rng.random::<f64>() * 0.05);
                return Asked { point, key, client: 0xBAD << 32, odd: true };
            }
            user(rng.random_range(0..2000) + seed * 10_000, false)
        };
        let goes: Goes<'_> = &|asked, _, _, _, rng| {
            let takes = if asked.odd { 60.0 } else { 0.1 + rng.random::<f64>() * 0.1 };
            (coin(rng, 0.002), takes)
        };
        let steps = vec![5.0, 50.0, 100.0];
        let plan = CanaryPlan { steps, ..plan(CanaryPlan::default().checks) };
        let run = roll_out(&plan, 50.0, 60.0, seed, &asks, goes);
        assert_eq!(run.state, State::Promoted, "{} min: {}", run.minutes, run.sentence);
    }
}
