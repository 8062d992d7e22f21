//! One request and its response, passing the proxy step by step.
use super::answer_name::AnswerName;
use super::attempts::{Attempts, client_deadline};
use super::body::Body;
use super::call::call_of;
use super::chance::choose;
use super::client::Client;
use super::head;
use super::kept_answer::Original;
use super::placed::Placed;
use super::record::Record;
use super::request::{Ask, client_ip, hash_origin, is_trusted, is_upgrade, origin_form, text};
use super::request_id::request_id;
use super::shared::Proxy;
use super::witness::Witness;
use crate::balance::Policy;
use crate::canary::Arm;
use crate::dialect::grpc::Call;
use crate::dialect::{
    Dialect, Local, PathFacts, RefusalCode, Row, StreamWatch, is_json, read_path,
};
use crate::flow::{Deadline, Happened, Refusal, Stop};
use crate::health::{Repeatable, Sender};
use crate::observe::{Panicked, Task};
use crate::stats::Moment;
use crate::table::{ListenerPlan, NoVersion, Table, Wish, why_none};
use crate::wire::Reins;
use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It may serve the next request.
    Keep,
    Close,
    /// Answered while the client was still sending: close so that the answer is not lost.
    Linger,
    /// The answer is incomplete: close so that the client notices.
    Cut,
}

/// One request on its way through.
pub(super) struct Exchange<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) session: &'a mut ServerSession,
    pub(super) client: &'a Client,
    /// HTTP/1 only.
    pub(super) reins: Option<&'a Arc<Reins>>,
    pub(super) listener: Arc<ListenerPlan>,
    pub(super) record: Record,
    /// What is known of the shape of its path, of the rewritten one where a route rewrites it to one that is known.
    pub(super) row: &'static Row,
    /// The path that replicas are asked, where a route rewrites it.
    pub(super) asked_path: Option<Box<str>>,
    /// The call that it is in gRPC.
    pub(super) call: Option<Call>,
    /// An error on a path of no known dialect is JSON too.
    pub(super) wants_json: bool,
    /// `100 Continue` was sent.
    pub(super) continued: bool,
    /// How long the client was waited for to send its body, all waits together.
    pub(super) waited: Duration,
    pub(super) trusted: bool,
    /// The address that connected.
    pub(super) peer: IpAddr,
    /// The address behind trusted proxies.
    pub(super) client_ip: IpAddr,
    /// When a replica was first picked.
    pub(super) asked_at: Option<Moment>,
    pub(super) deadline: Deadline,
    pub(super) attempts: Attempts,
    /// The side of a canary that this request was assigned to, until its first attempt was counted.
    pub(super) witness: Option<Witness>,
    /// Whose first attempt failed, for a canary.
    pub(super) failed_side: Option<Arm>,
    /// What answers are to say their model is, where that is not left to the replica.
    pub(super) names: Option<Box<AnswerName>>,
    /// The answer, where a copy of the request is to be answered the same.
    pub(super) original: Option<Box<Original>>,
    /// Who it is from, where its key chooses a replica.
    pub(super) sender: Option<Sender>,
    /// The answer, where it comes in pieces.
    pub(super) stream: Option<Box<StreamWatch>>,
    /// The answer where the replica says 404: its server has no such path.
    pub(super) own_answer: Option<Bytes>,
}

/// Serves one request, whose head was read; `began` with its first byte.
pub(super) async fn exchange(
    proxy: &Arc<Proxy>,
    session: &mut ServerSession,
    client: &Client,
    reins: Option<&Arc<Reins>>,
    began: Moment,
) -> End {
    let listener = client.door.settings.load_full();
    let record = Record::new(proxy, client, began);
    let deadline = Deadline { began, own: client_deadline(session.req_header()) };
    let mut exchange = Exchange {
        proxy,
        session,
        client,
        reins,
        listener,
        record,
        row: &Row::UNKNOWN,
        asked_path: None,
        call: None,
        wants_json: false,
        continued: false,
        waited: Duration::ZERO,
        trusted: false,
        peer: client.peer,
        client_ip: client.peer,
        asked_at: None,
        deadline,
        attempts: Attempts::NONE,
        witness: None,
        failed_side: None,
        names: None,
        original: None,
        sender: None,
        stream: None,
        own_answer: None,
    };
    // One table from the first byte to the last.
    let table = proxy.current.load_full();
    match Task::Exchange.caught(Box::pin(exchange.run(&table))).await {
        Ok(Ok(end)) => end,
        Ok(Err(Stop::Refused(refusal))) => exchange.refuse(refusal).await,
        Ok(Err(Stop::Gone)) => End::Cut,
        Err(Panicked) => exchange.end_after_panic().await,
    }
}

