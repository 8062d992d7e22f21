//! Numbers over time: the clock that each decision is given, and the scale of all quantiles.
//!
//! Pure: nothing here reads a clock except [`clock::MonotonicClock`].
mod clock;
pub mod log_scale;

pub use clock::{Clock, ManualClock, Moment, MonotonicClock};
