//! What is told each second: of all models briefly, of one that is looked at with each replica.
use super::complaints::Complaint;
use super::distribution::Distribution;
use super::figures::Figures;
use super::history::{History, Present};
use crate::admin::certificates::{self, CertificateStatus};
use crate::admin::mirror::{self, MirrorStatus};
use crate::admin::office::{Office, Readiness};
use crate::admin::status::{self, CanaryStatus, ConfigStatus, EjectionStatus, SplitStatus};
use crate::balance::ramp;
use crate::health::{Class, Recent, Standing};
use crate::observe::{fails_open, observed_shares};
use crate::problems::Problem;
use crate::stats::{Clock as _, Moment};
use crate::table::{Member, Model, Table, Version};
use serde::Serialize;
use std::collections::BTreeMap;

/// Replicas told of one model: those that are not healthy first.
const REPLICAS: usize = 1000;

#[derive(Debug, Serialize)]
pub(super) struct Overview<'a> {
    version: &'static str,
    at: jiff::Timestamp,
    /// When the points of this message were made, in Unix milliseconds; left out: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    point_at: Option<i64>,
    uptime_seconds: u64,
    generation: u64,
    /// What is wrong, worst first.
    problems: &'a [Problem],
    ready: bool,
    phase: &'static str,
    predecessor_drains: bool,
    config: ConfigStatus,
    listeners: Vec<ListenerLine>,
    models: Vec<ModelLine<'a>>,
    errors: Vec<Complaint>,
    refusals: Vec<Complaint>,
}

#[derive(Debug, Serialize)]
struct ListenerLine {
    name: String,
    address: String,
    scheme: &'static str,
    connections: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<CertificateStatus>,
}

#[derive(Debug, Serialize)]
struct ModelLine<'a> {
    name: &'a str,
    aliases: &'a [String],
    now: Figures,
    /// What the lines of a page get, every few seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    point: Option<Figures>,
    in_flight: u32,
    versions: Vec<VersionLine<'a>>,
    /// `None`: the split is the file's, or the canary's.
    split_override: Option<SplitStatus>,
    canary: Option<CanaryStatus>,
    mirror: Option<MirrorStatus>,
}

#[derive(Debug, Serialize)]
struct VersionLine<'a> {
    name: &'a str,
    share: f64,
    configured_share: f64,
    observed_share: Option<f64>,
    requests_total: u64,
    in_flight: u32,
    now: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    point: Option<Figures>,
    /// Replicas by their state; none are left out.
    replicas: BTreeMap<&'static str, u32>,
    /// Replicas that fail enough to be ejected and stay.
    ejections_refused: u32,
    fails_open: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Closeup<'a> {
    name: &'a str,
    versions: Vec<Pool<'a>>,
    /// Healthy replicas that had no room here.
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct Pool<'a> {
    name: &'a str,
    replicas: Vec<ReplicaLine<'a>>,
    /// Of whole requests, and to their first byte: those that the percentiles are of.
    latency: Distribution,
    first_byte: Distribution,
}

#[derive(Debug, Serialize)]
struct ReplicaLine<'a> {
    url: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    since: jiff::Timestamp,
    in_flight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    weight: f32,
    /// The part of its weight that counts while it starts slowly; left out when all of it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    ramp: Option<f32>,
    slowness: f32,
    requests_total: u64,
    failures_total: u64,
    /// Oldest first, a letter each: [`letter`].
    last_outcomes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejection: Option<EjectionStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<ProbeLine>,
}

#[derive(Debug, Serialize)]
struct ProbeLine {
    at: jiff::Timestamp,
    /// `None`: it passed.
    failed: Option<String>,
}

pub(super) fn overview<'a>(
    office: &Office,
    table: &'a Table,
    history: &History,
    complaints: (Vec<Complaint>, Vec<Complaint>),
    problems: &'a [Problem],
) -> Overview<'a> {
    let readiness = (office.readiness)();
    let now = office.clock.now();
    let connections: BTreeMap<String, usize> = office.meters.connections().into_iter().collect();
    let listener = |(name, address): (String, String)| {
        let connections = connections.get(&name).copied().unwrap_or_default();
        let scheme = table.plan.scheme_of(&name);
        let certificates = certificates::of(table, &name);
        ListenerLine { name, address, scheme, connections, certificates }
    };
    Overview {
        version: env!("CARGO_PKG_VERSION"),
        at: office.wall(now),
        point_at: history.pointed_at(),
        uptime_seconds: now.as_secs_f64() as u64,
        generation: table.generation,
        problems,
        ready: readiness == Readiness::Serving,
        phase: readiness.name(),
        predecessor_drains: (office.has_predecessor)(),
        config: status::config(office),
        listeners: (office.listeners)().into_iter().map(listener).collect(),
        models: table.models.iter().map(|model| model_line(office, model, history)).collect(),
        errors: complaints.0,
        refusals: complaints.1,
    }
}

