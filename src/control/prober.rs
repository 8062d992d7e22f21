//! Active health checks: a task for each replica, which ends with it.
use super::grpc_probe::ask_grpc;
use crate::fleet::{Replica, ReplicaId, Suspects};
use crate::health::{ProbeCount, ProbeKind, ProbePlan, ProbeResult};
use crate::observe::{Events, Task};
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::Table;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Probes under way at once: ten thousand replicas must not starve the requests.
const AT_ONCE: usize = 64;
/// New replicas are first probed so far apart.
const STAGGER: Duration = Duration::from_micros(500);

/// The probes of all replicas.
#[derive(Debug)]
pub(super) struct Prober {
    tasks: HashMap<ReplicaId, (Arc<ProbePlan>, Probing)>,
    events: Arc<Events>,
    /// Where replicas are named that only waited for a probe to pass.
    suspects: Arc<Suspects>,
    clock: MonotonicClock,
    at_once: Arc<Semaphore>,
}

/// A running task, ended when dropped.
#[derive(Debug)]
pub(super) struct Probing(pub(super) AbortHandle);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Prober {
    pub(super) fn new(events: Arc<Events>, suspects: Arc<Suspects>, clock: MonotonicClock) -> Self {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Self { tasks: HashMap::new(), events, suspects, clock, at_once }
    }

    /// Follows a new table: probes begin, change and end with their replicas.
    pub(super) fn follow(&mut self, table: &Table) {
        let mut before = std::mem::take(&mut self.tasks);
        let mut delay = Duration::ZERO;
        for model in &table.models {
            let Some(plan) = &model.plan.health else { continue };
            let plan = Arc::new(plan.clone());
            for member in model.versions.iter().flat_map(|version| &version.members) {
                let id = &member.replica.id;
                let kept = before.remove(id).filter(|(old, _)| *old == plan);
                let task = kept.unwrap_or_else(|| {
                    delay += STAGGER;
                    (Arc::clone(&plan), self.begin(&member.replica, &plan, delay))
                });
                self.tasks.insert(id.clone(), task);
            }
        }
    }

    fn begin(&self, replica: &Arc<Replica>, plan: &Arc<ProbePlan>, delay: Duration) -> Probing {
        let probe = Probe {
            replica: Arc::clone(replica),
            plan: Arc::clone(plan),
            events: Arc::clone(&self.events),
            suspects: Arc::clone(&self.suspects),
            clock: self.clock,
            at_once: Arc::clone(&self.at_once),
        };
        let probing = Task::Probe.keep_running(move || probe.clone().run(delay));
        Probing(tokio::spawn(probing).abort_handle())
    }
}

#[derive(Clone)]
struct Probe {
    replica: Arc<Replica>,
    plan: Arc<ProbePlan>,
    events: Arc<Events>,
    suspects: Arc<Suspects>,
    clock: MonotonicClock,
    at_once: Arc<Semaphore>,
}

impl Probe {
    async fn run(self, delay: Duration) {
        let mut count = ProbeCount::default();
        let mut chance = SmallRng::seed_from_u64(self.replica.identity);
        sleep(delay).await;
        loop {
            let result = self.ask().await;
            self.judge(&mut count, result);
            let pause = self.plan.every.mul_f64(chance.random_range(0.9..1.1));
            // Poked: somebody wants to know now.
            timeout(pause, self.replica.poked()).await.ok();
        }
    }

    async fn ask(&self) -> ProbeResult {
        let Ok(_permit) = self.at_once.acquire().await else {
            return ProbeResult::Failed("Evener is ending".to_owned());
        };
        let limit = self.plan.timeout;
        match timeout(limit, probe(&self.replica, &self.plan)).await {
            Ok(Ok(())) => ProbeResult::Passed,
            Ok(Err(why)) => ProbeResult::Failed(why),
            Err(_) => ProbeResult::Failed(format!("no answer within {limit:?}")),
        }
    }

