//! How much of a core may be spent on looking at answers.
use std::time::Duration;

/// Unspent time is saved up to this, so that a quiet minute does not pay for a storm.
const SAVED: Duration = Duration::from_millis(100);
/// What an answer is taken to cost before one was seen.
const GUESS: Duration = Duration::from_micros(50);
/// How far one answer moves the expected cost of the next.
const LEARN: f64 = 0.1;

/// A part of a core as a bucket of time: it fills while time passes, and judging empties it.
///
/// An answer's cost is known only at its end, so what it will probably cost is set aside when it begins: else a
/// thousand streams could begin on the credit of one. Whether an answer is judged depends on nothing it says, so the
/// judged are a fair sample.
#[derive(Clone, Debug)]
pub struct OutputBudget {
    /// Of one core, above 0.
    part: f64,
    credit_s: f64,
    expected_s: f64,
    last: Duration,
}

/// Time that was set aside for one answer; give it back with what was really spent.
#[derive(Debug)]
#[must_use = "settle it"]
pub struct Reserved {
    seconds: f64,
}

impl OutputBudget {
    /// `part` of a core, as 0.02; `now` is the time since any fixed moment.
    pub fn new(part: f64, now: Duration) -> Self {
        let credit_s = SAVED.as_secs_f64() * part;
        Self { part, credit_s, expected_s: GUESS.as_secs_f64(), last: now }
    }

    /// May the answer that begins now be judged?
    pub fn reserve(&mut self, now: Duration) -> Option<Reserved> {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.credit_s = (self.credit_s + passed * self.part).min(self.most());
        if self.credit_s < self.expected_s.min(self.most()) {
            return None;
        }
        self.credit_s -= self.expected_s;
        Some(Reserved { seconds: self.expected_s })
    }

    /// An answer was judged and took so long.
    #[expect(clippy::needless_pass_by_value, reason = "what was set aside is given back once")]
    pub fn settle(&mut self, reserved: Reserved, spent: Duration) {
        let spent = spent.as_secs_f64();
        self.credit_s = (self.credit_s + reserved.seconds - spent).min(self.most());
        self.expected_s += LEARN * (spent - self.expected_s);
    }

    fn most(&self) -> f64 {
        SAVED.as_secs_f64() * self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Answers begin each `every` and cost `cost`, known after `open` more have begun. The part of a core spent.
    fn spent(every: Duration, cost: Duration, open: usize, answers: u32) -> (f64, u32) {
        let mut budget = OutputBudget::new(0.02, Duration::ZERO);
        let mut running = std::collections::VecDeque::new();
        let mut judged = 0;
        for number in 0..answers {
            running.push_back(budget.reserve(every * number));
            if running.len() > open
                && let Some(Some(reserved)) = running.pop_front()
            {
                budget.settle(reserved, cost);
                judged += 1;
            }
        }
        let whole = (every * answers).as_secs_f64();
        (cost.as_secs_f64() * f64::from(judged) / whole, judged)
    }

    #[test]
    fn a_quiet_site_has_every_answer_judged() {
        let (part, judged) = spent(Duration::from_millis(100), Duration::from_micros(50), 0, 1000);
        assert_eq!(judged, 1000);
        assert!(part < 0.001);
    }

    #[test]
    fn a_busy_site_spends_its_part_and_no_more() {
        for open in [0, 100] {
            let every = Duration::from_micros(100);
            let (part, judged) = spent(every, Duration::from_micros(200), open, 200_000);
            assert!((0.018..0.0205).contains(&part), "{part}");
            assert!(judged > 1000);
        }
    }

    proptest! {
        #[test]
        fn the_part_is_kept_whatever_answers_cost(every in 10_u64..10_000, cost in 1_u64..20_000, open in 0_usize..50) {
            let (every, cost) = (Duration::from_micros(every), Duration::from_micros(cost));
            let (part, _) = spent(every, cost, open, 20_000);
            let whole = (every * 20_000).as_secs_f64();
            // What may be owed at the end: the first guesses, and the answers that were running.
            let owed = cost.as_secs_f64() * (open as f64 + 1.0) + 0.002;
            prop_assert!(part <= 0.02 + owed / whole, "{part}");
        }
    }
}
