//! Everything that changes the table: the file, operators, probes. One writer, whose inbox this room is.
mod announce;
mod core;
mod desk;
mod ejections;
mod handover;
mod heritage;
mod inherited;
mod listeners;
mod order;
mod prober;
mod replicas;
mod runner;
mod state;
pub mod systemd;
mod verify;
mod watch;

pub use core::{Applied, Core};
pub use desk::{Desk, Loaded, Rejected};
pub use ejections::Ruling;
pub use handover::Broken;
pub use heritage::{ClaimError, Heritage};
pub use inherited::{Inherited, activated};
pub use order::{Act, Answer, Order, Orders, Reload, Target};
pub use replicas::Unable;
pub use runner::{Env, Runner, Started};
pub use state::{StateDir, StateError};
pub use verify::verify;
