//! What one check knows: counts of both sides, and what they prove.
use super::amounts::{Amounts, Compared};
use super::arrivals::Arrivals;
use super::blocks::{Blocks, Closed, Entry, Stratum};
use super::clients::Clients;
use super::count::Count;
use super::evidence::{Harm, PRIOR, RESERVE};
use super::keys::Class;
use super::lately::Lately;
use super::loud::{Hit, Loud};
use super::metric::Reading;
use super::observation::{Arm, Ended, Finding, Observation};
use super::plan::Check;
use super::prefixes::Warmth;
use super::safe::{Safe, has_room};
use super::spread::Spread;
use super::usual::Usual;
use super::world::Fairness;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The chance of letting a candidate advance that is worse by a step's margin, as the logarithm of 1/0.05.
const SAFE: f64 = 2.995_732_273_553_991;

/// How much of what is kept back each mark puts on: never less than e^-8 of the whole is left in the first half hour.
const RAISE: f64 = 0.01;

/// Readings of an amount on a step, at least: what was never measured has not passed.
const MIN_READINGS: u64 = 20;
/// From this share on times must be proven to be no worse, as rates must on every step.
const EXPOSED: f64 = 0.25;
/// Where nearly everything is a hit on the stable side, nothing could be worse by a margin.
const NO_ROOM: f64 = 0.95;
/// Marks whose stakes are known, 15 s apart.
const MARKS: usize = 6;

/// The state of one check over a whole roll-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Proof {
    harm: Harm,
    #[serde(default)]
    pub(super) arrivals: Arrivals,
    safe: Safe,
    candidate: Count,
    stable: Count,
    /// The candidate's bad answers, as [`Finding::BAD`] names them.
    flaws: [u64; Finding::BAD.len()],
    /// Those of its failures that were waits until the client left.
    hung: u64,
    /// Readings of the candidate on this step: those that were compared, and those that must not be.
    pub(super) on_step: u64,
    /// Of all, and of each class: the candidate, and the stable side.
    usual: [Usual; 2],
    usual_of: BTreeMap<u8, [Usual; 2]>,
    #[serde(skip)]
    blocks: Blocks,
    pub(super) amounts: Amounts,
    pub(super) loud: Loud,
    pub(super) spread: Spread,
    /// Of readings that are compared, without those of keys that failed before.
    #[serde(skip)]
    lately: Lately,
    /// The stakes at the last marks, the oldest first.
    #[serde(skip)]
    marks: Vec<[f64; 8]>,
}

/// What a reading is taken under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// Seconds since the canary began.
    pub(super) age: f64,
    /// When the request began, in seconds.
    pub(super) began: f64,
    /// The split under which it began, and the candidate's share of that.
    pub(super) split: (u32, f64),
    /// It is the split of now.
    pub(super) current: bool,
    pub(super) fairness: Fairness,
    pub(super) warmth: Warmth,
    /// With whom it is compared; `None`: it is not counted, because its key or its client has its part already.
    pub(super) class: Option<Class>,
    /// It is the first reading of a sticky key on its side.
    pub(super) arrives: bool,
    pub(super) whose: Hit,
}

/// What a verdict on a step is asked under.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// The candidate's.
    pub(super) share: f64,
    pub(super) fairness: Fairness,
    /// Times need no proof any more: the step has waited for it long enough.
    pub(super) lenient: bool,
    /// Requests of the candidate on this step, and of the stable side since the beginning.
    pub(super) requests: (u64, u64),
}

impl At {
    /// Has the candidate too few replicas for this check?
    pub(super) fn is_unfair_to(self, check: &Check) -> bool {
        check.metric.depends_on_load() && self.fairness == Fairness::Nobody
    }
}

impl Proof {
    pub(super) fn new() -> Self {
        Self {
            harm: Harm::keeping(RESERVE),
            arrivals: Arrivals::default(),
            safe: Safe::default(),
            candidate: Count::default(),
            stable: Count::default(),
            flaws: Default::default(),
            hung: 0,
            on_step: 0,
            usual: Default::default(),
            usual_of: BTreeMap::new(),
            blocks: Blocks::default(),
            amounts: Amounts::default(),
            loud: Loud::default(),
            spread: Spread::default(),
            lately: Lately::default(),
            marks: Vec::new(),
        }
    }

