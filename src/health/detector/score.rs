//! One CUSUM: the score, and what happened since it left zero.
use super::super::ejection::Cause;
use super::super::evidence::{Count, Evidence, PathClass};
use super::super::seconds::Beside;
use super::Reading;
use crate::stats::Moment;

/// How a score rises and when it is enough.
#[derive(Debug)]
pub(super) struct Rule {
    /// The score of a suspect, and the evidence that the second question asks for.
    pub(super) bar: f64,
    /// Bad is at least this rate, and this many times the usual one.
    bad: (f64, f64),
}

/// For who fails much: ln(10⁶). The second question is asked often: with ln(10⁴) pools of two to four that all fail
/// every second request lost one in some four hours (simulated).
pub(super) const QUICK: Rule = Rule { bar: 13.815_510_557_964_274, bad: (0.2, 4.0) };
/// For who fails now and then: ln(10⁸).
pub(super) const SLOW: Rule = Rule { bar: 18.420_680_743_952_367, bad: (0.05, 2.0) };

impl Rule {
    /// How much one ending speaks for "bad" against "as usual", as the logarithm of a likelihood ratio.
    pub(super) fn step(&self, usual: f64, failed: bool) -> f64 {
        let (least, times) = self.bad;
        let bad = (times * usual).max(least).min(0.5 + usual / 2.0);
        if failed { (bad / usual).ln() } else { ((1.0 - bad) / (1.0 - usual)).ln() }
    }
}

/// What the peers usually do counts as so many requests of each of them, and no more than [`MOST_KNOWN`]. Of two
/// replicas in a sudden outage that they share, one may well fail some times before the other one does.
const KNOWN: f64 = 5.0;
const MOST_KNOWN: f64 = 25.0;

/// What goes on around an ending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here {
    /// How often the peers failed lately.
    pub(super) usual: f64,
    /// Failures and requests of the peers since the ending before.
    pub(super) peers: (f64, f64),
    /// How often they failed requests that began in the same second.
    pub(super) expected: f64,
}

/// A score with what happened since it left zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    pub(super) level: f64,
    own: Count,
    /// Failures and requests of the peers.
    peers: (f64, f64),
    /// How many of its requests its peers would have failed, going by the seconds in which those began.
    expected: f64,
    since: Moment,
    /// When its first failure began.
    pub(super) began: Moment,
    causes: [u32; Cause::FAILURES.len()],
    /// Failures that say that it is full.
    full: u64,
    /// By kind of path.
    failed_on: [u32; PathClass::CLASSES],
    worked_on: [u32; PathClass::CLASSES],
    /// Successes up to this one, by [`LastGood::total`], have moved the score.
    used: u64,
}

impl Score {
    /// Takes in one ending.
    pub(super) fn take(
        &mut self,
        rule: &Rule,
        reading: &Reading,
        here: &Here,
        good: &LastGood,
        now: Moment,
    ) {
        let Here { usual, peers, expected } = *here;
        let counted = 1 + reading.released;
        let step = rule.step(usual, reading.failure.is_some()) * f64::from(counted);
        if self.level > 0.0 {
            self.peers.0 += peers.0;
            self.peers.1 += peers.1;
            self.level += step;
        } else if reading.failure.is_some() {
            // What took long to fail stands where it began: what began later and ended well comes after it.
            let later = good.began_after(reading.began, self.used);
            self.used = good.total;
            let since = if later == 0 { now } else { reading.began };
            let began = reading.began;
            *self = Self { since, began, used: self.used, ..Self::default() };
            self.own.requests = u64::from(later);
            self.expected = usual * f64::from(later);
            self.level = step + rule.step(usual, false) * f64::from(later);
        } else {
            return;
        }
        self.own.requests += u64::from(counted);
        self.expected += expected * f64::from(counted);
        let place = reading.path.place();
        let on = if let Some(cause) = reading.failure {
            self.own.failures += u64::from(counted);
            self.began = self.began.min(reading.began);
            self.full += if reading.full { u64::from(counted) } else { 0 };
            if let Some(i) = Cause::FAILURES.iter().position(|known| *known == cause) {
                self.causes[i] = self.causes[i].saturating_add(counted);
            }
            &mut self.failed_on[place]
        } else {
            &mut self.worked_on[place]
        };
        *on = on.saturating_add(counted);
        self.level = self.level.clamp(0.0, rule.bar);
        if self.level == 0.0 {
            *self =
                Self { used: good.total + u64::from(reading.failure.is_none()), ..Self::default() };
        }
    }

