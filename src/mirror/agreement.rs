//! How often two versions agree, with how sure that is.
use super::compare::Comparison;
use super::pairs::{Redaction, ShownPair, WorstPairs};
use super::plan::Facet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// How often answers agreed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// A fraction; `None`: nothing was compared.
    pub agreement: Option<f64>,
    pub compared: u64,
    pub agreed: u64,
    /// Holds the true rate in 95 of 100 cases.
    pub interval: [f64; 2],
}

/// What was found in all, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// By facet.
    pub by: BTreeMap<String, Rate>,
    /// By the version that clients were served by.
    pub from: BTreeMap<String, Rate>,
    /// Pairs of answers, those that differ most first.
    pub worst: Vec<Value>,
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

    fn rate(self) -> Rate {
        let Self { compared, agreed } = self;
        Rate {
            agreement: (compared > 0).then(|| agreed as f64 / compared as f64),
            compared,
            agreed,
            interval: wilson(agreed, compared),
        }
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

    /// How to show a pair that is to be kept; `None`: this one is not.
    pub fn wants(&self, comparison: &Comparison) -> Option<Arc<Redaction>> {
        self.worst.wants(comparison)
    }

    /// `from`: the version that served the client. What could not be compared counts for nothing.
    pub fn add(&mut self, comparison: &Comparison, from: &str, shown: Option<ShownPair>) {
        let Some(agrees) = comparison.agrees() else { return };
        self.whole.add(agrees);
        match self.from.get_mut(from) {
            Some(count) => count.add(agrees),
            None => self.from.entry(from.to_owned()).or_default().add(agrees),
        }
        for (facet, same) in &comparison.by {
            self.by[*facet as usize].add(*same);
        }
        if let Some(shown) = shown {
            self.worst.add(shown);
        }
    }

    /// Keeps worst pairs by other rules from now on. Those kept by the old ones are forgotten: they may show what
    /// must not be shown any more.
    pub fn keep(&mut self, worst: WorstPairs) {
        self.worst = worst;
    }

    /// How often they agreed in everything.
    pub fn rate(&self) -> Rate {
        self.whole.rate()
    }

    pub fn report(&self) -> Report {
        let seen = Facet::ALL.into_iter().zip(&self.by).filter(|(_, count)| count.compared > 0);
        Report {
            by: seen.map(|(facet, count)| (facet.word().to_owned(), count.rate())).collect(),
            from: self.from.iter().map(|(name, count)| (name.clone(), count.rate())).collect(),
            worst: self.worst.shown_pairs(),
        }
    }
}
