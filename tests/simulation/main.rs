//! The policies at work: proxies that see only their own requests, replicas with slots and queues.
//!
//! A discrete-event simulation with one seed: time is simulated, nothing sleeps. Every pick goes
//! through `Policy::pick`, every load through `score`, and every lesson through `Slowness` and
//! `Phantom`, as in the proxy. The yardstick is a central queue that knows which slot is the fastest
//! free one: no proxy can know that, and the default policy comes close.
#![expect(clippy::print_stderr, reason = "what was measured, for `--nocapture`")]
mod equals;
use evener::balance::{Phantom, Policy, Pool, PoolSpeed, Slowness, score};
use evener::stats::Moment;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// A replica runs `slots` requests at once, in order of arrival, each at `speed`.
#[derive(Clone, Copy)]
struct Make {
    speed: f64,
    slots: usize,
    weight: f32,
    /// It fails each request, in a five-hundredth of the usual time.
    fails: bool,
}

const PLAIN: Make = Make { speed: 1.0, slots: 4, weight: 1.0, fails: false };

#[derive(Clone, Copy)]
enum Traffic {
    /// Requests come at random, at so many a second.
    Open { rate: f64 },
    /// So many clients, each of which asks again as soon as it is answered.
    Closed { clients: usize },
}

#[derive(Clone, Copy)]
enum Choice {
    Proxies { policy: Policy, count: usize },
    Ideal,
}

struct Scenario {
    replicas: Vec<Make>,
    traffic: Traffic,
    /// σ of ln size; the mean size is one second at speed 1.
    sigma: f64,
    requests: usize,
}

/// What came of a run, without its first eighth.
struct Tally {
    /// Seconds, of successes.
    latencies: Vec<f64>,
    /// For each replica: requests sent there, requests it answered well.
    sent: Vec<usize>,
    completed: Vec<usize>,
}

impl Tally {
    fn quantile(&mut self, q: f64) -> f64 {
        let k = ((self.latencies.len() - 1) as f64 * q) as usize;
        *self.latencies.select_nth_unstable_by(k, f64::total_cmp).1
    }

    fn share(&self, replica: usize) -> f64 {
        self.sent[replica] as f64 / self.sent.iter().sum::<usize>() as f64
    }

    /// What replica 0 has done for each thing that replica 1 has.
    fn ratio(&self) -> f64 {
        self.completed[0] as f64 / self.completed[1] as f64
    }
}

/// What one proxy knows of one replica.
#[derive(Clone, Copy, Default)]
struct Known {
    in_flight: u32,
    slowness: Slowness,
    phantom: Phantom,
}

#[derive(Clone, Default)]
struct Proxy {
    known: Vec<Known>,
    speed: PoolSpeed,
    turn: u64,
}

struct View<'a> {
    proxy: &'a Proxy,
    replicas: &'a [Make],
    learned: bool,
    now: Moment,
}

impl Pool for View<'_> {
    fn len(&self) -> usize {
        self.replicas.len()
    }
    fn usable(&self, _: usize) -> bool {
        true
    }
    fn has_room(&self, _: usize) -> bool {
        true
    }
    fn load(&self, i: usize) -> f32 {
        let Known { in_flight, slowness, phantom } = &self.proxy.known[i];
        let speed = &self.proxy.speed;
        let slow = if self.learned { slowness.factor(speed, self.now).at(*in_flight) } else { 1.0 };
        let phantom = phantom.level(self.now, speed.phantom_time());
        score(*in_flight, phantom, slow, self.weight(i), 1.0)
    }
    fn weight(&self, i: usize) -> f32 {
        self.replicas[i].weight
    }
    fn identity(&self, i: usize) -> u64 {
        i as u64
    }
}

#[derive(Clone, Copy)]
struct Request {
    size: f64,
    arrived: Moment,
    proxy: usize,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    choice: Choice,
    now: Moment,
    proxies: Vec<Proxy>,
    running: Vec<usize>,
    queues: Vec<VecDeque<Request>>,
    /// The ideal's own queue.
    held: VecDeque<Request>,
    /// Ends to come: (when, serial number), and by serial number the replica and the request.
    ends: BinaryHeap<Reverse<(Moment, usize)>>,
    started: Vec<(usize, Request)>,
    /// Sizes and times of requests; apart from `chance`, so that all choices meet the same traffic.
    demand: Xoshiro256PlusPlus,
    chance: Xoshiro256PlusPlus,
    done: usize,
    tally: Tally,
}

