//! What is wrong, worst first: one list for the page, `evener status`, the API, the timeline and the log.
//!
//! Pure: [`Facts`] of one moment go in, and the list changes. Each finder looks at one kind of fact; [`Problems`]
//! remembers since when each problem is there, keeps it for a moment when it wavers, and says when it is over.
mod canaries;
mod certificates;
mod facts;
mod failing;
mod fleet;
mod found;
mod fruitless;
mod list;
mod names;
mod process;
mod requests;
mod serves;
mod words;

pub use facts::{
    AnswerFacts, CanaryFacts, CertificateFacts, ExhaustedFacts, Facts, FileFacts, MirrorFacts,
    ModelFacts, Outcomes, PanicFacts, ProcessFacts, RejectedFacts, Replies, Standings,
    VersionFacts, WebhookFacts,
};
pub use found::{Code, Problem, Severity};
pub use list::{Change, Problems};
pub use names::ReplicaName;
pub use serves::Serves;
