//! How loaded a replica is: what it holds, times how slow it is, over what it can bear.
//!
//! Slowness is learned from the geometric mean of latencies, which a heavy tail cannot pull about;
//! a peak average in a full scan makes all proxies flee and return together (simulated: p99 × 200).
//! Plain data throughout: the caller keeps it in atomics or under a lock.
use crate::stats::Moment;
use std::time::Duration;

/// The load of a replica as [`Policy`](super::Policy) compares it: the smaller, the better.
///
/// `in_flight`: requests of this proxy not yet finished there. `phantom`: [`Phantom::level`].
/// `slow`: [`Slowness::factor`], 1 for a policy that ignores speed. `weight`: declared capacity.
/// `ramp`: [`ramp`]. The request to come counts, so an idle replica's load is above 0.
pub fn score(in_flight: u32, phantom: f32, slow: f32, weight: f32, ramp: f32) -> f32 {
    (in_flight as f32 + phantom + 1.0) * slow / (weight * ramp)
}

/// What silence adds to slowness: 1 as long as a replica that lets somebody wait was heard of lately, then more, to 8.
///
/// A replica that hangs never ends a request, so nothing would be learned of it until a timeout. `usual`: the
/// median time to the first byte in its pool.
pub fn silent(silence: Duration, usual: Option<Duration>) -> f32 {
    let Some(usual) = usual else { return 1.0 };
    (silence.as_secs_f32() / (4.0 * usual.as_secs_f32())).clamp(1.0, 8.0)
}

/// Slow start: the part of its weight that counts for a replica ready since `since_ready`, 0.1 to 1.
pub fn ramp(since_ready: Duration, slow_start: Duration) -> f32 {
    if since_ready >= slow_start {
        return 1.0;
    }
    (since_ready.as_secs_f32() / slow_start.as_secs_f32()).clamp(0.1, 1.0)
}

/// The usual speed of a pool, learned from the latencies of all its replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolSpeed {
    /// Moving average of ln(latency in ms).
    pub ref_ln: f32,
    /// How many latencies went in.
    pub count: u32,
    /// Moving average, seconds.
    pub mean_latency: f32,
}

impl PoolSpeed {
    /// Learns from one success.
    pub fn observe(&mut self, latency: Duration) {
        self.ref_ln += step(self.count, 0.005) * (ln_millis(latency) - self.ref_ln);
        self.mean_latency += step(self.count, 0.01) * (latency.as_secs_f32() - self.mean_latency);
        self.count = self.count.saturating_add(1);
    }

    /// The typical (geometric mean) latency; `None` while nothing is known.
    pub fn typical(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_secs_f32((self.ref_ln.exp() / 1e3).min(86_400.0)))
    }

    /// How long a failed request goes on counting, as `t` of [`Phantom::fail`]: the time a good one
    /// would have taken, between 10 ms and a minute.
    pub fn phantom_time(&self) -> Duration {
        Duration::from_secs_f32(self.mean_latency.clamp(0.01, 60.0))
    }

    /// After so long without news, what is known of a replica counts half.
    fn half_life(&self) -> Duration {
        Duration::from_secs_f32((100.0 * self.mean_latency).clamp(30.0, 86_400.0))
    }
}

/// How slow one replica is beside its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slowness {
    /// Moving average of ln(latency in ms).
    pub ell: f32,
    /// How many latencies went in.
    pub m: u32,
    /// The last of them.
    pub last: Moment,
}

impl Slowness {
    /// As many latencies as this weigh as much as the assumption that the replica is like the others.
    const PRIOR: f32 = 5.0;
    /// Differences up to e^0.2 = ±22 % are taken for noise.
    const DEAD_ZONE: f32 = 0.2;
    /// At most 8 times slower or faster.
    const LIMIT: f32 = 2.079_441_5;

    /// Learns from one success. Not for tunnels, nor for time spent waiting for a slow client.
    ///
    /// Old knowledge has faded in [`Self::factor`], and one latency after a long silence must not
    /// bring it back whole: it resumes from the faded value if the replica has come closer to that.
    pub fn sample(&mut self, latency: Duration, pool: &PoolSpeed, now: Moment) {
        let ln = ln_millis(latency);
        let faded = pool.ref_ln + (self.ell - pool.ref_ln) * self.freshness(pool, now);
        if (ln - faded).abs() < (ln - self.ell).abs() {
            self.ell = faded;
        }
        self.ell += step(self.m, 0.05) * (ln - self.ell);
        self.m = self.m.saturating_add(1);
        self.last = now;
    }

