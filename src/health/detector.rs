//! Is one replica worse than the others of its pool? Two CUSUMs, and a second question.
//!
//! Each request moves a score: a failure up by how much likelier it is from a bad replica than from
//! a good one, a success down likewise (Page 1954). "Good" is what the other replicas do, so an
//! outage that all share moves nobody. The first score takes "bad" for 20 % and more, and finds a dead
//! replica with its fifth failure; the second takes it for 5 % and more, and adds up what comes now
//! and then. Their bars keep false alarms a million requests apart and more (e-detectors, Shin et al.
//! 2022). At a bar the second question is asked: over the same period, did it fail more than its peers,
//! beyond chance? A sudden shared outage passes the first (the others' rate lags behind) and fails the
//! second. Simulated: without it all ten of ten go.
use super::ejection::Cause;
use super::evidence::{Count, Evidence, Faded, PathClass, PoolCounts};
use super::seconds::{Beside, Seconds, rate};
use crate::stats::Moment;
use std::time::Duration;

mod score;

use score::{QUICK, SLOW, Score};

/// What peers did in a longer silence than this says nothing of the requests around it.
const GAP: Duration = Duration::from_mins(1);
/// Evidence from before a longer silence than this is none, if its peers were asked often in the meantime: it was
/// another process, or another hour.
const STALE: Duration = Duration::from_mins(5);
/// This often, each of them on average. Where all are asked seldom, silence is nothing, for a day.
const OFTEN: u64 = 20;
const DAY: Duration = Duration::from_hours(24);

/// A replica that answered without a failure for so long is well, however seldom it was asked.
const WELL: Duration = Duration::from_mins(15);

/// How one request at a replica ended.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// `None`: well.
    pub failure: Option<Cause>,
    /// When the replica was picked for it.
    pub began: Moment,
    pub path: PathClass,
    /// The failure says that the replica is full.
    pub full: bool,
    /// Failures of the same client that were not counted until now and are, with this one.
    pub released: u32,
    /// What its version did with requests that began in the same second, as far as they ended; it counts this one.
    pub beside: Count,
}

/// What is held against one replica.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    quick: Score,
    slow: Score,
    seconds: Seconds,
    recent: Faded,
    ever: Count,
    /// What its peers had done when the last ending was taken in, and when that was.
    peers: Count,
    seen: Moment,
    /// When its last failure was.
    failed: Moment,
    good: score::LastGood,
    /// Failures that are not counted, since the scores left zero.
    held: u32,
}

impl Detector {
    /// Takes in one ending. `pool` counts it already, and what it releases.
    pub fn observe(&mut self, reading: &Reading, pool: &PoolCounts, now: Moment) {
        let counted = 1 + u64::from(reading.released);
        let failures = if reading.failure.is_some() { counted } else { 0 };
        self.ever.requests += counted;
        self.ever.failures += failures;
        self.recent.requests += counted as f64;
        self.recent.failures += failures as f64;
        self.seconds.add(counted, reading.failure.is_some(), reading.began);
        let peers = self.peers_since(pool, now);
        let is_well = reading.failure.is_none() && now.since(self.failed) >= WELL;
        if reading.failure.is_some() {
            self.failed = now;
        }
        if is_well || self.is_stale(pool, now) {
            self.clear();
        }
        self.peers = pool.ever.without(self.ever);
        self.seen = now;
        if reading.failure.is_none() && !self.is_raised() {
            self.good.push(reading.began);
            return;
        }
        let usual = self.usual(pool);
        let beside = reading.beside.without(self.seconds.of(reading.began));
        let here = score::Here { usual, peers, expected: rate(beside, usual) };
        for (score, rule) in [(&mut self.quick, &QUICK), (&mut self.slow, &SLOW)] {
            score.take(rule, reading, &here, &self.good, now);
        }
        if reading.failure.is_none() {
            self.good.push(reading.began);
        }
        if !self.is_raised() {
            self.held = 0;
        }
    }

    /// Takes in a failure of its whole pool: it raises what is usual, and speaks against nobody. `pool` counts it.
    pub fn share_failure(&mut self, began: Moment) {
        self.ever.requests += 1;
        self.ever.failures += 1;
        self.recent.requests += 1.0;
        self.recent.failures += 1.0;
        self.seconds.add(1, true, began);
    }

