//! Equal replicas asked one request after the other: whatever disturbs their latencies, each gets its share.
//!
//! All are idle at each pick, so the smallest load wins it: a difference that is only noise would take everything from a
//! replica, which then is not heard of again.
use evener::balance::{Policy, Pool, PoolSpeed, Slowness};
use evener::stats::Moment;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

struct Idle {
    slow: Vec<f32>,
}

impl Pool for Idle {
    fn len(&self) -> usize {
        self.slow.len()
    }
    fn usable(&self, _: usize) -> bool {
        true
    }
    fn has_room(&self, _: usize) -> bool {
        true
    }
    fn load(&self, i: usize) -> f32 {
        self.slow[i]
    }
    fn weight(&self, _: usize) -> f32 {
        1.0
    }
    fn identity(&self, i: usize) -> u64 {
        i as u64
    }
}

/// What disturbs the latencies of a pool of 50 ms.
#[derive(Clone, Copy, Debug)]
struct Noise {
    /// σ of ln latency.
    sigma: f64,
    /// One in so many requests stalls, for up to so many times its latency.
    stalls: Option<(f64, f64)>,
    /// The first request of each replica takes so many times as long.
    first: f64,
}

impl Noise {
    const NONE: Self = Self { sigma: 0.1, stalls: None, first: 1.0 };

    fn latency(self, is_first: bool, chance: &mut Xoshiro256PlusPlus) -> Duration {
        let (u, v): (f64, f64) = chance.random();
        let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let mut millis = (self.sigma * normal).exp();
        if let Some((often, times)) = self.stalls
            && chance.random::<f64>() < often
        {
            millis *= times.powf(chance.random::<f64>());
        }
        if is_first {
            millis *= self.first;
        }
        Duration::from_secs_f64(50.0 * millis / 1e3)
    }
}

/// The requests that each of `speeds` got of `calls`; a replica of speed 1/2 takes twice as long.
fn shares(speeds: &[f64], calls: u32, noise: Noise, seed: u64) -> Vec<u32> {
    let n = speeds.len();
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut known, mut speed) = (vec![Slowness::default(); n], PoolSpeed::default());
    let (mut got, mut now) = (vec![0; n], Moment::ZERO);
    for _ in 0..calls {
        let slow = known.iter().map(|s| s.factor(&speed, now).at(0)).collect();
        let i =
            Policy::LeastLoad.pick(&Idle { slow }, 0, None, &mut chance).expect("all are usable");
        let latency = noise.latency(got[i] == 0, &mut chance).div_f64(speeds[i]);
        got[i] += 1;
        now = now + latency;
        let strays = known[i].sample(latency, &speed, now);
        speed.observe(latency, strays);
    }
    got
}

#[test]
fn three_equals_get_100_of_300_within_30_whatever_disturbs_them() {
    let stalls = |often, times| Some((often, times));
    for noise in [
        Noise::NONE,
        Noise { first: 100.0, ..Noise::NONE },
        Noise { first: 0.01, ..Noise::NONE },
        Noise { sigma: 0.8, ..Noise::NONE },
        Noise { sigma: 1.2, first: 10.0, ..Noise::NONE },
        Noise { sigma: 0.3, stalls: stalls(0.1, 30.0), first: 10.0 },
        Noise { sigma: 0.3, stalls: stalls(0.25, 10.0), first: 1.0 },
    ] {
        let mut outside = 0;
        for seed in 0..200 {
            let got = shares(&[1.0; 3], 300, noise, seed);
            outside += usize::from(got.iter().any(|n| n.abs_diff(100) > 30));
        }
        eprintln!("{noise:?}: outside in {outside} of 200");
        // Lots drawn by a fair coin are outside in one of 1 400.
        assert!(outside <= 4, "{noise:?}: {outside} of 200");
    }
}

#[test]
fn an_idle_pool_still_finds_its_slow_replica() {
    for (speed, sigma, most) in [(0.1, 0.1, 15), (0.5, 0.1, 40), (0.25, 0.8, 60)] {
        let noise = Noise { sigma, ..Noise::NONE };
        let got: Vec<_> =
            (0..50).map(|seed| shares(&[1.0, speed, 1.0], 1_000, noise, seed)[1]).collect();
        let mean = got.iter().sum::<u32>() / 50;
        eprintln!("speed {speed}, sigma {sigma}: {mean} of 1000");
        assert!(mean <= most, "{speed}: {mean}");
    }
}