fn model_line<'a>(office: &Office, model: &'a Model, history: &History) -> ModelLine<'a> {
    let observed = observed_shares(model);
    let (Present { now, point, .. }, of_version) = history.now(&model.name);
    let line = |(i, version): (usize, &'a Version)| {
        let Present { requests, now, point } = of_version(&version.name);
        let observed = observed.as_ref().map(|shares| status::rounded(shares[i] * 100.0, 1e3));
        VersionLine {
            name: &version.name,
            share: status::percent(version.share),
            configured_share: status::percent(model.plan.split[version.index]),
            observed_share: observed,
            requests_total: requests,
            in_flight: version.in_flight(),
            now,
            point,
            replicas: states(version),
            ejections_refused: count(version, |member| member.replica.refused()),
            fails_open: fails_open(model, version),
        }
    };
    ModelLine {
        name: &model.name,
        aliases: &model.plan.aliases,
        now,
        point,
        in_flight: model.versions.iter().map(Version::in_flight).sum(),
        versions: model.versions.iter().enumerate().map(line).collect(),
        split_override: status::split_override(office, model),
        canary: status::canary(office, &model.name),
        mirror: mirror::status(office, model),
    }
}

fn count(version: &Version, is: impl Fn(&&Member) -> bool) -> u32 {
    u32::try_from(version.members.iter().filter(is).count()).unwrap_or(u32::MAX)
}

fn states(version: &Version) -> BTreeMap<&'static str, u32> {
    let mut states = BTreeMap::new();
    for member in &version.members {
        *states.entry(member.replica.standing().name()).or_default() += 1;
    }
    states
}

pub(super) fn closeup<'a>(office: &Office, model: &'a Model, history: &History) -> Closeup<'a> {
    let now = office.clock.now();
    let healthy = |member: &Member| member.replica.standing() == Standing::Healthy;
    let members = || model.versions.iter().flat_map(|version| &version.members);
    let (all, well) = (members().count(), members().filter(|member| healthy(member)).count());
    let mut room = REPLICAS.saturating_sub(all - well);
    let mut told = 0;
    let mut wanted = |member: &&Member| {
        let fits = if healthy(member) { room > 0 } else { told < REPLICAS };
        if fits {
            told += 1;
            room -= usize::from(healthy(member));
        }
        fits
    };
    let mut versions = Vec::with_capacity(model.versions.len());
    for version in &model.versions {
        let members = version.members.iter().filter(&mut wanted);
        let replicas = members.map(|member| replica_line(office, model, member, now)).collect();
        let windows = history.windows(&model.name, &version.name);
        let spread = windows.map(|windows| windows.map(|window| Distribution::of(&window)));
        let [latency, first_byte] = spread.unwrap_or_default();
        versions.push(Pool { name: &version.name, replicas, latency, first_byte });
    }
    let shown: usize = versions.iter().map(|pool| pool.replicas.len()).sum();
    Closeup { name: &model.name, versions, left_out: all - shown }
}

fn replica_line<'a>(
    office: &Office,
    model: &Model,
    member: &'a Member,
    now: Moment,
) -> ReplicaLine<'a> {
    let replica = &member.replica;
    let (mut requests_total, mut failures_total) = (0, 0);
    for (class, n) in replica.outcomes.counts() {
        requests_total += n;
        failures_total += if class.blames_replica() { n } else { 0 };
    }
    let ramp = replica.ready_at().map(|at| ramp(now.since(at), model.plan.slow_start));
    ReplicaLine {
        url: &replica.id.url,
        state: replica.standing().name(),
        reason: replica.reason().map(|reason| reason.to_string()),
        since: office.wall(replica.since()),
        in_flight: replica.in_flight(),
        slots: member.slots,
        weight: member.weight,
        ramp: ramp.filter(|ramp| *ramp < 1.0).map(|ramp| (ramp * 100.0).round() / 100.0),
        slowness: (replica.slowness().busy * 100.0).round() / 100.0,
        requests_total,
        failures_total,
        last_outcomes: letters(&replica.last_outcomes()),
        ejection: replica.ejection().map(|ejection| status::ejection(office, ejection)),
        probe: replica.last_probe().map(|(at, failed)| ProbeLine {
            at: office.wall(at),
            failed: failed.map(|why| why.to_string()),
        }),
    }
}

fn letters(recent: &Recent) -> String {
    recent.iter().map(letter).collect()
}

/// So short, because a thousand replicas have twenty each.
const fn letter(class: Class) -> char {
    match class {
        Class::Success => 's',
        Class::ClientError => 'c',
        Class::ServerError => 'e',
        Class::Overloaded => 'o',
        Class::Timeout => 't',
        Class::ConnectFailure => 'f',
        Class::Reset => 'r',
        Class::Cancelled => 'x',
        Class::Refused => '-',
    }
}
