//! What is kept of evidence against a candidate that may be one event.
use serde::{Deserialize, Serialize};

/// Evidence that crossed the bar and was not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Fall {
    /// The step it fell from.
    pub(super) step: usize,
    /// Seconds since the canary began.
    pub(super) at: f64,
    /// Seconds on that step, if it had come back to it.
    pub(super) returned: Option<f64>,
    /// All its replicas failed, or at least three.
    pub(super) wide: bool,
}

/// The most evidence of an event that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Peak {
    pub(super) evidence: f64,
    /// Seconds since the canary began, and the candidate's requests until then.
    pub(super) at: f64,
    pub(super) requests: u64,
}
