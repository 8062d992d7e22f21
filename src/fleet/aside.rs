//! Who gets nothing while others are there, and whose turn it is to be asked all the same: set by endings and by the
//! second, read by picks.
use super::learned::Learned;
use super::replica::Replica;
use crate::health::{Carried, Class, Strain};
use crate::stats::Moment;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// It fails nearly all its requests, but no more replicas may be ejected.
const CAPPED: u8 = 1;
/// It let its last request time out.
const TIMED_OUT: u8 = 2;

/// A usable replica that nobody asked for so long gets a turn, so that each is asked once a minute.
const UNASKED: Duration = Duration::from_secs(55);
/// A capped one gets what a health check would get.
const CAPPED_TURN: Duration = Duration::from_secs(5);
/// One that timed out waits for its turn so long, twice as long after each further timeout, up to [`UNASKED`].
const FIRST_TURN: Duration = Duration::from_secs(10);
/// One of which a request went well is soon asked again.
const PROVING_TURN: Duration = Duration::from_secs(1);
/// So many successes of a capped one prove that it works again.
const PROOFS: u8 = 3;
/// A failing replica has its health check asked at most this often.
const DOUBTED: Duration = Duration::from_secs(5);

impl Replica {
    /// Does it get requests only while no other is usable, and in its turn?
    pub fn is_aside(&self) -> bool {
        self.turns.aside.load(Relaxed) != 0
    }

