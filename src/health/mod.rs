//! When a replica may serve: how exchanges end, what probes say, who is ejected, and the standing that follows.
mod detector;
mod ejection;
mod evidence;
mod life;
mod outcome;
mod probe;
mod recent;
mod reply;
mod retry;
mod seconds;
mod senders;
mod standing;
mod strain;

pub use detector::{Detector, Reading};
pub use ejection::{Cause, EjectionPlan, FailureCodes};
pub use evidence::{Count, Evidence, Faded, PathClass, PoolCounts};
pub use life::{Life, Stage, Trial};
pub use outcome::{Class, Outcome};
pub use probe::{ProbeCount, ProbeKind, ProbePlan, ProbeResult};
pub use recent::Recent;
pub use reply::Reply;
pub use retry::{HedgeAfter, HedgePlan, Repeatable, RetryOn, RetryPlan};
pub use seconds::{Second, Seconds};
pub use senders::{Sender, Senders};
pub use standing::Standing;
pub use strain::{Carried, Strain, UsualLoad};
