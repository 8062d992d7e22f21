//! Lives of replicas: whatever crosses or happens, caps hold, trials are single, and every state has an exit.
use crate::simulation::Simulation;
use evener::fleet::InFlight;
use evener::health::{Class, Outcome, Standing};
use evener::stats::Moment;
use evener::table::Tier;
use parking_lot::RwLock;
use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Threads as the data path has them, against the one writer: claims, endings and rulings cross in every order.
#[test]
fn with_many_threads_the_cap_holds_and_trials_stay_single() {
    let mut simulation = Simulation::of(6, ", ejection: {for: 1s, at_most: 2s}", 7);
    let model = simulation.model();
    let version = &model.versions[0];
    // Held from a pick to its request's begin: simulated time must not make a slow thread's claim an old one.
    let (clock, ended) = (RwLock::new(Moment::ZERO), AtomicBool::new(false));
    let trying: Vec<AtomicU32> = (0..6).map(|_| AtomicU32::new(0)).collect();
    let trials = AtomicU32::new(0);
    let serve = |seed: u64| {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        while !ended.load(Relaxed) {
            let time = clock.read();
            let now = *time;
            let trial =
                version.members.iter().position(|m| m.replica.try_trial(Duration::ZERO, now));
            let view = version.view(&model.plan, Tier::Usable, &[], now);
            let Some(i) = trial.or_else(|| model.plan.balance.pick(&view, 0, None, &mut chance))
            else {
                continue;
            };
            let replica = &version.members[i].replica;
            let mut in_flight = replica.begin(&version.state, now);
            // Sent at once: a trial that takes long to send would give its place back, and time here runs fast.
            in_flight.waits(now);
            drop(time);
            if trial.is_some() {
                assert_eq!(trying[i].fetch_add(1, Relaxed), 0, "two at once on probation");
                std::thread::yield_now();
                trying[i].fetch_sub(1, Relaxed);
                trials.fetch_add(1, Relaxed);
            }
            let failed = i < 4 && chance.random::<f64>() < 0.6;
            let class = if failed { Class::Reset } else { Class::Success };
            let latency = Duration::from_millis(5);
            let outcome = Outcome { class, latency, first_byte: None, tunnel: false };
            in_flight.finish(if failed { 502 } else { 200 }, &outcome, now);
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let serve = &serve;
            scope.spawn(move || serve(seed));
        }
        while trials.load(Relaxed) < 100 && simulation.now.as_secs_f64() < 3_600.0 {
            simulation.now = simulation.now + Duration::from_millis(20);
            *clock.write() = simulation.now;
            let rulings = simulation.core.judge_suspects(simulation.now);
            simulation.note(rulings);
            if simulation.now.since(simulation.ticked) >= Duration::from_secs(1) {
                simulation.ticked = simulation.now;
                let rulings = simulation.core.tick(simulation.now);
                simulation.note(rulings);
            }
            std::thread::yield_now();
        }
        ended.store(true, Relaxed);
    });
    assert!(trials.load(Relaxed) >= 100, "only {}", trials.load(Relaxed));
    assert!((1..=3).contains(&simulation.most_out), "{}", simulation.most_out);
    assert!((0..6).all(|i| simulation.replica(i).in_flight() == 0));
    let (until, healthy) = (simulation.now.as_secs_f64() + 60.0, |s: &Simulation| {
        s.standings().iter().all(|s| *s == Standing::Healthy)
    });
    simulation.run(50.0, until, &|_, _| 0.0, healthy);
    assert!(healthy(&simulation), "{:?}", simulation.standings());
}

#[derive(Clone, Debug)]
enum Step {
    /// So many requests, while those of the mask fail.
    Requests(u8, usize),
    Waits(u64),
    Drains(usize, bool),
    Probed(usize, bool),
    /// Out by hand, for so many seconds.
    Ejects(usize, u64),
    /// A request that stays open, as long as it takes; and how far it comes.
    Opens(usize, Comes),
    /// One of those open ends, or fails, whatever became of its replica meanwhile.
    Ends(usize, bool),
    /// So many replicas are left; is `ejection` on?
    Reloads(usize, bool),
}

#[derive(Clone, Copy, Debug)]
enum Comes {
    /// It is still being sent.
    Uploads,
    Waits,
    Streams,
    /// A WebSocket.
    Tunnels,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), 1_usize..60).prop_map(|(mask, n)| Step::Requests(mask, n)),
        3 => (1_u64..90).prop_map(Step::Waits),
        1 => (0_usize..5, any::<bool>()).prop_map(|(i, on)| Step::Drains(i, on)),
        1 => (0_usize..5, any::<bool>()).prop_map(|(i, on)| Step::Probed(i, on)),
        1 => (0_usize..5, 1_u64..20).prop_map(|(i, seconds)| Step::Ejects(i, seconds)),
        2 => (0_usize..5, comes()).prop_map(|(i, comes)| Step::Opens(i, comes)),
        1 => (0_usize..20, any::<bool>()).prop_map(|(k, well)| Step::Ends(k, well)),
        1 => (1_usize..=5, any::<bool>()).prop_map(|(n, on)| Step::Reloads(n, on)),
    ]
}

