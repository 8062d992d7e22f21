//! One request and its response, passing the proxy step by step.
use super::accept::Client;
use super::answer::{Refusal, refuse_unrouted};
use super::assign::Witness;
use super::body::{Body, Need};
use super::call::{call_of, needed_of, read_messages};
use super::gate::is_open;
use super::head;
use super::mirror::Original;
use super::pick::{Wish, choose, why_none};
use super::placed::Placed;
use super::record::Record;
use super::request::{Ask, client_ip, is_trusted, is_upgrade, origin_form, text};
use super::retry::{Attempts, client_deadline, repeatable};
use super::shared::Proxy;
use crate::dialect::grpc::Call;
use crate::dialect::{BodyRead, Dialect, Facts, PathFacts, RefusalCode, nearest, read_path};
use crate::fleet::InFlight;
use crate::health::Repeatable;
use crate::stats::Moment;
use crate::table::{KeySource, ListenerPlan, Model, RoutePlan, Routed, Table};
use crate::wire::Reins;
use http::header;
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

/// Why an exchange stops before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Answer so.
    Refused(Refusal),
    /// The client left.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// One request on its way through.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Exchange<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) session: &'a mut ServerSession,
    /// HTTP/1 only.
    pub(super) reins: Option<&'a Arc<Reins>>,
    pub(super) listener: Arc<ListenerPlan>,
    pub(super) record: Record,
    pub(super) dialect: Dialect,
    /// The call that it is in gRPC.
    pub(super) call: Option<Call>,
    /// An error on a path of no known dialect is JSON too.
    pub(super) wants_json: bool,
    /// `100 Continue` was sent.
    pub(super) continued: bool,
    pub(super) trusted: bool,
    /// The address that connected.
    pub(super) peer: IpAddr,
    /// The address behind trusted proxies.
    pub(super) client_ip: IpAddr,
    /// When a replica was first picked.
    pub(super) asked_at: Option<Moment>,
    /// The client's own limit for the whole exchange.
    pub(super) deadline: Option<Duration>,
    pub(super) attempts: Attempts,
    /// The side of a canary that this request was assigned to, until its first attempt was counted.
    pub(super) witness: Option<Witness>,
    /// How the replica answers: in its own dialect, where a route rewrites the path.
    pub(super) answers_in: Dialect,
    /// The answer, where a copy of the request is to be answered the same.
    pub(super) original: Option<Box<Original>>,
    /// The attempt under way, counted until it is settled.
    pub(super) in_flight: Option<InFlight>,
    /// A head of an answer came, be it 1xx.
    pub(super) answer_seen: bool,
    /// What was relayed last ended an event of an event stream.
    pub(super) at_event_end: bool,
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
    let deadline = client_deadline(session.req_header());
    let mut exchange = Exchange {
        proxy,
        session,
        reins,
        listener,
        record,
        dialect: Dialect::Plain,
        call: None,
        wants_json: false,
        continued: false,
        trusted: false,
        peer: client.peer,
        client_ip: client.peer,
        asked_at: None,
        deadline,
        attempts: Attempts::NONE,
        witness: None,
        answers_in: Dialect::Plain,
        original: None,
        in_flight: None,
        answer_seen: false,
        at_event_end: false,
    };
    // One table from the first byte to the last.
    let table = proxy.current.load_full();
    match Box::pin(exchange.run(client, &table)).await {
        Ok(end) => end,
        Err(Stop::Refused(refusal)) => exchange.refuse(refusal).await,
        Err(Stop::Gone) => End::Cut,
    }
}

