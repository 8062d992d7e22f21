//! What happened between two looks at counters that only rise: rates, errors and percentiles.
use crate::dialect::grpc::severity_of_code;
use crate::fleet::{Histogram, LATENCY_BOUNDS, ModelState, Tally, VersionState};
use crate::health::Class;
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;
const FIRST_ERROR_STATUS: u16 = 500;

/// The counters of a version or a model at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    requests: u64,
    errors: u64,
    tokens: u64,
    duration: [u64; BUCKETS],
    first_byte: [u64; BUCKETS],
}

/// What people look at. Percents and milliseconds; `None`: nothing ended, so there is nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) requests_per_second: f32,
    pub(super) errors_percent: Option<f32>,
    /// Of those that answers made.
    pub(super) tokens_per_second: f32,
    pub(super) p50_ms: Option<f32>,
    pub(super) p95_ms: Option<f32>,
    pub(super) p99_ms: Option<f32>,
    pub(super) first_byte_p50_ms: Option<f32>,
    pub(super) first_byte_p95_ms: Option<f32>,
    pub(super) first_byte_p99_ms: Option<f32>,
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

impl Counts {
    pub(super) fn of_version(version: &VersionState) -> Self {
        let (duration, first_byte) = (buckets(&version.duration), buckets(&version.first_byte));
        let tokens = version.tokens.completion.load(Relaxed);
        Self { tokens, duration, first_byte, ..Self::of_tally(&version.requests) }
    }

    /// Of requests that ended before they had a version: they have no durations.
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

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.tokens += other.tokens;
        for (sum, n) in self.duration.iter_mut().zip(other.duration) {
            *sum += n;
        }
        for (sum, n) in self.first_byte.iter_mut().zip(other.first_byte) {
            *sum += n;
        }
    }

    /// What came since `before`, which is so long ago.
    pub(super) fn figures(&self, before: &Self, passed: Duration) -> Figures {
        let requests = self.requests.saturating_sub(before.requests);
        let errors = self.errors.saturating_sub(before.errors);
        let duration = less(&self.duration, &before.duration);
        let first_byte = less(&self.first_byte, &before.first_byte);
        let seconds = passed.as_secs_f64().max(1e-3);
        let percent = (requests > 0).then(|| 100.0 * errors as f64 / requests as f64);
        Figures {
            requests_per_second: shown(requests as f64 / seconds),
            errors_percent: percent.map(shown),
            tokens_per_second: shown(self.tokens.saturating_sub(before.tokens) as f64 / seconds),
            p50_ms: quantile(&duration, 0.5),
            p95_ms: quantile(&duration, 0.95),
            p99_ms: quantile(&duration, 0.99),
            first_byte_p50_ms: quantile(&first_byte, 0.5),
            first_byte_p95_ms: quantile(&first_byte, 0.95),
            first_byte_p99_ms: quantile(&first_byte, 0.99),
        }
    }
}

fn buckets(histogram: &Histogram) -> [u64; BUCKETS] {
    let mut counts = [0; BUCKETS];
    for (bucket, count) in counts.iter_mut().zip(histogram.counts()) {
        *bucket = count;
    }
    counts
}

fn less(now: &[u64; BUCKETS], before: &[u64; BUCKETS]) -> [u64; BUCKETS] {
    std::array::from_fn(|i| now[i].saturating_sub(before[i]))
}

/// As Prometheus's `histogram_quantile` says it, in milliseconds: evenly spread within a bucket, and in the last
/// one its lower bound. So page and boards agree.
fn quantile(counts: &[u64; BUCKETS], q: f64) -> Option<f32> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = q * total as f64;
    let mut below = 0.0;
    for (i, count) in counts.iter().enumerate().take(LATENCY_BOUNDS.len()) {
        let within = *count as f64;
        if within > 0.0 && below + within >= rank {
            let low = if i == 0 { 0.0 } else { LATENCY_BOUNDS[i - 1] };
            let part = ((rank - below) / within).clamp(0.0, 1.0);
            return Some(shown(1e3 * (low + (LATENCY_BOUNDS[i] - low) * part)));
        }
        below += within;
    }
    LATENCY_BOUNDS.last().map(|last| shown(1e3 * last))
}

/// Three digits are what an eye reads, and what a message has room for.
fn shown(value: f64) -> f32 {
    let parts = match value.abs() {
        ..1.0 => 1e3,
        1.0..10.0 => 1e2,
        10.0..100.0 => 1e1,
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
            version.duration.observe(Duration::from_secs(200));
        }
        let before = Counts::of_version(&version);
        version.tokens.add(Usage { prompt: Some(5), completion: Some(250) });
        for i in 0..100 {
            let (status, class) =
                if i < 4 { (503, Class::Overloaded) } else { (200, Class::Success) };
            version.requests.add(status, class);
            version.duration.observe(Duration::from_millis(40));
        }
        let figures = Counts::of_version(&version).figures(&before, Duration::from_secs(5));
        assert!((figures.requests_per_second - 20.0).abs() < 1e-6);
        assert!((figures.tokens_per_second - 50.0).abs() < 1e-6);
        assert!(near(figures.errors_percent, 4.0), "{figures:?}");
        // All are in the bucket from 25 to 50 ms.
        assert!(near(figures.p50_ms, 37.5) && near(figures.p99_ms, 49.8), "{figures:?}");
        assert_eq!(figures.first_byte_p50_ms, None);
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
    fn beyond_the_last_bound_a_percentile_is_that_bound() {
        let mut counts = Counts::default();
        counts.duration[BUCKETS - 1] = 3;
        let figures = counts.figures(&Counts::default(), Duration::from_secs(1));
        assert!(near(figures.p50_ms, 320_000.0), "{figures:?}");
    }

    #[test]
    fn only_a_refusal_that_the_client_did_not_ask_for_is_an_error() {
        assert!(!is_error(404, Class::Refused) && is_error(503, Class::Refused));
        assert!(!is_error(400, Class::ClientError) && !is_error(499, Class::Cancelled));
        assert!(is_error(429, Class::Overloaded) && is_error(502, Class::Reset));
    }
}
