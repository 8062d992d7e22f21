//! What a canary makes of evidence against it: is it one event, how does it come back, and when is enough enough?
//!
//! Requests that fail together are no independent evidence: a replica that is out for a while fails all that it is given.
//! With `confirm` evidence rolls back only where it stands without what may be one event. Until then the candidate gets
//! the first step's share. An event that is over is forgiven, and the share returns step by step.
use super::burst::{Burst, Length};
use super::fall::{Fall, Peak};
use super::metric::Metric;
use super::proof::Proof;
use super::rollout::RollOut;
use super::state::{Effect, Occasion};
use super::view::loudest;
use crate::stats::Moment;

/// How long a candidate that failed is kept at the first step, in seconds, at least.
const KEPT_BACK: f64 = 120.0;
/// An event is over when for so long, in seconds, and in so many of its requests the evidence did not grow, but fell by so
/// much.
const CALM: f64 = 30.0;
const CALM_REQUESTS: u64 = 10;
const CALM_FALL: f64 = 2.0;
/// After all its replicas failed together it is not promoted for so many times `hold`.
const WELL: f64 = 5.0;
/// On a step that it had passed before it fell it stays for so long, in seconds, and for so many requests.
const RETURN: f64 = 30.0;
const RETURN_REQUESTS: u64 = 20;
/// Failures that are so many events, of so many requests or keys, are no burst: of several replicas, and of one.
const EVENTS: [f64; 2] = [4.0, 8.0];
const UNITS: u64 = 10;
/// And this part of the bar must be left without the seconds that brought most.
const APART: f64 = 1.0 / 3.0;
/// A fall so soon after the return, in seconds, comes with the share.
const AT_ONCE: f64 = 60.0;
/// A candidate whose one replica fails now and then falls so often on one step, and no more.
const FALLS: usize = 6;
/// The same, where each fall but the first came so soon after the return, in seconds.
const SOON: f64 = 5.0;
const SOON_FALLS: usize = 2;

/// Why its climb ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Relapse {
    pub(super) step: usize,
    /// How often it fell from there.
    pub(super) here: usize,
    /// At once after the share had returned.
    pub(super) at_once: bool,
}

impl RollOut {
    /// Does the evidence cross the bar, with hits of enough clients and keys?
    pub(super) fn is_against(&self, evidence: f64) -> bool {
        evidence >= self.bar()
            && self
                .loudest()
                .is_some_and(|i| self.memory.proofs[i].loud.is_spread(&self.memory.clients))
    }

    fn loudest(&self) -> Option<usize> {
        loudest(&self.memory.proofs, &self.weights, &self.memory.clients)
    }

    /// While the candidate's machines are cold, its times roll nothing back.
    pub(super) fn is_cold(&self, age: f64) -> bool {
        let warm = self.memory.usable_since.map(|since| since + self.warms_for());
        self.plan.confirm && warm.is_none_or(|warm| age < warm)
    }

    /// Caches fill, code is compiled and pools grow for far longer than nothing works at all.
    fn warms_for(&self) -> f64 {
        10.0 * self.plan.warmup.as_secs_f64()
    }

    /// What was measured of a cold candidate is forgotten once it is warm.
    pub(super) fn warm_up(&mut self, age: f64) {
        if self.memory.warmed || self.is_cold(age) {
            return;
        }
        self.memory.warmed = true;
        if self.plan.confirm && self.plan.warmup.as_secs_f64() > 0.0 {
            for (proof, check) in self.memory.proofs.iter_mut().zip(&self.plan.checks) {
                if check.metric.warms_up() {
                    proof.restart();
                }
            }
        }
    }

