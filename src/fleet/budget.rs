//! How much may be done beyond what clients asked for: retries and hedges, as a share of the first attempts.
//!
//! A bucket after Finagle's and Linkerd's retry budgets: each first attempt puts in a fraction of a token, time puts
//! in a few, and each further attempt takes one. So a fleet that fails as a whole is not asked twice as often.
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Tokens are counted in millionths.
const TOKEN: f64 = 1e6;
/// Seconds for which what was saved up lasts.
const KEPT: usize = 10;

/// One bucket. Taking and putting in are single atomic operations.
#[derive(Debug, Default)]
pub struct Budget {
    balance: AtomicI64,
    /// First attempts since the last second.
    arrivals: AtomicU64,
    /// First attempts by second, for the ceiling.
    recent: Mutex<[u64; KEPT]>,
}

impl Budget {
    /// With so many tokens to begin with.
    pub fn holding(tokens: f64) -> Self {
        Self { balance: AtomicI64::new(millionths(tokens)), ..Self::default() }
    }

    /// Counts a first attempt, which allows `fraction` of another.
    pub fn deposit(&self, fraction: f64) {
        self.arrivals.fetch_add(1, Relaxed);
        self.balance.fetch_add(millionths(fraction), Relaxed);
    }

    /// Takes a token for one further attempt. `false`: there is none.
    pub fn take(&self) -> bool {
        let one = millionths(1.0);
        self.balance
            .fetch_update(Relaxed, Relaxed, |held| (held >= one).then(|| held - one))
            .is_ok()
    }

    /// `passed` seconds have, mostly one: `free` tokens come in for each, and no more is kept than ten seconds' worth,
    /// but at least and at most these.
    pub fn tick(&self, fraction: f64, free: f64, passed: f64, (least, most): (f64, f64)) {
        let mut recent = self.recent.lock();
        recent.rotate_right(1);
        recent[0] = self.arrivals.swap(0, Relaxed);
        let arrived: u64 = recent.iter().sum();
        let ceiling =
            millionths((free * KEPT as f64 + fraction * arrived as f64).max(least).min(most));
        let free = millionths(free * passed);
        self.balance
            .fetch_update(Relaxed, Relaxed, |held| Some((held + free).min(ceiling)))
            .expect("the closure always gives a value");
    }

    /// Tokens now in it.
    pub fn tokens(&self) -> f64 {
        self.balance.load(Relaxed) as f64 / TOKEN
    }
}

/// Configuration and constants only: far inside the range.
fn millionths(tokens: f64) -> i64 {
    (tokens * TOKEN).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quiet_service_keeps_ten_seconds_of_free_tokens() {
        let budget = Budget::default();
        for _ in 0..100 {
            budget.tick(0.2, 3.0, 1.0, (0.0, f64::MAX));
        }
        assert!((budget.tokens() - 30.0).abs() < 1e-9);
        assert_eq!((0..100).filter(|_| budget.take()).count(), 30);
    }

    proptest! {
        /// ALGORITHMS §7.9: retries ≤ fraction × requests + 3 × seconds + what was there, whatever fails.
        #[test]
        fn further_attempts_stay_within_the_budget(
            steps in prop::collection::vec((0_u32..200, 0_u32..300), 1..60), percent in 0_u32..100,
        ) {
            let fraction = f64::from(percent) / 100.0;
            let budget = Budget::default();
            let (mut asked, mut taken) = (0_u32, 0_u32);
            for (second, (requests, failures)) in steps.iter().enumerate() {
                for _ in 0..*requests {
                    budget.deposit(fraction);
                }
                asked += requests;
                taken += (0..*failures).map(|_| u32::from(budget.take())).sum::<u32>();
                let most = fraction * f64::from(asked) + 3.0 * second as f64;
                prop_assert!(f64::from(taken) <= most + 1e-6, "{taken} of at most {most}");
                budget.tick(fraction, 3.0, 1.0, (0.0, f64::MAX));
                prop_assert!(budget.tokens() >= 0.0);
            }
        }
    }
}
