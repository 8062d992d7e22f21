//! What was learned from the exchanges of one replica: behind one small lock that belongs to it alone.
use super::ejection::Fate;
use super::in_flight::InFlight;
use crate::balance::{Phantom, Slowness};
use crate::health::{Cause, Class, Detector, Faded, Outcome, Reading, Recent, Senders, Standing};
use crate::stats::Moment;

#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    pub(super) slowness: Slowness,
    pub(super) phantom: Phantom,
    pub(super) detector: Detector,
    /// Whose failures count.
    pub(super) senders: Senders,
    pub(super) recent: Recent,
    /// Requests in flight, smoothed.
    pub(super) load: f32,
    /// Endings and the timeouts among them; these fade within seconds.
    pub(super) timeouts: Faded,
    /// When the request began that began last of all that went well.
    pub(super) good_began: Moment,
    /// Successes in a row of one that is capped.
    pub(super) proofs: u8,
    /// The HTTP/2 connections that broke last.
    broken: [Option<u64>; 4],
}

impl Learned {
    /// Notes that a connection broke. Returns whether that was known.
    pub(super) fn breaks(&mut self, connection: u64) -> bool {
        let known = self.broken.contains(&Some(connection));
        if !known {
            self.broken.rotate_right(1);
            self.broken[0] = Some(connection);
        }
        known
    }
}

impl InFlight {
    /// What the ending says of the replica, with what its pool does at present in view.
    pub(super) fn excused(
        &self,
        said: Option<Result<(), Cause>>,
        status: u16,
        learned: &Learned,
    ) -> Option<Result<(), Cause>> {
        let excused = match said {
            Some(Err(Cause::ServerError)) => {
                status == 503 && self.replica.is_overloaded(self.beside, learned)
            }
            Some(Err(Cause::Timeout)) => self.replica.excuses_timeout(self.outlived(learned)),
            _ => false,
        };
        said.filter(|_| !excused)
    }

    /// Did a request that began later go well?
    fn outlived(&self, learned: &Learned) -> bool {
        learned.good_began > self.began
    }

    /// Learns from an ending. Returns whether the control path must look at the replica.
    pub(super) fn learn(
        &self,
        learned: &mut Learned,
        said: Option<Result<(), Cause>>,
        outcome: &Outcome,
        now: Moment,
    ) -> bool {
        learned.recent.note(outcome.class);
        if !outcome.tunnel {
            self.learn_speed(learned, said, outcome, now);
        }
        let Some(said) = said else { return false };
        let out =
            self.replica.fate() != Fate::Free || self.replica.standing() == Standing::Draining;
        // One that was asked before it went out says nothing of what returned: it may be another process.
        let old = self.replica.ready_at().is_some_and(|returned| self.began < returned);
        if out || old || !self.version.watched() {
            return false;
        }
        let counted = self.counted(learned, said.is_err(), now);
        if said.is_err() && counted == 0 {
            learned.detector.hold();
            return false;
        }
        self.version.add(u64::from(counted.max(1)), said.is_err());
        let pool = self.version.pool();
        let (released, path) = (counted.saturating_sub(1), self.path);
        let reading = Reading { failure: said.err(), began: self.began, path, released };
        learned.detector.observe(&reading, &pool, now);
        self.replica.set_raised(learned.detector.is_raised());
        if self.replica.is_proved(learned, said.is_ok()) {
            self.version.withdraw(learned.detector.forget());
            return true;
        }
        learned.detector.conviction(&pool, now).is_some() && !self.replica.refused()
    }

    /// For how many failures this one counts.
    fn counted(&self, learned: &mut Learned, failed: bool, now: Moment) -> u32 {
        let Some(sender) = self.sender else { return u32::from(failed) };
        let usual = if failed { learned.detector.usual(&self.version.pool()) } else { 0.0 };
        learned.senders.weigh(sender, failed, usual, now)
    }

    fn learn_speed(
        &self,
        learned: &mut Learned,
        said: Option<Result<(), Cause>>,
        outcome: &Outcome,
        now: Moment,
    ) {
        learned.timeouts.requests += 1.0;
        match outcome.class {
            Class::Success => {
                self.replica.answers();
                learned.good_began = learned.good_began.max(self.began);
                learned.phantom.succeed();
                if !self.converses {
                    self.succeeded(learned, outcome, now);
                }
            }
            Class::Timeout => {
                learned.timeouts.failures += 1.0;
                self.failed(learned, now);
                if !self.converses {
                    self.censored(learned, outcome, now);
                }
                if said == Some(Err(Cause::Timeout)) && !self.outlived(learned) {
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
