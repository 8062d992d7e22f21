//! What `/api/v1/status` says, as data: written by the server, read by `evener status`.
use super::certificates::{self, CertificateStatus};
use super::live::Figures;
use super::mirror::{self, MirrorStatus};
use super::office::{Office, Readiness};
use crate::canary::CheckView;
use crate::config::split_yaml;
use crate::control::Descriptors;
use crate::fleet::Ejection;
use crate::health::{Class, Recent, Stage};
use crate::observe::observed_shares;
use crate::problems::Problem;
use crate::stats::{Clock as _, Moment};
use crate::table::{Member, Model, SetSplit, Shares, Table, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub generation: u64,
    pub ready: bool,
    pub draining: bool,
    /// After a takeover: the process before this one still finishes what it runs.
    #[serde(default)]
    pub predecessor_drains: bool,
    pub started_at: jiff::Timestamp,
    pub uptime_seconds: f64,
    /// What is wrong, worst first.
    #[serde(default)]
    pub problems: Vec<Problem>,
    pub config: ConfigStatus,
    #[serde(default)]
    pub descriptors: Option<DescriptorStatus>,
    pub listeners: Vec<ListenerStatus>,
    pub models: Vec<ModelStatus>,
}

/// File descriptors of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DescriptorStatus {
    pub limit: u64,
    /// As many as `max_connections` of all listeners may need.
    pub needed: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub file: String,
    /// Of the text that serves.
    pub hash: String,
    pub loaded_at: jiff::Timestamp,
    pub last_reload: LastReload,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastReload {
    /// `applied`, `unchanged`, `rejected`.
    pub result: String,
    pub at: jiff::Timestamp,
    pub diagnostics: Vec<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerStatus {
    pub name: String,
    pub address: String,
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
}

/// Shares are percents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelStatus {
    pub name: String,
    pub aliases: Vec<String>,
    /// What is wrong with this one, worst first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems: Option<Vec<Problem>>,
    /// Rates and percentiles of all versions together.
    #[serde(default)]
    pub now: Figures,
    pub versions: Vec<VersionStatus>,
    /// `None`: the split is the file's, or the canary's.
    #[serde(default)]
    pub split_override: Option<SplitStatus>,
    pub canary: Option<CanaryStatus>,
    #[serde(default)]
    pub mirror: Option<MirrorStatus>,
}

/// A split that an operator set instead of the file's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SplitStatus {
    /// Percents by version.
    pub shares: Shares,
    pub who: String,
    pub reason: Option<String>,
    pub since: jiff::Timestamp,
    /// `None`: until it is taken back, or the file has another split.
    pub until: Option<jiff::Timestamp>,
    pub seconds_left: Option<f64>,
    /// What the file would have to say to make it last.
    pub yaml: String,
}

