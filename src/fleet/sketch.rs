//! Durations as they come, counted on the log-linear scale: each quantile is off by less than 1 %.
use crate::stats::log_scale::{PER_OCTAVE, bucket, middle, quantile};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The exponents of 2 between which durations are told apart: from 61 µs to 2 h 16 min, in seconds.
const SHORTEST: i16 = -14;
const LONGEST: i16 = 13;

/// One distribution, all since the process began. Observing a duration is one atomic addition.
///
/// Buckets are split at `bounds` (rising, in seconds), so that the count at or below each of them is exact. Nothing is
/// allocated before the first observation; after it the counts take 8 bytes for each of some 1 750 places.
#[derive(Debug)]
pub struct Sketch {
    bounds: &'static [f64],
    /// For each bound the last place at or below it.
    last_below: Box<[u16]>,
    counts: OnceLock<Box<[AtomicU64]>>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self::new(&[])
    }
}

/// The bucket of the scale, from 0. What is beyond an end counts at that end.
fn place(seconds: f64) -> usize {
    let from_first = i32::from(bucket(seconds)) - i32::from(Sketch::FIRST);
    usize::try_from(from_first).unwrap_or(0).min(Sketch::BUCKETS - 1)
}

impl Sketch {
    /// Buckets of the scale that durations are counted in, and the first of them.
    pub const BUCKETS: usize = ((LONGEST - SHORTEST) * PER_OCTAVE) as usize;
    pub const FIRST: i16 = SHORTEST * PER_OCTAVE;

    pub fn new(bounds: &'static [f64]) -> Self {
        // Both the bucket and the number of bounds passed rise with the duration, so their sum names the pair.
        let last_below = bounds.iter().enumerate().map(|(i, bound)| (place(*bound) + i) as u16);
        Self { bounds, last_below: last_below.collect(), counts: OnceLock::new() }
    }

    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let passed = self.bounds.partition_point(|bound| *bound < seconds);
        self.made()[place(seconds) + passed].fetch_add(1, Relaxed);
    }

    fn made(&self) -> &[AtomicU64] {
        let places = Self::BUCKETS + self.bounds.len();
        self.counts
            .get_or_init(|| std::iter::repeat_with(AtomicU64::default).take(places).collect())
    }

    /// The count at each place, in the order of durations. Empty: nothing was observed yet.
    pub fn counts(&self) -> impl Iterator<Item = u64> + Clone + '_ {
        let counts = self.counts.get().map_or(&[][..], |counts| counts);
        counts.iter().map(|count| count.load(Relaxed))
    }

    /// The bucket of the scale at a place.
    pub fn bucket_at(&self, place: usize) -> i16 {
        let passed = self.last_below.partition_point(|last| usize::from(*last) < place);
        Self::FIRST.saturating_add_unsigned((place - passed) as u16)
    }

    /// How many were observed at or below each bound, and how many in all.
    pub fn cumulative(&self) -> (Vec<u64>, u64) {
        let mut below = Vec::with_capacity(self.bounds.len());
        let mut total = 0;
        for (place, count) in self.counts().enumerate() {
            total += count;
            if self.last_below.get(below.len()).is_some_and(|last| usize::from(*last) == place) {
                below.push(total);
            }
        }
        below.resize(self.bounds.len(), total);
        (below, total)
    }

    /// The duration below which the fraction `q` of them lies; `None` while fewer than `enough` are known.
    pub fn quantile(&self, q: f64, enough: u64) -> Option<Duration> {
        if self.counts().sum::<u64>() < enough {
            return None;
        }
        let counts = self.counts().enumerate();
        let seconds = quantile(counts.map(|(place, n)| (self.bucket_at(place), n as f64)), q)?;
        Some(Duration::from_secs_f64(seconds.max(middle(Self::FIRST))))
    }

    /// Lets what is known count half.
    pub fn halve(&self) {
        for count in self.counts.get().map_or(&[][..], |counts| counts) {
            // What comes in between is not lost: only what was seen is taken away.
            let seen = count.load(Relaxed);
            count.fetch_sub(seen - seen / 2, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_durations_say_nothing() {
        let sketch = Sketch::default();
        for _ in 0..99 {
            sketch.observe(Duration::from_millis(5));
        }
        assert_eq!(sketch.quantile(0.5, 100), None);
    }

    #[test]
    fn what_is_old_fades() {
        let sketch = Sketch::default();
        for _ in 0..1000 {
            sketch.observe(Duration::from_secs(1));
        }
        for _ in 0..10 {
            sketch.halve();
        }
        assert_eq!(sketch.quantile(0.5, 100), None);
    }

    #[test]
    fn what_is_beyond_the_scale_counts_at_its_end() {
        let sketch = Sketch::new(&[0.001, 1.0]);
        for took in [Duration::ZERO, Duration::from_nanos(1), Duration::from_hours(9)] {
            sketch.observe(took);
        }
        assert_eq!(sketch.cumulative(), (vec![2, 2], 3));
        assert!(sketch.quantile(1.0, 1).unwrap() > Duration::from_hours(2));
    }

    const BOUNDS: [f64; 5] = [0.000_25, 0.001, 0.5, 1.0, 320.0];

    proptest! {
        #[test]
        fn quantiles_are_off_by_less_than_one_percent_and_bounds_by_nothing(
            mut micros in prop::collection::vec(70_u64..3_600_000_000, 1..300),
            q in 0.0..1.0_f64,
            on_bounds in prop::collection::vec(0..BOUNDS.len(), 0..20),
        ) {
            micros.extend(on_bounds.iter().map(|i| (BOUNDS[*i] * 1e6).round() as u64));
            let sketch = Sketch::new(&BOUNDS);
            for each in &micros {
                sketch.observe(Duration::from_micros(*each));
            }
            micros.sort_unstable();
            let rank = q * (micros.len() - 1) as f64;
            let [low, high] = [rank.floor(), rank.ceil()].map(|rank| micros[rank as usize] as f64);
            let exact = low + (high - low) * rank.fract();
            let found = sketch.quantile(q, 1).unwrap().as_secs_f64() * 1e6;
            prop_assert!((found / exact - 1.0).abs() < 0.01, "{found} for {exact}");
            let below = |bound: &f64| {
                micros.iter().filter(|each| Duration::from_micros(**each).as_secs_f64() <= *bound).count() as u64
            };
            let expected: Vec<u64> = BOUNDS.iter().map(below).collect();
            prop_assert_eq!(sketch.cumulative(), (expected, micros.len() as u64));
        }
    }
}