fn comes() -> impl Strategy<Value = Comes> {
    prop::sample::select(vec![Comes::Uploads, Comes::Waits, Comes::Streams, Comes::Tunnels])
}

/// A request that would be sent there now, if it would.
fn open(simulation: &Simulation, i: usize, comes: Comes) -> Option<(InFlight, Comes)> {
    let (model, now) = (simulation.model(), simulation.now);
    let replica = simulation.replica(i);
    if !replica.try_trial(Duration::ZERO, now) && !replica.usable() {
        return None;
    }
    let mut request = replica.begin(&model.versions[0].state, now);
    match comes {
        Comes::Uploads => {}
        Comes::Waits => request.waits(now),
        Comes::Streams => {
            request.waits(now);
            request.heard(now);
        }
        Comes::Tunnels => request.tunnels(now),
    }
    Some((request, comes))
}

fn ended(well: bool, tunnel: bool) -> (u16, Outcome) {
    let (status, class) = if well { (200, Class::Success) } else { (504, Class::Timeout) };
    (status, Outcome { class, latency: Duration::ZERO, first_byte: None, tunnel })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_cap_holds_and_everything_recovers(
        steps in prop::collection::vec(step(), 1..40),
        percent in prop::sample::select(vec![0_u32, 20, 50, 80, 100]),
    ) {
        let options = format!(", ejection: {{max_percent: {percent}, for: 1s, at_most: 8s}}");
        let mut simulation = Simulation::of(5, &options, 7);
        let (mut n, mut requests) = (5, Vec::new());
        for step in steps {
            match step {
                Step::Requests(mask, n) => {
                    let fails = |i, _| f64::from(mask >> i & 1);
                    let until = simulation.sent + n;
                    simulation.run(50.0, f64::MAX, &fails, |s| s.sent >= until);
                }
                Step::Waits(seconds) => simulation.waits(seconds),
                Step::Drains(i, on) if i < n => {
                    simulation.replica(i).drain(on, None, simulation.now);
                }
                Step::Probed(i, on) if i < n => {
                    simulation.replica(i).probed(on, None, simulation.now);
                }
                Step::Ejects(i, seconds) if i < n => {
                    let until = Some(simulation.now + Duration::from_secs(seconds));
                    let model = simulation.model();
                    let state = &model.versions[0].state;
                    simulation.replica(i).hold(state, until, "by hand".into(), simulation.now);
                }
                Step::Opens(i, comes) if i < n => requests.extend(open(&simulation, i, comes)),
                Step::Ends(k, well) if k < requests.len() => {
                    let (request, comes): (InFlight, _) = requests.swap_remove(k);
                    let (status, outcome) = ended(well, matches!(comes, Comes::Tunnels));
                    request.finish(status, &outcome, simulation.now);
                }
                Step::Reloads(left, watched) => {
                    n = left;
                    simulation.reload(n, if watched { &options } else { ", ejection: false" });
                }
                Step::Drains(..)
                | Step::Probed(..)
                | Step::Ejects(..)
                | Step::Opens(..)
                | Step::Ends(..) => {}
            }
            prop_assert!(simulation.most_out <= 5 * percent as usize / 100);
        }
        simulation.reload(5, &options);
        // `first_byte` ends these. The others stay open.
        for (request, _) in requests.extract_if(.., |(_, comes)| matches!(comes, Comes::Waits)) {
            let (status, outcome) = ended(false, false);
            request.finish(status, &outcome, simulation.now);
        }
        for i in 0..5 {
            simulation.replica(i).drain(false, None, simulation.now);
            simulation.replica(i).probed(true, None, simulation.now);
        }
        let until = simulation.now.as_secs_f64() + 300.0;
        let healthy = |s: &Simulation| s.standings().iter().all(|s| *s == Standing::Healthy);
        simulation.run(20.0, until, &|_, _| 0.0, healthy);
        prop_assert!(healthy(&simulation), "{:?}", simulation.standings());
        // What speaks against the refused wears off as they work. Of so few requests whoever has one open gets none.
        drop(requests);
        let until = simulation.now.as_secs_f64() + 960.0;
        simulation.run(0.5, until, &|_, _| 0.0, |_| false);
        prop_assert!((0..5).all(|i| !simulation.replica(i).refused()));
        prop_assert!((0..5).all(|i| simulation.replica(i).in_flight() == 0));
    }
}
