//! What courses come to, step by step.
use super::*;
use crate::fleet::sample_replica;

const fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

/// A version of two replicas, and a request to it.
struct Served {
    version: Version,
    replicas: [Arc<Replica>; 2],
    course: Course,
}

impl Served {
    fn new() -> Self {
        let [(one, state), (other, _)] = ["http://a:1", "http://b:1"].map(sample_replica);
        let (name, replicas) = ("v1".into(), [one, other]);
        let version =
            Version { name, index: 0, state, share: 1.0, members: Box::default(), mixed: false };
        Self { version, replicas, course: Course::default() }
    }

    fn assign(&mut self) -> &mut Self {
        self.course.note(Happened::Assigned { version: &self.version, fail_open: false });
        self
    }

    fn ask(&mut self, replica: usize, at: Moment) -> &mut Self {
        self.course.note(Happened::Asked { replica: &self.replicas[replica], at });
        self
    }

    fn note(&mut self, happened: Happened<'_>) -> &mut Self {
        self.course.note(happened);
        self
    }

    fn ended(&self) -> (u16, Class, Option<RefusalCode>, u32, bool) {
        let Course { code, class, error, attempts, worked, .. } = self.course;
        (code, class, error, attempts, worked)
    }
}

#[test]
fn whoever_is_refused_at_the_door_asked_nobody() {
    let mut served = Served::new();
    served.note(Happened::Refused { error: RefusalCode::ModelNotFound, class: None });
    let error = Some(RefusalCode::ModelNotFound);
    assert_eq!(served.ended(), (404, Class::Refused, error, 0, false));
    assert!(served.course.last_attempt(at(5)).is_none() && !served.course.went_well());
}

#[test]
fn a_client_left_until_an_answer_says_otherwise() {
    let mut served = Served::new();
    assert_eq!(served.ended(), (499, Class::Cancelled, None, 0, false));
    served.assign().ask(0, at(1)).note(Happened::Sent);
    assert_eq!(served.ended(), (499, Class::Cancelled, None, 1, true));
    served.note(Happened::Told { code: 200 }).note(Happened::FirstByte(at(40)));
    served.note(Happened::Spoke).note(Happened::Passed(10)).note(Happened::Passed(5));
    served.note(Happened::Read(3)).note(Happened::Ended { class: Class::Success, code: None });
    assert_eq!(served.ended(), (200, Class::Success, None, 1, true));
    assert_eq!(
        (served.course.bytes_in(), served.course.bytes_out(), served.course.bytes()),
        (3, 15, 18)
    );
    assert_eq!((served.course.first_byte(), served.course.spoke()), (Some(at(40)), true));
}

#[test]
fn an_attempt_that_is_repeated_is_kept_with_its_own_ending() {
    let mut served = Served::new();
    served.assign().ask(0, at(10)).note(Happened::Sent);
    served.note(Happened::Ended { class: Class::Reset, code: Some(502) }).note(Happened::Spared);
    served.note(Happened::Repeats(at(30)));
    // Its client may leave before another replica is asked.
    assert_eq!(served.ended(), (499, Class::Cancelled, None, 1, false));
    assert!(served.course.last_attempt(at(35)).is_none());
    served.assign().ask(1, at(40)).note(Happened::Sent).note(Happened::Told { code: 200 });
    served.note(Happened::Ended { class: Class::Success, code: None });
    assert_eq!(served.ended(), (200, Class::Success, None, 2, true));
    let [first] = served.course.past() else { panic!("{:?}", served.course.past()) };
    assert_eq!((&*first.replica.id.url, &*first.version), ("http://a:1", "v1"));
    assert_eq!((first.began, first.took), (at(10), Duration::from_millis(20)));
    assert_eq!((first.class, first.code), (Class::Reset, 502));
    let last = served.course.last_attempt(at(90)).expect("one is the last");
    assert_eq!((&*last.replica.id.url, last.took), ("http://b:1", Duration::from_millis(50)));
}

#[test]
fn what_one_attempt_worked_on_another_cannot_undo() {
    let mut served = Served::new();
    served.assign().ask(0, at(10)).note(Happened::Sent);
    served.note(Happened::Ended { class: Class::Timeout, code: Some(504) });
    served.note(Happened::Repeats(at(30))).assign().ask(1, at(31)).note(Happened::Sent);
    let failed = Class::ConnectFailure;
    served.note(Happened::Ended { class: failed, code: Some(502) }).note(Happened::Spared);
    let error = RefusalCode::UpstreamFailed;
    served.note(Happened::Refused { error, class: Some(failed) });
    assert_eq!(served.ended(), (error.status(), failed, Some(error), 2, true));
}

#[test]
fn of_two_that_race_the_winner_goes_on() {
    let mut served = Served::new();
    served.assign().ask(0, at(10)).note(Happened::Sent).ask(1, at(60));
    let lost = PastAttempt {
        replica: Arc::clone(&served.replicas[0]),
        version: "v1".into(),
        began: at(10),
        took: Duration::from_millis(70),
        class: Class::Cancelled,
        code: 499,
    };
    served.note(Happened::Lost(lost));
    let winner = Arc::clone(&served.replicas[1]);
    served.note(Happened::Won { replica: &winner, began: at(60) });
    assert_eq!((served.course.attempts(), served.course.asked_at()), (2, Some(at(60))));
    assert_eq!(served.course.replica().map(|replica| &*replica.id.url), Some("http://b:1"));
    // The first may win, too, though it was asked before the other.
    let winner = Arc::clone(&served.replicas[0]);
    served.note(Happened::Won { replica: &winner, began: at(10) });
    assert_eq!(served.course.last_attempt(at(90)).map(|last| last.began), Some(at(10)));
}

#[test]
fn an_answer_that_breaks_off_keeps_what_its_client_saw_of_it() {
    let error = RefusalCode::UpstreamFailed;
    for (code, of_call) in [(504, None), (604, Some(604))] {
        let mut served = Served::new();
        served.assign().ask(0, at(10)).note(Happened::Sent).note(Happened::Told { code: 200 });
        served.note(Happened::Ended { class: Class::Timeout, code: Some(504) });
        served.note(Happened::Broke { error, code: of_call });
        assert_eq!(served.ended(), (code, Class::Timeout, Some(error), 1, true));
    }
}

#[test]
fn evener_may_answer_after_a_replica_declined() {
    let mut served = Served::new();
    served.assign().ask(0, at(10)).note(Happened::Sent);
    let declined = Class::ClientError;
    served.note(Happened::Ended { class: declined, code: Some(404) }).note(Happened::Spared);
    served.note(Happened::Answers { code: 200, class: Class::Success });
    assert_eq!(served.ended(), (200, Class::Success, None, 1, false));
    assert!(served.course.went_well());
}