/// How a canary stands. `step` counts from 0, shares and steps are percents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CanaryStatus {
    pub candidate: String,
    pub state: String,
    pub step: usize,
    pub steps: Vec<f64>,
    pub share: f64,
    pub sentence: String,
    pub needs_requests: Option<u64>,
    pub eta_seconds: Option<u64>,
    /// Against the candidate, of all checks together: a logarithm, and where it ends the canary.
    pub evidence: f64,
    pub evidence_at_most: f64,
    pub checks: Vec<CheckStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckStatus {
    pub metric: String,
    pub candidate_hits: u64,
    pub candidate_requests: u64,
    pub stable_hits: u64,
    pub stable_requests: u64,
    pub evidence: f64,
    pub weight: f64,
    pub passes: bool,
    pub note: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionStatus {
    pub name: String,
    pub share: f64,
    pub configured_share: f64,
    /// Since the shares last changed; `None`: the model served nothing since.
    pub observed_share: Option<f64>,
    pub requests_total: u64,
    #[serde(default)]
    pub now: Figures,
    /// Why the files of its `tls` are not what is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_fault: Option<String>,
    pub replicas: Vec<ReplicaStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaStatus {
    pub url: String,
    pub state: String,
    pub reason: Option<String>,
    pub since: jiff::Timestamp,
    pub in_flight: u32,
    pub slots: Option<u32>,
    pub weight: f64,
    pub slowness: f64,
    pub requests_total: u64,
    pub failures_total: u64,
    /// `None`: it was never ejected, nor should have been.
    #[serde(default)]
    pub ejection: Option<EjectionStatus>,
    /// How its last requests ended, oldest first.
    #[serde(default)]
    pub last_outcomes: Vec<String>,
}

/// The last ejection, or the one that was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EjectionStatus {
    /// `None`: it is not ejected, or until an operator restores it.
    pub until: Option<jiff::Timestamp>,
    pub seconds_left: Option<f64>,
    /// Ejections so far, less those forgiven: each doubles the time of the next.
    pub count: u32,
    pub cause: Option<String>,
    /// Why it is not ejected although it deserves it.
    pub refused: Option<String>,
    /// What convicted it; `None` when it was ejected by hand.
    pub evidence: Option<EvidenceStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvidenceStatus {
    pub failures: u64,
    pub requests: u64,
    /// Of the other replicas of its version, in the same time.
    pub peers_failures: u64,
    pub peers_requests: u64,
    pub since: jiff::Timestamp,
    /// Oldest first.
    pub last: Vec<String>,
}

fn descriptors(office: &Office, table: &Table) -> DescriptorStatus {
    let Descriptors { limit, needed } = Descriptors::of(&table.plan, office.descriptor_limit);
    DescriptorStatus { limit, needed }
}

pub(super) fn status(office: &Office, table: &Table) -> Status {
    let readiness = (office.readiness)();
    let uptime = office.clock.now().as_secs_f64();
    let listeners = (office.listeners)();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: table.generation,
        ready: readiness == Readiness::Serving,
        draining: readiness != Readiness::Serving,
        predecessor_drains: (office.has_predecessor)(),
        started_at: office.wall(Moment::ZERO),
        uptime_seconds: rounded(uptime, 1e3),
        problems: office.live.problems(),
        config: config(office),
        descriptors: Some(descriptors(office, table)),
        listeners: listeners
            .into_iter()
            .map(|(name, address)| listener(table, name, address))
            .collect(),
        models: table.models.iter().map(|each| model(office, each)).collect(),
    }
}

pub(super) fn config(office: &Office) -> ConfigStatus {
    let (hash, loaded_at) = office.desk.running();
    let last = office.desk.last();
    let diagnostics = last.rejected.as_ref().and_then(|rejected| rejected.diagnostics.as_array());
    ConfigStatus {
        file: office.desk.file.display().to_string(),
        hash,
        loaded_at,
        last_reload: LastReload {
            result: last.result.name().to_owned(),
            at: last.at,
            diagnostics: diagnostics.cloned().unwrap_or_default(),
        },
    }
}

pub(super) fn model(office: &Office, model: &Model) -> ModelStatus {
    let observed = observed_shares(model);
    let (whole, of_versions) = office.live.present(model);
    let version = |(i, version): (usize, &Version)| VersionStatus {
        name: version.name.to_string(),
        share: percent(version.share),
        configured_share: percent(model.plan.split[version.index]),
        observed_share: observed.as_ref().map(|shares| rounded(shares[i] * 100.0, 1e3)),
        requests_total: version.state.requests.total(),
        now: of_versions[i],
        tls_fault: certificates::fault(model, version),
        replicas: version.members.iter().map(|member| replica(office, member)).collect(),
    };
    ModelStatus {
        name: model.name.to_string(),
        aliases: model.plan.aliases.clone(),
        problems: None,
        now: whole,
        versions: model.versions.iter().enumerate().map(version).collect(),
        split_override: split_override(office, model),
        canary: canary(office, &model.name),
        mirror: mirror::status(office, model),
    }
}

/// One model by itself: with what is wrong with it.
pub(super) fn model_alone(office: &Office, of: &Model) -> ModelStatus {
    let all = office.live.problems().into_iter();
    let own = all.filter(|problem| problem.model.as_deref() == Some(&*of.name));
    ModelStatus { problems: Some(own.collect()), ..model(office, of) }
}

/// What an operator set, if anything.
pub(super) fn split_override(office: &Office, model: &Model) -> Option<SplitStatus> {
    model.set.as_ref().map(|set| split(office, model, set))
}

fn split(office: &Office, model: &Model, set: &SetSplit) -> SplitStatus {
    let shares = || model.versions.iter().map(|version| (&*version.name, version.share));
    let ends = set.hold.ends;
    let left = ends.map(|ends| ends.at.since(office.clock.now()).as_secs_f64());
    SplitStatus {
        shares: shares().map(|(name, share)| (name.to_owned(), percent(share))).collect(),
        who: set.who.clone(),
        reason: set.hold.reason.clone(),
        since: set.since,
        until: ends.map(|ends| ends.wall),
        seconds_left: left.map(|left| rounded(left, 10.0)),
        yaml: split_yaml(&model.name, shares()),
    }
}

/// The canary of a model, if the file asks for one.
pub(super) fn canary(office: &Office, model: &str) -> Option<CanaryStatus> {
    let reports = office.meters.canaries.load();
    let report = reports.iter().find(|report| report.model == *model)?;
    let check = |check: &CheckView| CheckStatus {
        metric: check.metric.to_owned(),
        candidate_hits: check.candidate.hits,
        candidate_requests: check.candidate.requests,
        stable_hits: check.stable.hits,
        stable_requests: check.stable.requests,
        evidence: rounded(check.log_evidence, 1e4),
        weight: rounded(check.weight, 1e4),
        passes: check.passes,
        note: check.note.map(str::to_owned),
    };
    Some(CanaryStatus {
        candidate: report.candidate.clone(),
        state: report.state.name().to_owned(),
        step: report.step,
        steps: report.steps.clone(),
        share: percent(report.share),
        sentence: report.sentence.clone(),
        needs_requests: report.needs_requests,
        eta_seconds: report.eta_seconds,
        evidence: rounded(report.evidence, 1e4),
        evidence_at_most: rounded(report.bar, 1e4),
        checks: report.checks.iter().map(check).collect(),
    })
}

pub(super) fn replica(office: &Office, member: &Member) -> ReplicaStatus {
    let replica = &member.replica;
    let failures = Class::ALL.into_iter().filter(|class| class.blames_replica());
    ReplicaStatus {
        url: replica.id.url.to_string(),
        state: replica.standing().name().to_owned(),
        reason: replica.reason().map(|reason| reason.to_string()),
        since: office.wall(replica.since()),
        in_flight: replica.in_flight(),
        slots: member.slots,
        weight: rounded(f64::from(member.weight), 1e6),
        slowness: rounded(f64::from(replica.slowness().busy), 1e3),
        requests_total: replica.outcomes.total(),
        failures_total: failures.map(|class| replica.outcomes.of_class(class)).sum(),
        ejection: replica.ejection().map(|of_it| ejection(office, of_it)),
        last_outcomes: names(&replica.last_outcomes()),
    }
}

fn names(recent: &Recent) -> Vec<String> {
    recent.iter().map(|class| class.name().to_owned()).collect()
}

pub(super) fn ejection(office: &Office, ejection: Ejection) -> EjectionStatus {
    let until = match ejection.stage {
        Stage::Ejected { until, .. } => until,
        Stage::Free | Stage::Probation { .. } => None,
    };
    let left = until.map(|until| until.since(office.clock.now()).as_secs_f64());
    EjectionStatus {
        until: until.map(|until| office.wall(until)),
        seconds_left: left.map(|left| rounded(left, 10.0)),
        count: ejection.count,
        cause: ejection.cause.map(|cause| cause.name().to_owned()),
        refused: ejection.refused.map(|why| why.to_string()),
        evidence: ejection.seen.map(|(seen, recent)| EvidenceStatus {
            failures: seen.own.failures,
            requests: seen.own.requests,
            peers_failures: seen.peers.failures,
            peers_requests: seen.peers.requests,
            since: office.wall(seen.since),
            last: names(&recent),
        }),
    }
}

/// A fraction as percents, without the dust of binary numbers.
pub(super) fn percent(share: f64) -> f64 {
    rounded(share * 100.0, 1e9)
}

pub(super) fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// A listener as it is bound.
fn listener(table: &Table, name: String, address: String) -> ListenerStatus {
    let scheme = table.plan.scheme_of(&name).to_owned();
    let certificates = certificates::of(table, &name);
    ListenerStatus { name, address, scheme, certificates }
}
