//! What an ending teaches of its replica.
use super::custody::Fate;
use super::in_flight::InFlight;
use super::learned::{Learned, NOT_LONG_AGO, Said};
use crate::health::{Cause, Class, Outcome, Reading, Standing};
use crate::stats::Moment;

impl InFlight {
    /// What the ending says of the replica, with what its pool does at present in view.
    pub(super) fn says(
        &self,
        read: Option<Result<(), Cause>>,
        status: u16,
        outcome: &Outcome,
        learned: &mut Learned,
        now: Moment,
    ) -> Said {
        let Some(read) = read else { return Said::Nothing };
        let full = status == 503 && read == Err(Cause::ServerError);
        let late = read == Err(Cause::Timeout);
        let strained = self.replica.is_strained(learned.worked_since(self.began));
        if ((full || late) && strained) || (late && self.is_usual_for_the_pool(outcome)) {
            return Said::Shared;
        }
        if !self.replica.is_overloaded(self.beside, learned) {
            return Said::Counts(read);
        }
        if full {
            learned.shed = Some(now);
        }
        // Of requests that find it overloaded, those that go well must not count either while others are refused.
        let sheds = learned.shed.is_some_and(|shed| now.since(shed) < NOT_LONG_AGO);
        if sheds { Said::Nothing } else { Said::Counts(read) }
    }

    /// Do answers of the whole pool take nearly as long as this one was waited for?
    fn is_usual_for_the_pool(&self, outcome: &Outcome) -> bool {
        if outcome.first_byte.is_none() {
            return self.version.pace.is_slow_beside(outcome.latency);
        }
        self.version.speed().typical().is_some_and(|typical| typical * 3 >= outcome.latency)
    }

    /// Did a request that began later go well?
    fn outlived(&self, learned: &Learned) -> bool {
        learned.good_began > self.began
    }

    /// Learns from an ending. Returns whether the control path must look at the replica.
    pub(super) fn learn(
        &self,
        learned: &mut Learned,
        said: Said,
        status: u16,
        outcome: &Outcome,
        now: Moment,
    ) -> bool {
        learned.recent.note(outcome.class);
        if !outcome.tunnel {
            self.learn_speed(learned, said, outcome, now);
        }
        let out =
            self.replica.fate() != Fate::Free || self.replica.standing() == Standing::Draining;
        // One that was asked before it went out says nothing of what returned: it may be another process.
        let old = self.replica.ready_at().is_some_and(|returned| self.began < returned);
        if said == Said::Nothing || out || old || !self.version.watched() {
            return false;
        }
        let Said::Counts(said) = said else {
            self.version.add(1, true, self.began);
            learned.detector.share_failure(self.began);
            return false;
        };
        let counted = self.counted(learned, said.is_err(), now);
        if said.is_err() && counted == 0 {
            learned.detector.hold();
            return false;
        }
        self.version.add(u64::from(counted.max(1)), said.is_err(), self.began);
        let pool = self.version.pool();
        let reading = Reading {
            failure: said.err(),
            began: self.began,
            path: self.path,
            full: status == 503,
            released: counted.saturating_sub(1),
            beside: self.version.seconds().of(self.began),
        };
        learned.detector.observe(&reading, &pool, now);
        self.replica.set_raised(learned.detector.is_raised());
        if self.replica.is_proved(learned, said.is_ok()) {
            self.version.withdraw(learned.detector.forget());
            return true;
        }
        learned.detector.conviction(&pool, |began| self.version.seconds().of(began), now).is_some()
            && !self.replica.refused()
    }

    /// For how many failures this one counts.
    fn counted(&self, learned: &mut Learned, failed: bool, now: Moment) -> u32 {
        let Some(sender) = self.sender else { return u32::from(failed) };
        let usual = if failed { learned.detector.usual(&self.version.pool()) } else { 0.0 };
        learned.senders.weigh(sender, failed, usual, now)
    }

    fn learn_speed(&self, learned: &mut Learned, said: Said, outcome: &Outcome, now: Moment) {
        learned.note_timeout(outcome.class == Class::Timeout, now);
        match outcome.class {
            Class::Success => {
                self.replica.answers();
                learned.good_began = learned.good_began.max(self.began);
                learned.good_ended = now;
                learned.phantom.succeed();
                if !self.converses {
                    self.succeeded(learned, outcome, now);
                }
            }
            Class::Timeout => {
                self.failed(learned, now);
                if !self.converses {
                    self.censored(learned, outcome, now);
                }
                if said == Said::Counts(Err(Cause::Timeout)) && !learned.worked_since(self.began) {
                    self.replica.times_out();
                }
            }
            Class::ServerError | Class::Overloaded => {
                self.replica.answers();
                self.failed(learned, now);
            }
            Class::ConnectFailure | Class::Reset => self.failed(learned, now),
            Class::ClientError => self.replica.answers(),
            Class::Cancelled if !self.converses => self.censored(learned, outcome, now),
            Class::Cancelled | Class::Refused => {}
        }
    }

    fn succeeded(&self, learned: &mut Learned, outcome: &Outcome, now: Moment) {
        let connecting = self.connected.since(self.began);
        let latency = outcome.latency.saturating_sub(connecting);
        let first_byte = outcome.first_byte.map(|took| took.saturating_sub(connecting));
        self.version.pace.observe(first_byte.unwrap_or(latency));
        let strays = learned.slowness.sample(latency, &self.version.speed(), now);
        let speed = self.version.observe_speed(latency, strays);
        self.replica.set_slowness(learned.slowness.factor(&speed, now));
    }

    /// It failed, or was too full: both would attract further requests by being quick about it.
    fn failed(&self, learned: &mut Learned, now: Moment) {
        if self.outlived(learned) {
            // It is not the next in a row: what began later went well.
            learned.phantom.succeed();
        }
        learned.phantom.fail(now, self.version.speed().phantom_time());
        self.replica.set_phantom(learned.phantom.level);
    }

    /// A request that was given up tells of slowness only once the replica was slower than the pool.
    fn censored(&self, learned: &mut Learned, outcome: &Outcome, now: Moment) {
        let speed = self.version.speed();
        learned.slowness.censored(outcome.latency, &speed, now);
        self.replica.set_slowness(learned.slowness.factor(&speed, now));
    }
}
