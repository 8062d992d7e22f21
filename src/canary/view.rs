//! What a canary knows, check by check, for those who ask.
use super::clients::Clients;
use super::count::Count;
use super::loud::Whose;
use super::plan::Check;
use super::proof::Proof;

/// One check of a canary.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckView {
    pub metric: &'static str,
    pub candidate: Count,
    pub stable: Count,
    /// The logarithm of how strongly it speaks against the candidate, without its loudest client and key; below 0: for it.
    pub log_evidence: f64,
    /// Of how many clients the candidate's hits are; `None`: nobody can tell.
    pub clients: Option<Whose>,
    /// Its part in the whole; all sum to 1.
    pub weight: f64,
    /// Proven to be no worse on this step; for percentiles, that there is something to compare.
    pub passes: bool,
    /// Why nothing can be compared just now.
    pub note: Option<&'static str>,
}

/// How much each check counts: errors 0.4, the others the rest in equal parts.
pub(super) fn weights(checks: &[Check]) -> Vec<f64> {
    let errors = |check: &Check| check.metric == super::Metric::Errors;
    let others = checks.iter().filter(|check| !errors(check)).count();
    let with_errors = others < checks.len();
    let each = |check: &Check| match (errors(check), with_errors, others) {
        (true, _, 0) => 1.0 / checks.len() as f64,
        (true, ..) => 0.4 / (checks.len() - others) as f64,
        (false, true, _) => 0.6 / others as f64,
        (false, false, _) => 1.0 / others as f64,
    };
    checks.iter().map(each).collect()
}

/// Which check speaks loudest against the candidate, and how loudly.
pub(super) fn loudest(proofs: &[Proof], weights: &[f64], clients: &Clients) -> Option<usize> {
    let loud = |(proof, weight): (&Proof, &f64)| weight.ln() + proof.harm(clients);
    let all = proofs.iter().zip(weights).map(loud).enumerate();
    all.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{Margin, Metric};

    #[test]
    fn weights_sum_to_one_and_errors_have_the_most() {
        let at_most = Margin { points: 0.0, times: 1.1 };
        let check = |metric| Check { metric, at_most };
        let all = [Metric::Errors, Metric::Latency(50), Metric::Latency(95), Metric::OutputTokens]
            .map(check);
        for n in 1..=4 {
            assert!((weights(&all[..n]).iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!((weights(&all[4 - n..]).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert!((weights(&all)[0] - 0.4).abs() < 1e-12);
        assert!((weights(&all)[1] - 0.2).abs() < 1e-12);
    }
}
