//! What amounts are usual: counts in buckets whose bounds grow by a constant factor, as plain data that fades.
//!
//! `DDSketch` (Masson, Rim and Lee, VLDB 2019): every quantile is off by at most 1 %.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Each bucket's bound over the one before.
const GROWTH: f64 = 1.02;
/// The memory, as a time constant in seconds.
const FADES: f64 = 600.0;
/// Fewer amounts than this say nothing.
const ENOUGH: f64 = 20.0;

/// Amounts above 0: seconds or tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    counts: BTreeMap<i16, f64>,
    total: f64,
    /// Seconds at which it faded last.
    faded: f64,
}

impl Sketch {
    /// `at`: seconds on any clock that goes forward.
    pub fn add(&mut self, amount: f64, at: f64) {
        if at - self.faded > FADES / 20.0 {
            self.fade(at);
        }
        let bucket = (amount.max(1e-9).ln() / GROWTH.ln()).floor() as i16;
        *self.counts.entry(bucket).or_default() += 1.0;
        self.total += 1.0;
    }

    fn fade(&mut self, at: f64) {
        let keeps = (-(at - self.faded) / FADES).exp();
        self.counts.retain(|_, count| {
            *count *= keeps;
            *count > 1e-3
        });
        self.total = self.counts.values().sum();
        self.faded = at;
    }

    /// How many amounts it remembers.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// The amount below which the fraction `q` lies; `None` while too few are known.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.total < ENOUGH {
            return None;
        }
        let rank = q * self.total;
        let mut below = 0.0;
        let bucket = self.counts.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        let bucket = bucket.or_else(|| self.counts.last_key_value())?.0;
        Some(GROWTH.powf(f64::from(*bucket) + 0.5))
    }
}

/// In a journal: when it faded last, its first bucket, and the counts from there on as whole numbers.
type Kept = (f64, i16, Vec<u32>);

impl Serialize for Sketch {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let first = self.counts.first_key_value().map_or(0, |(bucket, _)| *bucket);
        let last = self.counts.last_key_value().map_or(-1, |(bucket, _)| *bucket);
        let count = |bucket| self.counts.get(&bucket).map_or(0, |count| count.round() as u32);
        let kept: Kept = (self.faded.round(), first, (first..=last).map(count).collect());
        kept.serialize(out)
    }
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (faded, first, counts) = Kept::deserialize(from)?;
        let counts: BTreeMap<i16, f64> = (first..).zip(counts.into_iter().map(f64::from)).collect();
        let counts: BTreeMap<_, _> = counts.into_iter().filter(|(_, n)| *n > 0.0).collect();
        let total = counts.values().sum();
        Ok(Self { counts, total, faded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_amounts_say_nothing_and_old_ones_fade() {
        let mut sketch = Sketch::default();
        for _ in 0..19 {
            sketch.add(1.0, 0.0);
        }
        assert_eq!(sketch.quantile(0.5), None);
        for _ in 0..1000 {
            sketch.add(1.0, 1.0);
        }
        for _ in 0..100 {
            sketch.add(3.0, 3_000.0);
        }
        assert!((sketch.quantile(0.5).unwrap() - 3.0).abs() < 0.04);
    }

    #[test]
    fn a_journal_keeps_it_and_is_small() {
        let mut sketch = Sketch::default();
        for n in 1..20_000 {
            sketch.add(0.01 * f64::from(n).sqrt(), 7.0);
        }
        let text = serde_json::to_string(&sketch).unwrap();
        assert!(text.len() < 1500, "{}", text.len());
        let again: Sketch = serde_json::from_str(&text).unwrap();
        assert_eq!(again.quantile(0.95), sketch.quantile(0.95));
        let none = serde_json::to_string(&Sketch::default()).unwrap();
        assert_eq!(serde_json::from_str::<Sketch>(&none).unwrap().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_off_by_one_percent_at_most(
            mut amounts in prop::collection::vec(1e-5..1e5_f64, 20..400), q in 0.01..0.99_f64,
        ) {
            let mut sketch = Sketch::default();
            for amount in &amounts {
                sketch.add(*amount, 0.0);
            }
            amounts.sort_unstable_by(f64::total_cmp);
            let rank = (q * amounts.len() as f64).ceil() as usize;
            let found = sketch.quantile(q).unwrap();
            let near = amounts[rank.saturating_sub(2)..(rank + 1).min(amounts.len())]
                .iter()
                .any(|exact| (found / exact - 1.0).abs() < 0.0105);
            prop_assert!(near, "{found} at {q}");
        }
    }
}
