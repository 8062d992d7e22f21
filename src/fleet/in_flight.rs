//! A request at a replica: counted while this value lives, whatever happens to the exchange.
use super::ejection::Fate;
use super::replica::{Learned, Replica};
use super::trial::Token;
use super::version_state::VersionState;
use crate::health::{Cause, Class, EjectionPlan, Outcome};
use crate::stats::Moment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Dropping it frees the slot; [`InFlight::finish`] also records how the attempt ended.
#[derive(Debug)]
pub struct InFlight {
    replica: Arc<Replica>,
    version: Arc<VersionState>,
    began: Moment,
    /// It is the trial of a replica on probation.
    trial: Option<Token>,
    /// The shared connection that carries it.
    connection: Option<u64>,
    recorded: bool,
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
            trial: on_probation.then(|| self.custody.slot.begin()).flatten(),
            connection: None,
            recorded: false,
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
        let decided = self.trial.take().is_some_and(|trial| {
            let decided = said.is_some_and(|ending| self.replica.tried(ending));
            if !decided {
                self.replica.custody.slot.free(trial, now);
            }
            decided
        });
        if decided || (convicted && !self.replica.refused()) {
            self.version.suspects.add(&self.replica);
        }
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
                Class::Success => self.succeeded(learned, outcome, now),
                Class::ServerError
                | Class::Timeout
                | Class::ConnectFailure
                | Class::Reset
                | Class::Overloaded => self.failed(learned, now),
                Class::Cancelled => self.censored(learned, outcome, now),
                Class::ClientError | Class::Refused => {}
            }
        }
        let Some(said) = said else { return false };
        if self.replica.fate() != Fate::Free || !self.version.watched() {
            return false;
        }
        self.version.add(said.is_err());
        let pool = self.version.pool();
        learned.detector.observe(said.err(), &pool, now);
        learned.detector.conviction(&pool).is_some()
    }

    fn succeeded(&self, learned: &mut Learned, outcome: &Outcome, now: Moment) {
        let speed = self.version.observe_speed(outcome.latency);
        self.version.pace.observe(outcome.first_byte.unwrap_or(outcome.latency));
        learned.slowness.sample(outcome.latency, &speed, now);
        learned.phantom.succeed();
        let factor = learned.slowness.factor(&speed, now);
        self.replica.slow.store(factor.to_bits(), Relaxed);
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
        let factor = learned.slowness.factor(&speed, now);
        self.replica.slow.store(factor.to_bits(), Relaxed);
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
mod tests {
    use super::*;
    use crate::fleet::{Fleet, ReplicaId};
    use crate::health::{Stage, Standing};
    use crate::wire::Dialed;
    use proptest::prelude::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    fn replica() -> (Arc<Replica>, Arc<VersionState>) {
        let (model, version): (Arc<str>, Arc<str>) = ("chat".into(), "v1".into());
        let mut fleet = Fleet::default();
        let state = fleet.version(&model, &version);
        let id = ReplicaId { model, version, url: "http://a:1".into() };
        let dialed = || Dialed::Http("a:1".to_owned());
        (fleet.enlist(id, dialed, true, Moment::ZERO), state)
    }

    fn outcome(class: Class, millis: u64) -> Outcome {
        let latency = Duration::from_millis(millis);
        Outcome { class, latency, first_byte: None, bytes: 0, tunnel: false }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        Finish(usize),
        Abandon,
        Panic,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Begin),
            2 => (0..Class::ALL.len()).prop_map(Step::Finish),
            1 => Just(Step::Abandon),
            1 => Just(Step::Panic),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn in_flight_counts_what_is_open_and_returns_to_zero(steps in steps()) {
            let (replica, version) = replica();
            let mut open = Vec::new();
            let mut now = Moment::ZERO;
            for step in steps {
                now = now + Duration::from_millis(5);
                match step {
                    Step::Begin => open.push(replica.begin(&version, now)),
                    Step::Finish(class) => {
                        if let Some(one) = open.pop() {
                            one.finish(200, &outcome(Class::ALL[class], 5), now);
                        }
                    }
                    Step::Abandon => drop(open.pop()),
                    Step::Panic => {
                        if let Some(one) = open.pop() {
                            let unwound = catch_unwind(AssertUnwindSafe(move || {
                                let _held = one;
                                std::panic::resume_unwind(Box::new(()));
                            }));
                            prop_assert!(unwound.is_err());
                        }
                    }
                }
                prop_assert_eq!(replica.in_flight() as usize, open.len());
            }
            drop(open);
            prop_assert_eq!(replica.in_flight(), 0);
        }
    }

    #[test]
    fn failures_weigh_on_a_replica_until_a_success_has_passed() {
        let (replica, version) = replica();
        let now = Moment::from_millis(1000);
        let lasts = version.speed().phantom_time();
        for _ in 0..3 {
            replica.begin(&version, now).finish(502, &outcome(Class::Reset, 1), now);
        }
        let level = replica.phantom(now, lasts);
        assert!((level - 7.0).abs() < 1e-4, "{level}");
        let client_fault = outcome(Class::ClientError, 1);
        replica.begin(&version, now).finish(404, &client_fault, now);
        assert!(
            (replica.phantom(now, lasts) - level).abs() < 1e-4,
            "a client's fault weighs nothing"
        );
    }

    #[test]
    fn being_full_weighs_like_a_failure_and_a_success_ends_it() {
        let (replica, version) = replica();
        let now = Moment::from_millis(1000);
        let lasts = version.speed().phantom_time();
        replica.begin(&version, now).finish(429, &outcome(Class::Overloaded, 1), now);
        assert!((replica.phantom(now, lasts) - 1.0).abs() < 1e-4);
        assert_eq!(version.pool().ever.requests, 0, "it is no event for the detector");
    }

    #[test]
    fn streams_of_one_broken_connection_are_one_failure() {
        let (replica, version) = replica();
        version.watch(Some(&EjectionPlan::default()), 2);
        let now = Moment::from_millis(1000);
        let reset = |connection: Option<u64>| {
            let mut one = replica.begin(&version, now);
            one.on_connection(connection);
            one.finish(502, &outcome(Class::Reset, 1), now);
        };
        for _ in 0..50 {
            reset(Some(0));
            reset(Some(1));
        }
        assert_eq!(version.pool().ever.failures, 2);
        assert_eq!(replica.outcomes.of_class(Class::Reset), 100, "all of them are counted");
        reset(None);
        reset(None);
        assert_eq!(version.pool().ever.failures, 4);
    }

    fn on_probation(replica: &Arc<Replica>, version: &VersionState, now: Moment) {
        replica.trust(now);
        replica.hold(version, Some(now), "by hand".into(), now);
        assert!(replica.try_out(false, now));
        assert_eq!(replica.standing(), Standing::Probation);
    }

    #[test]
    fn a_trial_is_freed_on_every_way_out() {
        let (replica, version) = replica();
        let now = Moment::from_millis(1000);
        on_probation(&replica, &version, now);
        let claim = || replica.try_trial(Duration::ZERO, now);
        for class in [Class::ClientError, Class::Overloaded, Class::Cancelled] {
            assert!(claim(), "before {class:?}");
            assert!(!claim());
            replica.begin(&version, now).finish(400, &outcome(class, 1), now);
        }
        assert!(claim());
        drop(replica.begin(&version, now));
        assert!(claim());
        replica.begin(&version, now).finish(200, &outcome(Class::Success, 1), now);
        assert_eq!(replica.stage(), Stage::Probation { passed: 1 });
        assert!(claim(), "three are needed");
    }

    #[test]
    fn a_failed_trial_admits_no_other_until_it_is_ruled_on() {
        let (replica, version) = replica();
        let now = Moment::from_millis(1000);
        on_probation(&replica, &version, now);
        assert!(replica.try_trial(Duration::ZERO, now));
        replica.begin(&version, now).finish(504, &outcome(Class::Timeout, 1), now);
        assert!(!replica.try_trial(Duration::ZERO, now + Duration::from_mins(1)));
        assert_eq!(version.suspects.take().len(), 1);
        let plan = EjectionPlan::default();
        let (cause, lasts) = replica.fail_probation(&plan, 0.5, now).unwrap();
        assert_eq!((cause, lasts), (Cause::Timeout, Duration::from_secs(10)));
        assert_eq!(replica.standing(), Standing::Ejected);
    }

    #[test]
    fn a_drain_and_a_failing_check_stand_before_an_ejection() {
        let (replica, version) = replica();
        let now = Moment::from_millis(1000);
        replica.trust(now);
        replica.hold(&version, None, "by hand".into(), now);
        assert_eq!(
            (replica.standing(), replica.reason().as_deref()),
            (Standing::Ejected, Some("by hand"))
        );
        replica.probed(false, Some("refused"), now);
        assert_eq!(
            (replica.standing(), replica.reason().as_deref()),
            (Standing::Unhealthy, Some("refused"))
        );
        replica.drain(true, Some("upgrade"), now);
        assert_eq!(
            (replica.standing(), replica.reason().as_deref()),
            (Standing::Draining, Some("upgrade"))
        );
        replica.drain(false, None, now);
        replica.probed(true, None, now);
        let later = Moment::from_millis(5000);
        assert!(replica.restore(&version, later));
        assert_eq!((replica.standing(), replica.reason()), (Standing::Healthy, None));
        assert_eq!((replica.since(), replica.ready_at()), (later, Some(later)));
    }

    #[test]
    fn a_request_abandoned_without_an_ending_counts_as_cancelled() {
        let (replica, version) = replica();
        drop(replica.begin(&version, Moment::ZERO));
        assert_eq!(replica.outcomes.of_class(Class::Cancelled), 1);
    }
}
