//! Live state: what is known of each replica, version and model, found again by identity after a reload.
mod in_flight;
mod model_state;
mod registry;
mod replica;
mod tally;
mod version_state;

pub use in_flight::InFlight;
pub use model_state::ModelState;
pub use registry::Fleet;
pub use replica::{Replica, ReplicaId};
pub use tally::{Histogram, INTER_CHUNK_BOUNDS, LATENCY_BOUNDS, Refusals, Tally};
pub use version_state::VersionState;
