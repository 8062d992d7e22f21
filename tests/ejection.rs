//! Ejection at work: the real control core, fleet and policies, with simulated time and replicas that fail by chance.
//!
//! Nothing sleeps, and each scenario is a seed: what the issue promises is checked over many of them.
#![expect(clippy::unwrap_used, reason = "what drives the simulation is test code too")]
#![expect(clippy::print_stderr, reason = "what was measured, for `--nocapture`")]
use evener::config::parse_text;
use evener::control::{Core, Ruling};
use evener::fleet::Replica;
use evener::health::{Class, Outcome, Stage, Standing};
use evener::stats::Moment;
use evener::table::{Member, Model, Overrides, Tier};
use parking_lot::RwLock;
use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// How a request at a replica ends: by its chance of failing.
type Fails<'a> = &'a dyn Fn(usize, f64) -> f64;

struct Simulation {
    core: Core,
    now: Moment,
    ticked: Moment,
    chance: Xoshiro256PlusPlus,
    rulings: Vec<(f64, Ruling)>,
    /// What clients got.
    sent: usize,
    failed: usize,
    /// The most that were out for cause at once.
    most_out: usize,
}

impl Simulation {
    fn of(n: usize, options: &str, seed: u64) -> Self {
        let urls: Vec<_> = (0..n).map(|i| format!("http://r:{}", i + 1)).collect();
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nmodels:\n  m: {{versions: {{v: [{}]}}, health: false, slow_start: 0s{options}}}\n",
            urls.join(", ")
        );
        let plan = Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan);
        let (core, _) = Core::start(&plan, Overrides::default(), seed, Moment::ZERO);
        let chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (now, ticked) = (Moment::ZERO, Moment::ZERO);
        Self { core, now, ticked, chance, rulings: Vec::new(), sent: 0, failed: 0, most_out: 0 }
    }

    fn model(&self) -> Arc<Model> {
        Arc::clone(&self.core.table().models[0])
    }

    fn replica(&self, i: usize) -> Arc<Replica> {
        Arc::clone(&self.core.table().models[0].versions[0].members[i].replica)
    }

    fn standings(&self) -> Vec<Standing> {
        self.model().versions[0].members.iter().map(|m| m.replica.standing()).collect()
    }

    /// Requests at `rate` a second, evenly chosen by the policy, until `until` seconds or until `done`.
    fn run(&mut self, rate: f64, until: f64, fails: Fails<'_>, done: impl Fn(&Self) -> bool) {
        while self.now.as_secs_f64() < until && !done(self) {
            let gap = -(1.0 - self.chance.random::<f64>()).ln() / rate;
            self.now = self.now + Duration::from_secs_f64(gap);
            while self.now.since(self.ticked) >= Duration::from_secs(1) {
                self.ticked = self.ticked + Duration::from_secs(1);
                let rulings = self.core.tick(self.ticked);
                self.note(rulings);
            }
            self.request(fails);
        }
    }

    /// One request from its choice to its end, as the data path does it.
    fn request(&mut self, fails: Fails<'_>) {
        let model = self.model();
        let version = &model.versions[0];
        let mut pick = |tier| {
            let view = version.view(&model.plan, tier, &[], self.now);
            model.plan.balance.pick(&view, 0, None, &mut self.chance)
        };
        let place = |member: &Member| {
            let members = version.members.iter();
            members.map(|m| &m.replica).position(|r| Arc::ptr_eq(r, &member.replica))
        };
        let trial = version.trial(Duration::ZERO, self.now).and_then(place);
        let i = trial.or_else(|| pick(Tier::Usable)).or_else(|| pick(Tier::FailOpen)).unwrap();
        let replica = &version.members[i].replica;
        let in_flight = replica.begin(&version.state, self.now);
        let failed = self.chance.random::<f64>() < fails(i, self.now.as_secs_f64());
        let (class, status) =
            if failed { (Class::ServerError, 500) } else { (Class::Success, 200) };
        let latency = Duration::from_millis(50);
        let outcome = Outcome { class, latency, first_byte: None, bytes: 0, tunnel: false };
        in_flight.finish(status, &outcome, self.now);
        self.sent += 1;
        self.failed += usize::from(failed);
        let rulings = self.core.judge_suspects(self.now);
        self.note(rulings);
    }

    fn note(&mut self, rulings: Vec<Ruling>) {
        let at = self.now.as_secs_f64();
        self.rulings.extend(rulings.into_iter().map(|ruling| (at, ruling)));
        let out = |stage| matches!(stage, Stage::Ejected { by_hand: false, .. });
        let members = self.model();
        let members = members.versions[0].members.iter();
        self.most_out = self.most_out.max(members.filter(|m| out(m.replica.stage())).count());
    }

    /// When each ejection was ruled, and of whom.
    fn ejections(&self) -> Vec<(f64, usize)> {
        let of = |(at, ruling): &(f64, Ruling)| {
            let Ruling::Ejected { replica, .. } = ruling else { return None };
            let (_, port) = replica.id.url.rsplit_once(':')?;
            Some((*at, port.parse::<usize>().ok()? - 1))
        };
        self.rulings.iter().filter_map(of).collect()
    }
}

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
        assert!(healthy(&simulation) && took < 20.0, "{seed}: {took} s");
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
            let in_flight = replica.begin(&version.state, now);
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
            let outcome = Outcome { class, latency, first_byte: None, bytes: 0, tunnel: false };
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
    Reloads,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), 1_usize..60).prop_map(|(mask, n)| Step::Requests(mask, n)),
        3 => (1_u64..30).prop_map(Step::Waits),
        1 => (0_usize..5, any::<bool>()).prop_map(|(i, on)| Step::Drains(i, on)),
        1 => (0_usize..5, any::<bool>()).prop_map(|(i, on)| Step::Probed(i, on)),
        1 => Just(Step::Reloads),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_cap_holds_and_everything_recovers(
        steps in prop::collection::vec(step(), 1..40),
        percent in prop::sample::select(vec![0_u32, 20, 50, 80, 100]),
    ) {
        let options = format!(", ejection: {{max_percent: {percent}, for: 1s, at_most: 8s}}");
        let mut simulation = Simulation::of(5, &options, 7);
        for step in steps {
            match step {
                Step::Requests(mask, n) => {
                    let fails = |i, _| f64::from(mask >> i & 1);
                    let until = simulation.sent + n;
                    simulation.run(50.0, f64::MAX, &fails, |s| s.sent >= until);
                }
                Step::Waits(seconds) => {
                    for _ in 0..seconds {
                        simulation.now = simulation.now + Duration::from_secs(1);
                        simulation.ticked = simulation.now;
                        let rulings = simulation.core.tick(simulation.now);
                        simulation.note(rulings);
                    }
                }
                Step::Drains(i, on) => {
                    simulation.replica(i).drain(on, None, simulation.now);
                }
                Step::Probed(i, on) => {
                    simulation.replica(i).probed(on, None, simulation.now);
                }
                Step::Reloads => {
                    let plan = Arc::clone(&simulation.core.table().plan);
                    simulation.core.apply(&plan, simulation.now);
                }
            }
            prop_assert!(simulation.most_out <= 5 * percent as usize / 100);
        }
        for i in 0..5 {
            simulation.replica(i).drain(false, None, simulation.now);
            simulation.replica(i).probed(true, None, simulation.now);
        }
        let until = simulation.now.as_secs_f64() + 120.0;
        let healthy = |s: &Simulation| s.standings().iter().all(|s| *s == Standing::Healthy);
        simulation.run(20.0, until, &|_, _| 0.0, healthy);
        prop_assert!(healthy(&simulation), "{:?}", simulation.standings());
    }
}