    fn judge(&self, count: &mut ProbeCount, result: ProbeResult) {
        let fresh = self.replica.never_probed();
        let (passed, why) = match result {
            ProbeResult::Passed => (true, None),
            ProbeResult::Failed(why) => (false, Some(why)),
        };
        let now = self.clock.now();
        self.replica.note_probe(why.as_deref(), now);
        if let Some(healthy) = count.count(passed, fresh, &self.plan) {
            self.decide(healthy, fresh, why.as_deref(), now);
        }
        if passed && self.replica.passes(now) {
            self.suspects.add(&self.replica);
        }
    }

    fn decide(&self, healthy: bool, fresh: bool, why: Option<&str>, now: Moment) {
        let changed = self.replica.probed(healthy, why, now);
        // That a replica starts healthy is no news.
        if changed && !(healthy && fresh) {
            let id = &self.replica.id;
            let message = match (healthy, why) {
                (true, _) => format!("{id} passes its health check again"),
                (false, Some(why)) => format!("{id} fails its health check: {why}"),
                (false, None) => format!("{id} fails its health check"),
            };
            self.events.announce("standing", message, "probe", None);
        }
    }
}

async fn probe(replica: &Replica, plan: &ProbePlan) -> Result<(), String> {
    let only = replica.upstream.only_http2();
    let by_grpc = only || (plan.ask == ProbeKind::Tcp && replica.upstream.takes_calls());
    if let Some(name) = plan.grpc.as_ref().filter(|_| by_grpc) {
        return ask_grpc(replica, plan.timeout, name).await;
    }
    let (method, path, body, expect) = match &plan.ask {
        ProbeKind::Tcp => {
            let dialed = replica.upstream.dial(plan.timeout, false).await;
            return dialed.map(drop).map_err(|error| in_words(&error));
        }
        ProbeKind::Get { path, expect } => (Method::GET, path, String::new(), expect),
        ProbeKind::Post { path, body, expect } => (Method::POST, path, body.clone(), expect),
    };
    let mut request = Request::builder()
        .method(&method)
        .uri(path)
        .header(USER_AGENT, concat!("evener/", env!("CARGO_PKG_VERSION"), " (health check)"));
    if method == Method::POST {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    let status = ask_http(replica, plan.timeout, request).await?;
    if expect.iter().any(|range| range.contains(&status.as_u16())) {
        Ok(())
    } else {
        Err(format!("{method} {path} answered {status}"))
    }
}

async fn ask_http(
    replica: &Replica,
    limit: Duration,
    mut request: Request<Full<Bytes>>,
) -> Result<StatusCode, String> {
    let upstream = &replica.upstream;
    let conn = upstream.dial(limit, false).await.map_err(|error| in_words(&error))?;
    let http2 = conn.is_http2();
    let io = TokioIo::new(conn);
    let words = |error: hyper::Error| error.to_string();
    let response = if http2 {
        let (scheme, authority) = (upstream.scheme(), upstream.authority());
        let uri = format!("{scheme}://{authority}{}", request.uri());
        *request.uri_mut() = uri.parse().map_err(|_| format!("`{uri}` is not a URL"))?;
        let greeted = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = greeted.map_err(words)?;
        let driver = Task::Probe.spawn(connection);
        let response = sender.send_request(request).await;
        let _driver = Probing(driver.abort_handle());
        response.map_err(words)?
    } else {
        let host = upstream.authority().parse().map_err(|_| "its address is no Host".to_owned())?;
        request.headers_mut().insert(HOST, host);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(words)?;
        let _driver = Probing(Task::Probe.spawn(connection).abort_handle());
        let response = sender.send_request(request).await.map_err(words)?;
        let status = response.status();
        // A body that never ends must not keep the probe: the timeout is around us.
        response.into_body().collect().await.map_err(words)?;
        return Ok(status);
    };
    Ok(response.status())
}

/// pingora's error without its own vocabulary.
pub(super) fn in_words(error: &pingora_error::Error) -> String {
    match (&error.cause, &error.context) {
        (Some(cause), _) => cause.to_string(),
        (None, Some(context)) => context.as_str().to_owned(),
        (None, None) => error.etype().as_str().to_owned(),
    }
}
