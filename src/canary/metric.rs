//! What is measured of a request, and on which side of the canary it was.
use super::plan::OutputRules;
use crate::stats::Moment;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The side that served a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arm {
    Candidate,
    Stable,
}

/// What one first attempt of a request came to, whose version was drawn or follows from its sticky key.
/// Pinned and repeated requests are none: nothing is learned from what was chosen for another reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    pub arm: Arm,
    /// When it was asked: what began before a canary did, or in its warm-up, does not speak of it.
    pub began: Moment,
    pub ended: Ended,
    /// Requests that its replica had already, by weight: of one that may carry twice what the lightest does, half of them.
    pub beside: u32,
    pub error: bool,
    pub client_error: bool,
    /// `None`: not looked at.
    pub bad_output: Option<Finding>,
    pub latency: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub tokens: Option<u32>,
}

impl Observation {
    /// One of which only this is known.
    pub const fn of(arm: Arm, error: bool, began: Moment) -> Self {
        Self {
            arm,
            began,
            ended: Ended::Seen,
            beside: 0,
            error,
            client_error: false,
            bad_output: None,
            latency: None,
            first_byte: None,
            tokens: None,
        }
    }
}

/// Did anybody wait for its end? If not, its times are what was waited, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    Seen,
    /// Its client left.
    Cancelled,
    /// A hedge was faster.
    Outrun,
}

/// What a look at an answer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Finding {
    Good,
    Truncated,
    Empty,
    JsonInvalid,
    /// A JSON pointer does not lead to what it should.
    Unexpected,
    /// Its text has in it what it must not.
    Matches,
}

impl Finding {
    /// The bad ones, in the order of their counts.
    pub(super) const BAD: [Self; 5] =
        [Self::Truncated, Self::Empty, Self::JsonInvalid, Self::Unexpected, Self::Matches];

    /// In sentences: "3 empty".
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::JsonInvalid => "with broken JSON",
            Self::Unexpected => "with unexpected JSON",
            Self::Matches => "with the pattern",
        }
    }
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Metric {
    Errors,
    ClientErrors,
    /// Clients that left before anything of an answer came.
    Cancelled,
    BadOutput(OutputRules),
    /// A percentile of the whole exchange: 50, 95 or 99.
    Latency(u8),
    /// A percentile of the time to the first byte.
    FirstByte(u8),
    OutputTokens,
}

/// What a metric says of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    /// A thing that happened or did not.
    Hit(bool),
    /// Seconds, or tokens: to be compared with what is usual.
    Amount(f64),
    /// So much, or more.
    AtLeast(f64),
}

impl Metric {
    /// Every name, in the order of the docs.
    pub const NAMES: [&str; 11] = [
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
            Self::OutputTokens => "output_tokens",
        }
    }

    /// The fraction of the stable version's requests that lie below what is usual; `None` for what happens or not.
    pub(super) fn quantile(&self) -> Option<f64> {
        match self {
            Self::Errors | Self::ClientErrors | Self::Cancelled | Self::BadOutput(_) => None,
            Self::Latency(percent) | Self::FirstByte(percent) => Some(f64::from(*percent) / 100.0),
            Self::OutputTokens => Some(0.5),
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

    /// By how much an amount of the stable side must exceed what is usual. Many answers have the same number of tokens,
    /// and the usual one is known to 1 % only: equal ones must not fall on either side of it by chance.
    pub(super) fn tie(&self) -> f64 {
        if *self == Self::OutputTokens { 1.02 } else { 1.0 }
    }

    /// Does it depend on how busy the replica is?
    pub(super) fn depends_on_load(&self) -> bool {
        matches!(self, Self::Latency(_) | Self::FirstByte(_) | Self::Cancelled)
    }

    /// The rate that is expected before anything was seen.
    pub(super) fn prior(&self) -> f64 {
        self.quantile().map_or(0.01, |q| 1.0 - q)
    }

    /// What it says of a request; `None`: nothing. Failed requests have no speed and no output: fast failures would
    /// make a candidate look fast. Of one whose end nobody saw, nothing is known but how long it took at least.
    pub(super) fn read(&self, seen: &Observation) -> Option<Reading> {
        let (whole, good) = (seen.ended == Ended::Seen, !seen.error);
        let seconds = |took: Duration| {
            let of = if whole { Reading::Amount } else { Reading::AtLeast };
            of(took.as_secs_f64())
        };
        match self {
            Self::Errors => whole.then_some(Reading::Hit(seen.error)),
            Self::Cancelled => {
                let left = seen.ended == Ended::Cancelled && seen.first_byte.is_none();
                (seen.ended != Ended::Outrun).then_some(Reading::Hit(left))
            }
            Self::ClientErrors => (whole && good).then_some(Reading::Hit(seen.client_error)),
            Self::BadOutput(_) => seen.bad_output.map(|found| Reading::Hit(found != Finding::Good)),
            Self::Latency(_) => seen.latency.filter(|_| good).map(seconds),
            Self::FirstByte(_) => match seen.first_byte.filter(|_| good) {
                Some(came) => Some(Reading::Amount(came.as_secs_f64())),
                None => seen.latency.filter(|_| good && !whole).map(seconds),
            },
            Self::OutputTokens => {
                seen.tokens.filter(|_| good).map(|n| Reading::Amount(f64::from(n)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for name in Metric::NAMES {
            assert_eq!(Metric::of_name(name).unwrap().name(), name);
        }
        assert_eq!(Metric::of_name("error"), None);
    }
}
