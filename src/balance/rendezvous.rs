//! The same key, the same replica: weighted rendezvous hashing.
//!
//! Every replica draws a lot from the key and its own identity, and the best lot wins (Thaler and
//! Ravishankar 1998; −w / ln u gives the lots their weight). So a replica that leaves moves only
//! its own keys, one that joins takes only its share, and no table is kept. Maglev and ring hashing
//! were measured and rejected: a table to rebuild, about 1 % more keys moved, worse balance.
use super::pool::{Pool, open};
use xxhash_rust::xxh3::xxh3_64;

/// The best lot among the replicas with room; `None` if there is none.
pub(super) fn pick(pool: &impl Pool, key: u64) -> Option<usize> {
    winner((0..pool.len()).filter(|&i| open(pool, i)).map(|i| {
        let weight = f64::from(pool.weight(i));
        (i, weight, key ^ pool.identity(i))
    }))
}

/// The index with the best lot among (index, weight, what its lot is drawn from).
pub(super) fn winner(candidates: impl Iterator<Item = (usize, f64, u64)>) -> Option<usize> {
    let mut best: Option<Best> = None;
    for (index, weight, seed) in candidates {
        let draw = (xxh3_64(&seed.to_le_bytes()) >> 11) as f64 + 0.5;
        // The lot rises with the weight and with the draw: no logarithm for one that is behind in both.
        if best.as_ref().is_some_and(|b| weight <= b.weight && draw <= b.draw) {
            continue;
        }
        let lot = -weight / (draw / (1_u64 << 53) as f64).ln();
        if best.as_ref().is_none_or(|b| lot > b.lot) {
            best = Some(Best { index, weight, draw, lot });
        }
    }
    best.map(|b| b.index)
}

struct Best {
    index: usize,
    weight: f64,
    draw: f64,
    lot: f64,
}
