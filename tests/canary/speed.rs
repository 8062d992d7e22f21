//! How long requests take: a slow candidate is found, one on too few replicas is not called slow, and clients who leave
//! hide nothing.
use crate::{GOOD, at_once, judged, median};
use evener::canary::{
    Arm, CanaryPlan, Check, Ended, Load, Margin, Metric, Observation, RollOut, State, World,
};
use evener::stats::Moment;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Lognormal with a median of 1 and this deviation.
pub(crate) fn lognormal(rng: &mut Xoshiro256PlusPlus, deviation: f64) -> f64 {
    let (a, b): (f64, f64) = (rng.random(), rng.random());
    let normal = (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    (deviation * normal).exp()
}

/// Ten minutes of 100 requests a second, 5 in 100 the candidate's. What each came to: how long it takes, and for how
/// long its client waits.
fn ten_minutes(
    plan: CanaryPlan,
    world: World,
    mut request: impl FnMut(Arm, f64) -> (f64, f64),
) -> (RollOut, u64, Moment) {
    let mut roll_out = RollOut::begin(plan, judged(), "v1".into(), 0.05, Moment::ZERO).0;
    roll_out.tick(&world, Moment::ZERO);
    let mut candidate = 0;
    for n in 0..60_000_u64 {
        let now = Moment::from_millis(n * 10);
        let arm = if n % 20 == 7 { Arm::Candidate } else { Arm::Stable };
        candidate += u64::from(arm == Arm::Candidate);
        let (takes, patience) = request(arm, n as f64 / 100.0);
        let waited = Duration::from_secs_f64(takes.min(patience));
        let left = patience < takes;
        let ended = if left { Ended::Cancelled } else { Ended::Seen };
        let first_byte = (!left).then_some(waited);
        let usual = Observation::of(arm, false, now);
        let seen = Observation { ended, latency: Some(waited), first_byte, ..usual };
        roll_out.observe(&seen, now);
        if n % 100 == 0 {
            roll_out.tick(&world, now);
        }
        if !roll_out.is_live() {
            return (roll_out, candidate, now);
        }
    }
    (roll_out, candidate, Moment::from_millis(600_000))
}

/// Latencies of both sides, with a deviation of 0.8; the candidate's are `times` as long.
fn slow(times: f64, seed: u64, world: World) -> (RollOut, u64, Moment) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    ten_minutes(at_once(5.0), world, move |arm, _| {
        let longer = if arm == Arm::Candidate { times } else { 1.0 };
        (0.1 * longer * lognormal(&mut rng, 0.8), f64::INFINITY)
    })
}

#[test]
fn a_candidate_that_is_a_third_slower_is_found_in_few_requests() {
    let found = (0..11).map(|seed| {
        let (roll_out, candidate, now) = slow(1.3, seed, GOOD);
        assert_eq!(roll_out.state(now), State::RolledBack, "{}", roll_out.sentence(now));
        candidate as f64
    });
    let found = median(found.collect());
    println!("1.3 times as slow: found after {found} requests of the candidate, 700 allowed");
    assert!(found <= 700.0);
}

#[test]
fn a_candidate_on_too_few_replicas_is_not_called_slow() {
    let candidate = Load { weight: 1.0, share: 0.5 };
    let stable = Load { weight: 3.0, share: 0.5 };
    let (roll_out, _, now) = slow(3.0, 1, World { candidate, stable, ..GOOD });
    assert!(roll_out.is_live());
    let sentence = roll_out.sentence(now);
    assert!(sentence.contains("Latency is not comparable"), "{sentence}");
    assert!(roll_out.checks()[1].note.is_some());
}

/// After two minutes it answers nobody, and nobody waits long enough for a timeout.
#[test]
fn a_candidate_that_hangs_for_longer_than_clients_wait_is_found() {
    let plan = CanaryPlan { checks: Check::usual(), ..at_once(5.0) };
    let took = (0..11).map(|seed| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (roll_out, _, now) = ten_minutes(plan.clone(), GOOD, |arm, second| {
            let hangs = arm == Arm::Candidate && second >= 120.0;
            let takes = if hangs { f64::INFINITY } else { 0.1 * lognormal(&mut rng, 0.8) };
            (takes, 2.0 * lognormal(&mut rng, 0.5))
        });
        let sentence = roll_out.sentence(now);
        assert_eq!(roll_out.state(now), State::RolledBack, "{sentence}");
        let left = sentence.contains("of them waits until the client left");
        assert!(left || sentence.contains("the first_byte_p95 of v1"), "{sentence}");
        now.as_secs_f64() - 120.0
    });
    let took = median(took.collect());
    println!("hangs for longer than clients wait: found after {took} s at 5 requests a second");
    assert!(took <= 20.0);
}

/// On the edge of the claim, clients of both sides leave as they please: hits and misses stay as likely on both.
#[test]
fn clients_who_leave_raise_no_false_alarm() {
    const ALPHA: f64 = 0.05;
    for (percent, patience) in [(50, 0.15), (95, 0.3), (95, 1.0)] {
        let equal = Margin { points: 0.0, times: 1.0 };
        let checks = vec![Check { metric: Metric::Latency(percent), at_most: equal }];
        let plan = CanaryPlan { checks, false_alarm: ALPHA, ..at_once(5.0) };
        let runs = 60;
        let crossed = (0..runs).filter(|seed| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(*seed);
            let (roll_out, ..) = ten_minutes(plan.clone(), GOOD, |_, _| {
                (0.1 * lognormal(&mut rng, 0.8), patience * lognormal(&mut rng, 0.5))
            });
            !roll_out.is_live()
        });
        let crossed = crossed.count();
        println!("p{percent}, patience {patience} s: {crossed} of {runs} crossed, {ALPHA} allowed");
        assert!(crossed as f64 <= ALPHA * runs as f64);
    }
}