fn simulate(scenario: &Scenario, choice: Choice) -> Tally {
    let n = scenario.replicas.len();
    let proxies = match choice {
        Choice::Proxies { count, .. } => count,
        Choice::Ideal => 1,
    };
    let proxy = Proxy { known: vec![Known::default(); n], ..Proxy::default() };
    let mut simulation = Simulation {
        scenario,
        choice,
        now: Moment::ZERO,
        proxies: vec![proxy; proxies],
        running: vec![0; n],
        queues: vec![VecDeque::new(); n],
        held: VecDeque::new(),
        ends: BinaryHeap::new(),
        started: Vec::new(),
        demand: Xoshiro256PlusPlus::seed_from_u64(7),
        chance: Xoshiro256PlusPlus::seed_from_u64(1_007),
        done: 0,
        tally: Tally { latencies: Vec::new(), sent: vec![0; n], completed: vec![0; n] },
    };
    simulation.run();
    simulation.tally
}

impl Simulation<'_> {
    fn run(&mut self) {
        let mut next = None;
        match self.scenario.traffic {
            Traffic::Open { rate } => next = Some(self.after(rate)),
            Traffic::Closed { clients } => (0..clients).for_each(|_| self.arrive()),
        }
        while self.done < self.scenario.requests {
            let end = self.ends.peek().map(|&Reverse((at, _))| at);
            match (next, self.scenario.traffic) {
                (Some(at), Traffic::Open { rate }) if end.is_none_or(|end| at <= end) => {
                    self.now = at;
                    self.arrive();
                    next = Some(self.after(rate));
                }
                _ => self.end(),
            }
        }
    }

    fn after(&mut self, rate: f64) -> Moment {
        let gap = -(1.0 - self.demand.random::<f64>()).ln() / rate;
        self.now + Duration::from_secs_f64(gap)
    }

    fn arrive(&mut self) {
        let (u, v): (f64, f64) = self.demand.random();
        let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let sigma = self.scenario.sigma;
        let size = (sigma * normal - sigma * sigma / 2.0).exp();
        let proxy = self.demand.random_range(0..12) % self.proxies.len();
        let request = Request { size, arrived: self.now, proxy };
        match self.choice {
            Choice::Ideal => self.held.push_back(request),
            Choice::Proxies { policy, .. } => {
                let replica = self.pick(policy, proxy);
                self.send(replica, request);
            }
        }
        self.release();
    }

    fn pick(&mut self, policy: Policy, proxy: usize) -> usize {
        let turn = self.proxies[proxy].turn;
        self.proxies[proxy].turn += 1;
        let view = View {
            proxy: &self.proxies[proxy],
            replicas: &self.scenario.replicas,
            learned: policy != Policy::LeastRequest,
            now: self.now,
        };
        policy.pick(&view, turn, None, &mut self.chance).expect("all are usable")
    }

    /// The ideal: held requests go to the fastest replica with a free slot, as soon as there is one.
    fn release(&mut self) {
        let replicas = &self.scenario.replicas;
        while !self.held.is_empty() {
            let free = (0..replicas.len()).filter(|&i| self.running[i] < replicas[i].slots);
            let speed = |&i: &usize| replicas[i].speed;
            let fastest = free.max_by(|a, b| speed(a).total_cmp(&speed(b)));
            let Some(i) = fastest else { return };
            if let Some(request) = self.held.pop_front() {
                self.send(i, request);
            }
        }
    }

    fn send(&mut self, replica: usize, request: Request) {
        self.proxies[request.proxy].known[replica].in_flight += 1;
        if self.warm() {
            self.tally.sent[replica] += 1;
        }
        self.queues[replica].push_back(request);
        self.start(replica);
    }

    /// Starts what waits at a replica that has a free slot.
    fn start(&mut self, replica: usize) {
        let make = self.scenario.replicas[replica];
        if self.running[replica] < make.slots
            && let Some(request) = self.queues[replica].pop_front()
        {
            let service = if make.fails { 0.002 } else { request.size / make.speed };
            self.running[replica] += 1;
            self.ends
                .push(Reverse((self.now + Duration::from_secs_f64(service), self.started.len())));
            self.started.push((replica, request));
        }
    }

    fn end(&mut self) {
        let Reverse((at, serial)) = self.ends.pop().expect("a request runs, or one arrives");
        let (replica, request) = self.started[serial];
        self.now = at;
        self.done += 1;
        self.running[replica] -= 1;
        self.learn(replica, request);
        self.start(replica);
        self.release();
        if matches!(self.scenario.traffic, Traffic::Closed { .. }) {
            self.arrive();
        }
    }

    fn learn(&mut self, replica: usize, request: Request) {
        let warm = self.warm();
        let Proxy { known, speed, .. } = &mut self.proxies[request.proxy];
        let Known { in_flight, slowness, phantom } = &mut known[replica];
        *in_flight -= 1;
        if self.scenario.replicas[replica].fails {
            phantom.fail(self.now, speed.phantom_time());
            return;
        }
        let latency = self.now.since(request.arrived);
        phantom.succeed();
        let strays = slowness.sample(latency, speed, self.now);
        speed.observe(latency, strays);
        if warm {
            self.tally.completed[replica] += 1;
            self.tally.latencies.push(latency.as_secs_f64());
        }
    }

    fn warm(&self) -> bool {
        self.done >= self.scenario.requests / 8
    }
}