    /// Is it enough, and did its peers do better in the same time, beyond chance? `peers`: what they did since the
    /// last ending. `others`: how many they are. `beside`: how often they fail at least, and of how many requests.
    /// `good_since`: its good answers to requests that began since then.
    pub(super) fn convicts(
        &self,
        rule: &Rule,
        usual: f64,
        peers: (f64, f64),
        others: f64,
        beside: Beside,
        good_since: impl Fn(Moment) -> f64,
    ) -> bool {
        if self.level < rule.bar {
            return false;
        }
        let own = (self.own.failures as f64, self.own.requests as f64);
        let known = (KNOWN * others).min(MOST_KNOWN);
        let (failed, asked) = (self.peers.0 + peers.0, self.peers.1 + peers.1);
        let rate = ((failed + known * usual) / (asked + known)).max(beside.rate);
        // Where its seconds were bad ones for its peers as well, what these did in others tells nothing of it.
        let asked = if beside.rate > usual { asked.min(beside.requests) } else { asked } + known;
        // What went well and ended before its first failure did, but began later, counts as well.
        let later = good_since(self.began);
        let all = (own.0, own.1.max(own.0 + later));
        let level = own.0 * rule.step(usual, true) + (all.1 - own.0) * rule.step(usual, false);
        (all.1 <= own.1 || level >= rule.bar) && excess(all, (rate * asked, asked)) >= rule.bar
    }

    /// What its peers would have done with its requests, going by what was known when each ended.
    pub(super) fn beside(&self) -> Beside {
        let rate = self.expected / self.own.requests.max(1) as f64;
        Beside { rate, requests: f64::INFINITY }
    }

    /// What it did while its score rose.
    pub(super) fn evidence(&self, peers: (f64, f64)) -> Evidence {
        let whole = |count: f64| count.round() as u64;
        Evidence {
            own: self.own,
            peers: Count {
                failures: whole(self.peers.0 + peers.0),
                requests: whole(self.peers.1 + peers.1),
            },
            since: self.since,
            causes: self.causes,
            full: self.full,
            only_on: self.only_on(),
            held: 0,
        }
    }

    /// The class of path that all failures were on, where requests on others ended well.
    fn only_on(&self) -> Option<PathClass> {
        let mut failed = (0..PathClass::CLASSES).filter(|i| self.failed_on[*i] > 0);
        let (only, further) = (failed.next()?, failed.next());
        let elsewhere = (0..PathClass::CLASSES).any(|i| i != only && self.worked_on[i] > 0);
        (further.is_none() && elsewhere).then(|| PathClass::new(only))
    }
}

/// Successes remembered.
const KEPT: usize = 24;
/// Of those so many are no longer all that began after a moment, if so many did.
pub(super) const MANY: u32 = 18;

/// When the last successes began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastGood {
    began: [Moment; KEPT],
    /// How many there were ever.
    pub(super) total: u64,
}

impl LastGood {
    pub(super) fn push(&mut self, began: Moment) {
        self.began[(self.total % KEPT as u64) as usize] = began;
        self.total += 1;
    }

    /// How many of the last began after this, without the first `used` of all.
    pub(super) fn began_after(&self, began: Moment, used: u64) -> u32 {
        let first = self.total.saturating_sub(KEPT as u64).max(used);
        let places = (first..self.total).map(|i| (i % KEPT as u64) as usize);
        places.map(|i| u32::from(self.began[i] > began)).sum()
    }
}

/// How much speaks for the first rate being the higher one, against both being the same: the logarithm of the
/// generalized likelihood ratio. Both are (failures, requests). Few peers or few of their requests prove little, which
/// comparing with their rate as if it were known for sure would not see: in pools of two and three that ejected
/// equals (simulated).
pub(super) fn excess(own: (f64, f64), peers: (f64, f64)) -> f64 {
    let (its, theirs) = (own.0 / own.1, peers.0 / peers.1);
    if its <= theirs {
        return 0.0;
    }
    let both = (own.0 + peers.0) / (own.1 + peers.1);
    own.1 * divergence(its, both) + peers.1 * divergence(theirs, both)
}

/// Kullback and Leibler's divergence of one rate from another.
fn divergence(p: f64, q: f64) -> f64 {
    let [p, q] = [p, q].map(|rate| rate.clamp(1e-9, 1.0 - 1e-9));
    p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln()
}
