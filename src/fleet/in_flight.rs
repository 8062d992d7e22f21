//! A request at a replica: counted while this value lives, whatever happens to the exchange.
use super::custody::Fate;
use super::learned::Said;
use super::replica::Replica;
use super::trial::Token;
use super::version_state::VersionState;
use crate::dialect::path_class;
use crate::health::{Cause, Class, EjectionPlan, Outcome, PathClass, Sender};
use crate::stats::Moment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Dropping it frees the slot; [`InFlight::finish`] also records how the attempt ended.
#[derive(Debug)]
pub struct InFlight {
    pub(super) replica: Arc<Replica>,
    pub(super) version: Arc<VersionState>,
    pub(super) began: Moment,
    /// When there was a connection for it: what it took before says nothing of the replica's speed.
    pub(super) connected: Moment,
    /// Requests that its replica had already.
    pub(super) beside: u32,
    /// Who sent it, where a key chose its replica.
    pub(super) sender: Option<Sender>,
    pub(super) path: PathClass,
    /// It is the trial of a replica on probation.
    trial: Option<Token>,
    /// The shared connection that carries it.
    connection: Option<u64>,
    recorded: bool,
    /// Its length says nothing of the replica's speed.
    pub(super) converses: bool,
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
        let beside = self.in_flight.fetch_add(1, Relaxed);
        self.turns.asked(now);
        let on_probation = self.fate() == Fate::Probation;
        InFlight {
            replica: Arc::clone(self),
            version: Arc::clone(version),
            began: now,
            connected: now,
            beside,
            sender: None,
            path: PathClass::OTHER,
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

    pub fn version(&self) -> &VersionState {
        &self.version
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

    /// Who sent it. Only where a key chose the replica: what chance or load spreads needs no telling apart.
    pub fn sent_by(&mut self, sender: Sender) {
        self.sender = Some(sender);
    }

    /// Notes the class of its path, where somebody will ask: it failed so, or something speaks against the replica.
    pub fn on_path(&mut self, raw_path: &str, ended: Class) {
        let paths = &self.version.paths;
        if ended.blames_replica() {
            self.path = paths.find_or_add(&path_class(raw_path));
        } else if self.replica.is_raised() {
            self.path = paths.find(&path_class(raw_path));
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
        self.replica.outcomes.add(outcome.class);
        let (said, suspect, first) = {
            let mut learned = self.replica.learned.lock();
            let read = self.reads(status, outcome);
            let said = self.says(read, status, outcome, &mut learned, now);
            let told = outcome.class == Class::Reset
                && self.connection.is_some_and(|connection| learned.breaks(connection));
            let suspect = !told && self.learn(&mut learned, said, status, outcome, now);
            (said, suspect, learned.phantom.consecutive == 1)
        };
        if matches!(said, Said::Counts(Err(cause)) if first || cause == Cause::Timeout) {
            self.replica.doubt(now);
        }
        let proved = match said {
            Said::Counts(said) => Some(said),
            // Whoever answers at all works, be it that the request was wrong.
            _ if outcome.class == Class::ClientError => Some(Ok(())),
            Said::Nothing | Said::Shared => None,
        };
        let decided = self.ends_trial(proved, now);
        if decided || suspect {
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
        // What a panic of our own ends is no ending of the replica's.
        if !self.recorded && !std::thread::panicking() {
            self.replica.outcomes.add(Class::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests;
