//! A request at a replica: counted while this value lives, whatever happens to the exchange.
use super::ejection::Fate;
use super::replica::{Learned, Replica};
use super::trial::Token;
use super::version_state::VersionState;
use crate::health::{Cause, Class, EjectionPlan, Outcome, Standing};
use crate::stats::Moment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Dropping it frees the slot; [`InFlight::finish`] also records how the attempt ended.
#[derive(Debug)]
pub struct InFlight {
    replica: Arc<Replica>,
    version: Arc<VersionState>,
    began: Moment,
    /// When there was a connection for it: what it took before says nothing of the replica's speed.
    connected: Moment,
    /// It is the trial of a replica on probation.
    trial: Option<Token>,
    /// The shared connection that carries it.
    connection: Option<u64>,
    recorded: bool,
    /// Its length says nothing of the replica's speed.
    converses: bool,
    silence: Silence,
}

/// How far a replica has let somebody wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// The request is still being sent.
    NotYet,
    /// It is sent, and no first byte came yet.
    Lasts,
    Over,
}

impl Replica {
    /// Begins a request at this replica.
    pub fn begin(self: &Arc<Self>, version: &Arc<VersionState>, now: Moment) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        let on_probation = self.fate() == Fate::Probation;
        InFlight {
            replica: Arc::clone(self),
            version: Arc::clone(version),
            began: now,
            connected: now,
            trial: on_probation.then(|| self.custody.slot.begin()).flatten(),
            connection: None,
            recorded: false,
            converses: false,
            silence: Silence::NotYet,
        }
    }
}

impl InFlight {
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    pub fn began(&self) -> Moment {
        self.began
    }

    /// The request is sent: from now on the replica lets it wait.
    pub fn waits(&mut self, now: Moment) {
        if self.is_being_sent() {
            self.silence = Silence::Lasts;
            self.replica.waits(now);
            if let Some(trial) = self.trial {
                self.replica.custody.slot.is_sent(trial);
            }
        }
    }

    /// Does it still have to be told that the request is sent?
    pub fn is_being_sent(&self) -> bool {
        self.silence == Silence::NotYet
    }

    /// The first byte came, or what stands for it.
    pub fn heard(&mut self, now: Moment) {
        if std::mem::replace(&mut self.silence, Silence::Over) == Silence::Lasts {
            self.replica.heard(Some(now));
        }
        if let Some(trial) = self.trial {
            self.replica.custody.slot.answers(trial);
        }
    }

    /// A new connection was made for it.
    pub fn connects(&mut self, now: Moment) {
        self.connected = now;
    }

    /// Notes which shared connection carries it: when that breaks, all its streams are one failure.
    pub fn on_connection(&mut self, connection: Option<u64>) {
        self.connection = connection;
    }

    /// The shared connection that carried it.
    pub fn connection(&self) -> Option<u64> {
        self.connection
    }

    /// Records the ending, by the `status` that was logged, and frees the slot.
    pub fn finish(mut self, status: u16, outcome: &Outcome, now: Moment) {
        self.recorded = true;
        self.replica.outcomes.add(status, outcome.class);
        let said = self.reads(status, outcome);
        let convicted = {
            let mut learned = self.replica.learned.lock();
            let told = outcome.class == Class::Reset
                && self.connection.is_some_and(|connection| learned.breaks(connection));
            !told && self.learn(&mut learned, said, outcome, now)
        };
        // Whoever answers at all works, be it that the request was wrong.
        let proved = said.or((outcome.class == Class::ClientError).then_some(Ok(())));
        let decided = self.ends_trial(proved, now);
        if decided || (convicted && !self.replica.refused()) {
            self.version.suspects.add(&self.replica);
        }
    }

    /// Frees the slot of what says nothing of the replica, however it ended.
    pub fn forget(mut self) {
        self.recorded = true;
    }