    /// Learns from a request that was given up after `elapsed` (the client left, a hedge won): the
    /// full latency is unknown, so it counts only if it was slower than usual already.
    pub fn censored(&mut self, elapsed: Duration, pool: &PoolSpeed, now: Moment) {
        if pool.count > 0 && ln_millis(elapsed) > pool.ref_ln {
            self.sample(elapsed, pool, now);
        }
    }

    /// How many times slower than its pool: 1/8 to 8, 1 while nothing is known.
    pub fn factor(&self, pool: &PoolSpeed, now: Moment) -> f32 {
        if self.m == 0 || pool.count == 0 {
            return 1.0;
        }
        let trust = self.m as f32 / (self.m as f32 + Self::PRIOR);
        let apart = trust * (self.ell - pool.ref_ln) * self.freshness(pool, now);
        // From the edge of the dead zone twice as steep, until it meets the difference itself at ±0.4:
        // subtracting the zone from large differences too would make fast replicas look less fast.
        let beyond = (2.0 * (apart.abs() - Self::DEAD_ZONE)).max(0.0);
        beyond.min(apart.abs()).min(Self::LIMIT).copysign(apart).exp()
    }

    /// 1 right after a latency, half of it each half-life.
    fn freshness(&self, pool: &PoolSpeed, now: Moment) -> f32 {
        let age = now.since(self.last).as_secs_f32();
        (-age / pool.half_life().as_secs_f32()).exp2()
    }
}

/// The black-hole guard: a failed request goes on counting as in flight.
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
    /// A request failed, and the replica is to blame. `t`: [`PoolSpeed::phantom_time`].
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

/// The step of a moving average that begins as a plain mean.
fn step(count: u32, least: f32) -> f32 {
    (1.0 / (count as f32 + 1.0)).max(least)
}

