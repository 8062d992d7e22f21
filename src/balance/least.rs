//! The least loaded of all, or of a few drawn at random.
//!
//! In simulation (`tests/simulation.rs`) a scan of all loads beats the power of two choices
//! everywhere, and up to 128 replicas it takes a quarter of a microsecond at most. Above that, 16
//! draws come within a few percent of the scan in 60 ns, however many there are (Mitzenmacher 2001,
//! with d = 16; `benches/pick.rs`).
use super::pool::{Pool, below, open};
use rand::Rng;
use std::cmp::Ordering;

/// Up to this many replicas are all looked at.
const SCANNED: usize = 128;

/// Above it, so many are drawn.
const DRAWN: usize = 16;

/// The least loaded replica with room; if none has room, the least loaded usable one.
pub(super) fn pick(pool: &impl Pool, rng: &mut impl Rng) -> Option<usize> {
    if pool.len() > SCANNED
        && let Some(i) = sample(pool, rng)
    {
        return Some(i);
    }
    scan(pool, |i| open(pool, i), rng).or_else(|| scan(pool, |i| pool.usable(i), rng))
}

/// The less loaded of two different open replicas.
///
/// Drawing again past a closed replica leaves every pair of open ones equally likely. A pool with
/// hardly one open gives up here, and is scanned.
pub(super) fn of_two(pool: &impl Pool, rng: &mut impl Rng) -> Option<usize> {
    let mut first = None;
    for _ in 0..DRAWN {
        let i = below(pool.len(), rng);
        if first == Some(i) || i >= pool.len() || !open(pool, i) {
            continue;
        }
        match first {
            None => first = Some(i),
            Some(other) if pool.load(i) < pool.load(other) => return Some(i),
            Some(other) => return Some(other),
        }
    }
    first
}

/// The least loaded of a few draws with replacement; the draws are uniform, so the first of equals
/// is too. One random word makes two draws (biased by less than n / 2³²).
fn sample(pool: &impl Pool, rng: &mut impl Rng) -> Option<usize> {
    let n = pool.len() as u64;
    let mut best: Option<(usize, f32)> = None;
    for _ in 0..DRAWN / 2 {
        let word = rng.next_u64();
        for half in [word >> 32, word & 0xFFFF_FFFF] {
            let i = ((half * n) >> 32) as usize;
            if !open(pool, i) {
                continue;
            }
            let load = pool.load(i);
            if best.is_none_or(|(_, least)| load < least) {
                best = Some((i, load));
            }
        }
    }
    best.map(|(i, _)| i)
}

/// The least loaded of those `allowed`. The k-th equal replaces the one kept with probability 1/k:
/// a scan from a random start would favor whoever follows a busy replica.
fn scan(pool: &impl Pool, allowed: impl Fn(usize) -> bool, rng: &mut impl Rng) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    let mut equals = 1;
    for i in (0..pool.len()).filter(|&i| allowed(i)) {
        let load = pool.load(i);
        let order = best.map_or(Some(Ordering::Less), |(_, least)| load.partial_cmp(&least));
        if order == Some(Ordering::Less) {
            best = Some((i, load));
            equals = 1;
        } else if order == Some(Ordering::Equal) {
            equals += 1;
            if below(equals, rng) == 0 {
                best = Some((i, load));
            }
        }
    }
    best.map(|(i, _)| i)
}
