//! What a check looks at, and what that says of one request.
use super::observation::{Ended, Finding, Observation};
use super::output_rules::OutputRules;
use super::typical::Typical;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Metric {
    Errors,
    ClientErrors,
    /// Clients that left before the end.
    Cancelled,
    BadOutput(OutputRules),
    /// A percentile of the whole exchange: 50, 95 or 99.
    Latency(u8),
    /// A percentile of the time to the first byte.
    FirstByte(u8),
    /// A percentile of the longest silence within each stream.
    ChunkGap(u8),
    /// Of streams, after the first byte.
    TokensPerSecond,
    OutputTokens,
}

/// What a metric says of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    /// A thing that happened or did not.
    Hit(bool),
    /// Seconds, seconds for a token, or tokens: to be compared with what is usual. More is worse.
    Amount(f64),
    /// So much, or more.
    AtLeast(f64),
}

impl Metric {
    /// Every name, in the order of the docs.
    pub const NAMES: [&str; 13] = [
        "errors",
        "client_errors",
        "cancelled",
        "bad_output",
        "latency_p50",
        "latency_p95",
        "latency_p99",
        "first_byte_p50",
        "first_byte_p95",
        "first_byte_p99",
        "chunk_gap_p99",
        "tokens_per_second",
        "output_tokens",
    ];

