//! How a canary takes requests in: whose they are, with whom they are compared, and what each check says of them.
use super::clients::tag;
use super::keys::{Class, Slot};
use super::loud::Hit;
use super::observation::{Arm, Ended, Observation, Open};
use super::prefixes::Warmth;
use super::proof::Conditions;
use super::rollout::{Memory, RollOut};
use super::waiting::{Met, Opener};
use super::world::Fairness;
use crate::stats::Moment;
use std::time::Duration;

/// Splits that are remembered: requests that began under an older one are not judged.
const SPLITS: usize = 16;

/// Whose a request is.
#[derive(Clone, Copy, Debug)]
struct Who {
    whose: Hit,
    /// Where its key is kept, or its client.
    slot: Option<Slot>,
    /// Its side follows from a sticky key.
    sticky: bool,
    /// Its client has not had more than its part of this side.
    admitted: bool,
}

impl RollOut {
    /// Takes in one request. Between two ticks nothing but counts changes.
    pub fn observe(&mut self, seen: &Observation, now: Moment) {
        // What began before this life may be about another candidate.
        if !self.is_live() || seen.began < self.epoch {
            return;
        }
        let age = self.age(now);
        let arm = self.arm(seen.arm, seen.id);
        let side = usize::from(arm == Arm::Stable);
        let memory = &mut self.memory;
        memory.requests[side] += 1;
        memory.cancelled[side] += u64::from(seen.ended == Ended::Cancelled);
        memory.failures[side] += u64::from(seen.error);
        memory.last_seen[side] = Some(age);
        let tells = arm == Arm::Candidate && seen.ended == Ended::Seen;
        if tells {
            memory.recent.0 += 1.0;
        }
        let began = self.age(seen.began);
        let on_step = began >= self.memory.step_since;
        let (read, met) = self.memory.waiting.over(seen.id, arm, on_step);
        if arm == Arm::Stable && seen.ended == Ended::Seen && self.memory.tells_of_outage(seen, age)
        {
            self.memory.outage.learn(f64::from(u8::from(seen.error)), 1.0, age);
        }
        let Some(at) = self.conditions((began, age)) else { return };
        if tells && on_step {
            self.memory.samples += 1;
        }
        if on_step {
            self.memory.note_wait(seen, side, age, self.plan.hold);
        }
        if arm == Arm::Stable {
            self.memory.typical.learn(seen, age);
        }
        let (at, who) = self.memory.identify(seen, arm, at, met);
        for i in 0..self.plan.checks.len() {
            let check = &self.plan.checks[i];
            if read & (1 << i) != 0 {
                continue;
            }
            let fair = at.fairness == Fairness::All;
            let reading = check.metric.read(seen, &self.memory.typical, fair);
            let Some(reading) = reading else { continue };
            let memory = &mut self.memory;
            let (class, arrives) = memory.class(&who, i);
            let at = Conditions { class, arrives, whose: who.whose, ..at };
            let hit = memory.proofs[i].observe(check, (reading, seen), arm, &at);
            if let (Some(slot), Some(hit)) = (who.slot.filter(|_| who.admitted), hit) {
                memory.keys.note(slot, i, hit);
            }
        }
    }

    /// Takes in the requests that are open, all of them, before those that are over: who has waited for so long that it
    /// counts, and who has its first byte, is read now.
    pub fn open(&mut self, open: &[Open], now: Moment) {
        if !self.is_live() {
            return;
        }
        let age = self.age(now);
        self.memory.waiting.begin();
        for one in open {
            if one.began < self.epoch {
                continue;
            }
            let arm = self.arm(one.arm, one.id);
            let (began, so_far) = (self.age(one.began), one.so_far(now));
            if began >= self.memory.step_since {
                let late = self.is_late(&so_far);
                let whose = self.memory.opener(one);
                self.memory.waiting.count(arm, late, whose);
            }
            self.read_open(&so_far, arm, (began, age));
        }
        self.memory.waiting.end();
    }

    /// Is it open for longer than anybody should wait?
    fn is_late(&self, so_far: &Observation) -> bool {
        let typical = &self.memory.typical;
        let held = so_far.latency.is_some_and(|waited| waited >= self.plan.hold);
        held || match so_far.first_byte {
            None => typical.is_long_silence(so_far.latency),
            Some(_) => typical.is_long(so_far.latency),
        }
    }

