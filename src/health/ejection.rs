//! What counts as a failure of a replica, and how long one is out for failing (key `ejection`).
use super::outcome::{Class, Outcome};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How replicas are taken out (key `ejection`).
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionPlan {
    /// The shortest one (key `for`).
    pub least: Duration,
    pub at_most: Duration,
    /// Of a version's replicas, ejected at once; 0 to 100.
    pub max_percent: f64,
    pub failure_codes: FailureCodes,
}

impl Default for EjectionPlan {
    fn default() -> Self {
        Self {
            least: Duration::from_secs(1),
            at_most: Duration::from_mins(5),
            max_percent: 50.0,
            failure_codes: FailureCodes::ALL,
        }
    }
}

impl EjectionPlan {
    /// How many of `n` replicas may be ejected at once.
    pub fn cap(&self, n: usize) -> usize {
        (self.max_percent * n as f64 / 100.0).floor() as usize
    }

    /// What an ending says: a failure with its cause, a success, or (`None`) nothing.
    ///
    /// A server error that is none of HTTP came inside a good answer: a gRPC status, an event of a stream.
    pub fn reads(&self, status: u16, outcome: &Outcome) -> Option<Result<(), Cause>> {
        if outcome.tunnel {
            return None;
        }
        match outcome.class {
            Class::Success => Some(Ok(())),
            Class::ServerError => (!(500..600).contains(&status)
                || self.failure_codes.contains(status))
            .then_some(Err(Cause::ServerError)),
            Class::Timeout => Some(Err(Cause::Timeout)),
            Class::ConnectFailure => Some(Err(Cause::ConnectFailure)),
            Class::Reset => Some(Err(Cause::Reset)),
            Class::ClientError | Class::Overloaded | Class::Cancelled | Class::Refused => None,
        }
    }

    /// How long the first ejection lasts of a replica that had been `ill` until then: as long again, but a hiccup is
    /// over in a second, and nothing needs more than ten at first.
    pub fn first(&self, ill: Duration) -> Duration {
        ill.clamp(self.least, self.least.max(MOST_AT_FIRST)).min(self.at_most)
    }
}

/// No first ejection is longer, unless `for` is.
const MOST_AT_FIRST: Duration = Duration::from_secs(10);

/// The statuses from 500 to 599 that count as failures of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureCodes(u128);

impl FailureCodes {
    pub const NONE: Self = Self(0);
    /// `5xx`: all but 501, which says that the client asked for something that does not exist.
    pub const ALL: Self = Self(((1 << 100) - 1) & !(1 << 1));

    /// With these statuses too; those outside 500–599 are ignored.
    #[must_use]
    pub fn with(self, codes: RangeInclusive<u16>) -> Self {
        let bits = codes.filter(|code| (500..600).contains(code)).map(|code| 1 << (code - 500));
        Self(bits.fold(self.0, |all, bit: u128| all | bit))
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn contains(self, code: u16) -> bool {
        code >= 500 && code < 600 && self.0 & (1 << (code - 500)) != 0
    }

    /// As few ranges as possible, in order.
    pub fn ranges(self) -> Vec<RangeInclusive<u16>> {
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for code in (500..600).filter(|code| self.contains(*code)) {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == code => *last = *last.start()..=code,
                _ => ranges.push(code..=code),
            }
        }
        ranges
    }
}

/// What a replica was ejected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    ServerError,
    Timeout,
    ConnectFailure,
    Reset,
    Operator,
}

impl Cause {
    pub const ALL: [Self; 5] =
        [Self::ServerError, Self::Timeout, Self::ConnectFailure, Self::Reset, Self::Operator];
    /// Those that a request can show.
    pub const FAILURES: [Self; 4] =
        [Self::ServerError, Self::Timeout, Self::ConnectFailure, Self::Reset];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::ConnectFailure => "connect_failure",
            Self::Reset => "reset",
            Self::Operator => "operator",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(class: Class) -> Outcome {
        Outcome { class, latency: Duration::ZERO, first_byte: None, tunnel: false }
    }

    #[test]
    fn only_upstream_faults_are_read_as_failures() {
        let plan = EjectionPlan::default();
        let read = |status, class| plan.reads(status, &ending(class));
        assert_eq!(read(200, Class::Success), Some(Ok(())));
        assert_eq!(read(500, Class::ServerError), Some(Err(Cause::ServerError)));
        assert_eq!(read(501, Class::ServerError), None);
        assert_eq!(
            read(200, Class::ServerError),
            Some(Err(Cause::ServerError)),
            "inside an answer"
        );
        assert_eq!(read(504, Class::Timeout), Some(Err(Cause::Timeout)));
        assert_eq!(read(502, Class::Reset), Some(Err(Cause::Reset)));
        for class in [Class::ClientError, Class::Overloaded, Class::Cancelled, Class::Refused] {
            assert_eq!(read(429, class), None, "{class:?}");
        }
        let tunnel = Outcome { tunnel: true, ..ending(Class::Reset) };
        assert_eq!(plan.reads(101, &tunnel), None);
    }

    #[test]
    fn failure_codes_are_kept_as_ranges() {
        assert_eq!(FailureCodes::ALL.ranges(), [500..=500, 502..=599]);
        let some = FailureCodes::NONE.with(502..=504).with(500..=500).with(200..=300);
        assert_eq!(some.ranges(), [500..=500, 502..=504]);
        assert!(some.contains(503) && !some.contains(501) && !some.contains(499));
        assert_eq!(some.and(FailureCodes::ALL), FailureCodes::ALL);
    }

    #[test]
    fn the_cap_rounds_down() {
        let cap =
            |percent, n| EjectionPlan { max_percent: percent, ..EjectionPlan::default() }.cap(n);
        assert_eq!([2, 3, 4, 10].map(|n| cap(50.0, n)), [1, 1, 2, 5]);
        assert_eq!((cap(29.0, 100), cap(0.0, 9), cap(100.0, 3)), (29, 0, 3));
    }

    #[test]
    fn the_first_ejection_is_as_long_as_the_illness_within_its_bounds() {
        let millis = |plan: &EjectionPlan, ill| plan.first(Duration::from_millis(ill)).as_millis();
        let plan = EjectionPlan::default();
        assert_eq!(
            [0, 300, 4000, 600_000].map(|ill| millis(&plan, ill)),
            [1000, 1000, 4000, 10_000]
        );
        let long = EjectionPlan { least: Duration::from_mins(1), ..plan };
        assert_eq!([300, 600_000].map(|ill| millis(&long, ill)), [60_000, 60_000]);
        let short = EjectionPlan { at_most: Duration::from_secs(2), ..plan };
        assert_eq!([300, 600_000].map(|ill| millis(&short, ill)), [1000, 2000]);
    }
}