    /// Does the evidence stand, whatever may have been one event?
    pub(super) fn is_confirmed(&self, evidence: f64, age: f64) -> bool {
        if !self.plan.confirm {
            return true;
        }
        let Some(loudest) = self.loudest() else { return false };
        let (proof, check) = (&self.memory.proofs[loudest], &self.plan.checks[loudest]);
        // A pause of a replica stalls its streams as an outage fails its requests.
        let speed = check.metric.is_speed() && !matches!(check.metric, Metric::ChunkGap(_));
        if check.metric.warms_up() && self.is_cold(age) {
            return false;
        }
        let bar = self.bar();
        let usual = proof.overall(check);
        let (wide, of_one) = (proof.spread.is_wide(usual), proof.spread.is_of_one(usual));
        let burst = &self.memory.burst;
        let longest = if of_one && !speed { Length::Restart } else { Length::Outage };
        if burst.without(evidence, longest) >= bar {
            return true;
        }
        // Many events are not one. The times of requests, though, go up and down together, for a minute.
        let (events, longest) = match (speed, wide) {
            (true, _) => (EVENTS[0], Length::Restart),
            (false, true) => (EVENTS[0], Length::Hiccup),
            (false, false) => (EVENTS[1], Length::Outage),
        };
        (wide || !speed)
            && proof.spread.events() >= events
            && proof.loud.units() >= UNITS
            && burst.without(evidence, longest) >= bar * APART
    }

    /// May it be promoted, as far as falls go? Where all its replicas failed together, that may come again.
    pub(super) fn is_long_well(&self, age: f64) -> bool {
        let wide = self.memory.falls.iter().filter(|fall| fall.wide).map(|fall| fall.at);
        let last = wide.fold(f64::NEG_INFINITY, f64::max);
        age - last >= WELL * self.plan.hold.as_secs_f64()
    }

    /// The first step's share, until it is known whether it was a burst.
    pub(super) fn fall(&mut self, evidence: f64, age: f64, now: Moment) -> Vec<Effect> {
        let memory = &mut self.memory;
        let told = memory.failing_since.replace(age).is_some();
        memory.before_fall = memory.proofs.iter().map(Proof::stakes_before).collect();
        let step = memory.step;
        let fell_before = memory.falls.iter().any(|fall| fall.step == step);
        let returned = fell_before.then_some(age - memory.step_since);
        memory.peak = Some(Peak { evidence, at: age, requests: memory.requests[0] });
        memory.falls.push(Fall { step, at: age, returned, wide: false });
        let mut effects = self.cut(age);
        if !told {
            effects.extend(self.announce(Occasion::Failing, now));
        }
        effects
    }

    /// Gives the first step's share.
    pub(super) fn cut(&mut self, age: f64) -> Vec<Effect> {
        let first = self.plan.steps[self.memory.first] / 100.0;
        if self.plan.aa || self.memory.share <= first {
            return Vec::new();
        }
        let back = self.memory.returning.unwrap_or(0);
        self.memory.returning = Some(back.max(self.memory.step));
        self.enter_step(self.memory.first, age);
        self.share_effect()
    }

    /// Forgives what it fell by, once that is over: the evidence has not grown for a while.
    pub(super) fn forgive(&mut self, evidence: f64, age: f64) {
        let requests = self.memory.requests[0];
        let Some(peak) = self.memory.peak else { return };
        if evidence > peak.evidence {
            self.memory.peak = Some(Peak { evidence, at: age, requests });
            return;
        }
        let speed = self.loudest().is_some_and(|i| self.plan.checks[i].metric.is_speed());
        let calm = if speed { KEPT_BACK } else { CALM };
        let waits = age - peak.at < calm || requests < peak.requests + CALM_REQUESTS;
        if waits || evidence > peak.evidence - CALM_FALL {
            return;
        }
        self.memory.peak = None;
        let memory = &mut self.memory;
        let before = std::mem::take(&mut memory.before_fall);
        for (proof, before) in memory.proofs.iter_mut().zip(&before) {
            proof.forgive(before);
        }
        memory.burst = Burst::default();
    }

    /// May it go on after what it fell by was forgiven?
    pub(super) fn may_recover(&self, age: f64) -> bool {
        let since = self.memory.failing_since.unwrap_or(age);
        self.memory.peak.is_none() && age - since >= KEPT_BACK
    }

