//! How often a thing happens on the stable side lately: old requests fade, so that an hour in which both sides failed
//! hides nothing that fails afterwards.
use serde::{Deserialize, Serialize};

/// The memory, as a time constant in seconds.
const FADES: f64 = 180.0;

/// Hits and requests that fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    hits: f64,
    requests: f64,
    /// Seconds at which they faded last.
    faded: f64,
}

impl Usual {
    /// `at`: seconds on any clock that goes forward.
    pub(super) fn learn(&mut self, hits: f64, requests: f64, at: f64) {
        if at - self.faded > FADES / 20.0 {
            let keeps = (-(at - self.faded) / FADES).exp();
            self.hits *= keeps;
            self.requests *= keeps;
            self.faded = at;
        }
        self.hits += hits;
        self.requests += requests;
    }

    /// The rate, where `expected` counts as so many requests.
    pub(super) fn rate(&self, expected: f64, weight: f64) -> f64 {
        (self.hits + expected * weight) / (self.requests + weight)
    }

    /// How many requests it remembers.
    pub(super) fn requests(&self) -> f64 {
        self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_sides_did_ten_minutes_ago_is_not_usual_any_more() {
        let mut usual = Usual::default();
        assert!((usual.rate(0.01, 50.0) - 0.01).abs() < 1e-12);
        for second in 0..600 {
            usual.learn(15.0, 50.0, f64::from(second));
        }
        assert!((usual.rate(0.01, 50.0) - 0.3).abs() < 0.01);
        for second in 600..1200 {
            usual.learn(0.0, 50.0, f64::from(second));
        }
        assert!(usual.rate(0.01, 50.0) < 0.02);
    }
}
