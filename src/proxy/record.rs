//! What became of one request. Dropping the record settles it, exactly once on every way out.
use super::client::Client;
use super::pass::Pass;
use super::reasons::Reasons;
use super::request::hash_origin;
use super::shared::Proxy;
use crate::dialect::grpc::{GrpcStatus, http_status_of_code};
use crate::dialect::{RefusalCode, UsageScan, masked_query};
use crate::fleet::Replica;
use crate::flow::{Course, Happened, PastAttempt};
use crate::health::{Class, Reply};
use crate::stats::Moment;
use crate::table::{Candidate, Model};
use crate::wire::glimpse;
use serde::Serialize;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Filled in as the request passes; read when it is dropped.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) proxy: Arc<Proxy>,
    pub(super) began: Moment,
    pub(super) request_id: String,
    pub(super) client: IpAddr,
    pub(super) listener: String,
    /// An operator's, which is logged and counts for nobody.
    pub(super) is_test: bool,
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// As it was sent: whoever shows it masks its secrets.
    pub(super) query: Option<String>,
    pub(super) protocol: &'static str,
    /// Over TLS.
    pub(super) secure: bool,
    pub(super) model: Option<Arc<Model>>,
    pub(super) course: Course,
    /// It asks a model to work.
    pub(super) infers: bool,
    /// Of an answer that tells its tokens.
    pub(super) usage: Option<UsageScan>,
    /// Whose key it came with, and what was taken of its limits.
    pub(super) pass: Option<Box<Pass>>,
    /// Where somebody wants to know.
    pub(super) reasons: Option<Box<Reasons>>,
    #[cfg(feature = "otlp")]
    pub(super) trace: Option<super::span::Trace>,
}

/// An attempt in a line of the access log.
#[derive(Serialize)]
struct Attempt<'a> {
    version: &'a str,
    replica: &'a str,
    status: u16,
    /// How a call of gRPC ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u16>,
    outcome: &'a str,
    began_ms: f64,
    duration_ms: f64,
    /// Those it had to choose from, in the decision log.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    candidates: &'a [Candidate],
}

pub(super) fn millis(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e6).round() / 1e3
}

/// A line of the access log, and most of one of the decision log.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    time: jiff::Timestamp,
    request_id: &'a str,
    client: IpAddr,
    listener: &'a str,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<Cow<'a, str>>,
    protocol: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls: bool,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    model: Option<&'a str>,
    version: Option<&'a str>,
    replica: Option<&'a str>,
    status: u16,
    /// How a call of gRPC ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u16>,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    attempts: u32,
    /// All of them, in order, when there was more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempt_log: Vec<Attempt<'a>>,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    first_byte_ms: Option<f64>,
    streaming: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fail_open: bool,
}

