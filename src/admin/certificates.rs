//! What is told of certificates: until when they last, and which cannot be renewed.
use crate::table::{Model, Table, Version};
use crate::tls::CertificateState;
use serde::{Deserialize, Serialize};

/// One certificate of a listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub name: String,
    pub not_after: jiff::Timestamp,
    /// Why the files that stand there now are not what is served.
    pub fault: Option<String>,
}

/// Those of a listener.
pub(super) fn of(table: &Table, listener: &str) -> Vec<CertificateStatus> {
    let mut secure = table.plan.server_tls().filter(|(name, _)| *name == listener);
    let states = secure.next().map(|(_, tls)| tls.states()).unwrap_or_default();
    let status = |state: CertificateState| {
        let not_after = jiff::Timestamp::from_second(state.not_after);
        let not_after = not_after.unwrap_or(jiff::Timestamp::MAX);
        CertificateStatus { name: state.name, not_after, fault: state.fault }
    };
    states.into_iter().map(status).collect()
}

/// Why a version goes on with older files.
pub(super) fn fault(model: &Model, version: &Version) -> Option<String> {
    model.plan_of(version).tls.as_ref()?.fault()
}
