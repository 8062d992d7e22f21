//! Ejection at work: the real control core, fleet and policies, with simulated time and replicas that fail by chance.
//!
//! Nothing sleeps, and each scenario is a seed: what the issue promises is checked over many of them.
#![expect(clippy::unwrap_used, reason = "what drives the simulation is test code too")]
#![expect(clippy::print_stderr, reason = "what was measured, for `--nocapture`")]
mod alike;
mod life;
mod scenarios;
mod simulation;
mod world;

use crate::simulation::Simulation;
use evener::control::Ruling;
use evener::health::Standing;
use std::time::Duration;

fn never(_: &Simulation) -> bool {
    false
}

#[test]
fn equal_replicas_are_never_ejected_in_an_hour_however_often_they_fail() {
    for (n, rate) in [(5, 0.001), (3, 0.01), (3, 0.05), (2, 0.2), (2, 0.5), (3, 0.5), (5, 0.5)] {
        let mut simulation = Simulation::of(n, "", 7);
        simulation.run(20.0, 3_600.0, &|_, _| rate, never);
        eprintln!("{n} at {rate}: {} requests, {} failed", simulation.sent, simulation.failed);
        assert!(simulation.rulings.is_empty(), "{n} at {rate}: {:?}", simulation.rulings);
    }
}

#[test]
fn one_of_four_that_always_fails_costs_few_requests() {
    let mut worst = 0;
    for seed in 0..50 {
        let mut simulation = Simulation::of(4, "", seed);
        simulation.run(100.0, 20.0, &|_, _| 0.0, never);
        let fails = |i, _| f64::from(u8::from(i == 0));
        simulation.run(100.0, 60.0, &fails, |s| !s.ejections().is_empty());
        assert_eq!(simulation.ejections().len(), 1, "{seed}");
        worst = worst.max(simulation.failed);
    }
    eprintln!("at most {worst} failed");
    assert!(worst <= 8, "{worst}");
}

#[test]
fn one_of_five_that_fails_three_times_in_ten_is_out_within_seconds() {
    let mut times = Vec::new();
    for seed in 0..50 {
        let mut simulation = Simulation::of(5, "", seed);
        let fails = |i, _| if i == 0 { 0.3 } else { 0.001 };
        simulation.run(100.0, 60.0, &fails, |s| !s.ejections().is_empty());
        let (at, who) = simulation.ejections()[0];
        assert_eq!(who, 0, "{seed}");
        times.push(at);
    }
    times.sort_by(f64::total_cmp);
    eprintln!("median {:.1} s, worst {:.1} s", times[25], times[49]);
    assert!(times[25] < 4.0 && times[49] < 8.0, "{times:?}");
}

#[test]
fn a_shared_outage_ejects_one_of_ten_at_most_and_the_one_that_is_worse() {
    let mut ejected = Vec::new();
    for seed in 0..200 {
        let mut simulation = Simulation::of(10, "", seed);
        let fails = |_, at| if at > 10.0 { 0.5 } else { 0.001 };
        simulation.run(100.0, 40.0, &fails, never);
        ejected.push(simulation.ejections().len());
    }
    ejected.sort_unstable();
    eprintln!("ejected: median {}, most {}", ejected[100], ejected[199]);
    assert!(ejected[100] <= 1 && ejected[199] <= 2, "{ejected:?}");
    for seed in 0..20 {
        let mut simulation = Simulation::of(10, "", seed);
        let fails = |i, at| match (i, at > 10.0) {
            (0, true) => 1.0,
            (_, true) => 0.5,
            (_, false) => 0.001,
        };
        simulation.run(100.0, 300.0, &fails, |s| s.ejections().iter().any(|(_, i)| *i == 0));
        assert!(simulation.ejections().iter().any(|(_, i)| *i == 0), "{seed}");
    }
}

#[test]
fn with_three_of_four_failing_two_go_and_all_come_back() {
    let mut slowest: f64 = 0.0;
    for seed in 0..20 {
        let mut simulation = Simulation::of(4, ", ejection: {for: 1s}", seed);
        let fails = |i, at| f64::from(u8::from(i > 0 && (5.0..25.0).contains(&at)));
        simulation.run(50.0, 25.0, &fails, never);
        assert_eq!(simulation.most_out, 2, "{seed}");
        let refused = |(_, ruling): &(f64, Ruling)| matches!(ruling, Ruling::Refused { .. });
        assert!(simulation.rulings.iter().any(refused), "{seed}");
        let healthy = |s: &Simulation| s.standings().iter().all(|s| *s == Standing::Healthy);
        simulation.run(50.0, 120.0, &fails, healthy);
        let took = simulation.now.as_secs_f64() - 25.0;
        slowest = slowest.max(took);
        // A first ejection lasts as long as the illness was seen, each further one twice as long: 21.2 s in one draw.
        assert!(healthy(&simulation) && took < 22.0, "{seed}: {took} s");
    }
    eprintln!("all healthy after {slowest:.1} s at most");
}

