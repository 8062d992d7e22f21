//! How much of the evidence came in its best 30 seconds: an outage of one replica is one event, however many requests
//! it fails, while the statistics take each request for an event of its own.
use serde::{Deserialize, Serialize};

/// Seconds between two marks; a window is two of them.
const MARK: f64 = 15.0;

/// The evidence at every mark, as far as it is needed. All in logarithms; seconds since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Burst {
    /// At the last mark, and at the one before.
    last: f64,
    before: f64,
    marks: u32,
    /// The most that any two marks in a row brought.
    best: f64,
}

impl Burst {
    /// Takes note of the evidence at `age`. Returns how many marks were passed.
    pub(super) fn mark(&mut self, evidence: f64, age: f64) -> u32 {
        let before = self.marks;
        while age >= f64::from(self.marks + 1) * MARK {
            if self.marks >= 1 {
                self.best = self.best.max(evidence - self.before);
            }
            (self.before, self.last) = (self.last, evidence);
            self.marks += 1;
        }
        self.marks - before
    }

    /// What is left of the evidence without its best window; the running one counts, too.
    pub(super) fn without(&self, evidence: f64) -> f64 {
        evidence - self.best.max(evidence - self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(evidence: impl Fn(f64) -> f64, seconds: u32) -> f64 {
        let mut burst = Burst::default();
        for second in 0..=seconds {
            let age = f64::from(second);
            burst.mark(evidence(age), age);
        }
        burst.without(evidence(f64::from(seconds)))
    }

    #[test]
    fn a_burst_leaves_nothing() {
        let outage = |age: f64| if age < 100.0 { 0.0 } else { 40.0 };
        for seconds in [100, 101, 115, 130, 145, 500] {
            assert!(after(outage, seconds) < 1e-9, "{seconds}");
        }
    }

    #[test]
    fn evidence_that_goes_on_stands() {
        assert!((after(|age| age, 100) - 70.0).abs() < 15.1);
        assert!(after(|age| age, 29) < 1e-9, "it is all one window");
    }

    #[test]
    fn two_bursts_are_two_events() {
        let twice = |age: f64| {
            if age < 100.0 {
                0.0
            } else if age < 200.0 {
                10.0
            } else {
                20.0
            }
        };
        assert!((after(twice, 300) - 10.0).abs() < 1e-9);
    }
}
