//! Quantiles of durations, learned as they come: counts in buckets whose bounds grow by a constant factor
//! (`DDSketch`: Masson, Rim and Lee, VLDB 2019), so that every quantile is off by at most 2 %.
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Each bucket's bound over the one before.
const GROWTH: f64 = 1.04;
/// Shorter durations count as this one, in seconds.
const SHORTEST: f64 = 50e-6;
/// Up to some two hours.
const BUCKETS: usize = 480;
/// Fewer durations than this say nothing.
const ENOUGH: u64 = 100;

/// One distribution. Observing it is one atomic addition.
#[derive(Debug)]
pub struct Sketch(Box<[AtomicU32]>);

impl Default for Sketch {
    fn default() -> Self {
        Self(std::iter::repeat_with(AtomicU32::default).take(BUCKETS).collect())
    }
}

impl Sketch {
    pub fn observe(&self, took: Duration) {
        let steps = (took.as_secs_f64() / SHORTEST).max(1.0).ln() / GROWTH.ln();
        self.0[(steps as usize).min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// The duration below which the fraction `q` of them lies; `None` while too few are known.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let counts = || self.0.iter().map(|count| u64::from(count.load(Relaxed)));
        let total: u64 = counts().sum();
        if total < ENOUGH {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * (total - 1) as f64) as u64;
        let mut below = 0;
        let bucket = counts().position(|count| {
            below += count;
            below > rank
        })?;
        // The middle of the bucket, on its own scale.
        Some(Duration::from_secs_f64(SHORTEST * GROWTH.powf(bucket as f64 + 0.5)))
    }

    /// Lets what is known count half.
    pub fn halve(&self) {
        for count in &self.0 {
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
        assert_eq!(sketch.quantile(0.5), None);
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
        assert_eq!(sketch.quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_off_by_two_percent_at_most(
            mut micros in prop::collection::vec(60_u64..3_600_000_000, 100..400), q in 0.0..1.0_f64,
        ) {
            let sketch = Sketch::default();
            for each in &micros {
                sketch.observe(Duration::from_micros(*each));
            }
            micros.sort_unstable();
            let exact = micros[(q * (micros.len() - 1) as f64) as usize] as f64;
            let found = sketch.quantile(q).unwrap().as_secs_f64() * 1e6;
            prop_assert!((found / exact - 1.0).abs() < 0.021, "{found} for {exact}");
        }
    }
}
