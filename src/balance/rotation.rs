//! Weighted round robin without memory: the turn number alone says whose turn it is.
//!
//! nginx's smooth weighted round robin keeps a running credit per replica, which every request
//! must update under a lock. Here the pool is split in halves again and again, and each half gets
//! its exact share of the turns: at a node whose left half holds the fraction w of the weight,
//! ⌊t·w⌋ of the first t turns went left. Equal weights give every replica ⌊t/n⌋ or ⌈t/n⌉ of the
//! first t turns; with two replicas |count − t·w| < 1, as in nginx.
use super::pool::{Pool, open};
use std::ops::Range;

/// Weights are compared in this fraction of 1, so that shares of turns are exact integers.
const UNITS: f32 = 1024.0;

/// Whose turn it is among the replicas with room; `None` if there is none.
pub(super) fn pick(pool: &impl Pool, turn: u64) -> Option<usize> {
    let mut range = 0..pool.len();
    let mut total = units(pool, range.clone());
    let mut turn = u128::from(turn);
    if total == 0 {
        return None;
    }
    while range.len() > 1 {
        let middle = range.start + range.len() / 2;
        let left = units(pool, range.start..middle).min(total);
        let gone_left = turn * left / total;
        if (turn + 1) * left / total > gone_left {
            (range, total, turn) = (range.start..middle, left, gone_left);
        } else {
            (range, total, turn) = (middle..range.end, total - left, turn - gone_left);
        }
        if total == 0 {
            return None; // the pool changed between two readings
        }
    }
    Some(range.start).filter(|&i| open(pool, i))
}

/// The weight of the open replicas in `range`.
fn units(pool: &impl Pool, range: Range<usize>) -> u128 {
    let unit = |i| u128::from(((pool.weight(i) * UNITS) as u32).max(1));
    range.filter(|&i| open(pool, i)).map(unit).sum()
}