    /// Takes in what it says of a request. Returns whether that is a hit; `None`: it cannot be compared (yet).
    pub(super) fn observe(
        &mut self,
        check: &Check,
        (reading, seen): (Reading, &Observation),
        arm: Arm,
        at: &Conditions,
    ) -> Option<bool> {
        let (place, alone) = ((seen.beside, at.warmth), (at.fairness, at.age));
        let compared = self.amounts.place(&check.metric, reading, arm, place, alone);
        let hit = match compared {
            Compared::With(alike) => {
                let times = match arm {
                    Arm::Candidate => check.at_most.times * self.amounts.replicas.allowance(),
                    Arm::Stable => check.metric.tie().min(check.at_most.times),
                };
                self.amounts.hit(reading, alike, times).map(|hit| (alike, hit))
            }
            Compared::Never | Compared::NotYet => None,
        };
        if arm == Arm::Candidate && at.current && (hit.is_some() || compared == Compared::Never) {
            self.on_step += 1;
            self.amounts.cold += u64::from(at.warmth == Warmth::Elsewhere && hit.is_none());
        }
        if let Some((alike, hit)) = hit {
            self.count((check, seen), hit, arm, at);
            if let Some(class) = at.class {
                if !class.failed_before() {
                    self.lately.note(arm == Arm::Candidate, hit, at.age);
                }
                let stratum = Stratum { split: at.split.0, alike, class };
                self.enter(check, hit, arm, stratum, at);
            }
        }
        let learns = reading_is_exact(reading);
        if learns {
            self.amounts.learn(&check.metric, reading, seen, (arm, at.warmth, at.age));
        }
        hit.map(|(_, hit)| hit)
    }

    /// Counts a request for those who read.
    fn count(&mut self, of: (&Check, &Observation), hit: bool, arm: Arm, at: &Conditions) {
        let (check, seen) = of;
        match arm {
            Arm::Candidate => {
                self.candidate.add(u64::from(hit), 1);
                let usual = self.overall(check);
                self.spread.note(seen.replica, hit, (at.began, at.age), usual);
                if hit {
                    self.loud.note(at.whose);
                    self.hung += u64::from(seen.ended == Ended::Cancelled);
                }
                let found = seen.bad_output.filter(|_| check.metric.rules().is_some());
                let flaw = Finding::BAD.iter().position(|bad| Some(*bad) == found);
                if let Some(flaw) = flaw {
                    self.flaws[flaw] += 1;
                }
            }
            Arm::Stable => self.stable.add(u64::from(hit), 1),
        }
    }

    fn enter(&mut self, check: &Check, hit: bool, arm: Arm, stratum: Stratum, at: &Conditions) {
        let amounts = check.metric.compares_amounts();
        let (age, share, whose) = (at.age, at.split.1, at.whose);
        // A client who reads slowly makes times long.
        let whose = Hit { aimed: whose.aimed || amounts, ..whose };
        let entry = Entry { arm, hit, whose, age, share, amounts };
        let arrived =
            (at.arrives && !amounts).then(|| self.arrivals.enter(stratum, entry)).flatten();
        if let Some(closed) = arrived {
            let [_, rate] = self.rates_of(check, stratum.class);
            self.arrivals.add(&closed, rate, check.margin(rate));
        }
        let Some(Closed { block, hits }) = self.blocks.enter(stratum, entry) else { return };
        let [own, rate] = self.rates_of(check, stratum.class);
        let stops = check.margin(rate);
        if at.current {
            self.safe.add(&block, (own, rate), check.step_margin(share, rate));
        }
        let each = self.harm.add(&block, rate, stops);
        self.loud.gain(&hits, each);
        // Learned from afterwards: what is bet comes from earlier blocks alone.
        let seen = self.usual_of.entry(stratum.class as u8).or_default();
        for [own, usual] in [seen, &mut self.usual] {
            own.learn(block.candidate_hits, block.candidate, age);
            usual.learn(block.stable_hits, block.stable, age);
        }
    }

    /// The rates of those of a class lately: the candidate's, and the stable side's.
    fn rates_of(&self, check: &Check, class: Class) -> [f64; 2] {
        let (expected, weight) = class.expects(self.overall(check), PRIOR);
        let seen = self.usual_of.get(&(class as u8)).copied().unwrap_or_default();
        seen.map(|one| one.rate(expected, weight))
    }

    /// The stable side's rate lately.
    pub(super) fn overall(&self, check: &Check) -> f64 {
        self.usual[1].rate(check.metric.prior(), PRIOR)
    }

    /// The candidate's rate in the last seconds, where it has just begun to be far worse. The times of requests go up
    /// and down by themselves.
    pub(super) fn worse_lately(&self, check: &Check, age: f64) -> Option<f64> {
        if check.metric.compares_amounts() {
            return None;
        }
        let usual = self.overall(check);
        self.lately.worse(usual + check.margin(usual), age)
    }

    /// A new step asks for new proof of safety; what speaks against the candidate stays.
    pub(super) fn step(&mut self) {
        self.safe.restart();
        self.on_step = 0;
    }

    /// What is usual is learned anew, and so is what a step asks for.
    pub(super) fn forget_usual(&mut self) {
        self.usual = Default::default();
        self.usual_of.clear();
        self.safe.restart();
    }

    /// So many marks have passed.
    pub(super) fn raise(&mut self, marks: u32) {
        if marks > 0 {
            let part = 1.0 - (1.0 - RAISE).powi(marks.cast_signed());
            self.harm.raise(part);
            self.arrivals.raise(part);
            self.marks.push(*self.harm.stakes());
            let old = self.marks.len().saturating_sub(MARKS);
            self.marks.drain(..old);
            self.amounts.replicas.estimate();
        }
    }

