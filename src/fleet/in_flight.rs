//! A request at a replica: counted while this value lives, whatever happens to the exchange.
use super::replica::Replica;
use super::version_state::VersionState;
use crate::health::{Class, Outcome};
use crate::stats::Moment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Dropping it frees the slot; [`InFlight::finish`] also records how the attempt ended.
#[derive(Debug)]
pub struct InFlight {
    replica: Arc<Replica>,
    version: Arc<VersionState>,
    began: Moment,
    recorded: bool,
    /// No first byte came yet.
    waits: bool,
}

impl Replica {
    /// Begins a request at this replica.
    pub fn begin(self: &Arc<Self>, version: &Arc<VersionState>, now: Moment) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.waits(now);
        InFlight {
            replica: Arc::clone(self),
            version: Arc::clone(version),
            began: now,
            recorded: false,
            waits: true,
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

    /// The first byte came.
    pub fn heard(&mut self, now: Moment) {
        if std::mem::take(&mut self.waits) {
            self.replica.heard(Some(now));
        }
    }

    /// Records the ending, by the `status` that was logged, and frees the slot.
    pub fn finish(mut self, status: u16, outcome: &Outcome, now: Moment) {
        self.recorded = true;
        self.replica.outcomes.add(status, outcome.class);
        if outcome.tunnel {
            return;
        }
        match outcome.class {
            Class::Success => self.succeeded(outcome, now),
            Class::ServerError | Class::Timeout | Class::ConnectFailure | Class::Reset => {
                self.failed(now);
            }
            Class::Cancelled => self.censored(outcome, now),
            Class::ClientError | Class::Overloaded | Class::Refused => {}
        }
    }

    fn succeeded(&self, outcome: &Outcome, now: Moment) {
        let speed = self.version.observe_speed(outcome.latency);
        self.version.first_bytes.observe(outcome.first_byte.unwrap_or(outcome.latency));
        let mut learned = self.replica.learned.lock();
        learned.slowness.sample(outcome.latency, &speed, now);
        learned.phantom.succeed();
        let factor = learned.slowness.factor(&speed, now);
        self.replica.slow.store(factor.to_bits(), Relaxed);
    }

    fn failed(&self, now: Moment) {
        let lasts = self.version.speed().phantom_time();
        let mut learned = self.replica.learned.lock();
        learned.phantom.fail(now, lasts);
        self.replica.phantom.store(learned.phantom.level.to_bits(), Relaxed);
    }

    /// A client that left tells of slowness only once the replica was slower than the pool.
    fn censored(&self, outcome: &Outcome, now: Moment) {
        let speed = self.version.speed();
        let mut learned = self.replica.learned.lock();
        learned.slowness.censored(outcome.latency, &speed, now);
        let factor = learned.slowness.factor(&speed, now);
        self.replica.slow.store(factor.to_bits(), Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Relaxed);
        if self.waits {
            self.replica.heard(None);
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
    fn a_request_abandoned_without_an_ending_counts_as_cancelled() {
        let (replica, version) = replica();
        drop(replica.begin(&version, Moment::ZERO));
        assert_eq!(replica.outcomes.of_class(Class::Cancelled), 1);
    }
}
