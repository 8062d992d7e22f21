//! How fast replicas are beside their pool, learned from latencies that a few outliers cannot pull about.
//!
//! Latencies are compared by their logarithm. Each reading counts as at most e^1.2 = 3.3 times away from what was known
//! (Huber 1964), so that a pause of the machine moves an average no more than a slow answer does. Differences within the
//! noise of the pool's own readings count as equal: among idle replicas the least load wins every pick, so that a
//! difference of one percent that is not real would take all requests from a replica.
//! Plain data throughout: the caller keeps it in atomics or under a lock.
use crate::stats::Moment;
use std::time::Duration;

/// A reading counts as at most this far from what was known, in ln. One reading then moves a replica by a sixth of it
/// at most, which is the dead zone.
const CLIP: f32 = 1.2;
/// The least step of a replica's moving average.
const STEP: f32 = 0.05;
/// And of the one with a longer memory.
const LONG_STEP: f32 = 0.01;

/// After this many latencies, what is known of a pool, or of an idle replica, does not hang on the first.
const SETTLED: u32 = 8;
/// The noise of a pool of which nothing is known; counts as ten latencies.
const UNKNOWN_NOISE: f32 = 0.5;

/// The usual speed of a pool, learned from the latencies of all its replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolSpeed {
    /// Moving average of ln(latency in ms).
    pub ref_ln: f32,
    /// How many latencies went in.
    pub count: u32,
    /// Moving average, seconds.
    pub mean_latency: f32,
    /// How far one latency is from the average of its own replica: mean absolute difference in ln, clipped.
    pub noise: f32,
}

impl PoolSpeed {
    /// Learns from one success. `strays`: what [`Slowness::sample`] returned for it.
    pub fn observe(&mut self, latency: Duration, strays: Option<f32>) {
        let Some(strays) = strays else { return };
        let ln = ln_millis(latency);
        let apart = if self.count == 0 { ln - self.ref_ln } else { self.clip(ln - self.ref_ln) };
        self.ref_ln += step(self.count, 0.005) * apart;
        self.mean_latency += step(self.count, 0.01) * (latency.as_secs_f32() - self.mean_latency);
        if self.count == 0 {
            self.noise = UNKNOWN_NOISE;
        }
        self.noise += step(self.count.saturating_add(9), 0.01) * (strays - self.noise);
        self.count = self.count.saturating_add(1);
    }

    /// The typical (geometric mean) latency; `None` while nothing is known.
    pub fn typical(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_secs_f32((self.ref_ln.exp() / 1e3).min(86_400.0)))
    }

    /// How long a failed request goes on counting, as `t` of [`Phantom::fail`](super::Phantom::fail): the time a good
    /// one would have taken, between 10 ms and a minute; a second while that is unknown.
    pub fn phantom_time(&self) -> Duration {
        if self.count == 0 {
            return Duration::from_secs(1);
        }
        Duration::from_secs_f32(self.mean_latency.clamp(0.01, 60.0))
    }

    /// Outliers are slow. The very first latencies may be one, so what is faster corrects them at once.
    fn clip(&self, apart: f32) -> f32 {
        let least = if self.count < SETTLED { f32::NEG_INFINITY } else { -CLIP };
        apart.clamp(least, CLIP)
    }

    /// After this time without news, what is known of a replica counts half.
    fn half_life(&self) -> Duration {
        Duration::from_secs_f32((100.0 * self.mean_latency).clamp(30.0, 86_400.0))
    }
}

/// How many times slower a replica is than its pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// While it works on something. Among busy replicas a difference that is not real costs little, and one that is
    /// real is worth following at once.
    pub busy: f32,
    /// While it is idle: nearer to 1 by what may be noise. Among idle replicas the smallest load wins every pick, and
    /// who loses them all is not heard of again.
    pub idle: f32,
}

impl Factor {
    pub const EQUAL: Self = Self { busy: 1.0, idle: 1.0 };

    /// The one for a replica with so many requests in flight.
    pub fn at(self, in_flight: u32) -> f32 {
        if in_flight == 0 { self.idle } else { self.busy }
    }
}

