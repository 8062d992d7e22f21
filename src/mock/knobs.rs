//! What can be turned at a mock: how slow it is, how many requests it runs at once, how it fails.
use rand::{Rng, RngExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Everything that makes a mock behave as it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Knobs {
    /// What it calls itself: in `system_fingerprint`, `model_version` and the header `x-mock-version`.
    pub version: String,
    /// Until the answer, or its first token.
    pub latency: Latency,
    /// Requests it runs at once; further ones wait in line. `None`: any number.
    pub slots: Option<u32>,
    /// Requests answered with `error_status` instead.
    pub error: Percent,
    pub error_status: u16,
    /// Requests never answered.
    pub hang: Percent,
    /// Requests whose connection is reset before the head of an answer.
    pub reset: Percent,
    /// Streams that break in the middle.
    pub cut: Percent,
    /// Streams that fall silent in the middle, for good.
    pub stall: Percent,
    /// Between two tokens; an answer in one piece takes as long as its stream would.
    #[serde(serialize_with = "as_debug")]
    pub token_interval: Duration,
    /// Tokens in an answer, unless the request asks for fewer. 0: an empty answer.
    pub tokens: u32,
    /// Health endpoints answer 503 without it.
    pub healthy: bool,
    /// Of all its chances. It cannot be changed while it runs.
    pub seed: u64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            version: "mock".to_owned(),
            latency: Latency::Fixed(Duration::ZERO),
            slots: None,
            error: Percent::ZERO,
            error_status: 500,
            hang: Percent::ZERO,
            reset: Percent::ZERO,
            cut: Percent::ZERO,
            stall: Percent::ZERO,
            token_interval: Duration::ZERO,
            tokens: 16,
            healthy: true,
            seed: 1,
        }
    }
}

impl Knobs {
    /// Takes over what a `POST /mock` names, and leaves the rest.
    pub(super) fn turn(&mut self, patch: Patch) {
        fn set<T>(knob: &mut T, new: Option<T>) {
            if let Some(new) = new {
                *knob = new;
            }
        }
        set(&mut self.version, patch.version);
        set(&mut self.latency, patch.latency);
        set(&mut self.slots, patch.slots);
        set(&mut self.error, patch.error);
        set(&mut self.error_status, patch.error_status);
        set(&mut self.hang, patch.hang);
        set(&mut self.reset, patch.reset);
        set(&mut self.cut, patch.cut);
        set(&mut self.stall, patch.stall);
        set(&mut self.token_interval, patch.token_interval);
        set(&mut self.tokens, patch.tokens);
        set(&mut self.healthy, patch.healthy);
    }
}

/// The knobs that a `POST /mock` names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Patch {
    version: Option<String>,
    latency: Option<Latency>,
    /// `null` takes the limit away.
    #[serde(deserialize_with = "present")]
    #[expect(clippy::option_option, reason = "absent and null are different wishes")]
    slots: Option<Option<u32>>,
    error: Option<Percent>,
    #[serde(deserialize_with = "status")]
    error_status: Option<u16>,
    hang: Option<Percent>,
    reset: Option<Percent>,
    cut: Option<Percent>,
    stall: Option<Percent>,
    #[serde(deserialize_with = "duration")]
    token_interval: Option<Duration>,
    tokens: Option<u32>,
    healthy: Option<bool>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

fn status<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u16>, D::Error> {
    let status = u16::deserialize(field)?;
    let known = (400..=599).contains(&status);
    known.then_some(Some(status)).ok_or_else(|| serde::de::Error::custom("400 to 599 is a failure"))
}

fn duration<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Duration>, D::Error> {
    parse_duration(&String::deserialize(field)?).map(Some).map_err(serde::de::Error::custom)
}

fn as_debug<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("{duration:?}"))
}

/// How long a request takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    Fixed(Duration),
    /// Log-normal, as measured latencies tend to be: the median, and sigma of the logarithm.
    LogNormal {
        median: Duration,
        sigma: f64,
    },
}

