//! Live state: what is known of each replica, version and model, found again by identity after a reload.
mod budget;
mod in_flight;
mod model_state;
mod registry;
mod replica;
mod sketch;
mod tally;
mod version_state;

pub use budget::Budget;
pub use in_flight::InFlight;
pub use model_state::{Hedged, ModelState};
pub use registry::Fleet;
pub use replica::{Replica, ReplicaId};
pub use sketch::Sketch;
pub use tally::{Histogram, INTER_CHUNK_BOUNDS, LATENCY_BOUNDS, Refusals, Tally};
pub use version_state::VersionState;
