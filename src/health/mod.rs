//! When a replica may serve: how exchanges end, what probes say, who is ejected, and the standing that follows.
mod detector;
mod ejection;
mod life;
mod outcome;
mod probe;
mod recent;
mod retry;
mod standing;

pub use detector::{Count, Detector, Evidence, Faded, PoolCounts, SUSPECT};
pub use ejection::{Cause, EjectionPlan, FailureCodes};
pub use life::{Life, Stage, Trial};
pub use outcome::{Class, Outcome};
pub use probe::{ProbeCount, ProbeKind, ProbePlan, ProbeResult};
pub use recent::Recent;
pub use retry::{HedgeAfter, HedgePlan, Repeatable, RetryOn, RetryPlan};
pub use standing::Standing;
