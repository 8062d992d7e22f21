//! How much of the evidence came in its best seconds: an outage is one event, however many requests it fails, while the
//! statistics take each request for an event of its own.
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The lengths of windows, in seconds: a hiccup of everything, an outage, and a restart of one replica.
const WINDOWS: [f64; 3] = [4.0, 30.0, 75.0];

/// What may be one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Hiccup,
    Outage,
    /// A replica that loads its model again is out for about a minute.
    Restart,
}

/// The evidence as it grew. All in logarithms; seconds since the beginning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Burst {
    /// Of the last seconds, the latest last.
    #[serde(skip)]
    seen: VecDeque<(f64, f64)>,
    /// The most that each window brought.
    best: [f64; 3],
}

impl Burst {
    /// Takes note of the evidence at `age`. Called about once a second.
    pub(super) fn note(&mut self, evidence: f64, age: f64) {
        for (best, window) in self.best.iter_mut().zip(WINDOWS) {
            // What was there before it was first looked at came in no window.
            let from = self.seen.iter().rev().find(|(at, _)| *at <= age - window);
            let from = from.or(self.seen.front()).map_or(evidence, |(_, evidence)| *evidence);
            *best = best.max(evidence - from);
        }
        let old = age - WINDOWS[2] - 5.0;
        while self.seen.front().is_some_and(|(at, _)| *at < old) {
            self.seen.pop_front();
        }
        self.seen.push_back((age, evidence));
    }

    /// What is left of the evidence without its best window.
    pub(super) fn without(&self, evidence: f64, length: Length) -> f64 {
        evidence - self.best[length as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(length: Length, evidence: impl Fn(f64) -> f64, seconds: u32) -> f64 {
        let mut burst = Burst::default();
        for second in 0..=seconds {
            let age = f64::from(second);
            burst.note(evidence(age), age);
        }
        burst.without(evidence(f64::from(seconds)), length)
    }

    #[test]
    fn a_burst_leaves_nothing() {
        let outage = |age: f64| if age < 100.0 { 0.0 } else { 40.0 };
        for seconds in [100, 101, 115, 130, 145, 500] {
            for length in [Length::Hiccup, Length::Outage, Length::Restart] {
                assert!(after(length, outage, seconds) < 1e-9, "{seconds}");
            }
        }
        let restart = |age: f64| (age - 100.0).clamp(0.0, 45.0);
        assert!((after(Length::Outage, restart, 300) - 15.0).abs() < 1.1);
        assert!(after(Length::Restart, restart, 300) < 1e-9);
    }

    #[test]
    fn evidence_that_goes_on_stands() {
        assert!((after(Length::Outage, |age| age, 100) - 70.0).abs() < 1.1);
        assert!(after(Length::Outage, |age| age, 29) < 1e-9, "it is all one window");
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
        assert!((after(Length::Outage, twice, 300) - 10.0).abs() < 1e-9);
    }
}
