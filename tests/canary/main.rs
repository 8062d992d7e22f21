//! Whole roll-outs, simulated: how often a good candidate is sent back, how soon a bad one is found.
#![expect(clippy::print_stdout, reason = "what was measured is worth reading")]

mod arrivals;
mod in_vain;
mod promoted;
mod queues;
mod related;
mod speed;

use evener::canary::{
    Arm, Block, CanaryPlan, Check, Effect, Harm, Judged, Load, Margin, Metric, Observation,
    Occasion, RollOut, State, World,
};
use evener::stats::Moment;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

type Rates = Box<dyn Fn(f64) -> [f64; 2]>;

const LOAD: Load = Load { weight: 1.0, share: 0.5 };
const GOOD: World = World { candidate_usable: true, candidate: LOAD, stable: LOAD };
/// Roll-outs of a cell. With 1000 it takes minutes, and prints the table of src/README.md.
#[expect(clippy::disallowed_methods, reason = "the size of a test is given by whoever starts it")]
fn runs() -> u64 {
    std::env::var("EVENER_ROLL_OUTS").map_or(40, |n| n.parse().expect("a number of roll-outs"))
}

fn errors_only() -> CanaryPlan {
    let errors = Check { metric: Metric::Errors, at_most: Margin { points: 0.005, times: 1.5 } };
    let checks = vec![errors];
    CanaryPlan { candidate: "v2".into(), checks, adapts: false, ..CanaryPlan::default() }
}

fn judged() -> Judged {
    Judged { model: "chat".into(), candidate: "v2".into(), upstream_model: None }
}

/// How the requests of a simulation go.
struct Traffic {
    rps: f64,
    /// The chance of an error at a second: candidate, stable.
    fails: Rates,
    rng: Xoshiro256PlusPlus,
    /// Of the candidate, not yet sent: assignment is spread evenly, as the proxy does it.
    due: f64,
}

/// What a simulated roll-out came to.
#[derive(Debug)]
struct Outcome {
    state: State,
    seconds: f64,
    candidate: u64,
    failing: bool,
    /// Would a z-test at 1 %, looked at each minute, have rolled it back?
    z_test: bool,
}

impl Traffic {
    fn new(rps: f64, seed: u64, fails: impl Fn(f64) -> [f64; 2] + 'static) -> Self {
        Self { rps, fails: Box::new(fails), rng: Xoshiro256PlusPlus::seed_from_u64(seed), due: 0.0 }
    }

    /// One request: the candidate's turn comes at random, its share of 128 in a row is nearly exact.
    fn arm(&mut self, share: f64) -> Arm {
        self.due += share;
        let turn = self.due - self.rng.random::<f64>() > 0.0 && self.due > 0.0;
        if turn {
            self.due -= 1.0;
            return Arm::Candidate;
        }
        Arm::Stable
    }

