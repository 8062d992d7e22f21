//! The chances of the data path: one generator a thread, so that drawing takes no lock.
use crate::stats::Moment;
use crate::table::{Choice, Model, Version, Wish};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::cell::RefCell;

thread_local! {
    static CHANCE: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(seed()));
}

fn seed() -> u64 {
    // The standard library's hasher is keyed by the operating system.
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::thread::current().id())
}

/// Uniform in [0, 1).
pub(super) fn chance() -> f64 {
    (draw() >> 11) as f64 / (1_u64 << 53) as f64
}

pub(super) fn draw() -> u64 {
    CHANCE.with_borrow_mut(rand::Rng::next_u64)
}

/// [`Model::choose`].
pub(super) fn choose<'m>(
    model: &'m Model,
    wish: Wish<'_>,
    now: Moment,
) -> Result<Choice<'m>, &'m Version> {
    CHANCE.with_borrow_mut(|rng| model.choose(wish, now, rng))
}

/// [`Model::spare`].
pub(super) fn spare<'m>(
    model: &'m Model,
    version: &'m Version,
    wish: Wish<'_>,
    now: Moment,
) -> Option<Choice<'m>> {
    CHANCE.with_borrow_mut(|rng| model.spare(version, wish, now, rng))
}
