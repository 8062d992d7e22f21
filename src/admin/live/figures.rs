//! What happened between two looks at counters that only rise: rates and errors, with percentiles beside them.
use super::latencies::Percentiles;
use crate::dialect::grpc::severity_of_code;
use crate::fleet::{ModelState, Tally, VersionState};
use crate::health::Class;
use crate::problems::Outcomes;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const FIRST_ERROR_STATUS: u16 = 500;

/// The counters of a version or a model at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    requests: u64,
    errors: u64,
    tokens: u64,
}

/// What people look at. Percents and milliseconds; `None`: nothing ended, so there is nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub requests_per_second: f32,
    pub errors_percent: Option<f32>,
    /// Tokens that answers made.
    pub tokens_per_second: f32,
    pub p50_ms: Option<f32>,
    pub p95_ms: Option<f32>,
    pub p99_ms: Option<f32>,
    pub first_byte_p50_ms: Option<f32>,
    pub first_byte_p95_ms: Option<f32>,
    pub first_byte_p99_ms: Option<f32>,
    /// The percentiles are of the requests that ended in this time.
    pub window_seconds: u32,
}

/// Is this an answer that a client holds against the service? A refusal is, unless the client asked for it.
pub(super) fn is_error(status: u16, class: Class) -> bool {
    match class {
        Class::Refused => severity_of_code(status) >= FIRST_ERROR_STATUS,
        Class::Overloaded => true,
        Class::Success
        | Class::ClientError
        | Class::ServerError
        | Class::Timeout
        | Class::ConnectFailure
        | Class::Reset
        | Class::Cancelled => class.blames_replica(),
    }
}

/// How requests ended, without those whose end is their client's doing.
pub(super) fn outcomes(tally: &Tally) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for (status, class, n) in tally.counts() {
        if class == Class::Success {
            outcomes.good += n;
        } else if is_error(status, class) {
            outcomes.failed[class as usize] += n;
        }
    }
    outcomes
}

impl Counts {
    pub(super) fn of_version(version: &VersionState) -> Self {
        let tokens = version.tokens.completion.load(Relaxed);
        Self { tokens, ..Self::of_tally(&version.requests) }
    }

    /// Of requests that ended before they had a version.
    pub(super) fn of_model(model: &ModelState) -> Self {
        Self::of_tally(&model.requests)
    }

    fn of_tally(tally: &Tally) -> Self {
        let mut counts = Self::default();
        for (status, class, n) in tally.counts() {
            counts.requests += n;
            counts.errors += if is_error(status, class) { n } else { 0 };
        }
        counts
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.tokens += other.tokens;
    }

    /// What came since `before`, which is so long ago; without percentiles.
    pub(super) fn figures(&self, before: &Self, passed: Duration) -> Figures {
        let requests = self.requests.saturating_sub(before.requests);
        let errors = self.errors.saturating_sub(before.errors);
        let seconds = passed.as_secs_f64().max(1e-3);
        let percent = (requests > 0).then(|| 100.0 * errors as f64 / requests as f64);
        Figures {
            requests_per_second: shown(requests as f64 / seconds),
            errors_percent: percent.map(shown),
            tokens_per_second: shown(self.tokens.saturating_sub(before.tokens) as f64 / seconds),
            ..Figures::default()
        }
    }
}

impl Figures {
    /// With the percentiles of this time, of whole requests and to their first byte.
    #[must_use]
    pub(super) fn with(self, whole: Percentiles, first_byte: Percentiles, of: Duration) -> Self {
        let [p50_ms, p95_ms, p99_ms] = whole.0.map(|ms| ms.map(shown));
        let [first_byte_p50_ms, first_byte_p95_ms, first_byte_p99_ms] =
            first_byte.0.map(|ms| ms.map(shown));
        let window_seconds = of.as_secs_f64().round() as u32;
        Self {
            p50_ms,
            p95_ms,
            p99_ms,
            first_byte_p50_ms,
            first_byte_p95_ms,
            first_byte_p99_ms,
            window_seconds,
            ..self
        }
    }
}

/// Four digits: no figure is known better, and a message has no room for more.
pub(super) fn shown(value: f64) -> f32 {
    let parts = match value.abs() {
        ..1.0 => 1e4,
        1.0..10.0 => 1e3,
        10.0..100.0 => 1e2,
        100.0..1000.0 => 1e1,
        _ => 1.0,
    };
    ((value * parts).round() / parts) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Usage;

    fn near(found: Option<f32>, wanted: f32) -> bool {
        found.is_some_and(|found| (found - wanted).abs() < wanted * 1e-3)
    }

    #[test]
    fn figures_are_of_what_came_since() {
        let version = VersionState::new(std::sync::Arc::default());
        for _ in 0..10 {
            version.requests.add(500, Class::ServerError);
        }
        let before = Counts::of_version(&version);
        version.tokens.add(Usage { prompt: Some(5), completion: Some(250) });
        for i in 0..100 {
            let (status, class) =
                if i < 4 { (503, Class::Overloaded) } else { (200, Class::Success) };
            version.requests.add(status, class);
        }
        let figures = Counts::of_version(&version).figures(&before, Duration::from_secs(5));
        assert!((figures.requests_per_second - 20.0).abs() < 1e-6);
        assert!((figures.tokens_per_second - 50.0).abs() < 1e-6);
        assert!(near(figures.errors_percent, 4.0), "{figures:?}");
        let whole = Percentiles([Some(145.123_4), Some(1_806.4), None]);
        let figures = figures.with(whole, Percentiles::default(), Duration::from_millis(7_400));
        assert_eq!((figures.p50_ms, figures.p95_ms), (Some(145.1), Some(1_806.0)));
        assert_eq!((figures.p99_ms, figures.window_seconds), (None, 7));
    }

    #[test]
    fn where_nothing_ended_nothing_is_said() {
        let counts = Counts::default();
        let figures = counts.figures(&counts, Duration::from_secs(1));
        assert_eq!(figures, Figures::default());
    }

    #[test]
    fn counters_that_began_anew_are_no_negative_rate() {
        let before = Counts { requests: 9, errors: 3, ..Counts::default() };
        let figures = Counts::default().figures(&before, Duration::from_secs(1));
        assert_eq!(figures, Figures::default());
    }

    #[test]
    fn only_a_refusal_that_the_client_did_not_ask_for_is_an_error() {
        assert!(!is_error(404, Class::Refused) && is_error(503, Class::Refused));
        assert!(!is_error(400, Class::ClientError) && !is_error(499, Class::Cancelled));
        assert!(is_error(429, Class::Overloaded) && is_error(502, Class::Reset));
    }
}
