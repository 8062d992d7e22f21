//! How often two versions agree, with how sure that is.
use super::compare::Comparison;
use super::pairs::{Pair, WorstPairs};
use super::plan::Facet;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// 95 % of intervals hold the truth.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's score interval of a rate (Wilson, J. Am. Stat. Assoc. 22, 1927): honest for few trials and for rates near 0 and 1.
pub(super) fn wilson(successes: u64, trials: u64) -> [f64; 2] {
    if trials == 0 {
        return [0.0, 1.0];
    }
    let n = trials as f64;
    let rate = successes.min(trials) as f64 / n;
    let middle = rate + Z * Z / (2.0 * n);
    let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
    let whole = 1.0 + Z * Z / n;
    [((middle - half) / whole).clamp(0.0, rate), ((middle + half) / whole).clamp(rate, 1.0)]
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    compared: u64,
    agreed: u64,
}

impl Count {
    fn add(&mut self, agrees: bool) {
        self.compared += 1;
        self.agreed += u64::from(agrees);
    }

    fn report(self) -> Map<String, Value> {
        let rate = (self.compared > 0).then(|| self.agreed as f64 / self.compared as f64);
        let mut report = Map::new();
        report.insert("agreement".to_owned(), json!(rate));
        report.insert("compared".to_owned(), json!(self.compared));
        report.insert("agreed".to_owned(), json!(self.agreed));
        report.insert("interval".to_owned(), json!(wilson(self.agreed, self.compared)));
        report
    }
}

/// All comparisons of one mirror so far.
#[derive(Clone, Debug)]
pub struct Agreement {
    whole: Count,
    by: [Count; Facet::ALL.len()],
    /// By the version that clients were served by.
    from: BTreeMap<String, Count>,
    worst: WorstPairs,
}

impl Agreement {
    pub fn new(worst: WorstPairs) -> Self {
        let (whole, by, from) = Default::default();
        Self { whole, by, from, worst }
    }

    /// What could not be compared counts for nothing.
    pub fn add(&mut self, comparison: &Comparison, pair: &Pair<'_>) {
        let Some(agrees) = comparison.agrees() else { return };
        self.whole.add(agrees);
        match self.from.get_mut(pair.from) {
            Some(count) => count.add(agrees),
            None => self.from.entry(pair.from.to_owned()).or_default().add(agrees),
        }
        for (facet, same) in &comparison.by {
            self.by[*facet as usize].add(*same);
        }
        self.worst.add(comparison, pair);
    }

    /// Keeps worst pairs by other rules from now on. Those kept by the old ones are forgotten: they may show what
    /// must not be shown any more.
    pub fn keep(&mut self, worst: WorstPairs) {
        self.worst = worst;
    }

    /// As the API gives it: rates are fractions, and an interval holds the true one in 95 of 100 cases.
    pub fn report(&self) -> Map<String, Value> {
        let seen = Facet::ALL.into_iter().zip(&self.by).filter(|(_, count)| count.compared > 0);
        let by: Map<String, Value> = seen
            .map(|(facet, count)| (facet.word().to_owned(), Value::Object(count.report())))
            .collect();
        let from = self.from.iter().map(|(name, count)| (name.clone(), count.report().into()));
        let mut report = self.whole.report();
        report.insert("by".to_owned(), Value::Object(by));
        report.insert("from".to_owned(), Value::Object(from.collect()));
        report.insert("worst".to_owned(), Value::Array(self.worst.shown_pairs()));
        report
    }
}
