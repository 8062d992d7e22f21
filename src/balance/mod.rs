//! Choosing one of many: which version by its share, which replica by its load.
//!
//! Pure: a turn, a point, a moment and chance come in as arguments; an index comes out.
mod least;
mod load;
mod lottery;
mod moves;
mod pick;
mod rendezvous;
mod rotation;
mod split;
pub mod spread;
mod sticky;

pub use load::{Phantom, PoolSpeed, Slowness, ramp, score, silent};
pub use moves::moves;
pub use pick::{Policy, Pool};
pub use split::{MalformedSegments, Segments, fraction};
pub use sticky::{hash_point, keyed_point};