fn one_proxy(scenario: &Scenario) -> Tally {
    simulate(scenario, Choice::Proxies { policy: Policy::LeastLoad, count: 1 })
}

/// 16 replicas, four of each speed, at this part of what they can bear.
fn mixed(load: f64) -> Scenario {
    let speeds = [1.0, 0.5, 1.0, 2.0];
    let replicas: Vec<_> = (0..16).map(|i| Make { speed: speeds[i % 4], ..PLAIN }).collect();
    let capacity: f64 = replicas.iter().map(|r| r.speed * r.slots as f64).sum();
    let traffic = Traffic::Open { rate: load * capacity };
    Scenario { replicas, traffic, sigma: 1.0, requests: 150_000 }
}

/// Over six other seeds `least_load` had 1.07 to 1.09 at 70 %, 0.99 to 1.01 at 85 %.
#[test]
fn least_load_is_within_a_tenth_of_the_ideal_and_two_choices_are_not() {
    for load in [0.7, 0.85] {
        let scenario = mixed(load);
        let p99 = |choice| simulate(&scenario, choice).quantile(0.99);
        let ideal = p99(Choice::Ideal);
        let ratio = |policy| p99(Choice::Proxies { policy, count: 4 }) / ideal;
        let [least, requests, p2c] =
            [Policy::LeastLoad, Policy::LeastRequest, Policy::P2c].map(ratio);
        eprintln!("load {load}: least_load {least:.2}, least_request {requests:.2}, p2c {p2c:.2}");
        assert!(least <= 1.1, "{least}");
        assert!(p2c > 1.1 * least, "{p2c}");
    }
}

/// The largest share of a replica among two at speed 1, in closed loops of more and less noise.
fn share_at(speed: f64, clients: usize) -> f64 {
    let replicas = [1.0, speed, 1.0].map(|speed| Make { speed, slots: 100, ..PLAIN }).to_vec();
    let traffic = Traffic::Closed { clients };
    let share = |sigma| {
        let replicas = replicas.clone();
        one_proxy(&Scenario { replicas, traffic, sigma, requests: 4_000 }).share(1)
    };
    let share = [0.0, 0.1, 1.0].map(share).into_iter().fold(0.0, f64::max);
    eprintln!("speed {speed} among {clients} clients: {:.1} %", share * 100.0);
    share
}

#[test]
fn a_replica_ten_times_slower_gets_less_than_a_tenth() {
    assert!(share_at(0.1, 12) < 0.1);
}

#[test]
fn at_two_at_a_time_a_replica_four_times_slower_gets_less_than_a_seventh() {
    assert!(share_at(0.25, 2) < 0.15);
}

#[test]
fn a_replica_that_fails_fast_attracts_nothing() {
    for load in [0.5, 0.7, 0.85] {
        let mut replicas = vec![PLAIN; 16];
        replicas[0].fails = true;
        let traffic = Traffic::Open { rate: load * 60.0 };
        let scenario = Scenario { replicas, traffic, sigma: 1.0, requests: 20_000 };
        let share = one_proxy(&scenario).share(0);
        eprintln!("black hole at load {load}: {:.1} %", share * 100.0);
        assert!(share < 0.03, "{share}");
    }
}

#[test]
fn three_times_the_weight_does_three_times_the_work() {
    let heavy = Make { slots: 12, weight: 3.0, ..PLAIN };
    for clients in [8, 16, 48] {
        let traffic = Traffic::Closed { clients };
        let scenario =
            Scenario { replicas: vec![heavy, PLAIN], traffic, sigma: 0.5, requests: 20_000 };
        let ratio = one_proxy(&scenario).ratio();
        eprintln!("weights 3:1, {clients} clients: {ratio:.2}:1");
        assert!((ratio / 3.0 - 1.0).abs() < 0.1, "{ratio}");
    }
}

#[test]
fn twice_the_speed_does_twice_the_work_without_weights() {
    let replicas = vec![Make { speed: 2.0, ..PLAIN }, PLAIN];
    let traffic = Traffic::Closed { clients: 32 };
    let scenario = Scenario { replicas, traffic, sigma: 1.0, requests: 20_000 };
    let ratio = one_proxy(&scenario).ratio();
    eprintln!("speeds 2:1: {ratio:.2}:1");
    assert!((ratio / 2.0 - 1.0).abs() < 0.15, "{ratio}");
}

#[test]
fn equal_replicas_share_equally_for_all_the_noise() {
    let traffic = Traffic::Open { rate: 20.0 };
    let scenario = Scenario { replicas: vec![PLAIN; 8], traffic, sigma: 0.1, requests: 20_000 };
    let tally = one_proxy(&scenario);
    for i in 0..8 {
        assert!((0.6 / 8.0..1.5 / 8.0).contains(&tally.share(i)), "{:?}", tally.sent);
    }
}
