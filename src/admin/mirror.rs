//! How a mirror stands: in the status, and with what was found where in a report of its own.
use super::office::Office;
use crate::fleet::MirrorView;
use crate::mirror::{Rate, Report};
use crate::table::Model;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MirrorStatus {
    pub to: String,
    pub percent: f64,
    #[serde(flatten)]
    pub rate: Rate,
    /// When the present version and the present way to compare began.
    pub since: jiff::Timestamp,
    /// Requests that are being mirrored.
    pub running: u32,
    /// Since then, by what became of them.
    pub results: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MirrorReport {
    pub model: String,
    #[serde(flatten)]
    pub status: MirrorStatus,
    #[serde(flatten)]
    pub found: Report,
}

/// `None`: the file asks for none.
pub(super) fn status(office: &Office, model: &Model) -> Option<MirrorStatus> {
    as_status(office, model, &model.state.mirror.view()?)
}

pub(super) fn report(office: &Office, model: &Model) -> Option<MirrorReport> {
    let (view, found) = model.state.mirror.report()?;
    let status = as_status(office, model, &view)?;
    Some(MirrorReport { model: model.name.to_string(), status, found })
}

fn as_status(office: &Office, model: &Model, view: &MirrorView) -> Option<MirrorStatus> {
    let plan = model.plan.mirror.as_ref()?;
    Some(MirrorStatus {
        to: plan.to.clone(),
        percent: plan.percent,
        rate: view.rate,
        since: office.wall(view.since),
        running: view.running,
        results: view.results.iter().map(|(result, n)| (result.name().to_owned(), *n)).collect(),
    })
}
