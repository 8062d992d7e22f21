//! The admin listener: status, metrics and orders over HTTP, and a page that shows them.
mod answer;
mod certificates;
mod decisions;
mod feed;
mod guard;
mod live;
mod mirror;
mod office;
mod orders;
mod page;
mod patient;
mod read;
mod seats;
mod server;
mod status;
mod test_request;
mod turned_away;

pub use certificates::CertificateStatus;
pub use guard::{Denied, Knock, judge};
pub use live::{Figures, Live};
pub use mirror::{MirrorReport, MirrorStatus};
pub use office::{Office, Readiness};
pub use server::serve;
pub use status::{
    CanaryStatus, CheckStatus, ConfigStatus, DescriptorStatus, LastReload, ListenerStatus,
    ModelStatus, ReplicaStatus, SplitStatus, Status, VersionStatus,
};
pub use turned_away::TurnedAway;
