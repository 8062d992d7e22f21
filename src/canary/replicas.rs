//! How much replicas of one side differ in speed by themselves: so much two versions may differ, too, without being to
//! blame. A random-effects model: the speed of a replica is that of its version times its own (`DerSimonian` and Laird 1986
//! for its spread; Student's t for how well few replicas tell it).
use super::observation::Arm;
use serde::{Deserialize, Serialize};

/// Replicas that are followed, of both sides.
const MOST: usize = 64;
/// Readings from which on a replica tells something.
const ENOUGH: f64 = 30.0;
/// What is believed before replicas were compared: they differ by half a percent, and that counts as so many of them.
const EXPECTED: f64 = 0.005;
const WEIGHT: f64 = 2.0;
/// The quantile of the normal distribution that is left out on one side: 0.2 %.
const Z: f64 = 2.878;
/// By so many times their noise means must differ to be taken for different: where few requests tell of each replica, they
/// tell as little against the version.
const SURE: f64 = 3.0;
/// However much they differ, a candidate so many times as slow is found.
const WIDEST: f64 = 4.0;

/// The logarithms of a replica's amounts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Replica {
    arm: Arm,
    id: u64,
    n: f64,
    mean: f64,
    /// Sum of squared differences from the mean.
    squares: f64,
}

/// What is known of the replicas of both sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Replicas {
    /// Those of this process.
    #[serde(skip)]
    each: Vec<Replica>,
    /// The spread (standard deviation of the logarithm) that was learned before a restart, and how many degrees of
    /// freedom it has.
    before: (f64, f64),
    /// How many times slower a version may seem by its replicas alone; 1 or more.
    allowance: f64,
}

impl Replicas {
    /// Takes in an amount. `id` 0: the replica is unknown, and tells nothing.
    pub(super) fn add(&mut self, arm: Arm, id: u64, amount: f64) {
        if id == 0 {
            return;
        }
        let value = amount.max(1e-9).ln();
        let known = self.each.iter().position(|replica| replica.id == id && replica.arm == arm);
        let place = known.unwrap_or(self.each.len());
        if place == MOST {
            return;
        }
        if known.is_none() {
            self.each.push(Replica { arm, id, n: 0.0, mean: 0.0, squares: 0.0 });
        }
        let replica = &mut self.each[place];
        // Welford's sums.
        replica.n += 1.0;
        let off = value - replica.mean;
        replica.mean += off / replica.n;
        replica.squares += off * (value - replica.mean);
    }

    /// Estimates anew how much two sides differ by chance.
    pub(super) fn estimate(&mut self) {
        let known = |arm| self.each.iter().filter(move |r| r.arm == arm && r.n >= ENOUGH);
        let (mut squares, mut noise, mut freedom) = (0.0, 0.0, 0.0);
        for arm in [Arm::Candidate, Arm::Stable] {
            let count = known(arm).count() as f64;
            if count < 2.0 {
                continue;
            }
            let mean = known(arm).map(|r| r.mean).sum::<f64>() / count;
            squares += known(arm).map(|r| (r.mean - mean).powi(2)).sum::<f64>();
            // What the means differ by because each is of so many requests only.
            let each = |r: &Replica| r.squares / (r.n - 1.0) / r.n;
            noise += known(arm).map(each).sum::<f64>() * (count - 1.0) / count;
            freedom += count - 1.0;
        }
        let (was, weight) = if self.before.1 > freedom { self.before } else { (EXPECTED, WEIGHT) };
        let variance = (squares - SURE * noise).max(0.0);
        let all = weight + freedom;
        let spread = ((weight * was * was + variance) / all).sqrt();
        if freedom >= self.before.1 {
            self.before = (spread, freedom);
        }
        let seen = |arm| self.each.iter().filter(|r| r.arm == arm).count() as f64;
        let (own, others) = (seen(Arm::Candidate), seen(Arm::Stable));
        if own < 1.0 || others < 1.0 {
            return;
        }
        let of_means = (1.0 / own + 1.0 / others).sqrt();
        self.allowance = (student(all) * spread * of_means).exp().min(WIDEST);
    }

    /// How many times slower a version may seem by its replicas alone.
    pub(super) fn allowance(&self) -> f64 {
        self.allowance.max(1.0)
    }

    /// How many of the candidate's were seen.
    pub(super) fn of_candidate(&self) -> usize {
        self.each.iter().filter(|replica| replica.arm == Arm::Candidate).count()
    }
}

/// The quantile of Student's t that belongs to [`Z`] (Cornish and Fisher's expansion: within 5 % from four degrees on).
fn student(freedom: f64) -> f64 {
    let z = Z;
    let (z3, z5) = (z.powi(3), z.powi(5));
    z + (z3 + z) / (4.0 * freedom) + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * freedom * freedom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn normal(rng: &mut SmallRng) -> f64 {
        let (a, b): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// Replicas whose speeds differ by so much; requests differ by 0.8 within each.
    fn allowance(candidate: u64, stable: u64, spread: f64, requests: u32, seed: u64) -> (f64, f64) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut replicas = Replicas::default();
        let mut means = [0.0; 2];
        for (side, arm, count) in [(0, Arm::Candidate, candidate), (1, Arm::Stable, stable)] {
            for id in 0..count {
                let own = spread * normal(&mut rng);
                means[side] += own / count as f64;
                for _ in 0..requests {
                    replicas.add(arm, 1 + id, (own + 0.8 * normal(&mut rng)).exp());
                }
            }
        }
        replicas.estimate();
        (replicas.allowance(), means[0] - means[1])
    }

    #[test]
    fn equal_replicas_leave_little_room() {
        for (candidate, stable) in [(3, 3), (1, 9), (1, 1)] {
            let mut all: Vec<f64> =
                (0..41).map(|seed| allowance(candidate, stable, 0.0, 2000, seed).0).collect();
            all.sort_unstable_by(f64::total_cmp);
            assert!(all[20] < 1.15, "{candidate} beside {stable}: {}", all[20]);
        }
    }

    #[test]
    fn replicas_that_differ_make_room_for_what_their_versions_differ_by() {
        for (candidate, stable) in [(3, 3), (1, 9), (2, 6)] {
            let beyond = (0..400).filter(|seed| {
                let (allowance, differs) = allowance(candidate, stable, 0.2, 400, *seed);
                differs > (1.1 * allowance).ln()
            });
            let beyond = beyond.count();
            assert!(beyond <= 6, "{candidate} beside {stable}: {beyond} of 400");
        }
    }
}