    /// The stakes of a minute ago and more: those before an event that has just been seen.
    pub(super) fn stakes_before(&self) -> [f64; 8] {
        self.marks.first().copied().unwrap_or(*Harm::keeping(RESERVE).stakes())
    }

    /// Forgets an event: what was won since the stakes were these.
    pub(super) fn forgive(&mut self, before: &[f64; 8]) {
        self.harm.forgive(before);
        self.arrivals.forgive();
        self.marks.clear();
        self.loud.forgive();
        self.spread.forgive();
    }

    /// Forgets all that was bet, but not what is usual.
    pub(super) fn restart(&mut self) {
        self.harm = Harm::keeping(RESERVE);
        self.arrivals = Arrivals::default();
        self.marks.clear();
        self.loud = Loud::default();
        self.spread.forgive();
    }

    /// The logarithm of what speaks against the candidate, without what its loudest client and key said.
    pub(super) fn harm(&self, clients: &Clients) -> f64 {
        self.arrivals.with(self.loud.left_of(&self.harm, clients), clients)
    }

    /// All of it.
    pub(super) fn raw_harm(&self) -> f64 {
        self.harm.log()
    }

    pub(super) fn counts(&self) -> (Count, Count) {
        (self.candidate, self.stable)
    }

    /// What was wrong with the candidate's answers, and how often.
    pub(super) fn flaws(&self) -> impl Iterator<Item = (Finding, u64)> {
        Finding::BAD.into_iter().zip(self.flaws).filter(|(_, count)| *count > 0)
    }

    /// How many of the candidate's failures were waits until the client left.
    pub(super) fn hung(&self) -> u64 {
        self.hung
    }

    /// Is it a check that nobody asked for, and of which no request tells anything, or which all fail alike?
    pub(super) fn is_passed_over(&self, check: &Check) -> bool {
        let none = self.candidate.requests == 0 && self.stable.requests == 0;
        let rules = check.metric.rules().is_some_and(|rules| rules.optional);
        let optional = rules || check.metric.needs_streams();
        optional && (none || (rules && self.lacks_room(check)))
    }

    /// Do nearly all requests of the stable side fail it?
    pub(super) fn lacks_room(&self, check: &Check) -> bool {
        let rate = self.usual[1].rate(check.metric.prior(), PRIOR / 5.0);
        !check.metric.compares_amounts() && rate > NO_ROOM
    }

    /// Is there proof enough on this step that it is no worse? Of times, that is asked where many requests are exposed;
    /// but they must have been measured. Where nothing could be worse by the margin, nothing is proven.
    pub(super) fn passes(&self, check: &Check, at: At) -> bool {
        if at.is_unfair_to(check) {
            return self.on_step >= MIN_READINGS;
        }
        if self.lacks_room(check) {
            return false;
        }
        let proven = self.safe.log() >= SAFE;
        if self.is_rare(check, at) {
            return true;
        }
        if check.metric.compares_amounts() {
            let asked = at.share >= EXPOSED && !at.lenient && check.metric.is_speed();
            let compared = self.on_step > self.amounts.cold;
            return self.on_step >= MIN_READINGS && (proven || !asked || !compared);
        }
        proven
    }

    /// Is it of streams, of which there are so few that a step cannot wait for them? The candidate must have had its part.
    fn is_rare(&self, check: &Check, at: At) -> bool {
        let (candidate, stable) = at.requests;
        let part = self.stable.requests as f64 / stable.max(1) as f64;
        check.metric.needs_streams() && part * (candidate as f64) < 2.0 * MIN_READINGS as f64
    }

    /// How many more requests of the candidate that takes, if it goes on as so far; `None`: no number would do.
    pub(super) fn needs(&self, check: &Check, at: At) -> Option<f64> {
        if at.is_unfair_to(check) || self.is_passed_over(check) || self.is_rare(check, at) {
            return Some(0.0);
        }
        let left = SAFE - self.safe.log();
        let usual = self.overall(check);
        let margin = check.step_margin(at.share, usual);
        if left <= 0.0 {
            return Some(0.0);
        }
        if self.lacks_room(check) || !has_room(usual, margin) {
            return None;
        }
        let beside = (1.0 - at.share) / at.share.max(1e-6);
        // What most are like tells how long it takes.
        let most =
            self.usual_of.values().max_by(|a, b| a[1].requests().total_cmp(&b[1].requests()));
        let (expected, seen) = (check.metric.prior(), most.unwrap_or(&self.usual));
        let [own, usual] = [&seen[0], &seen[1]].map(|one| one.rate(expected, PRIOR));
        Some(left / Safe::pace((own, usual), margin, beside)?)
    }

    /// What outlives a restart.
    pub(super) fn to_keep(&self) -> Self {
        Self { amounts: self.amounts.to_keep(), blocks: Blocks::default(), ..self.clone() }
    }
}

fn reading_is_exact(reading: Reading) -> bool {
    matches!(reading, Reading::Amount(_))
}