    /// Both sides talk for as long as they like.
    pub fn converse(&mut self) {
        self.converses = true;
    }

    /// A tunnel stands, which may do so for hours: what a trial can show is shown.
    pub fn tunnels(&mut self, now: Moment) {
        if self.ends_trial(Some(Ok(())), now) {
            self.version.suspects.add(&self.replica);
        }
    }

    /// Ends the trial that it was, if it was one. Returns whether that decides the probation.
    fn ends_trial(&mut self, said: Option<Result<(), Cause>>, now: Moment) -> bool {
        let Some(trial) = self.trial.take() else { return false };
        let decided = said.is_some_and(|ending| self.replica.tried(trial, ending));
        if !decided {
            self.replica.custody.slot.free(trial, now);
        }
        decided
    }

    /// What the ending says of the replica, by its version's rules.
    fn reads(&self, status: u16, outcome: &Outcome) -> Option<Result<(), Cause>> {
        match &*self.version.rules() {
            Some(rules) => rules.reads(status, outcome),
            None => EjectionPlan::default().reads(status, outcome),
        }
    }

    /// Learns from an ending. Returns whether the replica stands convicted.
    fn learn(
        &self,
        learned: &mut Learned,
        said: Option<Result<(), Cause>>,
        outcome: &Outcome,
        now: Moment,
    ) -> bool {
        learned.recent.note(outcome.class);
        if !outcome.tunnel {
            match outcome.class {
                Class::Success if self.converses => learned.phantom.succeed(),
                Class::Success => self.succeeded(learned, outcome, now),
                Class::ServerError
                | Class::Timeout
                | Class::ConnectFailure
                | Class::Reset
                | Class::Overloaded => self.failed(learned, now),
                Class::Cancelled if !self.converses => self.censored(learned, outcome, now),
                Class::Cancelled | Class::ClientError | Class::Refused => {}
            }
        }
        let Some(said) = said else { return false };
        let out =
            self.replica.fate() != Fate::Free || self.replica.standing() == Standing::Draining;
        // One that was asked before it went out says nothing of what returned: it may be another process.
        let old = self.replica.ready_at().is_some_and(|returned| self.began < returned);
        if out || old || !self.version.watched() {
            return false;
        }
        self.version.add(said.is_err());
        let pool = self.version.pool();
        learned.detector.observe(said.err(), &pool, now);
        learned.detector.conviction(&pool).is_some()
    }

    fn succeeded(&self, learned: &mut Learned, outcome: &Outcome, now: Moment) {
        let connecting = self.connected.since(self.began);
        let latency = outcome.latency.saturating_sub(connecting);
        let first_byte = outcome.first_byte.map(|took| took.saturating_sub(connecting));
        self.version.pace.observe(first_byte.unwrap_or(latency));
        let strays = learned.slowness.sample(latency, &self.version.speed(), now);
        let speed = self.version.observe_speed(latency, strays);
        learned.phantom.succeed();
        self.replica.set_slowness(learned.slowness.factor(&speed, now));
    }

    /// It failed, or was too full: both would attract further requests by being quick about it.
    fn failed(&self, learned: &mut Learned, now: Moment) {
        learned.phantom.fail(now, self.version.speed().phantom_time());
        self.replica.phantom.store(learned.phantom.level.to_bits(), Relaxed);
    }

    /// A client that left tells of slowness only once the replica was slower than the pool.
    fn censored(&self, learned: &mut Learned, outcome: &Outcome, now: Moment) {
        let speed = self.version.speed();
        learned.slowness.censored(outcome.latency, &speed, now);
        self.replica.set_slowness(learned.slowness.factor(&speed, now));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Relaxed);
        if self.silence == Silence::Lasts {
            self.replica.heard(None);
        }
        if let Some(trial) = self.trial.take() {
            self.replica.custody.slot.free(trial, self.began);
        }
        if !self.recorded {
            self.replica.outcomes.add(499, Class::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests;
