//! What amounts are usual: counts on the log-linear scale as plain data that fades.
use crate::stats::log_scale::{bucket, quantile};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// The memory, as a time constant in seconds.
const FADES: f64 = 600.0;
/// Fewer amounts than this say nothing.
const ENOUGH: f64 = 20.0;

/// Amounts above 0: seconds or tokens. Each quantile is off by less than 1 %.
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
        *self.counts.entry(bucket(amount.max(1e-9))).or_default() += 1.0;
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
        quantile(self.counts.iter().map(|(bucket, count)| (*bucket, *count)), q)
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
        assert!((sketch.quantile(0.5).unwrap() - 3.0).abs() < 0.03);
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
}