/// How slow one replica is beside its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slowness {
    /// Moving average of ln(latency in ms).
    pub ell: f32,
    /// The same with a longer memory: what is known for sure.
    pub long: f32,
    /// How many latencies went in.
    pub m: u32,
    /// When the last of them did.
    pub last: Moment,
    /// Its first success is over.
    pub warm: bool,
}

impl Slowness {
    /// As many latencies as this weigh as much as the assumption that the replica is like the others.
    const PRIOR: f32 = 5.0;
    /// Differences up to e^0.2 = ±22 % count as equal, however sure they are.
    const DEAD_ZONE: f32 = 0.2;
    /// And, among idle replicas, differences within this many standard errors. Of 200 simulated runs of 300 requests, one
    /// after the other, over three equal replicas whose latencies stray by a factor of 2 or 3, or stall one time in ten,
    /// 1 at most gives a replica less than 70 or more than 130; without it 15 to 190 do.
    const ERRORS: f32 = 3.0;
    /// And, among idle replicas, so many milliseconds: on a busy machine the scheduler takes as long to wake whoever waits for one
    /// connection, and not for another. A few slow answers one after the other may be one pause, too: [`SETTLED`].
    const PAUSE: f32 = 10.0;
    /// At most 8 times slower or faster.
    const LIMIT: f32 = 2.079_441_5;

    /// Learns from one success, and returns how far it strayed from what was known of this replica. Not for tunnels, nor
    /// for time spent on a connection or waiting for a slow client.
    ///
    /// `None`: it was the replica's very first, which says nothing: it paid for cold caches and first connections.
    ///
    /// Old knowledge has faded in [`Self::factor`], and one latency after a long silence must not
    /// bring it back whole: it resumes from the faded value if the replica has come closer to that.
    pub fn sample(&mut self, latency: Duration, pool: &PoolSpeed, now: Moment) -> Option<f32> {
        if !std::mem::replace(&mut self.warm, true) {
            return None;
        }
        let ln = ln_millis(latency);
        let known = self.m > 0;
        if !known {
            self.ell = if pool.count > 0 { pool.ref_ln } else { ln };
            self.long = self.ell;
        }
        let faded = pool.ref_ln + (self.ell - pool.ref_ln) * self.freshness(pool, now);
        if known && (ln - faded).abs() < (ln - self.ell).abs() {
            self.ell = faded;
        }
        let apart = pool.clip(ln - self.ell);
        self.ell += step(self.m, STEP) * apart;
        self.long += step(self.m, LONG_STEP) * pool.clip(ln - self.long);
        self.m = self.m.saturating_add(1);
        self.last = now;
        Some(apart.abs().min(CLIP))
    }

    /// Learns from a request that was given up after `elapsed` (the client left, a hedge won, a timeout): the
    /// full latency is unknown, so it counts only if it was slower than usual already.
    pub fn censored(&mut self, elapsed: Duration, pool: &PoolSpeed, now: Moment) {
        if pool.count > 0 && ln_millis(elapsed) > pool.ref_ln {
            self.sample(elapsed, pool, now);
        }
    }

    /// How many times slower than its pool: 1/8 to 8, 1 while nothing is known.
    pub fn factor(&self, pool: &PoolSpeed, now: Moment) -> Factor {
        if self.m == 0 || pool.count == 0 {
            return Factor::EQUAL;
        }
        let trust = self.m as f32 / (self.m as f32 + Self::PRIOR);
        let fresh = trust * self.freshness(pool, now);
        let beyond = |average: f32, doubt: f32| {
            let apart = (average - pool.ref_ln) * fresh;
            let zone = Self::DEAD_ZONE + trust * doubt;
            // From the edge of the zone twice as steep, until it meets the difference itself:
            // subtracting the zone from large differences too would make fast replicas look less fast.
            let beyond = (2.0 * (apart.abs() - zone)).max(0.0);
            beyond.min(apart.abs()).min(Self::LIMIT).copysign(apart)
        };
        let idle = |average: f32, least| {
            let millis = (average.exp() - pool.ref_ln.exp()).abs();
            if self.m < SETTLED || millis < Self::PAUSE {
                return 0.0;
            }
            beyond(average, Self::ERRORS * self.error(pool, least))
        };
        let soon = idle(self.ell, STEP);
        let surely = idle(self.long, LONG_STEP);
        let idle = if soon.abs() > surely.abs() { soon } else { surely };
        Factor { busy: beyond(self.ell, 0.0).exp(), idle: idle.exp() }
    }

