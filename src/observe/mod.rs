//! What operators are told: counters, the access log, events, traces.
mod canaries;
mod canary_report;
mod decisions;
mod events;
mod exhaustion;
mod exposition;
mod lines;
mod log;
mod logs;
mod meters;
mod metrics;
mod mirrors;
#[cfg(feature = "otlp")]
pub mod otlp;
mod panics;
mod process;
mod repeats;
mod replicas;
mod requests;
mod scrape;
mod shares;
mod stderr;
mod troubles;
mod walk;

pub use canary_report::CanaryReport;
pub use decisions::{Assignment, Decision, Decisions, Interest};
pub use events::{Event, Events, Level};
pub use exhaustion::{During, Exhaustion, UsedUp};
pub use log::rotated;
pub use logs::{LogChanges, Logs};
pub use meters::{ListenerMeter, Meters, ReloadResult, SpanFate};
pub use metrics::{METRICS, Metric, MetricKind};
#[cfg(test)]
pub(crate) use panics::watch_panics_in_tests;
pub use panics::{Panicked, Task, watch_panics};
pub use process::{most_descriptors, open_descriptors};
pub use repeats::Repeats;
pub use scrape::expose;
pub use shares::{fails_open, observed_shares};
pub use stderr::{LogThread, LogWriter, log_lines_dropped, write_log_to_stderr};
pub use troubles::{Troubles, Undelivered};

/// The wall clock: for timestamps that people read, never for decisions.
pub fn stamp() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