impl Record {
    /// A request just begun. Until it is known better, its client left.
    pub(super) fn new(proxy: &Arc<Proxy>, client: &Client, began: Moment) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            began,
            request_id: String::new(),
            client: client.peer,
            listener: client.door.settings.load().name.clone(),
            is_test: client.door.inside,
            method: String::new(),
            path: String::new(),
            query: None,
            protocol: "",
            secure: client.secure,
            model: None,
            course: Course::default(),
            infers: false,
            usage: None,
            pass: None,
            reasons: None,
            #[cfg(feature = "otlp")]
            trace: None,
        }
    }

    /// A request whose head could not even be read; `head` is what came of it.
    pub(super) fn malformed(
        proxy: &Arc<Proxy>,
        client: &Client,
        code: RefusalCode,
        began: Moment,
        head: &[u8],
    ) {
        let mut record = Self::new(proxy, client, began);
        let (method, target) = glimpse(head);
        method.clone_into(&mut record.method);
        record.note_target(target);
        record.course.note(Happened::Refused { error: code, class: None });
    }

    /// Notes what was asked for, in origin form.
    pub(super) fn note_target(&mut self, target: &str) {
        let (path, query) = target.split_once('?').unzip();
        path.unwrap_or(target).clone_into(&mut self.path);
        self.query = query.map(str::to_owned);
    }

    fn settle(&mut self) {
        if std::thread::panicking() {
            let error = RefusalCode::InternalError;
            self.course.note(Happened::Refused { error, class: None });
        }
        let now = self.proxy.now();
        let took = now.since(self.began);
        self.settle_limits(now);
        if !self.is_test {
            self.count(took);
        }
        if self.proxy.logs.access.wants(super::chance::chance) {
            self.log(took);
        }
        self.tell(took, now);
        #[cfg(feature = "otlp")]
        self.hand_over_spans(now);
    }

    fn count(&self, took: Duration) {
        let state = self.model.as_ref().map_or(&self.proxy.meters.nameless, |model| &model.state);
        if let Some(code) = self.course.error() {
            state.refusals.add(code);
        }
        if let Some(replica) = self.course.replica().filter(|_| self.infers) {
            self.note_reply(replica, took);
        }
        match self.course.version() {
            Some((_, version)) => {
                version.requests.add(self.course.code(), self.course.class());
                if let Some(scan) = &self.usage {
                    version.tokens.add(scan.usage());
                }
                if !self.course.tunnels() {
                    version.duration.observe(took);
                }
                if let Some(at) = self.course.first_byte() {
                    version.first_byte.observe(at.since(self.began));
                }
            }
            None => state.requests.add(self.course.code(), self.course.class()),
        }
    }

    /// Counts what the client of a request for a model got.
    fn note_reply(&self, replica: &Replica, took: Duration) {
        let waited = if self.course.first_byte().is_some() && self.course.spoke() {
            None
        } else {
            // A client that leaves while it sends its request waits for nothing.
            Some(if self.course.worked() { took } else { Duration::ZERO })
        };
        let status = http_status_of_code(self.course.code());
        let Some(reply) = Reply::of(self.course.class(), status, waited) else { return };
        match reply {
            Reply::Good if self.course.class() == Class::Success => {
                replica.answered.note_good(&self.path);
            }
            Reply::NotFound | Reply::MethodNotAllowed if replica.answered.lacks(&self.path) => {
                return;
            }
            Reply::NotFound => replica.answered.note_unknown_model(),
            Reply::Good
            | Reply::Redirect
            | Reply::BadRequest
            | Reply::Unauthorized
            | Reply::Forbidden
            | Reply::MethodNotAllowed
            | Reply::Unprocessable
            | Reply::OtherMistake
            | Reply::Left => {}
        }
        let key = self.pass.as_ref().map(|pass| &*pass.key);
        let client = if reply == Reply::Good { 0 } else { hash_origin(key, self.client) };
        replica.answered.note(reply, client);
        if let Some((_, version)) = self.course.version() {
            version.answered.note(reply, client);
        }
    }

    fn log(&self, took: Duration) {
        let last = self.course.last_attempt(self.began + took);
        let last = last.filter(|_| !self.course.past().is_empty());
        let mut line = self.line(took, last.as_ref());
        for attempt in &mut line.attempt_log {
            attempt.candidates = &[];
        }
        // JSON escapes control characters: a client cannot forge a line.
        if let Ok(text) = serde_json::to_vec(&line) {
            self.proxy.logs.access.write(text);
        }
    }

    /// `last`: the last attempt, where it is to be told of.
    pub(super) fn line<'a>(&'a self, took: Duration, last: Option<&'a PastAttempt>) -> Line<'a> {
        let course = &self.course;
        let mut attempts: Vec<_> = course.past().iter().chain(last).collect();
        attempts.sort_by_key(|attempt| attempt.began);
        Line {
            time: crate::observe::stamp(),
            request_id: &self.request_id,
            client: self.client,
            listener: &self.listener,
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref().map(masked_query),
            protocol: self.protocol,
            tls: self.secure,
            key: self.pass.as_ref().map(|pass| &*pass.key.name),
            model: self.model.as_ref().map(|model| &*model.name),
            version: course.version().map(|(name, _)| &**name),
            replica: course.replica().map(|replica| &*replica.id.url),
            status: http_status_of_code(course.code()),
            grpc_status: GrpcStatus::of_code(course.code()).map(GrpcStatus::number),
            outcome: course.class().name(),
            error: course.error().map(RefusalCode::name),
            attempts: course.attempts(),
            attempt_log: attempts.into_iter().map(|one| self.attempt(one)).collect(),
            bytes_in: course.bytes_in(),
            bytes_out: course.bytes_out(),
            duration_ms: millis(took),
            first_byte_ms: course.first_byte().map(|at| millis(at.since(self.began))),
            streaming: course.streams(),
            fail_open: course.fail_open(),
        }
    }

    fn attempt<'a>(&'a self, one: &'a PastAttempt) -> Attempt<'a> {
        Attempt {
            version: &one.version,
            replica: &one.replica.id.url,
            status: http_status_of_code(one.code),
            grpc_status: GrpcStatus::of_code(one.code).map(GrpcStatus::number),
            outcome: one.class.name(),
            began_ms: millis(one.began.since(self.began)),
            duration_ms: millis(one.took),
            candidates: self.reasons.as_ref().map_or(&[], |reasons| reasons.candidates(one.began)),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.settle();
    }
}