#[test]
fn one_that_flaps_is_out_longer_each_time() {
    let mut simulation = Simulation::of(4, ", ejection: {for: 1s}", 7);
    // Whatever it does on probation is good, whatever it does as one of many is bad.
    let tried = simulation.replica(0);
    let fails = |i, _| f64::from(u8::from(i == 0 && tried.standing() == Standing::Healthy));
    simulation.run(50.0, 100.0, &fails, never);
    let lasts: Vec<Duration> = simulation
        .rulings
        .iter()
        .filter_map(|(_, ruling)| {
            let Ruling::Ejected { lasts, .. } = ruling else { return None };
            Some(*lasts)
        })
        .collect();
    assert!((4..9).contains(&lasts.len()), "{lasts:?}");
    assert!(lasts.windows(2).all(|pair| pair[1] > pair[0]), "{lasts:?}");
}

#[test]
fn a_refusal_is_told_once_however_long_it_lasts() {
    let mut simulation = Simulation::of(4, ", ejection: {max_percent: 0}", 7);
    simulation.run(50.0, 60.0, &|i, _| if i == 0 { 0.9 } else { 0.0 }, never);
    assert_eq!(simulation.rulings.len(), 1, "{:?}", simulation.rulings);
    let refused = simulation.replica(0).ejection().unwrap().refused.unwrap();
    let said = "`max_percent` allows 0 of 4 and 0 are out: it failed ";
    assert!(refused.starts_with(said), "{refused}");
    simulation.run(50.0, 200.0, &|_, _| 0.0, never);
    assert_eq!(simulation.replica(0).ejection().unwrap().refused, None, "it behaves again");
}

#[test]
fn a_single_replica_and_one_whose_peers_are_out_are_never_ejected() {
    let mut alone = Simulation::of(1, "", 7);
    alone.run(50.0, 20.0, &|_, _| 1.0, never);
    assert!(alone.rulings.is_empty());
    let mut last = Simulation::of(3, ", ejection: {max_percent: 100}", 7);
    last.run(50.0, 20.0, &|_, _| 0.0, never);
    for i in [1, 2] {
        last.replica(i).drain(true, None, last.now);
    }
    last.run(50.0, 60.0, &|_, _| 1.0, never);
    assert_eq!(last.replica(0).standing(), Standing::Healthy);
}

#[test]
fn failures_of_long_ago_do_not_turn_a_shared_outage_into_ejections() {
    let mut ejected = Vec::new();
    for seed in 0..100 {
        let mut simulation = Simulation::of(10, "", seed);
        for i in 0..3 {
            (0..3).for_each(|_| simulation.end(i, true));
        }
        // They are not asked for ten minutes, while the others work.
        for _ in 0..600 {
            simulation.waits(1);
            (3..10).for_each(|i| simulation.end(i, false));
        }
        let until = simulation.now.as_secs_f64() + 30.0;
        simulation.run(100.0, until, &|_, _| 0.5, never);
        ejected.push(simulation.ejections().len());
    }
    ejected.sort_unstable();
    eprintln!("median {}, at most {}", ejected[50], ejected[99]);
    assert!(ejected[50] == 0 && ejected[99] <= 2, "{ejected:?}");
}

#[test]
fn who_was_refused_is_judged_anew_once_it_is_compared_again() {
    for meanwhile in [(1, ", ejection: {max_percent: 0}"), (2, ", ejection: false")] {
        let mut simulation = Simulation::of(2, ", ejection: {max_percent: 0}", 7);
        let fails = |i, _| f64::from(u8::from(i == 0));
        simulation.run(20.0, 20.0, &fails, never);
        assert!(simulation.replica(0).refused());
        simulation.reload(meanwhile.0, meanwhile.1);
        simulation.waits(1);
        assert!(!simulation.replica(0).refused() && simulation.ejections().is_empty());
        simulation.reload(2, ", ejection: {max_percent: 100}");
        simulation.waits(1);
        simulation.end(0, true);
        assert!(simulation.ejections().is_empty(), "one failure is no evidence");
        let until = simulation.now.as_secs_f64() + 20.0;
        simulation.run(20.0, until, &fails, |s| !s.ejections().is_empty());
        assert_eq!(simulation.ejections().len(), 1);
    }
}

#[test]
fn who_was_refused_and_fell_silent_is_not_ejected_once_there_is_room() {
    let mut simulation = Simulation::of(4, ", ejection: {max_percent: 0}", 7);
    let fails = |i, _| f64::from(u8::from(i == 0));
    simulation.run(50.0, 20.0, &fails, never);
    assert!(simulation.replica(0).refused());
    // It is not asked for ten minutes, while the others work.
    for _ in 0..600 {
        simulation.waits(1);
        (1..4).for_each(|i| simulation.end(i, false));
    }
    assert!(!simulation.replica(0).refused());
    simulation.reload(4, ", ejection: {max_percent: 50}");
    simulation.waits(1);
    assert!(simulation.ejections().is_empty(), "{:?}", simulation.rulings);
}

#[test]
fn who_was_refused_is_not_ejected_while_it_drains() {
    let mut simulation = Simulation::of(4, ", ejection: {max_percent: 0}", 7);
    let fails = |i, _| f64::from(u8::from(i == 0));
    simulation.run(50.0, 20.0, &fails, never);
    assert!(simulation.replica(0).refused());
    simulation.reload(4, ", ejection: {max_percent: 50}");
    simulation.replica(0).drain(true, Some("repair"), simulation.now);
    simulation.waits(1);
    simulation.replica(0).drain(false, None, simulation.now);
    simulation.waits(1);
    assert!(simulation.ejections().is_empty(), "{:?}", simulation.rulings);
    assert_eq!(simulation.replica(0).standing(), Standing::Healthy);
}