    /// Notes a failure that is not counted.
    pub fn hold(&mut self) {
        if self.is_raised() {
            self.held = self.held.saturating_add(1);
        }
    }

    /// Does anything speak against it at present?
    pub fn is_raised(&self) -> bool {
        self.quick.level > 0.0 || self.slow.level > 0.0
    }

    /// How often the others failed lately.
    pub fn usual(&self, pool: &PoolCounts) -> f64 {
        let others = pool.recent.without(self.recent);
        ((others.failures + 1.0) / (others.requests + 100.0)).clamp(0.01, 0.5)
    }

    /// What its peers did since the last ending was taken in; after a long silence what they did in the last minute.
    fn peers_since(&self, pool: &PoolCounts, now: Moment) -> (f64, f64) {
        if now.since(self.seen) < GAP {
            let since = pool.ever.without(self.ever).without(self.peers);
            return (since.failures as f64, since.requests as f64);
        }
        let lately = pool.recent.without(self.recent);
        (lately.failures, lately.requests)
    }

    fn is_stale(&self, pool: &PoolCounts, now: Moment) -> bool {
        let asked = pool.ever.without(self.ever).without(self.peers).requests;
        let silence = now.since(self.seen);
        silence >= DAY || (silence >= STALE && asked >= OFTEN * u64::from(pool.replicas))
    }

    fn clear(&mut self) {
        (self.quick, self.slow, self.held) = Default::default();
    }

    /// How near it is to being a suspect, 0 to 1.
    pub fn nearness(&self) -> f64 {
        (self.quick.level / QUICK.bar).max(self.slow.level / SLOW.bar)
    }

    pub fn suspect(&self) -> bool {
        self.quick.level >= QUICK.bar || self.slow.level >= SLOW.bar
    }

    /// The evidence, if it is a suspect and its peers did better in the same time, beyond chance.
    ///
    /// `seconds`: what its version did with the requests that began in a second.
    pub fn conviction(
        &self,
        pool: &PoolCounts,
        seconds: impl Fn(Moment) -> Count,
        now: Moment,
    ) -> Option<Evidence> {
        if !self.suspect() {
            return None;
        }
        let (usual, peers) = (self.usual(pool), self.peers_since(pool, now));
        let all = pool.recent.without(self.recent);
        let lately = all.failures / all.requests.max(1.0);
        let both = [(&self.quick, &QUICK), (&self.slow, &SLOW)];
        let others = f64::from(pool.replicas.saturating_sub(1));
        let good = |began| {
            let last = self.good.began_after(began, 0);
            let (rest, later) = self.seconds.good_after(began, now);
            // Where few did, the last ones are all of that second, and known to the moment.
            if last < score::MANY { later.max(f64::from(last)) } else { rest + later }
        };
        let convicted = both.into_iter().find(|(score, rule)| {
            // What ended beside its failures may have begun when all was well.
            let beside = self.seconds.beside(&seconds, usual, score.began, now);
            let beside = beside.unwrap_or_else(|| score.beside());
            // For some seconds peers may do better than they mostly do, which speaks against nobody.
            let beside = Beside { rate: beside.rate.max(lately), ..beside };
            score.convicts(rule, usual, peers, others, beside, good)
        });
        convicted.map(|(score, _)| Evidence { held: self.held, ..score.evidence(peers) })
    }

    /// Lets its rate fade, and what speaks against one that fell silent. Returns what is left of the rate.
    pub fn fade(&mut self, keeps: f64, pool: &PoolCounts, now: Moment) -> Faded {
        if self.is_stale(pool, now) {
            self.clear();
        }
        self.recent.requests *= keeps;
        self.recent.failures *= keeps;
        self.recent
    }

    /// Takes out what it did by the second, which must leave the pool's seconds: an ejected one is no yardstick for those
    /// that fail beside it.
    pub fn take_seconds(&mut self) -> Seconds {
        std::mem::take(&mut self.seconds)
    }

    /// Forgets all that speaks for or against it. Returns what must leave the pool's fading sums: its peers must not be
    /// judged against it. What was counted for ever stays: others compare by differences, which would be wrong.
    pub fn forget(&mut self) -> Faded {
        let (seconds, ever) = (self.take_seconds(), self.ever);
        std::mem::replace(self, Self { seconds, ever, ..Self::default() }).recent
    }
}

#[cfg(test)]
mod tests;
