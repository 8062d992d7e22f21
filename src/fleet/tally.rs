//! Counters that the data path adds to without a lock or a map.
use super::sketch::Sketch;
use crate::dialect::RefusalCode;
use crate::dialect::grpc::GrpcStatus;
use crate::health::Class;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency buckets, in seconds.
pub const LATENCY_BOUNDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0,
    160.0, 320.0,
];
/// Upper bounds of the buckets of the time between two chunks, in seconds.
pub const INTER_CHUNK_BOUNDS: [f64; 11] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Statuses of HTTP, and those of gRPC from 600.
const CODES: std::ops::RangeInclusive<u16> = 100..=GrpcStatus::LAST_CODE;
/// What any other code counts as.
const OTHER: u16 = 599;

/// Requests by status code and class. A row of codes is made when its class first happens.
#[derive(Debug, Default)]
pub struct Tally {
    rows: [OnceLock<Box<[AtomicU64]>>; Class::ALL.len()],
}

impl Tally {
    /// Counts one request. Codes of neither HTTP nor gRPC count as 599.
    pub fn add(&self, code: u16, class: Class) {
        let code = if CODES.contains(&code) { code } else { OTHER };
        let row = self.rows[class as usize]
            .get_or_init(|| std::iter::repeat_with(AtomicU64::default).take(CODES.len()).collect());
        row[usize::from(code - CODES.start())].fetch_add(1, Relaxed);
    }

    /// Every (code, class, count) that happened.
    pub fn counts(&self) -> impl Iterator<Item = (u16, Class, u64)> + '_ {
        self.rows
            .iter()
            .zip(Class::ALL)
            .filter_map(|(row, class)| Some((row.get()?, class)))
            .flat_map(|(row, class)| {
                let counts = CODES.zip(row.iter().map(|n| n.load(Relaxed)));
                counts.filter(|(_, n)| *n > 0).map(move |(code, n)| (code, class, n))
            })
    }

    pub fn total(&self) -> u64 {
        self.counts().map(|(_, _, n)| n).sum()
    }
}

/// Exchanges by class alone: there are many replicas, and nobody asks which codes one of them sent.
#[derive(Debug, Default)]
pub struct ClassCounts([AtomicU64; Class::ALL.len()]);

impl ClassCounts {
    pub fn add(&self, class: Class) {
        self.0[class as usize].fetch_add(1, Relaxed);
    }

    pub fn of_class(&self, class: Class) -> u64 {
        self.0[class as usize].load(Relaxed)
    }

    pub fn counts(&self) -> impl Iterator<Item = (Class, u64)> + '_ {
        Class::ALL.into_iter().map(|class| (class, self.of_class(class)))
    }

    pub fn total(&self) -> u64 {
        self.counts().map(|(_, n)| n).sum()
    }
}

/// Answers of Evener's own, by code.
#[derive(Debug)]
pub struct Refusals([AtomicU64; RefusalCode::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::default()))
    }
}

impl Refusals {
    pub fn add(&self, code: RefusalCode) {
        self.0[code as usize].fetch_add(1, Relaxed);
    }

    /// How often one happened.
    pub fn of(&self, code: RefusalCode) -> u64 {
        self.0[code as usize].load(Relaxed)
    }

    /// Every code that happened, with its count.
    pub fn counts(&self) -> impl Iterator<Item = (RefusalCode, u64)> + '_ {
        let counts = RefusalCode::ALL.iter().zip(&self.0);
        counts.map(|(code, n)| (*code, n.load(Relaxed))).filter(|(_, n)| *n > 0)
    }
}

/// Durations for Prometheus: counts in fixed buckets, and their sum. The counts are a sketch's, which knows more.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    sketch: Sketch,
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, sketch: Sketch::new(bounds), sum_nanos: AtomicU64::default() }
    }

    pub fn observe(&self, took: Duration) {
        self.sketch.observe(took);
        self.sum_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Was nothing observed yet?
    pub fn is_empty(&self) -> bool {
        self.sketch.counts().all(|n| n == 0)
    }

    /// What was observed, on a finer scale.
    pub fn sketch(&self) -> &Sketch {
        &self.sketch
    }

    /// The bounds with the count at or below each, then the total count and the sum in seconds.
    pub fn cumulative(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let (below, total) = self.sketch.cumulative();
        let buckets = self.bounds.iter().copied().zip(below).collect();
        (buckets, total, self.sum_nanos.load(Relaxed) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_by_code_and_class() {
        let tally = Tally::default();
        tally.add(200, Class::Success);
        tally.add(200, Class::Success);
        tally.add(499, Class::Cancelled);
        tally.add(9999, Class::ServerError);
        let counts: Vec<_> = tally.counts().collect();
        let expected =
            [(200, Class::Success, 2), (599, Class::ServerError, 1), (499, Class::Cancelled, 1)];
        assert_eq!(counts, expected);
        assert_eq!(tally.total(), 4);
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&LATENCY_BOUNDS);
        for took in [Duration::from_millis(1), Duration::from_millis(3), Duration::from_secs(999)] {
            histogram.observe(took);
        }
        let (buckets, total, sum) = histogram.cumulative();
        assert_eq!(buckets[0], (0.001, 1));
        assert_eq!(buckets[2], (0.005, 2));
        assert_eq!(buckets[17], (320.0, 2));
        assert_eq!(total, 3);
        assert!((sum - 999.004).abs() < 1e-9);
    }
}
