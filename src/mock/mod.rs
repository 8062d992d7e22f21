//! A model server that never thinks: it speaks as real ones do, and fails as it is told to.
//!
//! It stands behind `evener mock`, the demo and the tests. `GET /mock` shows its knobs and counters,
//! `POST /mock` turns them while it runs.
mod events;
mod gate;
mod grpc;
mod knobs;
mod kserve;
mod openai;
mod panel;
mod server;
mod work;

pub use knobs::{Knobs, Latency, Percent, parse_duration};
pub use server::serve;