    pub(super) fn recover(&mut self, age: f64, now: Moment) -> Vec<Effect> {
        self.memory.failing_since = None;
        self.begin_step(age);
        self.announce(Occasion::Recovered, now)
    }

    /// Has it fallen often enough? Called while it fails: how wide an event is shows only then.
    pub(super) fn relapse(&mut self, age: f64) -> Option<Relapse> {
        let loudest = self.loudest().filter(|_| self.memory.peak.is_some())?;
        let (proof, check) = (&self.memory.proofs[loudest], &self.plan.checks[loudest]);
        if check.metric.warms_up() && self.is_cold(age) {
            return None;
        }
        let wide = proof.spread.is_wide(proof.overall(check));
        let last = self.memory.falls.last_mut()?;
        last.wide |= wide;
        let last = *last;
        let before = &self.memory.falls[..self.memory.falls.len() - 1];
        let same = || before.iter().filter(|fall| fall.step == last.step);
        let after = |fall: &Fall, seconds| fall.returned.is_some_and(|after| after <= seconds);
        let again = last.wide && before.iter().any(|fall| fall.wide);
        let soon = same().filter(|fall| after(fall, SOON)).count();
        let with_the_share = after(&last, SOON) && soon + 1 >= SOON_FALLS;
        let here = same().count() + 1;
        let enough = again || with_the_share || here > FALLS;
        let at_once = (again || with_the_share) && after(&last, AT_ONCE);
        enough.then_some(Relapse { step: last.step, here, at_once })
    }

    /// May it go to the next step of those that it had passed before it fell?
    pub(super) fn may_return(&self, age: f64) -> bool {
        let passed = RETURN.min(self.plan.hold.as_secs_f64());
        self.memory.returning.is_some_and(|back| back > self.memory.step)
            && age - self.memory.step_since >= passed
            && self.memory.samples >= RETURN_REQUESTS
            && self.is_calm_elsewhere()
    }

    /// Goes one step up, without proof: that was there before.
    pub(super) fn step_back_up(&mut self, age: f64, now: Moment) -> Vec<Effect> {
        let step = self.memory.step + 1;
        if self.memory.returning == Some(step) {
            self.memory.returning = None;
        }
        self.enter_step(step, age);
        let mut effects = self.share_effect();
        effects.extend(self.announce(Occasion::Advanced, now));
        effects
    }

    /// What the evidence makes of a canary that waits for a person: nobody may be hurt meanwhile.
    pub(super) fn guard(&mut self, evidence: f64, age: f64, now: Moment) -> Vec<Effect> {
        if self.plan.aa || self.memory.failed {
            return Vec::new();
        }
        if self.is_against(evidence) {
            if self.is_confirmed(evidence, age) {
                self.memory.failing_since.get_or_insert(age);
                return self.fail(now);
            }
            if self.memory.peak.is_none() {
                return self.fall(evidence, age, now);
            }
        }
        self.forgive(evidence, age);
        if self.may_recover(age) {
            self.memory.failing_since = None;
        }
        match self.waits_in_vain(age) {
            Some(waits) => self.spare(waits, age, now),
            None => Vec::new(),
        }
    }

    /// Does nothing keep every candidate from the next step: an outage of the stable side, requests that hang, clients who
    /// wait in vain, or failures that have just begun?
    pub(super) fn is_calm_elsewhere(&self) -> bool {
        !self.stable_fails()
            && self.memory.waiting.unexplained().is_none()
            && !self.memory.in_vain.has_begun()
            && self.worse_lately().is_none()
    }

    /// The check in which the candidate has just begun to be far worse, and its rate there in the last seconds.
    pub(super) fn worse_lately(&self) -> Option<(usize, f64)> {
        let age = self.memory.ticked;
        let mut each = self.memory.proofs.iter().zip(&self.plan.checks).enumerate();
        each.find_map(|(i, (proof, check))| Some((i, proof.worse_lately(check, age)?)))
    }
}
