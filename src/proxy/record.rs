//! What became of one request. Dropping the record settles it, exactly once on every way out.
use super::accept::Client;
use super::decision::Reasons;
use super::limits::Pass;
use super::request::hash_origin;
use super::shared::Proxy;
use crate::dialect::grpc::{GrpcStatus, http_status_of_code};
use crate::dialect::{RefusalCode, UsageScan, masked_query};
use crate::fleet::{Replica, VersionState};
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
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// The version that was asked, or would have been.
    pub(super) version: Option<(Arc<str>, Arc<VersionState>)>,
    pub(super) replica: Option<Arc<Replica>>,
    /// What the client saw, or 499; how a call of gRPC ended, as its `code`.
    pub(super) status: u16,
    pub(super) class: Class,
    pub(super) refusal: Option<RefusalCode>,
    pub(super) attempts: u32,
    /// When the attempt began that is under way, or was the last.
    pub(super) asked_at: Option<Moment>,
    /// The attempts before the last.
    pub(super) earlier: Vec<Note>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) first_byte: Option<Duration>,
    /// An event of a stream came whole, or a byte of another answer: not comments alone, which only say that somebody lives.
    pub(super) spoke: bool,
    pub(super) streaming: bool,
    pub(super) tunnel: bool,
    /// Client and replica talk to each other, as long as they like: it says nothing of speed.
    pub(super) converses: bool,
    pub(super) fail_open: bool,
    /// It asks a model to work.
    pub(super) infers: bool,
    /// A replica has the request, or had it when it ended: it may have worked on it.
    pub(super) worked: bool,
    /// Of an answer that tells its tokens.
    pub(super) usage: Option<UsageScan>,
    /// Whose key it came with, and what was taken of its limits.
    pub(super) pass: Option<Box<Pass>>,
    /// Where somebody wants to know.
    pub(super) reasons: Option<Box<Reasons>>,
    #[cfg(feature = "otlp")]
    pub(super) trace: Option<super::trace::Trace>,
}

/// One attempt, as the log tells of it.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) replica: Arc<Replica>,
    pub(super) version: Arc<str>,
    pub(super) began: Moment,
    pub(super) took: Duration,
    pub(super) class: Class,
    pub(super) status: u16,
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
            version: None,
            replica: None,
            status: 499,
            class: Class::Cancelled,
            refusal: None,
            attempts: 0,
            asked_at: None,
            earlier: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            first_byte: None,
            spoke: false,
            streaming: false,
            tunnel: false,
            converses: false,
            fail_open: false,
            infers: false,
            worked: false,
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
        record.refuse(code);
    }

    /// Notes what was asked for, in origin form.
    pub(super) fn note_target(&mut self, target: &str) {
        let (path, query) = target.split_once('?').unzip();
        path.unwrap_or(target).clone_into(&mut self.path);
        self.query = query.map(str::to_owned);
    }

    pub(super) fn refuse(&mut self, code: RefusalCode) {
        self.refusal = Some(code);
        self.status = code.status();
        self.class = Class::Refused;
    }

    /// Evener answers in the stead of a replica that failed so.
    pub(super) fn fail(&mut self, code: RefusalCode, class: Class) {
        self.refuse(code);
        self.class = class;
    }

    /// The attempt under way has failed, and another follows. Until it does, the client may leave.
    pub(super) fn attempt_failed(&mut self, now: Moment) {
        let note = self.last_attempt(now);
        self.earlier.extend(note);
        self.asked_at = None;
        (self.status, self.class) = (499, Class::Cancelled);
    }

    /// The attempt that is under way or was the last.
    pub(super) fn last_attempt(&self, now: Moment) -> Option<Note> {
        let asked_at = self.asked_at?;
        Some(Note {
            replica: self.replica.clone()?,
            version: self.version.as_ref().map(|(name, _)| Arc::clone(name))?,
            began: asked_at,
            took: now.since(asked_at),
            class: self.class,
            status: self.status,
        })
    }

    fn settle(&mut self) {
        if std::thread::panicking() {
            self.refuse(RefusalCode::InternalError);
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
        super::trace::hand_over(self, &self.proxy, now);
    }

    fn count(&self, took: Duration) {
        let state = self.model.as_ref().map_or(&self.proxy.meters.nameless, |model| &model.state);
        if let Some(code) = self.refusal {
            state.refusals.add(code);
        }
        if let Some(replica) = self.replica.as_ref().filter(|_| self.infers) {
            self.note_reply(replica, took);
        }
        match &self.version {
            Some((_, version)) => {
                version.requests.add(self.status, self.class);
                if let Some(scan) = &self.usage {
                    version.tokens.add(scan.usage());
                }
                if !self.tunnel {
                    version.duration.observe(took);
                }
                if let Some(first_byte) = self.first_byte {
                    version.first_byte.observe(first_byte);
                }
            }
            None => state.requests.add(self.status, self.class),
        }
    }

    /// Counts what the client of a request for a model got.
    fn note_reply(&self, replica: &Replica, took: Duration) {
        let waited = if self.first_byte.is_some() && self.spoke {
            None
        } else {
            // A client that leaves while it sends its request waits for nothing.
            Some(if self.worked { took } else { Duration::ZERO })
        };
        let status = http_status_of_code(self.status);
        let Some(reply) = Reply::of(self.class, status, waited) else { return };
        match reply {
            Reply::Good if self.class == Class::Success => replica.answered.note_good(&self.path),
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
        if let Some((_, version)) = &self.version {
            version.answered.note(reply, client);
        }
    }

    fn log(&self, took: Duration) {
        let last = self.last_attempt(self.began + took).filter(|_| !self.earlier.is_empty());
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
    pub(super) fn line<'a>(&'a self, took: Duration, last: Option<&'a Note>) -> Line<'a> {
        let mut notes: Vec<&Note> = self.earlier.iter().chain(last).collect();
        notes.sort_by_key(|note| note.began);
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
            version: self.version.as_ref().map(|(name, _)| &**name),
            replica: self.replica.as_ref().map(|replica| &*replica.id.url),
            status: http_status_of_code(self.status),
            grpc_status: GrpcStatus::of_code(self.status).map(GrpcStatus::number),
            outcome: self.class.name(),
            error: self.refusal.map(RefusalCode::name),
            attempts: self.attempts,
            attempt_log: notes.into_iter().map(|note| self.attempt(note)).collect(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration_ms: millis(took),
            first_byte_ms: self.first_byte.map(millis),
            streaming: self.streaming,
            fail_open: self.fail_open,
        }
    }

    fn attempt<'a>(&'a self, note: &'a Note) -> Attempt<'a> {
        Attempt {
            version: &note.version,
            replica: &note.replica.id.url,
            status: http_status_of_code(note.status),
            grpc_status: GrpcStatus::of_code(note.status).map(GrpcStatus::number),
            outcome: note.class.name(),
            began_ms: millis(note.began.since(self.began)),
            duration_ms: millis(note.took),
            candidates: self.reasons.as_ref().map_or(&[], |reasons| reasons.candidates(note.began)),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.settle();
    }
}