    /// The metric of this name; `bad_output` without rules.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "errors" => Self::Errors,
            "client_errors" => Self::ClientErrors,
            "cancelled" => Self::Cancelled,
            "bad_output" => Self::BadOutput(OutputRules::default()),
            "latency_p50" => Self::Latency(50),
            "latency_p95" => Self::Latency(95),
            "latency_p99" => Self::Latency(99),
            "first_byte_p50" => Self::FirstByte(50),
            "first_byte_p95" => Self::FirstByte(95),
            "first_byte_p99" => Self::FirstByte(99),
            "chunk_gap_p99" => Self::ChunkGap(99),
            "tokens_per_second" => Self::TokensPerSecond,
            "output_tokens" => Self::OutputTokens,
            _ => return None,
        })
    }

    /// The name in files, metrics and sentences.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::ClientErrors => "client_errors",
            Self::Cancelled => "cancelled",
            Self::BadOutput(_) => "bad_output",
            Self::Latency(..=50) => "latency_p50",
            Self::Latency(51..=95) => "latency_p95",
            Self::Latency(_) => "latency_p99",
            Self::FirstByte(..=50) => "first_byte_p50",
            Self::FirstByte(51..=95) => "first_byte_p95",
            Self::FirstByte(_) => "first_byte_p99",
            Self::ChunkGap(_) => "chunk_gap_p99",
            Self::TokensPerSecond => "tokens_per_second",
            Self::OutputTokens => "output_tokens",
        }
    }

    /// The fraction of the stable version's requests that lie below what is usual; `None` for what happens or not.
    pub(super) fn quantile(&self) -> Option<f64> {
        match self {
            Self::Errors | Self::ClientErrors | Self::Cancelled | Self::BadOutput(_) => None,
            Self::Latency(percent) | Self::FirstByte(percent) | Self::ChunkGap(percent) => {
                Some(f64::from(*percent) / 100.0)
            }
            Self::TokensPerSecond | Self::OutputTokens => Some(0.5),
        }
    }

    /// What it looks for in an answer.
    pub fn rules(&self) -> Option<&OutputRules> {
        if let Self::BadOutput(rules) = self { Some(rules) } else { None }
    }

    /// Does it compare amounts with the usual one, rather than count what happened?
    pub fn compares_amounts(&self) -> bool {
        self.quantile().is_some()
    }

    /// Is more of it better? Then files say `at_least`.
    pub fn is_better_above(&self) -> bool {
        *self == Self::TokensPerSecond
    }

    /// Is it of streams alone?
    pub(super) fn needs_streams(&self) -> bool {
        matches!(self, Self::ChunkGap(_) | Self::TokensPerSecond)
    }

    /// By how much an amount of the stable side must exceed what is usual. Many answers have the same number of tokens,
    /// and the usual one is known to 1 % only: equal ones must not fall on either side of it by chance.
    pub(super) fn tie(&self) -> f64 {
        match self {
            Self::OutputTokens | Self::TokensPerSecond | Self::ChunkGap(_) => 1.02,
            Self::Errors
            | Self::ClientErrors
            | Self::Cancelled
            | Self::BadOutput(_)
            | Self::Latency(_)
            | Self::FirstByte(_) => 1.0,
        }
    }

    /// Does it depend on how busy the replica is?
    pub(super) fn depends_on_load(&self) -> bool {
        self.is_speed() || *self == Self::Cancelled
    }

    /// Is it a time, which a slow machine or a cold start makes longer?
    pub(super) fn is_speed(&self) -> bool {
        matches!(
            self,
            Self::Latency(_) | Self::FirstByte(_) | Self::ChunkGap(_) | Self::TokensPerSecond
        )
    }

    /// Is it longer on machines that have just begun to serve? Caches fill, code is compiled and pools grow before the
    /// first byte, mostly.
    pub(super) fn warms_up(&self) -> bool {
        matches!(self, Self::Latency(_) | Self::FirstByte(_))
    }

    /// Is it shorter where the replica has the prompt in its prefix cache?
    pub(super) fn depends_on_prefix(&self) -> bool {
        matches!(self, Self::Latency(_) | Self::FirstByte(_))
    }

    /// The rate that is expected before anything was seen.
    pub(super) fn prior(&self) -> f64 {
        self.quantile().map_or(0.01, |q| 1.0 - q)
    }

    /// What it says of a request; `None`: nothing. Failed requests have no speed and no output: fast failures would
    /// make a candidate look fast. Of one whose end nobody saw, nothing is known but how long it took at least.
    ///
    /// A client may leave, or set a deadline, whenever it likes: that counts only once it has waited far longer than
    /// is usual, and then for what it is. Leaving early is neither a failure nor a success. `fair`: both sides are as
    /// busy, so that who waits longer waits for a slower one.
    pub(super) fn read(
        &self,
        seen: &Observation,
        typical: &Typical,
        fair: bool,
    ) -> Option<Reading> {
        let (whole, good) = (seen.ended == Ended::Seen, !seen.error);
        let seconds = |took: Duration| {
            let of = if whole { Reading::Amount } else { Reading::AtLeast };
            of(took.as_secs_f64())
        };
        match self {
            Self::Errors if whole => Some(Reading::Hit(seen.error)),
            Self::Errors => {
                let nothing_came = seen.ended == Ended::Cancelled && seen.first_byte.is_none();
                let waited = nothing_came && typical.is_long_silence(seen.latency);
                (waited && fair).then_some(Reading::Hit(true))
            }
            Self::Cancelled if whole => Some(Reading::Hit(false)),
            Self::Cancelled => {
                let waited = match seen.first_byte {
                    None => typical.is_long_silence(seen.latency),
                    Some(_) => typical.is_long(seen.latency),
                };
                (seen.ended == Ended::Cancelled && waited).then_some(Reading::Hit(true))
            }
            Self::ClientErrors => (whole && good).then_some(Reading::Hit(seen.client_error)),
            Self::BadOutput(_) => seen.bad_output.map(|found| Reading::Hit(found != Finding::Good)),
            Self::Latency(_) => seen.latency.filter(|_| good).map(seconds),
            Self::FirstByte(_) => match seen.first_byte.filter(|_| good) {
                Some(came) => Some(Reading::Amount(came.as_secs_f64())),
                None => seen.latency.filter(|_| good && !whole).map(seconds),
            },
            Self::ChunkGap(_) => seen.chunk_gap.filter(|_| good).map(seconds),
            Self::TokensPerSecond => {
                let rate = seen.tokens_per_second.filter(|rate| good && whole && *rate > 0.0)?;
                Some(Reading::Amount(1.0 / f64::from(rate)))
            }
            Self::OutputTokens => {
                seen.tokens.filter(|_| good).map(|n| Reading::Amount(f64::from(n)))
            }
        }
    }

    /// What it says of a request that is still open.
    pub(super) fn read_open(&self, so_far: &Observation) -> Option<Reading> {
        let at_least = |waited: Duration| Reading::AtLeast(waited.as_secs_f64());
        match (self, so_far.first_byte) {
            (Self::FirstByte(_), Some(came)) => Some(Reading::Amount(came.as_secs_f64())),
            (Self::FirstByte(_), None) => so_far.latency.map(at_least),
            (Self::ChunkGap(_), _) => so_far.chunk_gap.map(at_least),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Arm;
    use crate::stats::Moment;

    #[test]
    fn every_name_reads_back() {
        for name in Metric::NAMES {
            assert_eq!(Metric::of_name(name).unwrap().name(), name);
        }
        assert_eq!(Metric::of_name("error"), None);
    }

    /// A client that leaves after so many seconds, with or without a first byte.
    fn left(after: f64, first_byte: Option<f64>) -> Observation {
        let seconds = Duration::from_secs_f64;
        Observation {
            ended: Ended::Cancelled,
            latency: Some(seconds(after)),
            first_byte: first_byte.map(seconds),
            ..Observation::of(Arm::Candidate, false, Moment::ZERO)
        }
    }

    #[test]
    fn a_client_who_leaves_early_says_nothing_and_one_who_waited_long_does() {
        let mut typical = Typical::default();
        for _ in 0..100 {
            let seconds = Duration::from_secs_f64;
            let usual = Observation {
                latency: Some(seconds(2.0)),
                first_byte: Some(seconds(0.1)),
                ..Observation::of(Arm::Stable, false, Moment::ZERO)
            };
            typical.learn(&usual, 1.0);
        }
        let read = |metric: Metric, seen| metric.read(&seen, &typical, true);
        for seen in [left(0.02, None), left(0.7, None), left(10.0, Some(0.1))] {
            assert_eq!(read(Metric::Errors, seen), None, "{seen:?}");
            assert_eq!(read(Metric::Cancelled, seen), None, "{seen:?}");
        }
        let hit = Some(Reading::Hit(true));
        assert_eq!(read(Metric::Errors, left(0.9, None)), hit, "it hung");
        assert_eq!(read(Metric::Cancelled, left(0.9, None)), hit);
        assert_eq!(read(Metric::Errors, left(20.0, Some(0.1))), None, "it had begun to answer");
        assert_eq!(read(Metric::Cancelled, left(20.0, Some(0.1))), hit);
        assert_eq!(Metric::Errors.read(&left(0.9, None), &typical, false), None, "it may queue");
    }
}