impl Exchange<'_> {
    async fn run(&mut self, client: &Client, table: &Table) -> Result<End, Stop> {
        self.note_head(client);
        let framing = head::check(self.session, &self.listener.client)
            .map_err(|(code, message)| Refusal::new(code, message))?;
        let path = read_path(self.session.req_header().uri.path())
            .map_err(|problem| Refusal::new(RefusalCode::BadRequest, problem.to_string()))?;
        let path = self.call.map_or(path, PathFacts::of_call);
        self.dialect = path.dialect;
        if let Some(local) = self.call.and_then(|call| call.local) {
            return self.answer_call(local, framing, table).await;
        }
        let local = path.local.filter(|_| {
            let method = &self.session.req_header().method;
            [http::Method::GET, http::Method::HEAD].contains(method)
        });
        if !is_open(local) {
            self.admit(table)?;
        }
        if let Some(local) = local {
            return Ok(self.answer_local(local, table).await);
        }
        let route = self.find_route(table)?;
        let upgrade = is_upgrade(self.session);
        let body = if upgrade || self.session.is_body_empty() {
            Body::EMPTY
        } else {
            let need = self.need(table, route, &path);
            self.read_body(framing, need).await?
        };
        let placed = self.place(table, route, &path, body, upgrade)?;
        self.forward(table, placed).await
    }

    fn note_head(&mut self, client: &Client) {
        let head = self.session.req_header();
        self.trusted = is_trusted(client, &self.listener);
        self.client_ip = client_ip(head, client, &self.listener);
        self.call = call_of(head);
        if self.call.is_some() {
            self.dialect = Dialect::Grpc;
        }
        self.wants_json = is_json(text(&head.headers, "content-type"))
            || text(&head.headers, "accept").is_some_and(|accept| accept.contains("json"));
        let record = &mut self.record;
        record.client = self.client_ip;
        record.request_id = request_id(text(&head.headers, "x-request-id"), self.trusted);
        head.method.as_str().clone_into(&mut record.method);
        origin_form(head).clone_into(&mut record.path);
        record.protocol = match head.version {
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        #[cfg(feature = "otlp")]
        self.begin_trace();
    }

    fn find_route<'a>(&self, table: &'a Table) -> Result<Option<&'a RoutePlan>, Stop> {
        if table.plan.routes.is_empty() {
            return Ok(None);
        }
        table
            .find_route(&Ask::new(self.session.req_header()))
            .map_err(|why| refuse_unrouted(why).into())
    }

    /// How much of the body routing needs. JSON is kept whole, so that it can name the model wherever it does.
    fn need(&self, table: &Table, route: Option<&RoutePlan>, path: &PathFacts) -> Need {
        if let Some(call) = self.call {
            return needed_of(call, table);
        }
        if self.is_searched(table) {
            return Need::Whole(table.max_buffered_body);
        }
        let kind = text(&self.session.req_header().headers, "content-type");
        let readable = is_json(kind) || self.dialect == Dialect::OpenAi;
        let named = path.model.as_ref().and_then(|model| table.model(&model.name));
        if readable {
            return Need::Whole(
                named.map_or(table.max_buffered_body, |m| m.plan.max_buffered_body),
            );
        }
        let form = kind.is_some_and(|kind| kind.starts_with("multipart/"));
        if form && named.is_none() && table.reads_body(route) { Need::Peek } else { Need::Nothing }
    }

    /// Finds the model.
    fn place<'a>(
        &mut self,
        table: &'a Table,
        route: Option<&'a RoutePlan>,
        path: &PathFacts,
        body: Body,
        upgrade: bool,
    ) -> Result<Placed<'a>, Stop> {
        let head = self.session.req_header();
        let kind = text(&head.headers, "content-type");
        let encoding = text(&head.headers, header::CONTENT_ENCODING.as_str());
        let read = match &body {
            // Megabytes of tensors need not be parsed for what the path has said.
            _ if table.path_says_all(route, path) => BodyRead::Absent,
            _ if let Some(call) = self.call => read_messages(call, &body, table),
            Body::Whole(bytes, _) => BodyRead::whole(kind, encoding, bytes, &table.wanted_fields),
            Body::Stream(first, _) => BodyRead::prefix(kind, encoding, first, &table.wanted_fields),
        };
        let sealed = read == BodyRead::Sealed;
        let routed = table.route(route, &Ask::new(head), path, read);
        let routed = routed.map_err(|why| self.refuse_unplaced(self.hidden(table, why), sealed))?;
        self.record.streaming = routed.facts.streaming;
        self.record.model = Some(Arc::clone(routed.model));
        let Routed { model, facts, .. } = routed;
        self.record.converses =
            self.call.is_some_and(|call| call.converses()) && matches!(body, Body::Stream(..));
        self.attempts.repeatable = repeatable(head, model.plan.kind, facts.kind);
        #[cfg(feature = "otlp")]
        self.trace_route(route.and_then(|route| route.path.as_ref()));
        let mut placed = Placed::new(model, route, facts, body, upgrade);
        self.check_model(table, &mut placed, path)?;
        self.reserve_tokens(&placed)?;
        Ok(placed)
    }

    /// Splits, picks and asks a replica.
    async fn forward(&mut self, table: &Table, mut placed: Placed<'_>) -> Result<End, Stop> {
        let model = placed.model;
        let pinned = self.pinned(model)?;
        let (source, key) = self.sticky_key(model, &placed.facts).unzip();
        let repeatable = self.attempts.repeatable == Repeatable::Always;
        let is_call = self.is_call();
        let wish = Wish { repeatable, is_call, ..Wish::new(model, key, pinned) };
        self.note_reasons(table, placed.route, source, wish);
        let choice = match self.named_replica(model, pinned)? {
            Some(choice) => Ok(choice),
            None => choose(model, wish, self.proxy.now()),
        };
        let version = choice.as_ref().map_or_else(|owner| *owner, |choice| choice.version);
        self.record.version = Some((Arc::clone(&version.name), Arc::clone(&version.state)));
        let choice = choice.map_err(|owner| {
            let why = why_none(owner, is_call);
            let message =
                format!("no replica of `{}/{}` may serve ({why})", model.name, owner.name);
            Refusal::new(RefusalCode::NoReplicas, message)
        })?;
        if !self.record.is_test {
            self.assign(model, wish, choice);
            choice.version.state.served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.overhear(&placed, choice.version);
        }
        // Of one that is a canary's evidence.
        self.answers_in = self.asked_in(&placed);
        let end = self.serve(&mut placed, wish, choice).await?;
        self.mirror(placed, key);
        Ok(end)
    }

    /// The version that the client asked for, where it may.
    fn pinned(&self, model: &Model) -> Result<Option<usize>, Stop> {
        let head = self.session.req_header();
        let Some(wanted) = text(&head.headers, "x-evener-version") else { return Ok(None) };
        if !(model.plan.allow_pin || self.trusted) {
            return Ok(None);
        }
        let names = || model.versions.iter().map(|version| &*version.name);
        let found = names().position(|name| name == wanted);
        found.map(Some).ok_or_else(|| {
            let near = nearest(wanted, names()).join("`, `");
            let hint =
                if near.is_empty() { names().collect::<Vec<_>>().join("`, `") } else { near };
            let message =
                format!("model `{}` has no version `{wanted}`; there is `{hint}`", model.name);
            Refusal::new(RefusalCode::VersionNotFound, message)
                .about(Some("x-evener-version"))
                .into()
        })
    }

    /// The first sticky key that is present, and its point.
    fn sticky_key<'m>(&self, model: &'m Model, facts: &Facts) -> Option<(&'m KeySource, u64)> {
        let head = self.session.req_header();
        model.plan.hash_on.iter().find_map(|source| {
            let point = match source {
                KeySource::Header(name) => {
                    let value = head.headers.get(name.as_str())?.as_bytes();
                    (!value.is_empty()).then(|| model.plan.point_of(value))?
                }
                KeySource::Json(field) => model.plan.point_of(facts.field(field)?.as_bytes()),
                KeySource::ApiKey => model.plan.point_of(self.key()?.name.as_bytes()),
                KeySource::ClientIp => model.plan.point_of(self.client_ip.to_string().as_bytes()),
            };
            Some((source, point))
        })
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence
            .get(essence.len().saturating_sub(5)..)
            .is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

/// The client's id when a trusted peer sent a sane one, else a new UUID of version 7 (RFC 9562).
fn request_id(sent: Option<&str>, trusted: bool) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    if let Some(id) = sent.filter(|_| trusted).filter(sane) {
        return id.to_owned();
    }
    let millis = u64::try_from(crate::observe::stamp().as_millisecond()).unwrap_or(0);
    let mut random = [0; 10];
    random[..8].copy_from_slice(&super::pick::draw().to_le_bytes());
    random[8..].copy_from_slice(&super::pick::draw().to_le_bytes()[..2]);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_and_sane_request_id_is_kept() {
        assert_eq!(request_id(Some("abc-1"), true), "abc-1");
        for (sent, trusted) in [(Some("abc-1"), false), (Some("a\tb"), true), (Some(""), true)] {
            let id = request_id(sent, trusted);
            assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        }
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        for yes in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"]
        {
            assert!(is_json(Some(yes)), "{yes}");
        }
        for no in [Some("text/plain"), Some("application/octet-stream"), None] {
            assert!(!is_json(no), "{no:?}");
        }
    }
}
