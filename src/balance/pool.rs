//! The replicas that a policy chooses from, and what all policies ask of them.
use rand::Rng;

/// The replicas of one version, as a policy sees them.
pub trait Pool {
    fn len(&self) -> usize;
    /// May replica `i` be picked?
    fn usable(&self, i: usize) -> bool;
    /// Has replica `i` a free slot? Always true without declared slots.
    fn has_room(&self, i: usize) -> bool;
    /// The number the policy minimizes; above 0.
    fn load(&self, i: usize) -> f32;
    /// Declared capacity; above 0.
    fn weight(&self, i: usize) -> f32;
    /// A stable hash of the replica's identity, for [`Policy::Hash`](super::Policy::Hash).
    fn identity(&self, i: usize) -> u64;
}

/// May replica `i` be picked without overfilling it?
pub(super) fn open(pool: &impl Pool, i: usize) -> bool {
    pool.usable(i) && pool.has_room(i)
}

/// A uniform draw from `0..n`, for small `n` (the bias is below n / 2⁶⁴).
pub(super) fn below(n: usize, rng: &mut impl Rng) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}