/// ln of milliseconds; below 0.1 ms differences mean nothing.
fn ln_millis(latency: Duration) -> f32 {
    (latency.as_secs_f32() * 1e3).max(0.1).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn near(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-4
    }

    /// A pool of 100 ms, and a replica that has answered `times` times in `latency`, just now.
    fn learned(latency: Duration, times: u32, now: Moment) -> (Slowness, PoolSpeed) {
        let mut pool = PoolSpeed::default();
        let mut slowness = Slowness::default();
        pool.observe(Duration::from_millis(100));
        for _ in 0..times {
            slowness.sample(latency, &pool, now);
        }
        (slowness, pool)
    }

    fn factor_after(millis: u64, times: u32) -> f32 {
        let now = Moment::from_millis(5);
        let (slowness, pool) = learned(Duration::from_millis(millis), times, now);
        slowness.factor(&pool, now)
    }

    proptest! {
        #[test]
        fn load_rises_with_requests_and_falls_with_weight(
            n in 0_u32..1_000, phantom in 0.0_f32..100.0, slow in 0.125_f32..8.0,
            weight in 0.1_f32..100.0, ramp in 0.1_f32..1.0,
        ) {
            let load = score(n, phantom, slow, weight, ramp);
            prop_assert!(load > 0.0);
            prop_assert!(load < score(n + 1, phantom, slow, weight, ramp));
            prop_assert!(load < score(n, phantom + 1.0, slow, weight, ramp));
            prop_assert!(load < score(n, phantom, slow * 1.1, weight, ramp));
            prop_assert!(load > score(n, phantom, slow, weight * 1.1, ramp));
            prop_assert!(load > score(n, phantom, slow, weight, ramp * 1.1));
        }

        #[test]
        fn slowness_is_never_beyond_eight(nanos: u64, pool_nanos: u64, times in 0_u32..40, later: u64) {
            let mut pool = PoolSpeed::default();
            let mut slowness = Slowness::default();
            for _ in 0..times {
                pool.observe(Duration::from_nanos(pool_nanos));
                slowness.sample(Duration::from_nanos(nanos), &pool, Moment::ZERO);
            }
            let factor = slowness.factor(&pool, Moment::from_nanos(later));
            prop_assert!((0.124_9..8.001).contains(&factor), "{factor}");
        }
    }

    #[test]
    fn a_replica_ramps_up_from_a_tenth() {
        let start = 30 * SECOND;
        assert!(near(ramp(Duration::ZERO, start), 0.1));
        assert!(near(ramp(15 * SECOND, start), 0.5));
        assert!(near(ramp(30 * SECOND, start), 1.0));
        assert!(near(ramp(Duration::ZERO, Duration::ZERO), 1.0), "no slow start");
    }

    #[test]
    fn a_newcomer_is_as_fast_as_the_pool() {
        assert!(near(factor_after(1_000, 0), 1.0));
    }

    #[test]
    fn one_slow_answer_is_not_yet_believed() {
        // 2 (ln 10 × 1/6 − 0.2)
        assert!(near(factor_after(1_000, 1), 1.44416));
    }

    #[test]
    fn many_slow_answers_are_believed() {
        // ln 4 × 95/100
        assert!(near(factor_after(400, 95), 3.73213));
    }

    #[test]
    fn fast_is_the_mirror_of_slow() {
        assert!(near(factor_after(25, 95), 1.0 / 3.73213));
    }

    #[test]
    fn a_fifth_slower_is_noise() {
        assert!(near(factor_after(120, 1_000), 1.0));
    }

    #[test]
    fn what_is_known_counts_half_after_thirty_seconds() {
        let (slowness, pool) = learned(Duration::from_millis(400), 95, Moment::ZERO);
        // ln 4 × 95/100 / 2
        assert!(near(slowness.factor(&pool, Moment::ZERO + 30 * SECOND), 1.93187));
    }

    #[test]
    fn minute_long_requests_are_remembered_for_longer() {
        let pool = PoolSpeed { mean_latency: 60.0, ..PoolSpeed::default() };
        assert_eq!(pool.half_life(), 6_000 * SECOND);
    }

    #[test]
    fn a_recovered_replica_is_not_called_slow_again_by_its_first_answer() {
        let (mut slowness, pool) = learned(SECOND, 95, Moment::ZERO);
        let later = Moment::ZERO + 120 * SECOND;
        slowness.sample(Duration::from_millis(100), &pool, later);
        assert!(near(slowness.factor(&pool, later), 1.0));
    }

    #[test]
    fn a_still_slow_replica_is_called_slow_again_by_its_first_answer() {
        let (mut slowness, pool) = learned(SECOND, 95, Moment::ZERO);
        let later = Moment::ZERO + 120 * SECOND;
        assert!(near(slowness.factor(&pool, later), 1.0), "forgotten meanwhile");
        slowness.sample(SECOND, &pool, later);
        assert!(slowness.factor(&pool, later) > 7.0);
    }

    #[test]
    fn a_request_given_up_early_says_nothing() {
        let (mut slowness, pool) = learned(SECOND, 3, Moment::ZERO);
        let before = slowness;
        slowness.censored(Duration::from_millis(99), &pool, Moment::from_millis(9));
        assert_eq!(slowness, before);
    }

    #[test]
    fn a_request_given_up_late_was_slow() {
        let (mut slowness, pool) = learned(Duration::from_millis(100), 3, Moment::ZERO);
        slowness.censored(SECOND, &pool, Moment::ZERO);
        // 2 (ln 10 × 1/4 × 4/9 − 0.2)
        assert!(near(slowness.factor(&pool, Moment::ZERO), 1.11816));
    }

    #[test]
    fn the_pool_follows_the_geometric_mean() {
        let mut pool = PoolSpeed::default();
        for millis in [10, 1_000] {
            pool.observe(Duration::from_millis(millis));
        }
        assert!(near(pool.ref_ln, 100.0_f32.ln()));
        assert!(near(pool.mean_latency, 0.505));
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
        let counted =
            |mean_latency| PoolSpeed { mean_latency, ..Default::default() }.phantom_time();
        assert_eq!(counted(0.0), Duration::from_millis(10));
        assert_eq!(counted(2.0), 2 * SECOND);
        assert_eq!(counted(600.0), 60 * SECOND);
    }
}
