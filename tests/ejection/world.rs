//! A world for the core: replicas with slots and lines, clients with keys, bursts, hangs and timeouts. Event by event,
//! with simulated time and one seed.
use evener::balance::hash_point;
use evener::config::parse_text;
use evener::control::{Core, Ruling};
use evener::fleet::InFlight;
use evener::health::{Class, Outcome, Sender, Stage};
use evener::stats::Moment;
use evener::table::{Overrides, Plan, Wish};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) type Chance = Xoshiro256PlusPlus;

/// One request, as faults look at it.
pub(crate) struct Asked {
    pub(crate) replica: usize,
    pub(crate) at: f64,
    pub(crate) client: u64,
}

/// What goes wrong with it.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// It fails at its end, or after so many seconds.
    Fails(Option<f64>),
    /// No answer ever comes.
    Hangs,
}

type Faults = Box<dyn Fn(&Asked, &mut Chance) -> Option<Fault>>;

pub(crate) struct World {
    pub(crate) replicas: usize,
    pub(crate) weights: Vec<f64>,
    /// Of the model, as `, key: value`.
    pub(crate) options: String,
    /// Requests a second, at a second.
    pub(crate) rate: Box<dyn Fn(f64) -> f64>,
    pub(crate) seconds: f64,
    /// A request's work in seconds: median, and σ of its logarithm.
    pub(crate) work: (f64, f64),
    /// Of each replica; 1 where none is given.
    pub(crate) speed: Vec<f64>,
    /// What each replica works on at once, and how many wait in line before it answers 503.
    pub(crate) slots: Option<(usize, usize)>,
    pub(crate) timeout: f64,
    /// The parts of the traffic that come of the clients 0, 1, …; the rest is of a thousand others.
    pub(crate) clients: Vec<f64>,
    /// All clients come through one address.
    pub(crate) proxied: bool,
    pub(crate) faults: Faults,
    /// Ends when this one is ejected.
    pub(crate) until_out: Option<usize>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            replicas: 10,
            weights: Vec::new(),
            options: String::new(),
            rate: Box::new(|_| 100.0),
            seconds: 600.0,
            work: (0.05, 0.8),
            speed: Vec::new(),
            slots: None,
            timeout: f64::INFINITY,
            clients: Vec::new(),
            proxied: false,
            faults: Box::new(|_, chance| fails(chance, 0.001)),
            until_out: None,
        }
    }
}

/// It fails with this chance.
pub(crate) fn fails(chance: &mut Chance, rate: f64) -> Option<Fault> {
    (chance.random::<f64>() < rate).then_some(Fault::Fails(None))
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) sent: usize,
    pub(crate) failed: usize,
    pub(crate) by_replica: Vec<usize>,
    pub(crate) failed_by: Vec<usize>,
    /// When each ejection began, and whose, those after a probation included.
    pub(crate) ejections: Vec<(f64, usize)>,
    pub(crate) returns: Vec<(f64, usize)>,
    /// Seconds that replicas were out, on probation included.
    pub(crate) out: f64,
    pub(crate) sentences: Vec<String>,
}

impl Came {
    pub(crate) fn failed_percent(&self) -> f64 {
        100.0 * self.failed as f64 / self.sent as f64
    }
}

struct Running {
    ends: u64,
    serial: usize,
    replica: usize,
    class: Class,
    took: f64,
    in_flight: InFlight,
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Running {}
impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Running {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.ends, other.serial).cmp(&(self.ends, self.serial))
    }
}

struct Run<'a> {
    world: &'a World,
    core: Core,
    chance: Chance,
    came: Came,
    running: BinaryHeap<Running>,
    /// When each slot of each replica is free, and when what it holds ends.
    free: Vec<Vec<f64>>,
    held: Vec<BinaryHeap<Reverse<u64>>>,
    ticked: u64,
}

fn moment(seconds: f64) -> Moment {
    Moment::ZERO + Duration::from_secs_f64(seconds)
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

impl World {
    pub(crate) fn run(&self, seed: u64) -> Came {
        let (core, _) = Core::start(&self.plan(), Overrides::default(), seed, Moment::ZERO);
        let n = self.replicas;
        let came = Came { by_replica: vec![0; n], failed_by: vec![0; n], ..Came::default() };
        let mut run = Run {
            world: self,
            core,
            chance: Chance::seed_from_u64(seed),
            came,
            running: BinaryHeap::new(),
            free: vec![vec![0.0; self.slots.map_or(0, |(slots, _)| slots)]; n],
            held: vec![BinaryHeap::new(); n],
            ticked: 0,
        };
        let mut now = 0.0;
        while now < self.seconds && !run.is_over() {
            now += -(1.0 - run.chance.random::<f64>()).ln() / (self.rate)(now);
            run.pass(now.min(self.seconds));
            run.ask(now);
        }
        run.came
    }

    fn plan(&self) -> Arc<Plan> {
        let weight = |i: usize| self.weights.get(i).copied().unwrap_or(1.0);
        let urls: Vec<_> = (0..self.replicas)
            .map(|i| format!("{{url: 'http://r:{}', weight: {}}}", i + 1, weight(i)))
            .collect();
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nmodels: {{m: {{versions: {{v: [{}]}}, health: false, slow_start: 0s, hash_on: ['header:u']{}}}}}\n",
            urls.join(", "),
            self.options
        );
        Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan)
    }

    fn client(&self, chance: &mut Chance) -> u64 {
        let mut draw = chance.random::<f64>();
        for (client, part) in self.clients.iter().enumerate() {
            draw -= part;
            if draw < 0.0 {
                return client as u64;
            }
        }
        chance.random_range(1_000..2_000)
    }
}

