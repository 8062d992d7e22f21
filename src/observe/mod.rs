//! What operators are told: counters, the access log, events, traces.
mod access;
mod canaries;
mod events;
mod exposition;
mod meters;
mod metrics;
mod mirrors;
#[cfg(feature = "otlp")]
pub mod otlp;
mod process;
mod shares;

pub use access::{AccessLog, Sink};
pub use canaries::CanaryReport;
pub use events::{Event, Events};
pub use meters::{ListenerMeter, Meters, ReloadResult, SpanFate};
pub use metrics::{METRICS, Metric, MetricKind, expose};
pub use shares::{fails_open, observed_shares};

/// The wall clock: for timestamps that people read, never for decisions.
pub fn stamp() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
