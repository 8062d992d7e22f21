//! The keys `retries`, `hedge` and `stream_heartbeat`: second attempts, and signs of life.
use super::keys;
use super::reader::{Reader, Section};
use super::scalar::{self, Complaint, Read};
use super::tree::Value;
use crate::health::{HedgeAfter, HedgePlan, RetryOn, RetryPlan};
use std::time::Duration;

impl Reader<'_> {
    /// Is the key written as `false`?
    fn is_off(section: &Section<'_>, name: &str) -> bool {
        section.get(name).is_some_and(
            |entry| matches!(&entry.value.value, Value::Scalar(scalar) if scalar.text == "false"),
        )
    }

    pub(super) fn retries(&mut self, model: &Section<'_>) -> RetryPlan {
        if Self::is_off(model, "retries") {
            return RetryPlan { max: 0, when: Vec::new(), budget: 0.0 };
        }
        let section = self.inner(model, "retries", keys::RETRIES);
        let when = if section.has("when") {
            let items = self.items(&section, "when", "a failure", retry_on);
            let mut when: Vec<RetryOn> = items.into_iter().map(|(failed, _)| failed).collect();
            when.dedup();
            when
        } else {
            vec![RetryOn::Connect, RetryOn::Reset, RetryOn::Status(502), RetryOn::Status(503)]
        };
        RetryPlan {
            max: self.count(&section, "max") as u32,
            when,
            budget: self.parsed_or_default(&section, "budget", scalar::part) / 100.0,
        }
    }

    pub(super) fn hedge(&mut self, model: &Section<'_>) -> Option<HedgePlan> {
        if !model.has("hedge") || Self::is_off(model, "hedge") {
            return None;
        }
        let section = self.inner(model, "hedge", keys::HEDGE);
        Some(HedgePlan {
            after: self.parsed_or_default(&section, "after", hedge_after),
            budget: self.parsed_or_default(&section, "budget", scalar::part) / 100.0,
        })
    }

    pub(super) fn heartbeat(&mut self, model: &Section<'_>) -> Option<Duration> {
        if Self::is_off(model, "stream_heartbeat") {
            return None;
        }
        self.optional(model, "stream_heartbeat", |text| match scalar::duration(text)? {
            short if short < Duration::from_secs(1) => {
                let what = format!("is {}", scalar::show_duration(short));
                let complaint = Complaint::new("out-of-range", what, "too short");
                Err(complaint
                    .help("a heartbeat is for silences that proxies take for death: 1s at least"))
            }
            every => Ok(every),
        })
    }
}

fn retry_on(text: &str) -> Read<RetryOn> {
    RetryOn::of_word(text).ok_or_else(|| {
        let complaint =
            Complaint::new("unknown-value", format!("holds `{text}`"), "not a failure to repeat");
        complaint.help(format!("values: {}", RetryOn::WORDS.join(", ")))
    })
}

/// `p95`, `p99.9`, or a duration.
fn hedge_after(text: &str) -> Read<HedgeAfter> {
    let Some(percent) = text.strip_prefix('p') else {
        return match scalar::duration(text) {
            Ok(fixed) if !fixed.is_zero() => Ok(HedgeAfter::Fixed(fixed)),
            Ok(_) | Err(_) => Err(Complaint::new(
                "unknown-value",
                format!("is `{text}`, neither a quantile nor a duration"),
                "when is it slow?",
            )
            .help("write a quantile of the times to the first byte, as `p95`, or a duration, as `300ms`")),
        };
    };
    match scalar::number(percent) {
        Ok(percent) if (50.0..100.0).contains(&percent) => {
            Ok(HedgeAfter::Quantile(percent / 100.0))
        }
        Ok(_) | Err(_) => {
            let what = format!("is `{text}`; a quantile is between p50 and p99.99");
            let complaint = Complaint::new("out-of-range", what, "out of range");
            Err(complaint.help("`p95` repeats the slowest twentieth"))
        }
    }
}