    /// Why it is, for people.
    pub(super) fn why_aside(&self) -> Option<&'static str> {
        match self.turns.aside.load(Relaxed) {
            0 => None,
            aside if aside & CAPPED != 0 => {
                Some("fails nearly all requests and may not be ejected: asked once in 5 s")
            }
            _ => Some("its last request timed out: others are asked first"),
        }
    }

    /// Claims its turn, if it has one and may serve.
    pub fn take_turn(&self) -> bool {
        self.has_turn() && self.turns.due.swap(false, Relaxed)
    }

    /// Is it its turn, and may it serve?
    pub fn has_turn(&self) -> bool {
        self.turns.due.load(Relaxed) && self.usable()
    }

    /// It fails nearly all its requests and cannot be ejected, or no longer does.
    pub(super) fn set_capped(&self, capped: bool) {
        if capped {
            self.turns.aside.fetch_or(CAPPED, Relaxed);
        } else {
            self.turns.aside.fetch_and(!CAPPED, Relaxed);
        }
    }

    fn is_capped(&self) -> bool {
        self.turns.aside.load(Relaxed) & CAPPED != 0
    }

    /// It begins anew.
    pub(super) fn stand_in_line(&self, now: Moment) {
        self.turns.aside.store(0, Relaxed);
        self.turns.due.store(false, Relaxed);
        self.turns.asked(now);
    }

    pub(super) fn times_out(&self) {
        self.turns.aside.fetch_or(TIMED_OUT, Relaxed);
    }

    /// An answer came, whatever it says.
    pub(super) fn answers(&self) {
        // Nearly always clear: a load leaves the line shared.
        if self.turns.aside.load(Relaxed) & TIMED_OUT != 0 {
            self.turns.aside.fetch_and(!TIMED_OUT, Relaxed);
        }
    }

    /// One of its requests failed, or went well again. Returns whether a capped one has proved itself with that.
    pub(super) fn is_proved(&self, learned: &mut Learned, ended_well: bool) -> bool {
        if !self.is_capped() {
            return false;
        }
        learned.proofs = if ended_well { learned.proofs + 1 } else { 0 };
        learned.proofs >= PROOFS
    }

    /// Recomputes by the second whose turn it is. Returns whether it is this one's.
    pub(super) fn look_at_turn(&self, learned: &Learned, now: Moment) -> bool {
        let aside = self.turns.aside.load(Relaxed);
        let unasked = now.since(Moment::from_nanos(self.turns.asked_at.load(Relaxed)));
        let (since, wait) = if aside & CAPPED != 0 {
            (unasked, if learned.proofs > 0 { PROVING_TURN } else { CAPPED_TURN })
        } else if aside & TIMED_OUT != 0 {
            let doublings = learned.phantom.consecutive.saturating_sub(1).min(6);
            (now.since(learned.phantom.at), (FIRST_TURN * (1 << doublings)).min(UNASKED))
        } else {
            (unasked, UNASKED)
        };
        let due = since >= wait && self.usable() && (aside == 0 || self.in_flight() == 0);
        self.turns.due.store(due, Relaxed);
        due
    }

    /// It failed for the first time since it worked, or let a request time out: its health check is asked at once.
    pub(super) fn doubt(&self, now: Moment) {
        let before = self.turns.doubted_at.load(Relaxed);
        if before == 0 || now.since(Moment::from_nanos(before)) >= DOUBTED {
            self.turns.doubted_at.store(now.as_nanos().max(1), Relaxed);
            self.poke();
        }
    }

    /// What holds of its peers at present. `part`: its weight as a part of the mean weight.
    pub fn set_strain(&self, strain: Strain, part: f32) {
        self.turns.crowded.store(strain.crowded, Relaxed);
        self.turns.time_out.store(strain.time_out, Relaxed);
        self.turns.peers_load.store((strain.peers_load * part).to_bits(), Relaxed);
    }

    /// Is all of its pool beyond its capacity, so that a timeout of one says nothing?
    ///
    /// Where the others only carry more than usual, one that answers nothing at all is to blame all the same. `worked`:
    /// it answered others while this one waited.
    pub(super) fn is_strained(&self, worked: bool) -> bool {
        self.turns.time_out.load(Relaxed) || (worked && self.turns.crowded.load(Relaxed))
    }

    /// Is it full because it has more to do than its peers, with so many requests beside one that it refused? A replica
    /// that is full still serves the others.
    pub(super) fn is_overloaded(&self, beside: u32, learned: &Learned) -> bool {
        let peers = f32::from_bits(self.turns.peers_load.load(Relaxed));
        beside as f32 > 1.25 * peers + 0.5
            && learned.recent.iter().any(|class| class == Class::Success)
    }

    /// Its requests by the second, smoothed.
    pub(super) fn carry(&self, learned: &mut Learned, passed: Duration) {
        // Over some five seconds.
        let keeps = (-passed.as_secs_f32() / 5.0).exp();
        learned.load = keeps * learned.load + (1.0 - keeps) * self.in_flight() as f32;
    }

    /// Did any of its requests go well since then?
    pub fn worked_since(&self, since: Moment) -> bool {
        self.learned.lock().worked_since(since)
    }

    /// What it carries at present.
    pub fn carries(&self, now: Moment) -> Carried {
        let carried = self.learned.lock().carried(now);
        Carried { load: carried.load.max(self.in_flight() as f32), ..carried }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{VersionState, sample_replica};
    use super::*;
    use crate::health::Outcome;
    use std::sync::Arc;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1_000)
    }

    fn replica() -> (Arc<Replica>, Arc<VersionState>) {
        let (replica, state) = sample_replica("http://a:1");
        replica.trust(at(1));
        (replica, state)
    }

    fn ended(class: Class, seconds: u64) -> Outcome {
        let latency = Duration::from_secs(seconds);
        Outcome { class, latency, first_byte: None, tunnel: false }
    }

    /// Is it its turn, a second later?
    fn due(replica: &Replica, state: &VersionState, now: Moment) -> bool {
        replica.fade(&state.speed(), &state.pool(), Duration::from_secs(1), now).due
    }

    #[test]
    fn one_that_lets_a_request_time_out_is_aside_until_it_answers() {
        let (replica, state) = replica();
        let mut now = at(10);
        for wait in [10, 20, 40, 55, 55] {
            replica.begin(&state, now).finish(504, &ended(Class::Timeout, 30), now + UNASKED);
            now = now + UNASKED;
            assert!(replica.is_aside() && replica.reason().is_some());
            let turn = now + Duration::from_secs(wait);
            assert!(!due(&replica, &state, turn - Duration::from_millis(1)), "{wait}");
            assert!(due(&replica, &state, turn), "{wait}");
            assert!(replica.take_turn() && !replica.take_turn(), "for one request");
            now = turn;
        }
        replica.begin(&state, now).finish(404, &ended(Class::ClientError, 1), now);
        assert!(!replica.is_aside() && replica.reason().is_none());
    }

    #[test]
    fn a_request_that_times_out_while_later_ones_go_well_puts_nobody_aside() {
        let (replica, state) = replica();
        let slow = replica.begin(&state, at(10));
        replica.begin(&state, at(20)).finish(200, &ended(Class::Success, 1), at(21));
        slow.finish(504, &ended(Class::Timeout, 30), at(40));
        assert!(!replica.is_aside());
    }

    #[test]
    fn who_is_not_asked_for_a_minute_has_its_turn() {
        let (replica, state) = replica();
        drop(replica.begin(&state, at(10)));
        assert!(!due(&replica, &state, at(64)));
        assert!(due(&replica, &state, at(65)));
        replica.drain(true, None, at(66));
        assert!(!replica.take_turn() && !due(&replica, &state, at(67)), "not while it drains");
    }
}
