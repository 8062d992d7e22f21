//! Counting, learning and trials, on one replica.
use super::*;
use crate::fleet::sample_replica;
use crate::health::{Faded, Stage, Standing};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

fn replica() -> (Arc<Replica>, Arc<VersionState>) {
    sample_replica("http://a:1")
}

fn outcome(class: Class, millis: u64) -> Outcome {
    let latency = Duration::from_millis(millis);
    Outcome { class, latency, first_byte: None, tunnel: false }
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
    assert!((replica.phantom(now, lasts) - level).abs() < 1e-4, "a client's fault weighs nothing");
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
fn the_time_a_connection_takes_is_no_slowness() {
    let (replica, version) = replica();
    let now = Moment::from_millis(1000);
    for setup in [0, 0, 0, 500, 500, 500, 500] {
        let mut one = replica.begin(&version, now);
        one.connects(now + Duration::from_millis(setup));
        one.finish(200, &outcome(Class::Success, setup + 5), now);
    }
    let learned = replica.learned.lock().slowness;
    assert!((learned.ell - 5_f32.ln()).abs() < 1e-3, "{learned:?}");
    assert!((version.speed().mean_latency - 0.005).abs() < 1e-4);
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
    for class in [Class::Overloaded, Class::Cancelled, Class::Refused] {
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
    let cause = replica.failed_trial().unwrap();
    assert_eq!(cause, Cause::Timeout);
    assert_eq!(replica.fail_probation(&plan, cause, 0.5, now), Duration::from_secs(1));
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
    assert!(replica.restore(later));
    assert_eq!((replica.standing(), replica.reason()), (Standing::Healthy, None));
    assert_eq!((replica.since(), replica.ready_at()), (later, Some(later)));
}

#[test]
fn a_request_abandoned_without_an_ending_counts_as_cancelled() {
    let (replica, version) = replica();
    drop(replica.begin(&version, Moment::ZERO));
    assert_eq!(replica.outcomes.of_class(Class::Cancelled), 1);
}

#[test]
fn a_trial_of_an_earlier_probation_decides_nothing_in_a_later_one() {
    let (replica, version) = replica();
    let now = Moment::from_millis(1000);
    on_probation(&replica, &version, now);
    assert!(replica.try_trial(Duration::ZERO, now));
    let old = replica.begin(&version, now);
    let later = now + Duration::from_mins(1);
    on_probation(&replica, &version, later);
    assert!(replica.try_trial(Duration::ZERO, later));
    let new = replica.begin(&version, later);
    old.finish(504, &outcome(Class::Timeout, 60_000), later);
    assert_eq!(version.suspects.take().len(), 0, "nothing to rule on");
    assert!(!replica.try_trial(Duration::ZERO, later), "the new one runs");
    new.finish(200, &outcome(Class::Success, 1), later);
    assert_eq!(replica.stage(), Stage::Probation { passed: 1 });
}

#[test]
fn tunnels_prove_a_replica_when_they_stand() {
    let (replica, version) = replica();
    let now = Moment::from_millis(1000);
    on_probation(&replica, &version, now);
    let mut open = Vec::new();
    for _ in 0..3 {
        assert!(replica.try_trial(Duration::ZERO, now));
        let mut tunnel = replica.begin(&version, now);
        tunnel.tunnels(now);
        open.push(tunnel);
    }
    assert_eq!(version.suspects.take().len(), 1);
    assert!(replica.reinstate(now));
    assert_eq!(replica.standing(), Standing::Healthy);
    assert_eq!(replica.in_flight(), 3);
}

#[test]
fn a_stream_without_an_end_passes_its_trial_after_a_minute() {
    let (replica, version) = replica();
    let mut now = Moment::from_millis(1000);
    on_probation(&replica, &version, now);
    let mut streams = Vec::new();
    for _ in 0..3 {
        assert!(replica.try_trial(Duration::ZERO, now));
        let mut stream = replica.begin(&version, now);
        stream.waits(now);
        now = now + Duration::from_mins(1);
        replica.end_long_trial(now);
        assert!(!replica.try_trial(Duration::ZERO, now), "no byte came yet");
        stream.heard(now);
        replica.end_long_trial(now);
        streams.push(stream);
    }
    assert!(replica.reinstate(now));
}

#[test]
fn an_upload_without_an_end_gives_its_place_to_another() {
    let (replica, version) = replica();
    let now = Moment::from_millis(1000);
    on_probation(&replica, &version, now);
    assert!(replica.try_trial(Duration::ZERO, now));
    let uploading = replica.begin(&version, now);
    let later = now + Duration::from_mins(1);
    replica.end_long_trial(later);
    assert!(replica.try_trial(Duration::ZERO, later), "it proves nothing");
    let mut sent = replica.begin(&version, later);
    sent.waits(later);
    uploading.finish(504, &outcome(Class::Timeout, 60_000), later);
    let long_after = later + Duration::from_mins(5);
    replica.end_long_trial(long_after);
    assert!(!replica.try_trial(Duration::ZERO, long_after), "`first_byte` ends this one");
    sent.finish(504, &outcome(Class::Timeout, 300_000), long_after);
    assert_eq!(replica.failed_trial(), Some(Cause::Timeout));
}

#[test]
fn an_answer_to_a_wrong_request_passes_a_trial() {
    let (replica, version) = replica();
    let now = Moment::from_millis(1000);
    on_probation(&replica, &version, now);
    for _ in 0..3 {
        assert!(replica.try_trial(Duration::ZERO, now));
        replica.begin(&version, now).finish(404, &outcome(Class::ClientError, 1), now);
    }
    assert!(replica.reinstate(now));
}

#[test]
fn a_replica_that_returns_is_not_judged_by_what_it_did_before() {
    let (replica, version) = replica();
    version.watch(Some(&EjectionPlan::default()), 2);
    let now = Moment::from_millis(1000);
    let fails = || replica.begin(&version, now).finish(502, &outcome(Class::Reset, 1), now);
    let score = || replica.learned.lock().detector.nearness();
    let returns: [&dyn Fn(); 3] = [
        &|| {
            replica.probed(false, Some("refused"), now);
            replica.probed(true, None, now);
        },
        &|| {
            replica.drain(true, None, now);
            replica.drain(false, None, now);
        },
        &|| {
            replica.hold(&version, None, "by hand".into(), now);
            replica.restore(now);
        },
    ];
    for returns in returns {
        // What it did fades from the pool's sums within a second.
        version.fade(Faded::default());
        (0..4).for_each(|_| fails());
        assert!(score() > 0.8);
        returns();
        assert!(score() < f64::EPSILON);
    }
}

#[test]
fn what_began_before_a_replica_returned_or_ends_while_it_drains_is_no_evidence() {
    let (replica, version) = replica();
    version.watch(Some(&EjectionPlan::default()), 2);
    let now = Moment::from_millis(1000);
    let score = || replica.learned.lock().detector.nearness();
    let old: Vec<_> = (0..8).map(|_| replica.begin(&version, now)).collect();
    replica.drain(true, None, now);
    let later = now + Duration::from_secs(1);
    for (i, request) in old.into_iter().enumerate() {
        if i == 4 {
            replica.drain(false, None, later);
        }
        request.finish(502, &outcome(Class::Reset, 1), later);
        assert!(score() < f64::EPSILON, "{i}");
    }
    assert_eq!(replica.outcomes.of_class(Class::Reset), 8, "all of them are counted");
    replica.begin(&version, later).finish(502, &outcome(Class::Reset, 1), later);
    assert!(score() > 0.1);
}