impl Latency {
    pub fn sample(self, rng: &mut impl Rng) -> Duration {
        match self {
            Self::Fixed(duration) => duration,
            Self::LogNormal { median, sigma } => {
                // Box and Muller, 1958: two even chances make a normal one.
                let (u, v): (f64, f64) = (rng.random(), rng.random());
                let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                let seconds = median.as_secs_f64() * (sigma * normal).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(duration) => write!(f, "{duration:?}"),
            Self::LogNormal { median, sigma } => write!(f, "lognormal:{median:?},{sigma}"),
        }
    }
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(parameters) = text.strip_prefix("lognormal:") else {
            return parse_duration(text).map(Self::Fixed);
        };
        let form =
            || format!("`{text}` is not `lognormal:MEDIAN,SIGMA`, such as `lognormal:20ms,1.0`");
        let (median, sigma) = parameters.split_once(',').ok_or_else(form)?;
        let sigma: f64 = sigma.trim().parse().map_err(|_| form())?;
        if !(0.0..=10.0).contains(&sigma) {
            return Err(format!("sigma {sigma} is not between 0 and 10"));
        }
        Ok(Self::LogNormal { median: parse_duration(median)?, sigma })
    }
}

/// A share of requests, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(f64);

impl Percent {
    pub const ZERO: Self = Self(0.0);

    pub fn new(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then_some(Self(percent))
    }

    /// Does this chance come true?
    pub fn draw(self, rng: &mut impl Rng) -> bool {
        rng.random::<f64>() * 100.0 < self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix('%').unwrap_or(text).trim();
        let percent = number.parse().ok().and_then(Self::new);
        percent.ok_or_else(|| format!("`{text}` is not a percentage from 0% to 100%"))
    }
}

/// Reads `250ms`, `1.5s`, `2m`; a bare `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if number == "0" => 0.0,
        _ => return Err(format!("`{text}` is not a duration such as `50ms` or `1.5s`")),
    };
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` does not begin with a number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| format!("`{text}`: {error}"))
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(field: D) -> Result<Self, D::Error> {
        String::deserialize(field)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    /// `5`, `0.5` or `"5%"`.
    fn deserialize<D: Deserializer<'de>>(field: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        let text = match Written::deserialize(field)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn latencies_are_read_and_written_alike() {
        for text in ["50ms", "1.5s", "0ns", "lognormal:20ms,1", "lognormal:1.5s,0.25"] {
            assert_eq!(text.parse::<Latency>().unwrap().to_string(), text);
        }
        assert_eq!("2m".parse(), Ok(Latency::Fixed(Duration::from_mins(2))));
        for text in ["", "50", "ms", "-1s", "1e3s", "lognormal:20ms", "lognormal:20ms,-1", "1.2.3s"]
        {
            assert!(text.parse::<Latency>().is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_between_0_and_100() {
        assert_eq!("2%".parse(), Ok(Percent(2.0)));
        assert_eq!("0.5".parse(), Ok(Percent(0.5)));
        for text in ["101%", "-1", "NaN", "two", ""] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_patch_turns_only_what_it_names() {
        let mut knobs = Knobs { slots: Some(2), ..Knobs::default() };
        let text =
            r#"{"latency":"lognormal:20ms,1.0","error":2.5,"hang":"1%","token_interval":"20ms"}"#;
        knobs.turn(serde_json::from_str(text).unwrap());
        assert_eq!((knobs.slots, knobs.tokens, knobs.error), (Some(2), 16, Percent(2.5)));
        assert_eq!(knobs.token_interval, Duration::from_millis(20));
        knobs.turn(serde_json::from_str(r#"{"slots":null}"#).unwrap());
        assert_eq!(knobs.slots, None);
    }

    #[test]
    fn a_patch_with_an_unknown_knob_is_refused() {
        for text in [r#"{"latencies":"1s"}"#, r#"{"error":200}"#, r#"{"error_status":200}"#] {
            assert!(serde_json::from_str::<Patch>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_log_normal_latency_has_its_median() {
        let latency: Latency = "lognormal:20ms,1.0".parse().unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        let below =
            (0..4000).filter(|_| latency.sample(&mut rng) < Duration::from_millis(20)).count();
        assert!((1800..2200).contains(&below), "{below}");
    }
}
