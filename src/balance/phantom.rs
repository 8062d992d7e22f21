//! The black-hole guard: failed requests go on counting as load.
use crate::stats::Moment;
use std::time::Duration;

/// Load that recent failures of one replica stand for.
///
/// A replica that fails at once is always the least busy, and would swallow the traffic. So a
/// failure occupies it for about as long as a success would have, doubling with each in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phantom {
    /// Requests' worth, as of `at`.
    pub level: f32,
    pub at: Moment,
    /// Failures in a row.
    pub consecutive: u32,
}

impl Phantom {
    /// A request failed, and the replica is to blame. `t`:
    /// [`PoolSpeed::phantom_time`](super::PoolSpeed::phantom_time).
    pub fn fail(&mut self, now: Moment, t: Duration) {
        let doublings = self.consecutive.min(6);
        self.level = self.level(now, t) + (1_u32 << doublings) as f32;
        self.at = now;
        self.consecutive = self.consecutive.saturating_add(1);
    }

    /// A request succeeded.
    pub fn succeed(&mut self) {
        self.consecutive = 0;
    }

    /// A residue below this is none: among idle replicas any other load at all would lose every pick, and one failure
    /// keep a replica out for as long as a float can tell it from nothing, 16 `t`.
    const NOTHING: f32 = 0.05;

    /// Requests' worth of phantom load at `now`, decaying with time constant `t`.
    pub fn level(&self, now: Moment, t: Duration) -> f32 {
        if self.level == 0.0 {
            return 0.0; // nearly always: spare the exponential
        }
        let left = self.level * (-now.since(self.at).as_secs_f32() / t.as_secs_f32()).exp();
        if left < Self::NOTHING { 0.0 } else { left }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PoolSpeed;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn near(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-4
    }

    #[test]
    fn three_failures_in_a_row_weigh_seven_requests() {
        let mut phantom = Phantom::default();
        for _ in 0..3 {
            phantom.fail(Moment::ZERO, SECOND);
        }
        assert!(near(phantom.level(Moment::ZERO, SECOND), 7.0));
        assert!(near(phantom.level(Moment::ZERO + 2 * SECOND, SECOND), 0.947_35));
    }

    #[test]
    fn a_success_ends_the_doubling_but_not_the_load() {
        let mut phantom = Phantom::default();
        phantom.fail(Moment::ZERO, SECOND);
        phantom.fail(Moment::ZERO, SECOND);
        phantom.succeed();
        phantom.fail(Moment::ZERO, SECOND);
        assert!(near(phantom.level(Moment::ZERO, SECOND), 4.0));
    }

    #[test]
    fn a_failure_weighs_sixty_four_requests_at_most() {
        let mut phantom = Phantom { consecutive: 1_000, ..Phantom::default() };
        phantom.fail(Moment::ZERO, SECOND);
        assert!(near(phantom.level(Moment::ZERO, SECOND), 64.0));
    }

    #[test]
    fn a_failure_counts_for_ten_milliseconds_to_a_minute() {
        let counted = |mean_latency| {
            PoolSpeed { mean_latency, count: 1, ..Default::default() }.phantom_time()
        };
        assert_eq!(counted(0.0), Duration::from_millis(10));
        assert_eq!(counted(2.0), 2 * SECOND);
        assert_eq!(counted(600.0), 60 * SECOND);
        assert_eq!(PoolSpeed::default().phantom_time(), SECOND);
    }
}