    /// A tenth of a second at a time, a tick each second; `each` sees every request of the candidate.
    fn run(&mut self, plan: &CanaryPlan, file: f64, longest: f64) -> Outcome {
        let (mut roll_out, effects) =
            RollOut::begin(plan.clone(), judged(), "v1".into(), file, Moment::ZERO);
        assert_eq!(effects[0], Effect::SetShare(roll_out.share()));
        let (mut sent, mut candidate, mut failing, mut z_test) = (0_u64, 0, false, false);
        let mut second = 0_u64;
        loop {
            let due = ((second + 1) as f64 * self.rps) as u64;
            let [pc, pb] = (self.fails)(second as f64);
            while sent < due {
                let now = Moment::from_nanos((sent as f64 / self.rps * 1e9) as u64);
                let arm = self.arm(roll_out.share());
                let chance = if arm == Arm::Candidate { pc } else { pb };
                candidate += u64::from(arm == Arm::Candidate);
                let error = self.rng.random::<f64>() < chance;
                roll_out.observe(&Observation::of(arm, error, now), now);
                sent += 1;
            }
            second += 1;
            let now = Moment::from_millis(second * 1000);
            let effects = roll_out.tick(&GOOD, now);
            failing |= effects.iter().any(|effect| {
                matches!(effect, Effect::Announce { occasion: Occasion::Failing, .. })
            });
            z_test |= second.is_multiple_of(60) && z_rejects(&roll_out);
            let over = effects.iter().any(|effect| matches!(effect, Effect::Finished(_)));
            if over || second as f64 >= longest {
                let state = roll_out.state(now);
                return Outcome { state, seconds: second as f64, candidate, failing, z_test };
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What peeking at a classical test does: one-sided, at 1 %.
fn z_rejects(roll_out: &RollOut) -> bool {
    let check = &roll_out.checks()[0];
    let (c, b) = (check.candidate, check.stable);
    let (Some(pc), Some(pb)) = (c.rate(), b.rate()) else { return false };
    let (nc, nb) = (c.requests as f64, b.requests as f64);
    let p = (c.hits + b.hits) as f64 / (nc + nb);
    let deviation = (p * (1.0 - p) * (1.0 / nc + 1.0 / nb)).sqrt();
    nc > 30.0 && deviation > 0.0 && pc - pb > 2.326 * deviation
}

/// What the roll-outs of a cell came to.
struct Cell {
    back: u64,
    promoted: u64,
    by_z: u64,
    minutes: f64,
}

/// Both versions fail at the rate `p`.
fn equal_versions(p: f64, rps: f64, runs: u64) -> Cell {
    let ends: Vec<Outcome> = (0..runs)
        .map(|seed| Traffic::new(rps, seed, move |_| [p; 2]).run(&errors_only(), 0.01, 7200.0))
        .collect();
    let count = |state| ends.iter().filter(|end| end.state == state).count() as u64;
    Cell {
        back: count(State::RolledBack),
        promoted: count(State::Promoted),
        by_z: ends.iter().filter(|end| end.z_test).count() as u64,
        minutes: median(ends.iter().map(|end| end.seconds / 60.0).collect()),
    }
}

/// Good candidates go back in 1 % at most, and are promoted in ten minutes. Looking at a z-test each minute does worse.
fn good_candidates_are_promoted(rps: f64) {
    let (mut zs, runs) = (0, runs());
    for p in [0.001, 0.01, 0.03] {
        let Cell { back, promoted, by_z, minutes } = equal_versions(p, rps, runs);
        let percent = p * 100.0;
        println!("| {percent} % | {rps} | {promoted} | {back} | {minutes:.1} min | {by_z} |");
        assert!(back * 100 <= runs, "{back} of {runs} good candidates rolled back");
        assert_eq!(promoted + back, runs);
        assert!(minutes <= 10.0, "{minutes} min");
        zs += by_z;
    }
    assert!(zs * 100 > 3 * 3 * runs, "peeking at a z-test should fail the bound: {zs}");
}

#[test]
fn equal_versions_at_50_a_second_are_promoted_in_ten_minutes() {
    good_candidates_are_promoted(50.0);
}

#[test]
fn equal_versions_at_200_a_second_are_promoted_in_ten_minutes() {
    good_candidates_are_promoted(200.0);
}

/// On the edge of the claim evidence reaches 1/α at any look with a chance of α at most.
#[test]
fn the_null_boundary_is_crossed_as_seldom_as_promised() {
    const ALPHA: f64 = 0.05;
    for (pb, margin, beside) in
        [(0.02, 0.0, 19_u32), (0.02, 0.01, 19), (0.001, 0.005, 19), (0.05, 0.0, 1), (0.5, 0.0, 19)]
    {
        let runs = 150;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let crossed = (0..runs).filter(|_| {
            let mut harm = Harm::keeping(0.1);
            let (mut seen_hits, mut seen) = (0.5, 50.0);
            (0..1500).any(|n| {
                if n % 15 == 0 {
                    harm.raise(0.01);
                }
                let hit = f64::from(u8::from(rng.random::<f64>() < pb + margin));
                let hits = (0..beside).filter(|_| rng.random::<f64>() < pb).count() as f64;
                let block = Block::new(hit, 1.0, hits, f64::from(beside));
                harm.add(&block, seen_hits / seen, margin);
                (seen_hits, seen) = (seen_hits + hits, seen + f64::from(beside));
                harm.log() >= -ALPHA.ln()
            })
        });
        let crossed = crossed.count();
        println!("on the edge of {pb} + {margin}: {crossed} of {runs} crossed, {ALPHA} allowed");
        assert!(crossed as f64 <= ALPHA * f64::from(runs), "{crossed} of {runs}");
    }
}

/// Errors and three percentiles, as in the simulations that chose the method; at once, so that the finding counts.
fn at_once(percent: f64) -> CanaryPlan {
    let slow = |metric| Check { metric, at_most: Margin { points: 0.0, times: 1.1 } };
    let mut checks = errors_only().checks;
    checks.extend([50, 95, 99].map(|p| slow(Metric::Latency(p))));
    let steps = vec![percent, 100.0];
    let (hold, warmup) = (Duration::from_hours(1), Duration::ZERO);
    CanaryPlan { checks, steps, hold, warmup, confirm: false, ..errors_only() }
}

#[test]
fn more_errors_are_found_in_few_requests() {
    // The last is as soon as three failures and the tick after them allow. Medians of few runs are off by a third.
    for (pb, pc, most, runs) in
        [(0.01, 0.10, 80.0, 401), (0.01, 0.03, 1500.0, 61), (0.001, 1.0, 10.0, 61)]
    {
        let found = (0..runs).map(|seed| {
            let mut traffic = Traffic::new(100.0, 1000 + seed, move |_| [pc, pb]);
            let end = traffic.run(&at_once(5.0), 0.05, 3600.0);
            assert_eq!(end.state, State::RolledBack, "{end:?}");
            end.candidate as f64
        });
        let found = median(found.collect());
        println!("{pb} to {pc}: found after {found} requests of the candidate, {most} allowed");
        assert!(found <= most);
    }
}

/// One 3 s outage of the candidate's only replica, while each of nine others has none.
#[test]
fn an_outage_of_three_seconds_rolls_nothing_back() {
    let mut kept_back = 0;
    for seed in 0..40 {
        let at = 40.0 + 12.0 * seed as f64;
        let fails = move |t: f64| [if t >= at && t < at + 3.0 { 1.0 } else { 0.001 }, 0.001];
        let end = Traffic::new(100.0, seed, fails).run(&errors_only(), 0.01, 7200.0);
        assert_eq!(end.state, State::Promoted, "an outage at {at} s: {end:?}");
        kept_back += u32::from(end.failing);
    }
    println!("3 s outages: 40 of 40 promoted in the end, {kept_back} kept back for a while");
    assert!(kept_back > 10);
}

/// Seconds from the death of a candidate to its end: all, sorted.
fn dead(rps: f64, died: impl Fn(u64) -> f64) -> Vec<f64> {
    let each = (0..21).map(|seed| {
        let died = died(seed);
        let fails = move |t| [if t >= died { 1.0 } else { 0.001 }, 0.001];
        let end = Traffic::new(rps, seed, fails).run(&errors_only(), 0.01, 3600.0);
        assert_eq!(end.state, State::RolledBack);
        end.seconds - died
    });
    let mut took: Vec<f64> = each.collect();
    took.sort_unstable_by(f64::total_cmp);
    took
}

/// 30 s of it are the window of a burst. One that was good for up to eight minutes takes no longer.
#[test]
fn a_dead_candidate_is_rolled_back_in_forty_seconds() {
    for rps in [50.0, 200.0] {
        let at_once = dead(rps, |_| 30.0);
        let late = dead(rps, |seed| 60.0 + 20.0 * seed as f64);
        println!(
            "dead at {rps}/s: back after {:.0} s, {:.0} at most; one that was good before: {:.0} s, {:.0} at most",
            at_once[10], at_once[20], late[10], late[20]
        );
        assert!(at_once[20] <= 40.0 && late[20] <= 40.0);
    }
}
