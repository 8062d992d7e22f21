//! Live state: what is known of each replica, version and model, found again by identity after a reload.
mod allowance;
mod answered;
mod aside;
mod budget;
mod custody;
mod ejection;
mod foresight;
mod gather;
mod holder;
mod in_flight;
mod learned;
mod lesson;
mod mirror;
mod mirroring;
mod model_state;
mod pace;
mod paths;
mod registry;
mod replica;
mod seconds;
mod sketch;
mod suspects;
mod tally;
mod thread;
mod trial;
mod turns;
mod under_way;
mod version_state;

pub use allowance::{Allowance, Good};
pub use answered::Answered;
pub use budget::Budget;
pub use ejection::Ejection;
pub use foresight::Foresight;
pub use gather::Gather;
pub use holder::Holder;
pub use in_flight::InFlight;
pub use mirror::{Mirror, MirrorView, Mirrored};
pub use mirroring::{Burden, Mirroring};
pub use model_state::{Hedged, ModelState};
pub use pace::Pace;
pub use paths::Paths;
pub use registry::Fleet;
pub use replica::{Left, Replica, ReplicaId};
pub use sketch::Sketch;
pub use suspects::Suspects;
pub use tally::{ClassCounts, Histogram, INTER_CHUNK_BOUNDS, LATENCY_BOUNDS, Refusals, Tally};
pub use under_way::{Ticket, UnderWay};
pub use version_state::VersionState;

/// A replica of `m/v` that serves, and its version.
#[cfg(test)]
pub(crate) fn sample_replica(url: &str) -> (std::sync::Arc<Replica>, std::sync::Arc<VersionState>) {
    use crate::wire::{Dialed, Upstream};
    let id = ReplicaId { model: "m".into(), version: "v".into(), url: url.into() };
    let upstream = Upstream::new(Dialed::Http(url.trim_start_matches("http://").to_owned()));
    let replica = Replica::new(id, upstream, true, crate::stats::Moment::ZERO);
    (replica.into(), VersionState::new(std::sync::Arc::default()).into())
}
