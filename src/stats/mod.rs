//! Numbers over time: the clock every decision is given, averages, windows and bounds.
//!
//! Pure: nothing here reads a clock except [`clock::MonotonicClock`].
mod clock;

pub use clock::{Clock, ManualClock, Moment, MonotonicClock};
