//! A random replica, in proportion to weight.
use super::pool::{Pool, open};
use rand::{Rng, RngExt};

/// One draw among the replicas with room; `None` if there is none.
///
/// Two passes, no memory: the sum of the weights, then the replica at the drawn height.
pub(super) fn pick(pool: &impl Pool, rng: &mut impl Rng) -> Option<usize> {
    let chances = || (0..pool.len()).filter(|&i| open(pool, i));
    let total: f64 = chances().map(|i| f64::from(pool.weight(i))).sum();
    let mut height = rng.random::<f64>() * total;
    let mut last = None;
    for i in chances() {
        last = Some(i);
        height -= f64::from(pool.weight(i));
        if height < 0.0 {
            break;
        }
    }
    last
}
