//! A core with its fleet and policies, where time is a number and replicas fail by chance.
use evener::config::parse_text;
use evener::control::{Core, Ruling};
use evener::fleet::Replica;
use evener::health::{Class, Outcome, Stage, Standing};
use evener::stats::Moment;
use evener::table::{Model, Overrides, Plan, Wish};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

/// How a request at a replica ends: by its chance of failing.
pub(crate) type Fails<'a> = &'a dyn Fn(usize, f64) -> f64;

pub(crate) struct Simulation {
    pub(crate) core: Core,
    pub(crate) now: Moment,
    pub(crate) ticked: Moment,
    chance: Xoshiro256PlusPlus,
    pub(crate) rulings: Vec<(f64, Ruling)>,
    /// What clients got.
    pub(crate) sent: usize,
    pub(crate) failed: usize,
    /// The most that were out for cause at once.
    pub(crate) most_out: usize,
}

impl Simulation {
    pub(crate) fn of(n: usize, options: &str, seed: u64) -> Self {
        let plan = plan(n, options);
        let (core, _) = Core::start(&plan, Overrides::default(), seed, Moment::ZERO);
        let chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (now, ticked) = (Moment::ZERO, Moment::ZERO);
        Self { core, now, ticked, chance, rulings: Vec::new(), sent: 0, failed: 0, most_out: 0 }
    }

    pub(crate) fn model(&self) -> Arc<Model> {
        Arc::clone(&self.core.table().models[0])
    }

    pub(crate) fn replica(&self, i: usize) -> Arc<Replica> {
        Arc::clone(&self.core.table().models[0].versions[0].members[i].replica)
    }

    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.model().versions[0].members.iter().map(|m| m.replica.standing()).collect()
    }

    /// Requests at `rate` a second, evenly chosen by the policy, until `until` seconds or until `done`.
    pub(crate) fn run(
        &mut self,
        rate: f64,
        until: f64,
        fails: Fails<'_>,
        done: impl Fn(&Self) -> bool,
    ) {
        while self.now.as_secs_f64() < until && !done(self) {
            let gap = -(1.0 - self.chance.random::<f64>()).ln() / rate;
            self.now = self.now + Duration::from_secs_f64(gap);
            self.tick();
            self.request(fails);
        }
    }

    fn tick(&mut self) {
        while self.now.since(self.ticked) >= Duration::from_secs(1) {
            self.ticked = self.ticked + Duration::from_secs(1);
            let rulings = self.core.tick(self.ticked);
            self.note(rulings);
        }
    }

    /// Time in which nothing is asked.
    pub(crate) fn waits(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.tick();
    }

    /// Loads a file with so many replicas and these options.
    pub(crate) fn reload(&mut self, n: usize, options: &str) {
        self.core.apply(&plan(n, options), self.now);
    }

    /// One request from its choice to its end, as the data path does it.
    fn request(&mut self, fails: Fails<'_>) {
        let model = self.model();
        let version = &model.versions[0];
        let choice = model.choose(Wish::UNSPLIT, self.now, &mut self.chance);
        let mut members = version.members.iter();
        let some = choice.ok().and_then(|choice| {
            members.position(|m| Arc::ptr_eq(&m.replica, &choice.member.replica))
        });
        let Some(i) = some else {
            // 503 `no_replicas`: all are drained.
            self.sent += 1;
            self.failed += 1;
            return;
        };
        let failed = self.chance.random::<f64>() < fails(i, self.now.as_secs_f64());
        self.end(i, failed);
    }

    /// One request at this replica.
    pub(crate) fn end(&mut self, i: usize, failed: bool) {
        let model = self.model();
        let version = &model.versions[0];
        let in_flight = version.members[i].replica.begin(&version.state, self.now);
        let (class, status) =
            if failed { (Class::ServerError, 500) } else { (Class::Success, 200) };
        let latency = Duration::from_millis(50);
        let outcome = Outcome { class, latency, first_byte: None, tunnel: false };
        in_flight.finish(status, &outcome, self.now);
        self.sent += 1;
        self.failed += usize::from(failed);
        let rulings = self.core.judge_suspects(self.now);
        self.note(rulings);
    }

    pub(crate) fn note(&mut self, rulings: Vec<Ruling>) {
        let at = self.now.as_secs_f64();
        self.rulings.extend(rulings.into_iter().map(|ruling| (at, ruling)));
        let out = |stage| matches!(stage, Stage::Ejected { by_hand: false, .. });
        let members = self.model();
        let members = members.versions[0].members.iter();
        self.most_out = self.most_out.max(members.filter(|m| out(m.replica.stage())).count());
    }

    /// When each ejection was ruled, and of whom.
    pub(crate) fn ejections(&self) -> Vec<(f64, usize)> {
        let of = |(at, ruling): &(f64, Ruling)| {
            let Ruling::Ejected { replica, .. } = ruling else { return None };
            let (_, port) = replica.id.url.rsplit_once(':')?;
            Some((*at, port.parse::<usize>().ok()? - 1))
        };
        self.rulings.iter().filter_map(of).collect()
    }
}

fn plan(n: usize, options: &str) -> Arc<Plan> {
    let urls: Vec<_> = (0..n).map(|i| format!("http://r:{}", i + 1)).collect();
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0}}]\nmodels:\n  m: {{versions: {{v: [{}]}}, health: false, slow_start: 0s{options}}}\n",
        urls.join(", ")
    );
    Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan)
}