impl Run<'_> {
    fn is_over(&self) -> bool {
        self.world.until_out.is_some_and(|i| self.came.ejections.iter().any(|(_, k)| *k == i))
    }

    /// All that ends or ticks until then.
    fn pass(&mut self, now: f64) {
        loop {
            let tick = (self.ticked + 1) * 1_000_000_000;
            let ends = self.running.peek().map_or(u64::MAX, |running| running.ends);
            if ends.min(tick) > nanos(now) {
                return;
            }
            if tick <= ends {
                self.ticked += 1;
                let rulings = self.core.tick(Moment::from_nanos(tick));
                self.note(rulings, tick);
                let members = &self.core.table().models[0].versions[0].members;
                let out = members.iter().filter(|m| m.replica.stage() != Stage::Free).count();
                self.came.out += out as f64;
            } else if let Some(running) = self.running.pop() {
                self.end(running);
            }
        }
    }

    fn end(&mut self, running: Running) {
        let Running { ends, replica, class, took, in_flight, .. } = running;
        let (status, failed) = if class == Class::Success {
            (200, 0)
        } else if class == Class::Timeout {
            (504, 1)
        } else {
            (503, 1)
        };
        self.came.failed += failed;
        self.came.failed_by[replica] += failed;
        let latency = Duration::from_secs_f64(took);
        let outcome = Outcome { class, latency, first_byte: None, tunnel: false };
        in_flight.finish(status, &outcome, Moment::from_nanos(ends));
        let rulings = self.core.judge_suspects(Moment::from_nanos(ends));
        self.note(rulings, ends);
    }

    fn note(&mut self, rulings: Vec<Ruling>, at: u64) {
        let at = at as f64 / 1e9;
        for ruling in rulings {
            self.came.sentences.push(format!("{at:.1} {ruling}"));
            let (list, replica) = if let Ruling::Ejected { replica, .. }
            | Ruling::FailedProbation { replica, .. } = &ruling
            {
                (&mut self.came.ejections, replica)
            } else if let Ruling::Reinstated { replica } = &ruling {
                (&mut self.came.returns, replica)
            } else {
                continue;
            };
            let port = replica.id.url.rsplit_once(':').map(|(_, port)| port.parse::<usize>());
            list.push((at, port.unwrap().unwrap() - 1));
        }
    }

    /// One request, from its choice to its end, as the data path sends it.
    fn ask(&mut self, now: f64) {
        let table = Arc::clone(self.core.table());
        let (model, at) = (&table.models[0], moment(now));
        let version = &model.versions[0];
        let client = self.world.client(&mut self.chance);
        let by_key = model.plan.balance.name() == "hash";
        let key = by_key.then(|| hash_point("m", &client.to_le_bytes()));
        let wish = Wish { key, ..Wish::UNSPLIT };
        let Ok(choice) = model.choose(wish, at, &mut self.chance) else { return };
        let mut members = version.members.iter();
        let replica =
            members.position(|m| Arc::ptr_eq(&m.replica, &choice.member.replica)).unwrap();
        let mut in_flight = version.members[replica].replica.begin(&version.state, at);
        if by_key {
            let origin = if self.world.proxied { 7 } else { client };
            in_flight.sent_by(Sender { key, origin });
        }
        in_flight.waits(at);
        self.came.sent += 1;
        self.came.by_replica[replica] += 1;
        let fault = (self.world.faults)(&Asked { replica, at: now, client }, &mut self.chance);
        let (class, took) = self.serve(replica, now, fault);
        let serial = self.came.sent;
        self.running.push(Running {
            ends: nanos(now + took),
            serial,
            replica,
            class,
            took,
            in_flight,
        });
    }

    /// How and after how long it ends.
    fn serve(&mut self, replica: usize, now: f64, fault: Option<Fault>) -> (Class, f64) {
        let World { work: (median, sigma), speed, slots, timeout, .. } = self.world;
        let (u, v): (f64, f64) = self.chance.random();
        let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let work = median * (sigma * normal).exp() / speed.get(replica).unwrap_or(&1.0);
        let (class, work) = match fault {
            None => (Class::Success, work),
            Some(Fault::Fails(after)) => (Class::ServerError, after.unwrap_or(work)),
            Some(Fault::Hangs) => return (Class::Timeout, *timeout),
        };
        let mut took = work;
        if let Some((slots, line)) = slots {
            let held = &mut self.held[replica];
            while held.peek().is_some_and(|Reverse(ends)| *ends <= nanos(now)) {
                held.pop();
            }
            if held.len() >= slots + line {
                return (Class::ServerError, 0.002);
            }
            // It works on what timed out as well.
            let free = self.free[replica].iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
            *free = free.max(now) + work;
            held.push(Reverse(nanos(*free)));
            took = *free - now;
        }
        if took > *timeout { (Class::Timeout, *timeout) } else { (class, took) }
    }
}