    /// The standard error of [`Self::ell`], as far as the pool's noise tells: of a mean at first, of the moving average
    /// it becomes later.
    fn error(&self, pool: &PoolSpeed, least: f32) -> f32 {
        // √(π/2) makes a standard deviation of a mean absolute difference.
        let deviation = pool.noise * 1.253;
        deviation * (1.0 / self.m as f32).max(least / (2.0 - least)).sqrt()
    }

    /// 1 right after a latency, half of it each half-life.
    fn freshness(&self, pool: &PoolSpeed, now: Moment) -> f32 {
        let age = now.since(self.last).as_secs_f32();
        (-age / pool.half_life().as_secs_f32()).exp2()
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
        let mut slowness = Slowness { warm: true, ..Slowness::default() };
        pool.observe(Duration::from_millis(100), Some(0.0));
        for _ in 0..times {
            slowness.sample(latency, &pool, now);
        }
        (slowness, pool)
    }

    fn factor_after(millis: u64, times: u32) -> f32 {
        let now = Moment::from_millis(5);
        let (slowness, pool) = learned(Duration::from_millis(millis), times, now);
        slowness.factor(&pool, now).busy
    }

    proptest! {
        #[test]
        fn slowness_is_never_beyond_eight(nanos: u64, pool_nanos: u64, times in 0_u32..40, later: u64) {
            let mut pool = PoolSpeed::default();
            let mut slowness = Slowness::default();
            for _ in 0..times {
                let strays = slowness.sample(Duration::from_nanos(nanos), &pool, Moment::ZERO);
                pool.observe(Duration::from_nanos(pool_nanos), strays);
            }
            let Factor { busy, idle } = slowness.factor(&pool, Moment::from_nanos(later));
            prop_assert!([busy, idle].iter().all(|f| (0.124_9..8.001).contains(f)), "{busy} {idle}");
        }

        #[test]
        fn one_reading_alone_never_moves_more_than_the_dead_zone(before in 0_u32..200, nanos: u64) {
            let (mut slowness, pool) = learned(Duration::from_millis(100), before, Moment::ZERO);
            slowness.sample(Duration::from_nanos(nanos), &pool, Moment::ZERO);
            prop_assert!(near(slowness.factor(&pool, Moment::ZERO).busy, 1.0));
        }

        #[test]
        fn an_outlier_moves_the_pool_no_more_than_a_slow_answer(nanos: u64) {
            let (_, mut pool) = learned(SECOND, 0, Moment::ZERO);
            for _ in 1..SETTLED {
                pool.observe(SECOND, Some(0.0));
            }
            let before = pool.ref_ln;
            pool.observe(Duration::from_nanos(nanos), Some(0.0));
            prop_assert!((pool.ref_ln - before).abs() <= CLIP / 8.0 + 1e-6);
        }
    }

    #[test]
    fn the_very_first_answer_says_nothing() {
        let (mut pool, mut slowness) = (PoolSpeed::default(), Slowness::default());
        let strays = slowness.sample(SECOND, &pool, Moment::ZERO);
        pool.observe(SECOND, strays);
        assert_eq!((strays, slowness.m, pool), (None, 0, PoolSpeed::default()));
        assert!(slowness.sample(SECOND, &pool, Moment::ZERO).is_some());
    }

    #[test]
    fn a_newcomer_is_as_fast_as_the_pool() {
        assert!(near(factor_after(1_000, 0), 1.0));
    }

    #[test]
    fn the_second_slow_answer_is_believed_in_part() {
        assert!(near(factor_after(1_000, 1), 1.0));
        // (1.2 + 1/2 × 1.10259) × 2/7, which is below 2 ((1.2 + …) × 2/7 − 0.2)
        assert!(near(factor_after(1_000, 2), 1.649_33), "{}", factor_after(1_000, 2));
    }