    fn read_open(&mut self, so_far: &Observation, arm: Arm, (began, age): (f64, f64)) {
        let asked = |i: &usize| self.plan.checks[*i].metric.read_open(so_far).is_some();
        let asked: Vec<usize> = (0..self.plan.checks.len()).filter(asked).collect();
        if asked.is_empty() {
            return;
        }
        let Some((done, met)) = self.memory.waiting.read(so_far.id) else { return };
        if asked.iter().all(|i| done & (1 << i) != 0) {
            return;
        }
        let Some(at) = self.conditions((began, age)) else { return };
        let (at, who) = self.memory.identify(so_far, arm, at, met);
        let mut read = done;
        for i in asked.into_iter().filter(|i| done & (1 << i) == 0) {
            let check = &self.plan.checks[i];
            let Some(reading) = check.metric.read_open(so_far) else { continue };
            let memory = &mut self.memory;
            let (class, arrives) = memory.class(&who, i);
            let at = Conditions { class, arrives, whose: who.whose, ..at };
            let Some(hit) = memory.proofs[i].observe(check, (reading, so_far), arm, &at) else {
                continue;
            };
            if let Some(slot) = who.slot.filter(|_| who.admitted) {
                memory.keys.note(slot, i, hit);
            }
            read |= 1 << i;
        }
        let met = Met { warmth: at.warmth, admitted: who.admitted };
        self.memory.waiting.note(so_far.id, read, met);
    }

    /// So many failures of each side, candidate and stable, were hidden from clients by a retry.
    pub fn rescued(&mut self, hidden: [u64; 2]) {
        if self.is_live() {
            self.memory.rescued[0] += hidden[0];
            self.memory.rescued[1] += hidden[1];
        }
    }

    /// What a request is read under; `None`: it is not judged.
    fn conditions(&self, (began, age): (f64, f64)) -> Option<Conditions> {
        let memory = &self.memory;
        if !self.is_judging(began) || began < memory.evidence_since {
            return None;
        }
        let crowded = self.is_crowded() || began <= memory.crowded_until;
        let fairness = if crowded { Fairness::Nobody } else { memory.fairness };
        let place = memory.splits.iter().rposition(|(since, _)| *since <= began)?;
        let split = (memory.first_split + place as u32, memory.splits[place].1);
        let current = began >= memory.step_since;
        let (warmth, class, whose) = (Warmth::Unknown, None, Hit::default());
        let arrives = false;
        Some(Conditions { age, began, split, current, fairness, warmth, class, arrives, whose })
    }

    /// In an A/A test a coin says which half a request belongs to; it knows nothing of the request but its number.
    fn arm(&mut self, arm: Arm, id: u64) -> Arm {
        if !self.plan.aa {
            return arm;
        }
        // SplitMix64 (Steele, Lea and Flood, 2014).
        let golden = 0x9E37_79B9_7F4A_7C15_u64;
        if id == 0 {
            self.memory.coin = self.memory.coin.wrapping_add(golden);
        }
        let mut z = if id == 0 { self.memory.coin } else { id.wrapping_mul(golden) };
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        if (z ^ (z >> 31)) >> 63 == 0 { Arm::Candidate } else { Arm::Stable }
    }

    /// Takes note of the share that begins now.
    pub(super) fn note_split(&mut self, age: f64) {
        let memory = &mut self.memory;
        if memory.splits.last().is_some_and(|(_, share)| (share - memory.share).abs() < 1e-12) {
            return;
        }
        memory.splits.push((age, memory.share));
        if memory.splits.len() > SPLITS {
            memory.splits.remove(0);
            memory.first_split += 1;
        }
    }
}

impl Memory {
    /// The one client that a request is of, or else its sticky key. Behind a proxy are many.
    fn one(&self, client: Option<u64>, key: Option<u64>) -> Option<u64> {
        let sticky = key.is_some();
        client.filter(|client| !self.clients.is_proxy(tag(*client), sticky)).or(key)
    }

    fn opener(&self, open: &Open) -> Opener {
        match (self.one(open.client, open.key), open.key) {
            (None, _) => Opener::Anybody,
            (Some(one), None) => Opener::Drawn(one),
            (Some(one), Some(_)) => Opener::Chosen(one),
        }
    }

    /// Takes note of whether anybody waited for its end. Who leaves before that would be usual says nothing.
    fn note_wait(&mut self, seen: &Observation, side: usize, age: f64, hold: Duration) {
        let left = match seen.ended {
            Ended::Seen => false,
            Ended::Cancelled if self.typical.has_waited(seen) => true,
            Ended::Cancelled | Ended::Outrun => return,
        };
        let who = self.one(seen.client, seen.key);
        self.in_vain.note(side, (who, left), age, hold);
    }