impl Exchange<'_> {
    async fn run(&mut self, table: &Table) -> Result<End, Stop> {
        self.note_head();
        self.checkpoint("head");
        let opened = |method: &str| table.opens_method(method);
        let framing = head::check(self.session, &self.listener.client, opened)
            .map_err(|(code, message)| Refusal::new(code, message))?;
        if self.proxy.instance.saw(&self.session.req_header().headers) {
            let message = "the request has passed this Evener before: a replica leads back to it";
            return Err(Refusal::new(RefusalCode::LoopDetected, message).into());
        }
        let path = read_path(self.session.req_header().uri.path())
            .map_err(|problem| Refusal::new(RefusalCode::BadRequest, problem.to_string()))?;
        let path = self.call.map_or(path, PathFacts::of_call);
        self.row = path.row;
        self.check_authority()?;
        if let Some(local) = self.call.and_then(|call| call.local) {
            return self.answer_call(local, framing, table).await;
        }
        let local = path.local(&self.session.req_header().method);
        if !is_open(local) {
            self.admit(table)?;
        }
        match local {
            None | Some(Local::OpenAiModel) => {}
            Some(Local::Metrics) if self.is_routed(table) => {}
            Some(local) => return Ok(self.answer_local(local, table).await),
        }
        let route = self.find_route(table)?;
        let path = self.read_asked(path, route)?;
        let upgrade = is_upgrade(self.session);
        let body = if upgrade || self.session.is_body_empty() {
            Body::EMPTY
        } else {
            let need = self.need(table, route, &path);
            let within = table.time_for_body(route, &path.facts);
            self.read_body(framing, need, self.deadline.at_most(within)).await?
        };
        let placed = self.place(table, route, &path, body, upgrade)?;
        if let Some(end) = self.tell_model(local, table, &placed).await {
            return Ok(end);
        }
        self.forward(table, placed).await
    }

    fn note_head(&mut self) {
        let head = self.session.req_header();
        self.trusted = is_trusted(self.client, &self.listener);
        self.client_ip = client_ip(head, self.client, &self.listener);
        self.call = call_of(head);
        if self.call.is_some() {
            self.row = &Row::CALL;
        }
        self.wants_json = text(&head.headers, "content-type").is_some_and(is_json)
            || text(&head.headers, "accept").is_some_and(|accept| accept.contains("json"));
        let record = &mut self.record;
        record.client = self.client_ip;
        record.request_id = request_id(text(&head.headers, "x-request-id"), self.trusted);
        head.method.as_str().clone_into(&mut record.method);
        record.note_target(origin_form(head));
        record.protocol = match head.version {
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        #[cfg(feature = "otlp")]
        self.begin_trace();
    }

    /// Splits, picks and asks a replica.
    async fn forward(&mut self, table: &Table, mut placed: Placed<'_>) -> Result<End, Stop> {
        let model = placed.model;
        let ask = Ask::new(self.session.req_header());
        let pinned = model.pinned(&ask, self.trusted).map_err(|none| {
            let refusal = Refusal::new(RefusalCode::VersionNotFound, none.to_string());
            refusal.about(Some(NoVersion::PARAMETER))
        })?;
        let client = Some(self.client_ip);
        let sticky = model.sticky_key(&ask, &placed.facts, self.key(), client);
        let (source, key) = sticky.unzip();
        let repeatable = self.attempts.repeatable == Repeatable::Always;
        let is_call = self.is_call();
        let wish = Wish { repeatable, is_call, ..Wish::new(model, key, pinned) };
        self.sender = (model.plan.balance == Policy::Hash)
            .then(|| Sender { key, origin: hash_origin(self.key(), self.client_ip) });
        self.note_reasons(table, placed.route, source, wish);
        let choice = match self.named_replica(model, pinned)? {
            Some(choice) => Ok(choice),
            None => choose(model, wish, self.proxy.now()),
        };
        let version = choice.as_ref().map_or_else(|owner| *owner, |choice| choice.version);
        self.record.course.note(Happened::Assigned { version, fail_open: false });
        let choice = choice.map_err(|owner| {
            let why = why_none(owner, is_call);
            let message =
                format!("no replica of `{}/{}` may serve ({why})", model.name, owner.name);
            Refusal::new(RefusalCode::NoReplicas, message)
        })?;
        if !self.record.is_test {
            self.note_side(&placed, wish, choice);
            choice.version.state.served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.overhear(&placed, choice.version);
        }
        self.names = self.answer_name(&placed).map(Box::new);
        let end = self.serve(&mut placed, wish, choice).await?;
        self.mirror(placed, key);
        Ok(end)
    }

    /// How client and replica speak.
    pub(super) fn dialect(&self) -> Dialect {
        self.row.dialect
    }
}

/// What is asked by those who have no key: balancers in front.
fn is_open(local: Option<Local>) -> bool {
    match local {
        Some(Local::Healthz | Local::V2Live | Local::V2Ready) => true,
        Some(Local::OpenAiModels | Local::OpenAiModel | Local::V2Server | Local::Metrics)
        | None => false,
    }
}
