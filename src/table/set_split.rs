//! Splits that operators set instead of the file's: for a while, until they are taken back, or until the file has
//! another one.
use super::holds::Hold;
use super::plan::ModelPlan;
use std::collections::BTreeMap;

/// Percents may miss 100 by so much, as three thirds do.
const TOLERANCE: f64 = 0.01;
/// Fractions that differ by less are the same.
const DUST: f64 = 1e-9;

/// Fractions of a model's requests by version; who is not named has none.
pub type Shares = BTreeMap<String, f64>;

/// One split that was set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetSplit {
    pub shares: Shares,
    /// Those of the file that it stands in for: an edit of them ends it.
    pub file: Shares,
    pub who: String,
    pub since: jiff::Timestamp,
    /// Until when, and why.
    pub hold: Hold,
}

impl SetSplit {
    pub fn share_of(&self, version: &str) -> f64 {
        self.shares.get(version).copied().unwrap_or(0.0)
    }

    /// Does the file still say what it said then, and has all versions that this one names?
    pub fn fits(&self, plan: &ModelPlan) -> bool {
        let file = shares_in_file(plan);
        let same = |((one, a), (other, b)): ((&String, &f64), (&String, &f64))| {
            one == other && (a - b).abs() < DUST
        };
        let known = |name: &String| plan.versions.iter().any(|version| version.name == *name);
        file.len() == self.file.len()
            && file.iter().zip(&self.file).all(same)
            && self.shares.iter().all(|(name, share)| *share <= 0.0 || known(name))
    }
}

/// What the file gives, without those who get nothing.
pub fn shares_in_file(plan: &ModelPlan) -> Shares {
    plan.split_by_name().into_iter().filter(|(_, share)| *share > 0.0).collect()
}

/// Percents as fractions. The error says what is wrong with them.
pub fn shares_of_percents(percents: &Shares) -> Result<Shares, String> {
    for (version, percent) in percents {
        if !percent.is_finite() || *percent < 0.0 {
            return Err(format!(
                "the share of `{version}` is {percent}, which is not a percentage"
            ));
        }
    }
    // An empty sum is -0.
    let sum = percents.values().sum::<f64>() + 0.0;
    if (sum - 100.0).abs() > TOLERANCE {
        let sum = (sum * 1e4).round() / 1e4;
        return Err(format!(
            "the shares sum to {sum}, not 100: they are percents of all requests of the model"
        ));
    }
    Ok(percents.iter().map(|(version, percent)| (version.clone(), percent / sum)).collect())
}

/// "v1=90 v2=10", in the order of the file.
pub fn shares_in_words<'a>(shares: impl IntoIterator<Item = (&'a str, f64)>) -> String {
    let each = shares.into_iter().map(|(name, share)| format!("{name}={}", in_percent(share)));
    each.collect::<Vec<_>>().join(" ")
}

/// Without the dust of binary numbers.
pub fn in_percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &[(&str, f64)]) -> Shares {
        text.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect()
    }

    #[test]
    fn percents_become_fractions_or_a_sentence() {
        let thirds =
            shares_of_percents(&shares(&[("a", 33.33), ("b", 66.67), ("c", 0.0)])).unwrap();
        assert!((thirds.values().sum::<f64>() - 1.0).abs() < DUST);
        for (bad, word) in [
            (shares(&[("a", 90.0), ("b", 5.5)]), "sum to 95.5, not 100"),
            (shares(&[]), "sum to 0, not 100"),
            (shares(&[("a", 110.0), ("b", -10.0)]), "`b` is -10"),
            (shares(&[("a", f64::NAN)]), "`a` is NaN"),
        ] {
            let why = shares_of_percents(&bad).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn shares_read_as_they_are_written() {
        assert_eq!(shares_in_words([("v1", 0.07), ("v2", 0.93)]), "v1=7 v2=93");
    }
}
