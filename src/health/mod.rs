//! When a replica may serve: how exchanges end, what probes say, and the standing that follows.
mod outcome;
mod probe;
mod retry;
mod standing;

pub use outcome::{Class, Outcome};
pub use probe::{ProbeCount, ProbeKind, ProbePlan, ProbeResult};
pub use retry::{HedgeAfter, HedgePlan, Repeatable, RetryOn, RetryPlan};
pub use standing::Standing;
