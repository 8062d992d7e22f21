//! The checked configuration as plain data: what `config` makes and everything else trusts.
use super::choices::{Answers, KeySource, Kind};
use super::key_plan::{JwtPlan, KeyPlan};
use super::route_plan::RoutePlan;
use super::split_secret::SplitSecret;
use crate::access::MinRate;
use crate::balance::{Policy, keyed_point};
use crate::canary::CanaryPlan;
use crate::health::{EjectionPlan, HedgePlan, ProbePlan, RetryPlan};
use crate::mirror::{MirrorPlan, Terms};
use crate::tls::{ClientTls, ServerTls};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub listeners: Vec<ListenerPlan>,
    pub admin: AdminPlan,
    /// Worker threads; `None`: one per core.
    pub threads: Option<usize>,
    /// Bytes that all buffered request bodies may take together.
    pub buffers: u64,
    pub routes: Vec<RoutePlan>,
    /// Resolved: with exactly one model it is that one.
    pub default_model: Option<String>,
    /// In the file's order.
    pub models: Vec<Arc<ModelPlan>>,
    /// Empty: nobody needs one.
    pub keys: Vec<KeyPlan>,
    pub jwt: Option<JwtPlan>,
    pub access_log: Option<LogPlan>,
    pub decision_log: Option<LogPlan>,
    /// `None`: no traces are sent.
    pub otlp: Option<OtlpPlan>,
    pub state_dir: PathBuf,
    pub shutdown: ShutdownPlan,
    pub tests: Vec<TestPlan>,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    /// Identity across reloads.
    pub name: String,
    pub address: ListenAddress,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// Trusted proxies say first whose connection they pass on.
    pub proxy_protocol: bool,
    pub trusted_proxies: Vec<IpNet>,
    pub debug_headers: bool,
    pub client: ClientLimits,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What a client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// From the first byte to the end of the head.
    pub header_timeout: Duration,
    /// Between two reads of a request body.
    pub body_timeout: Duration,
    /// Of a request body, after its first ten seconds; `None`: any.
    pub min_rate: Option<MinRate>,
    /// A client that reads nothing for so long is dropped.
    pub write_timeout: Duration,
    /// One that ends its sending is answered all the same; else it has left.
    pub half_close: bool,
    /// Between two requests on one connection.
    pub idle_timeout: Duration,
    pub max_header_bytes: u64,
    pub max_headers: usize,
    pub max_body: u64,
    pub max_connections: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            min_rate: MinRate::new(1 << 10),
            write_timeout: Duration::from_mins(1),
            half_close: false,
            idle_timeout: Duration::from_secs(75),
            max_header_bytes: 64 << 10,
            max_headers: 100,
            max_body: 64 << 20,
            max_connections: 20_000,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdminPlan {
    pub address: SocketAddr,
    pub token: Option<Secret>,
    /// What needs no token.
    pub open_health: bool,
    pub open_metrics: bool,
}

/// Text that must never be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A model: what a client names.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    pub name: String,
    /// Further names; `*` catches every unknown name.
    pub aliases: Vec<String>,
    pub kind: Kind,
    pub answers: Answers,
    /// In the file's order.
    pub versions: Vec<VersionPlan>,
    /// Fractions that sum to 1, one for each of `versions`.
    pub split: Vec<f64>,
    pub hash_on: Vec<KeySource>,
    pub split_secret: Option<SplitSecret>,
    pub allow_pin: bool,
    pub balance: Policy,
    pub health: Option<ProbePlan>,
    /// `None`: nobody is ejected for cause.
    pub ejection: Option<EjectionPlan>,
    pub fail_open: bool,
    /// Zero: off.
    pub slow_start: Duration,
    pub timeouts: Timeouts,
    pub retries: RetryPlan,
    pub hedge: Option<HedgePlan>,
    /// After so long a silence an event stream gets a comment.
    pub heartbeat: Option<Duration>,
    pub max_buffered_body: u64,
    pub canary: Option<CanaryPlan>,
    pub mirror: Option<MirrorPlan>,
}

impl ModelPlan {
    /// Where a sticky key lies in the split, as a fraction of 2⁶⁴.
    pub fn point_of(&self, key: &[u8]) -> u64 {
        keyed_point(self.split_secret.as_ref().map(|secret| &*secret.0), &self.name, key)
    }

    /// Each version's name with its share in the file.
    pub fn split_by_name(&self) -> Vec<(String, f64)> {
        self.versions.iter().map(|v| v.name.clone()).zip(self.split.iter().copied()).collect()
    }

    /// On what terms its mirror compares.
    pub fn mirror_terms(&self) -> Option<Terms> {
        let mirror = self.mirror.as_ref()?;
        let to = self.versions.iter().find(|version| version.name == mirror.to);
        Some(mirror.terms(to.and_then(|to| to.upstream_model.as_deref())))
    }
}

/// One deployed variant of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionPlan {
    pub name: String,
    pub replicas: Vec<ReplicaPlan>,
    /// The name sent upstream instead of the client's.
    pub upstream_model: Option<String>,
    /// Where a replica is spoken to over TLS.
    pub tls: Option<Arc<ClientTls>>,
    pub headers: HeaderEdits,
}

/// Changes to the head on the way to the replicas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    pub remove: Vec<http::HeaderName>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaPlan {
    pub url: ReplicaUrl,
    /// Relative capacity, above 0.
    pub weight: f32,
    /// Requests it runs at once.
    pub slots: Option<u32>,
}

/// The address of a replica, and how it speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaUrl {
    /// As written, without a trailing slash; `grpc://` is kept as `h2c://`. This is the replica's identity.
    pub text: String,
    pub scheme: Scheme,
    /// `host:port` (the port always written), or the socket's path.
    pub address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP/1.1 over TCP.
    Http,
    /// HTTP/2 by prior knowledge over TCP.
    H2c,
    /// HTTP/1.1 over a Unix socket.
    Unix,
    /// HTTP/2 or HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS.
    Grpcs,
}

/// The phases of an exchange with a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request sent to the first byte of the body.
    pub first_byte: Duration,
    pub between_chunks: Duration,
    pub total: Duration,
    /// An idle WebSocket or other tunnel.
    pub tunnel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_mins(2),
            between_chunks: Duration::from_mins(1),
            total: Duration::from_mins(30),
            tunnel: Duration::from_hours(1),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogPlan {
    pub file: LogTarget,
    /// The fraction of requests written, 0 to 1.
    pub sample: f64,
    /// When the file is put aside; `None`: never.
    pub rotate: Option<Rotation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Above which a file is put aside.
    pub bytes: u64,
    /// Files kept beside the present one.
    pub keep: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    Stderr,
    File(PathBuf),
}

/// The collector that gets traces.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpPlan {
    /// Without `/v1/traces` and a slash at its end.
    pub endpoint: String,
    /// Their values are never shown.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The fraction of the traces begun here that is sent, 0 to 1.
    pub sample: f64,
    /// For one batch.
    pub timeout: Duration,
    /// Attributes that say which Evener this is.
    pub resource: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownPlan {
    /// `/readyz` fails, connections are still accepted.
    pub notice: Duration,
    /// After which running requests are cut.
    pub drain: Duration,
}

/// One entry of `tests`, run by `evener check`.
#[derive(Clone, Debug, PartialEq)]
pub struct TestPlan {
    /// Line in the file, 1-based.
    pub line: usize,
    pub method: String,
    pub host: Option<String>,
    pub path: String,
    pub model: Option<String>,
    /// The name of the key that it comes with.
    pub key: Option<String>,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub expect_model: Option<String>,
    pub expect_version: Option<String>,
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