    /// Does it count as a request of the stable side that fails or not? One client whose requests always fail is no
    /// outage. Behind a proxy are many.
    fn tells_of_outage(&mut self, seen: &Observation, age: f64) -> bool {
        self.one(seen.client, seen.key).is_none_or(|who| self.once.counts(who, age))
    }

    fn meet(&mut self, seen: &Observation, arm: Arm, age: f64) -> Warmth {
        self.prefixes.meet(seen, arm, (age / 60.0) as u16)
    }

    /// Whose a request is, and what it is read under. Notes that it was there: once, also of one that is looked at every
    /// second while it is open. `met`: what was found then.
    fn identify(
        &mut self,
        seen: &Observation,
        arm: Arm,
        at: Conditions,
        met: Option<Met>,
    ) -> (Conditions, Who) {
        let warmth = met.map_or_else(|| self.meet(seen, arm, at.age), |met| met.warmth);
        if let Some(client) = seen.client.filter(|_| met.is_none()) {
            self.clients.note(client, at.age);
        }
        let at = Conditions { warmth, ..at };
        (at, self.who(seen, arm, &at, met))
    }

    fn who(&mut self, seen: &Observation, arm: Arm, at: &Conditions, met: Option<Met>) -> Who {
        let minute = (at.age / 60.0) as u16;
        // A failure that the candidate has told can be aimed by nobody who did not choose the candidate.
        let aimed = seen.key.is_some() || seen.ended != Ended::Seen;
        let whose = Hit { client: seen.client.map(tag), key: seen.key.map(tag), aimed };
        let Some(key) = seen.key else {
            // Each request was drawn for itself; those of clients that mostly fail anyway are compared with each other.
            let one = seen.client.filter(|client| !self.clients.is_proxy(tag(*client), false));
            let slot = one.map(|client| self.keys.find(!client, Arm::Stable, minute));
            return Who { whose, slot, sticky: false, admitted: true };
        };
        let share = at.split.1;
        let admits = |client| self.clients.admits(client, arm, share);
        let admitted = met.map_or_else(|| seen.client.is_none_or(admits), |met| met.admitted);
        let slot = admitted.then(|| self.keys.find(key, arm, minute));
        Who { whose, slot, sticky: true, admitted }
    }

    /// With whom it is compared in this check; `None`: it is not counted. And is it its key's first one on its side?
    fn class(&self, who: &Who, check: usize) -> (Option<Class>, bool) {
        let arrives = who.slot.is_some_and(|slot| who.sticky && self.keys.arrives(slot, check));
        let class = match who.slot {
            Some(slot) if who.sticky => self.keys.class(slot, check),
            None if who.sticky => None,
            Some(slot) if self.keys.mostly_fails(slot, check) => Some(Class::Failing),
            Some(_) | None => Some(Class::Drawn),
        };
        (class, arrives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{CanaryPlan, Judged, Load, World, client_of_address};

    const LOAD: Load = Load { weight: 1.0, share: 0.5 };
    const WORLD: World = World { candidate_usable: true, candidate: LOAD, stable: LOAD };

    /// Of a third of the requests that are open, but of few of all.
    #[test]
    fn a_request_that_is_open_for_long_is_one_of_its_client() {
        let plan =
            CanaryPlan { candidate: "v2".into(), warmup: Duration::ZERO, ..CanaryPlan::default() };
        let judged = Judged { model: "m".into(), candidate: "v2".into(), upstream_model: None };
        let mut canary = RollOut::begin(plan, judged, "v1".into(), 0.5, Moment::ZERO).0;
        canary.tick(&WORLD, Moment::ZERO);
        let (ana, took) = (client_of_address(6 << 40), Some(Duration::from_millis(50)));
        let open: Vec<Open> = (1..=10)
            .map(|id| Open {
                id,
                arm: Arm::Candidate,
                began: Moment::from_millis(100),
                key: Some(id << 40),
                client: Some(ana),
                replica: 1,
                beside: 0,
                prefix: None,
                first_byte: took,
                silent: took,
            })
            .collect();
        for second in 1..=60_u64 {
            let now = Moment::from_millis(second * 1000);
            canary.open(&open, now);
            for n in 0..20 {
                let arm = if n % 2 == 0 { Arm::Candidate } else { Arm::Stable };
                let client = Some(client_of_address((100 + n + 20 * second) << 40));
                let usual = Observation::of(arm, false, now);
                canary.observe(
                    &Observation { client, latency: took, first_byte: took, ..usual },
                    now,
                );
            }
            canary.tick(&WORLD, now);
        }
        assert!(!canary.memory.clients.has_proxy());
    }
}
