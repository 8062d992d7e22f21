//! One attempt at a replica: counted there while it lasts, and what was heard in it.
use super::look::Look;
use super::meaning::{Meaning, class_of_failure};
use crate::dialect::{Failure, Output};
use crate::fleet::InFlight;
use crate::flow::Trouble;
use crate::health::{Class, Outcome};
use crate::stats::Moment;
use std::time::Duration;

/// One attempt at a replica, counted there as long as this lives, and what was heard in it.
pub(super) struct Attempt {
    pub(super) in_flight: InFlight,
    /// A head came, be it 1xx.
    pub(super) seen: bool,
    /// What its head, its stream or its trailers say of the replica.
    pub(super) class: Class,
    /// The status, or how a call of gRPC ended, as its `code`.
    pub(super) code: u16,
    first_byte: Option<Moment>,
    last_chunk: Option<Moment>,
    tunnels: bool,
    /// How long whoever reads the answer took for what it got.
    reader_took: Duration,
    /// Looks at the answer for a canary.
    pub(super) look: Option<Box<Look>>,
}

impl Attempt {
    pub(super) fn new(in_flight: InFlight) -> Self {
        Self {
            in_flight,
            seen: false,
            class: Class::Success,
            code: 0,
            first_byte: None,
            last_chunk: None,
            tunnels: false,
            reader_took: Duration::ZERO,
            look: None,
        }
    }

    /// What the head, or the end of a call, says.
    pub(super) fn told(&mut self, meaning: Meaning) {
        (self.class, self.code) = (meaning.class, meaning.code);
    }

    /// A piece of the body came, or its end. Returns whether it is the first. `events`: it is an event stream.
    pub(super) fn hears(&mut self, now: Moment, events: bool) -> bool {
        match self.last_chunk.replace(now) {
            None => {
                self.first_byte = Some(now);
                self.in_flight.heard(now);
                return true;
            }
            Some(last) if events => self.in_flight.version().inter_chunk.observe(now.since(last)),
            Some(_) => {}
        }
        false
    }

    /// A piece of the body came.
    pub(super) fn has_begun(&self) -> bool {
        self.last_chunk.is_some()
    }

    /// Both sides left HTTP.
    pub(super) fn tunnels(&mut self, now: Moment) {
        self.tunnels = true;
        self.in_flight.tunnels(now);
    }

    /// A stream that began well says that it failed. What it says first counts.
    pub(super) fn note_failure(&mut self, failure: Option<Failure>) {
        if let (Some(failure), Class::Success) = (failure, self.class) {
            self.class = class_of_failure(failure);
        }
    }

    /// Did a stream that began well say that it failed?
    fn failed_inside(&self) -> bool {
        self.class != Class::Success && (200..300).contains(&self.code)
    }

    /// Whoever reads the answer took so long for a piece: no time of the replica's.
    pub(super) fn reader_took(&mut self, time: Duration) {
        self.reader_took += time;
    }

    pub(super) fn time_of_reader(&self) -> Duration {
        self.reader_took
    }

    /// Ends it: what counts it, and what a look at the answer found, which a broken one does not tell.
    pub(super) fn over(self, whole: bool) -> (InFlight, Option<Output>) {
        let look = self.look.filter(|_| whole);
        (self.in_flight, look.and_then(|look| look.finish()))
    }

    /// How it ended at `now`, whole or by `trouble`, and the status that is logged for it.
    pub(super) fn outcome(&self, trouble: Option<&Trouble>, now: Moment) -> (Outcome, u16) {
        let began = self.in_flight.began();
        let left = matches!(trouble, Some(Trouble::ClientGone | Trouble::ClientStalled));
        let (class, code, reader_took) = match trouble {
            None => (self.class, self.code, self.reader_took),
            // Who is told of a failure inside a stream mostly leaves at once: it counts as what was said.
            Some(_) if left && self.failed_inside() => (self.class, self.code, self.reader_took),
            Some(trouble) => {
                let (class, code) = trouble.meaning();
                (class, code, Duration::ZERO)
            }
        };
        let outcome = Outcome {
            class,
            latency: now.since(began).saturating_sub(reader_took),
            first_byte: self.first_byte.map(|at| at.since(began)),
            tunnel: self.tunnels,
        };
        (outcome, code)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fleet::{Replica, sample_replica};
    use std::sync::Arc;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    pub(crate) fn attempt() -> (Arc<Replica>, Attempt) {
        let (replica, state) = sample_replica("http://a:1");
        let attempt = Attempt::new(replica.begin(&state, Moment::ZERO));
        (replica, attempt)
    }

    #[test]
    fn the_time_of_a_slow_reader_is_not_the_replicas() {
        let mut attempt = attempt().1;
        attempt.told(Meaning { code: 200, class: Class::Success, severity: 200 });
        assert!(attempt.hears(at(10), true) && !attempt.hears(at(30), true));
        attempt.reader_took(Duration::from_millis(50));
        let (outcome, code) = attempt.outcome(None, at(100));
        assert_eq!((outcome.latency, code), (Duration::from_millis(50), 200));
        assert_eq!(outcome.first_byte, Some(Duration::from_millis(10)));
        // One that broke took all the time until then.
        let (outcome, code) = attempt.outcome(Some(&Trouble::Stalled), at(100));
        assert_eq!((outcome.latency, outcome.class), (Duration::from_millis(100), Class::Timeout));
        assert_eq!(code, 504);
    }

    #[test]
    fn what_a_stream_says_first_counts() {
        let mut attempt = attempt().1;
        attempt.note_failure(None);
        assert_eq!(attempt.class, Class::Success);
        attempt.note_failure(Some(Failure::Client));
        attempt.note_failure(Some(Failure::Server));
        assert_eq!(attempt.class, Class::ClientError);
    }

    #[test]
    fn who_leaves_because_a_stream_says_that_it_failed_does_not_hide_that() {
        let ended = |failure, trouble: &Trouble| {
            let mut attempt = attempt().1;
            attempt.told(Meaning { code: 200, class: Class::Success, severity: 200 });
            attempt.note_failure(failure);
            let (outcome, code) = attempt.outcome(Some(trouble), at(100));
            (outcome.class, code)
        };
        let full = Some(Failure::Overloaded);
        assert_eq!(ended(full, &Trouble::ClientGone), (Class::Overloaded, 200));
        assert_eq!(ended(None, &Trouble::ClientGone), (Class::Cancelled, 499));
        assert_eq!(ended(full, &Trouble::Stalled).0, Class::Timeout, "it did not end itself");
        // Of an answer that is a failure as a whole, its client did not hear the end.
        let mut refused = attempt().1;
        refused.told(Meaning { code: 429, class: Class::Overloaded, severity: 429 });
        assert_eq!(refused.outcome(Some(&Trouble::ClientGone), at(9)).0.class, Class::Cancelled);
    }
}
