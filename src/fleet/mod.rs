//! Live state: what is known of each replica, version and model, found again by identity after a reload.
mod budget;
mod ejection;
mod gather;
mod in_flight;
mod mirror;
mod model_state;
mod pace;
mod registry;
mod replica;
mod sketch;
mod suspects;
mod tally;
mod trial;
mod version_state;

pub use budget::Budget;
pub use ejection::Ejection;
pub use gather::Gather;
pub use in_flight::InFlight;
pub use mirror::{Burden, Mirror, MirrorView, Mirrored, Mirroring};
pub use model_state::{Hedged, ModelState};
pub use pace::Pace;
pub use registry::Fleet;
pub use replica::{Replica, ReplicaId};
pub use sketch::Sketch;
pub use suspects::Suspects;
pub use tally::{Histogram, INTER_CHUNK_BOUNDS, LATENCY_BOUNDS, Refusals, Tally};
pub use version_state::VersionState;
