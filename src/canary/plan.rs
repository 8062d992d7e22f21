//! The key `canary` as plain data.
use super::metric::Metric;
use super::output_rules::OutputRules;
use super::safe::margin_of_step;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a candidate is brought in, and what stops it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryPlan {
    /// The name of a version; with `aa` the one that is compared with itself.
    pub candidate: String,
    pub start: Start,
    /// Percent of the candidate: rising, the last is 100, and at least one is below.
    pub steps: Vec<f64>,
    /// The first steps are left out where so few requests come that 100 of the candidate do not fit into `hold`.
    pub adapts: bool,
    /// At least so long on a step.
    pub hold: Duration,
    /// After the candidate's first usable replica: not judged.
    pub warmup: Duration,
    /// Roll back only when the evidence stands without its best 30 s.
    pub confirm: bool,
    pub checks: Vec<Check>,
    /// The chance, over the whole roll-out, of rolling back a candidate that is as good: above 0, below 1.
    pub false_alarm: f64,
    /// Eveners that judge this candidate, each for itself; at least 1.
    pub proxies: u32,
    pub on_failure: OnFailure,
    pub on_undecided: OnUndecided,
    pub notify: Option<Notify>,
    /// Judge the stable version against itself and change nothing.
    pub aa: bool,
}

impl Default for CanaryPlan {
    fn default() -> Self {
        Self {
            candidate: String::new(),
            start: Start::Auto,
            steps: vec![1.0, 5.0, 25.0, 50.0, 100.0],
            adapts: true,
            hold: Duration::from_mins(2),
            warmup: Duration::from_secs(30),
            confirm: true,
            checks: Check::usual(),
            false_alarm: 0.01,
            proxies: 1,
            on_failure: OnFailure::Rollback,
            on_undecided: OnUndecided {
                after: Duration::from_hours(2),
                act: DoWhenUndecided::Pause,
            },
            notify: None,
            aa: false,
        }
    }
}

impl CanaryPlan {
    /// The plan as far as it decides: a new webhook restarts nothing.
    #[must_use]
    pub fn deciding(&self) -> Self {
        Self { notify: None, ..self.clone() }
    }

    /// Does a check depend on what replicas have in their prefix caches?
    pub fn reads_prompts(&self) -> bool {
        self.checks.iter().any(|check| check.metric.depends_on_prefix())
    }

    /// Does a check look into answers?
    pub fn reads_answers(&self) -> bool {
        let reads = |metric: &Metric| matches!(metric, Metric::BadOutput(_) | Metric::OutputTokens);
        self.checks.iter().any(|check| reads(&check.metric))
    }

    /// What an answer's body is looked at for, if any check asks.
    pub fn output_rules(&self) -> Option<&OutputRules> {
        self.checks.iter().find_map(|check| check.metric.rules())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// When the file names a candidate that was not judged yet.
    Auto,
    /// By an operator.
    Manual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    Rollback,
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnUndecided {
    /// So long on one step.
    pub after: Duration,
    pub act: DoWhenUndecided,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoWhenUndecided {
    Pause,
    Rollback,
}

/// A bound that stops the candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub metric: Metric,
    pub at_most: Margin,
}

impl Check {
    /// By how much the candidate's rate may exceed the stable one: never by more than half of what is left to 1, so that
    /// something worse can always be told. For amounts the margin is in the comparison.
    pub(super) fn margin(&self, usual: f64) -> f64 {
        if self.metric.compares_amounts() {
            return 0.0;
        }
        self.at_most.above(usual).min((1.0 - usual) / 2.0)
    }

    /// By how much it may exceed it without being kept from the next step.
    pub(super) fn step_margin(&self, share: f64, usual: f64) -> f64 {
        if self.metric.compares_amounts() {
            return (usual * 0.35).clamp(0.015, 0.125);
        }
        margin_of_step(share, self.margin(usual), usual)
    }

    /// What is checked where the file names no checks.
    pub fn usual() -> Vec<Self> {
        let rules = OutputRules { optional: true, ..OutputRules::usual() };
        let metrics = [
            Metric::Errors,
            Metric::ClientErrors,
            Metric::Cancelled,
            Metric::FirstByte(95),
            Metric::ChunkGap(99),
            Metric::TokensPerSecond,
            Metric::BadOutput(rules),
        ];
        metrics.map(|metric| Self { at_most: Margin::usual(&metric), metric }).into()
    }
}

/// How much worse the candidate may be; of both the wider one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// Added to the stable version's rate, as a fraction: `+0.5%` is 0.005.
    pub points: f64,
    /// Times what the stable version has; at least 1. Of what is better above, this many times less: `0.8x` is 1.25.
    pub times: f64,
}

impl Margin {
    /// That of a check that names none.
    pub fn usual(metric: &Metric) -> Self {
        let (points, times) = match metric {
            Metric::Errors | Metric::ClientErrors => (0.005, 1.5),
            // Who waits longer leaves more often: a candidate that hangs is meant, not one that has fewer replicas.
            Metric::Cancelled => (0.1, 2.0),
            Metric::BadOutput(_) => (0.01, 1.0),
            Metric::Latency(_) | Metric::FirstByte(_) | Metric::OutputTokens => (0.0, 1.1),
            Metric::ChunkGap(_) => (0.0, 1.5),
            Metric::TokensPerSecond => (0.0, 1.0 / 0.8),
        };
        Self { points, times }
    }

    /// How far above `rate` a rate may be.
    pub fn above(self, rate: f64) -> f64 {
        self.points.max((self.times - 1.0) * rate)
    }
}

/// Who is told. Neither is ever shown: the address of a chat's webhook is a secret, too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    pub webhook: String,
    /// Signs what is sent.
    pub secret: Option<String>,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notify(…)")
    }
}

/// What a verdict is about: a candidate that was judged is not judged again by itself. Replicas may come and go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Judged {
    pub model: String,
    pub candidate: String,
    pub upstream_model: Option<String>,
}
