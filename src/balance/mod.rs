//! Choosing one of many: which version by its share, which replica by its load.
//!
//! Pure: a turn, a point, a moment and chance come in as arguments; an index comes out.
mod least;
mod load;
mod lottery;
mod moves;
mod phantom;
mod pick;
mod pool;
mod rendezvous;
mod rotation;
mod speed;
mod split;
pub mod spread;
mod sticky;

pub use load::{ramp, score, silent};
pub use moves::moves;
pub use phantom::Phantom;
pub use pick::Policy;
pub use pool::Pool;
pub use speed::{Factor, PoolSpeed, Slowness};
pub use split::{MalformedSegments, Segments, fraction};
pub use sticky::{hash_point, keyed_point};