    #[test]
    fn many_slow_answers_are_believed() {
        let factor = factor_after(400, 95);
        // ln 4 × 95/100
        assert!((factor / 3.732 - 1.0).abs() < 0.01, "{factor}");
        assert!((factor * factor_after(25, 95) - 1.0).abs() < 1e-3, "fast is the mirror of slow");
    }

    #[test]
    fn a_fifth_slower_is_noise() {
        assert!(near(factor_after(120, 1_000), 1.0));
    }

    #[test]
    fn the_noise_of_a_pool_widens_the_dead_zone_of_idle_replicas() {
        let now = Moment::ZERO;
        let (slowness, quiet) = learned(Duration::from_millis(140), 1_000, now);
        let [quiet, noisy] = [0.1, 0.8].map(|noise| PoolSpeed { noise, ..quiet });
        assert!(slowness.factor(&quiet, now).idle > 1.2 && slowness.factor(&noisy, now).busy > 1.2);
        assert!(near(slowness.factor(&noisy, now).idle, 1.0));
        let (slower, _) = learned(Duration::from_millis(250), 1_000, now);
        assert!(slower.factor(&noisy, now).idle > 1.5);
    }

    #[test]
    fn noise_is_what_latencies_stray_from_their_own_replica() {
        let (mut fast, mut pool) = learned(SECOND, 0, Moment::ZERO);
        let mut slow = Slowness::default();
        for _ in 0..500 {
            for (replica, millis) in [(&mut fast, 50), (&mut slow, 200)] {
                let latency = Duration::from_millis(millis);
                let strays = replica.sample(latency, &pool, Moment::ZERO);
                pool.observe(latency, strays);
            }
        }
        assert!(pool.noise < 0.01, "{}", pool.noise);
    }

    #[test]
    fn what_is_known_counts_half_after_thirty_seconds() {
        let (slowness, pool) = learned(Duration::from_millis(400), 95, Moment::ZERO);
        let factor = slowness.factor(&pool, Moment::ZERO + 30 * SECOND).busy;
        // ln 4 × 95/100 / 2
        assert!((factor / 1.932 - 1.0).abs() < 0.01, "{factor}");
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
        assert!(near(slowness.factor(&pool, later).busy, 1.0));
    }

    #[test]
    fn a_still_slow_replica_is_called_slow_again_by_its_first_answer() {
        let (mut slowness, pool) = learned(SECOND, 95, Moment::ZERO);
        let later = Moment::ZERO + 120 * SECOND;
        assert!(near(slowness.factor(&pool, later).busy, 1.0), "forgotten meanwhile");
        slowness.sample(SECOND, &pool, later);
        assert!(slowness.factor(&pool, later).busy > 7.0);
    }

    #[test]
    fn a_request_given_up_early_says_nothing() {
        let (mut slowness, pool) = learned(SECOND, 3, Moment::ZERO);
        let before = slowness;
        slowness.censored(Duration::from_millis(99), &pool, Moment::from_millis(9));
        assert_eq!(slowness, before);
    }

    #[test]
    fn requests_given_up_late_were_slow() {
        let (mut slowness, pool) = learned(Duration::from_millis(100), 3, Moment::ZERO);
        slowness.censored(SECOND, &pool, Moment::ZERO);
        assert!(near(slowness.factor(&pool, Moment::ZERO).busy, 1.0), "one is not believed");
        slowness.censored(SECOND, &pool, Moment::ZERO);
        assert!(slowness.factor(&pool, Moment::ZERO).busy > 1.1);
    }

    #[test]
    fn the_pool_follows_the_geometric_mean() {
        let mut pool = PoolSpeed::default();
        for millis in [10, 30] {
            pool.observe(Duration::from_millis(millis), Some(0.0));
        }
        assert!(near(pool.ref_ln, 300_f32.sqrt().ln()));
        assert!(near(pool.mean_latency, 0.02));
    }
}
