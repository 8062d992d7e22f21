//! The spans of one request, named as OpenTelemetry's semantic conventions for HTTP and generative models have it.
use super::context::{Parent, Part, SpanId, TraceId};
use super::span::{Attribute, Span, SpanKind, Status};
use crate::dialect::Usage;
use crate::dialect::grpc::{GrpcStatus, code_word, http_status_of_code, severity_of_code};
use crate::health::Class;
use crate::stats::Moment;
use std::net::IpAddr;

/// Longer texts of clients are cut: a span waits in memory.
const LONGEST: usize = 2048;
/// The methods that the conventions know; a name must not be a client's to invent.
const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
/// Bits of OTLP's flags: it is known whether the parent is in another process, and it is.
const PARENT_IS_REMOTE: u32 = 0x300;
const PARENT_IS_LOCAL: u32 = 0x100;

/// A request that came to its end.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Settled<'a> {
    pub trace: TraceId,
    /// The client's span.
    pub parent: Option<SpanId>,
    /// The request's own.
    pub span: SpanId,
    /// The ids of new traces are; those of others may not be.
    pub random: bool,
    pub trace_state: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    /// Without its secrets.
    pub query: Option<&'a str>,
    /// `HTTP/1.1`
    pub protocol: &'a str,
    /// Over TLS.
    pub secure: bool,
    /// The authority that the client asked for.
    pub host: &'a str,
    pub client: IpAddr,
    /// The path of the route that took it.
    pub route: Option<&'a str>,
    pub model: Option<&'a str>,
    /// The version that was asked, or would have been.
    pub version: Option<&'a str>,
    pub request_id: &'a str,
    pub status: u16,
    pub class: Class,
    /// The code of an error that Evener answered.
    pub error: Option<&'a str>,
    pub streaming: bool,
    pub fail_open: bool,
    /// Tokens as the answer tells of them.
    pub usage: Usage,
    pub began: Moment,
    pub ended: Moment,
    /// Of the answer's body.
    pub first_byte: Option<Moment>,
    /// In any order; the one that was relayed is the last.
    pub attempts: Vec<Tried<'a>>,
}

/// One replica, asked once.
#[derive(Clone, Debug)]
pub struct Tried<'a> {
    pub version: &'a str,
    pub replica: &'a str,
    pub status: u16,
    pub class: Class,
    pub began: Moment,
    pub ended: Moment,
}

/// A copy of a request, and how it ended.
#[derive(Debug)]
pub struct Copied<'a> {
    /// The request that it copies.
    pub of: Parent,
    pub method: &'a str,
    pub model: &'a str,
    pub version: &'a str,
    pub replica: &'a str,
    /// `None`: it got no whole answer.
    pub status: Option<u16>,
    /// The kind of its failure.
    pub failure: Option<&'a str>,
    pub began: Moment,
    pub ended: Moment,
}

/// The spans of a request: its own first, then those below it. `unix`: nanoseconds since 1970 at a moment.
pub fn request_spans(seen: &Settled<'_>, unix: impl Fn(Moment) -> u64) -> Vec<Span> {
    let span = |parent, id, name, kind, (from, to)| Span {
        trace_id: seen.trace,
        id,
        parent_span_id: parent,
        trace_state: seen.trace_state.to_owned(),
        flags: PARENT_IS_LOCAL | u32::from(Parent::flags(true, seen.random)),
        name,
        kind,
        start_time_unix_nano: unix(from),
        end_time_unix_nano: unix(to),
        attributes: Vec::new(),
        status: Status(None),
    };
    let own = Some(seen.span);
    let (began, ended) = (seen.began, seen.ended);
    let mut server =
        span(seen.parent, seen.span, server_name(seen), SpanKind::Server, (began, ended));
    if seen.parent.is_some() {
        server.flags |= PARENT_IS_REMOTE;
    }
    server.attributes = server_attributes(seen);
    server.status = Status(failure_of(seen));
    let mut spans = vec![server];
    let relayed = seen.attempts.last().filter(|_| seen.first_byte.is_some());
    let relayed = relayed.map(|last| seen.span.of(Part::Attempt(last.began)));
    let mut attempts: Vec<&Tried<'_>> = seen.attempts.iter().collect();
    attempts.sort_by_key(|attempt| attempt.began);
    if let Some(first) = attempts.first() {
        let id = seen.span.of(Part::Route);
        spans.push(span(own, id, "route".to_owned(), SpanKind::Internal, (began, first.began)));
    }
    let mut until = Moment::ZERO;
    for (nth, attempt) in attempts.into_iter().enumerate() {
        let id = seen.span.of(Part::Attempt(attempt.began));
        let name = client_name(seen.method, seen.model.unwrap_or_default(), attempt.version);
        let mut client = span(own, id, name, SpanKind::Client, (attempt.began, attempt.ended));
        // It began while another was under way.
        let hedge = nth > 0 && attempt.began < until;
        until = until.max(attempt.ended);
        client.attributes = client_attributes(seen.method, attempt.replica, attempt.version);
        attempt.tell(&mut client, nth as u64, hedge);
        spans.push(client);
    }
    if let (Some(first_byte), Some(parent)) = (seen.first_byte, relayed) {
        let id = seen.span.of(Part::Relay);
        let name = "relay".to_owned();
        spans.push(span(Some(parent), id, name, SpanKind::Internal, (first_byte, ended)));
    }
    spans
}

/// The span of a copy. It may begin and end after the request that it copies.
pub fn copy_span(copy: &Copied<'_>, unix: impl Fn(Moment) -> u64) -> Span {
    let mut attributes = client_attributes(copy.method, copy.replica, copy.version);
    attributes.push(Attribute::flag("evener.mirror", true));
    attributes.push(Attribute::text("evener.model", copy.model));
    attributes.extend(copy.status.map(|n| Attribute::whole("http.response.status_code", n)));
    attributes.extend(copy.failure.map(|failure| Attribute::text("error.type", failure)));
    Span {
        trace_id: copy.of.trace,
        id: copy.of.span.of(Part::Copy),
        parent_span_id: Some(copy.of.span),
        trace_state: String::new(),
        flags: PARENT_IS_LOCAL | u32::from(Parent::flags(true, copy.of.random)),
        name: client_name(copy.method, copy.model, copy.version),
        kind: SpanKind::Client,
        start_time_unix_nano: unix(copy.began),
        end_time_unix_nano: unix(copy.ended),
        attributes,
        status: Status(copy.failure.map(str::to_owned)),
    }
}

/// `POST /v1/*` by the route's own path, else `POST chat` by the model.
fn server_name(seen: &Settled<'_>) -> String {
    let method = known(seen.method).unwrap_or("HTTP");
    let what = seen.route.or(seen.model);
    what.map_or_else(|| method.to_owned(), |what| format!("{method} {what}"))
}

/// `POST chat/v2`
fn client_name(method: &str, model: &str, version: &str) -> String {
    format!("{} {model}/{version}", known(method).unwrap_or("HTTP"))
}

fn server_attributes(seen: &Settled<'_>) -> Vec<Attribute> {
    let path = seen.path;
    let mut all = vec![
        Attribute::text("http.request.method", known(seen.method).unwrap_or("_OTHER")),
        Attribute::text("url.path", cut(path)),
        Attribute::text("url.scheme", if seen.secure { "https" } else { "http" }),
        Attribute::text("client.address", seen.client.to_string()),
        Attribute::text("network.protocol.version", version_of(seen.protocol)),
        Attribute::text("evener.outcome", seen.class.name()),
        Attribute::text("evener.request_id", seen.request_id),
    ];
    all.extend(seen.query.map(|query| Attribute::text("url.query", cut(query))));
    let host = Some(seen.host).filter(|host| !host.is_empty());
    all.extend(host.into_iter().flat_map(address));
    // 499 stands in logs for a client that left: it was answered nothing.
    let was_answered = !(seen.status == 499 && seen.class == Class::Cancelled);
    all.extend(was_answered.then(|| answered(seen.status)).into_iter().flatten());
    all.extend(seen.route.map(|route| Attribute::text("http.route", route)));
    all.extend(seen.model.map(|model| Attribute::text("evener.model", model)));
    all.extend(seen.version.map(|version| Attribute::text("evener.version", version)));
    all.extend(seen.error.map(|error| Attribute::text("evener.error", error)));
    all.extend(failure_of(seen).map(|failure| Attribute::text("error.type", failure)));
    all.extend(seen.streaming.then(|| Attribute::flag("evener.streaming", true)));
    all.extend(seen.fail_open.then(|| Attribute::flag("evener.fail_open", true)));
    if let (Some(operation), Some(model)) = (operation(path), seen.model) {
        all.push(Attribute::text("gen_ai.operation.name", operation));
        all.push(Attribute::text("gen_ai.request.model", model));
        let Usage { prompt, completion } = seen.usage;
        all.extend(prompt.map(|n| Attribute::whole("gen_ai.usage.input_tokens", n)));
        all.extend(completion.map(|n| Attribute::whole("gen_ai.usage.output_tokens", n)));
    }
    all
}

fn client_attributes(method: &str, replica: &str, version: &str) -> Vec<Attribute> {
    let mut all = vec![
        Attribute::text("http.request.method", known(method).unwrap_or("_OTHER")),
        Attribute::text("evener.version", version),
        Attribute::text("evener.replica", replica),
    ];
    all.extend(address(replica.split_once("://").map_or(replica, |(_, rest)| rest)));
    all
}

impl Tried<'_> {
    /// How it ended.
    fn tell(&self, client: &mut Span, nth: u64, hedge: bool) {
        let all = &mut client.attributes;
        all.push(Attribute::text("evener.outcome", self.class.name()));
        if self.was_answered() {
            all.extend(answered(self.status));
        }
        all.extend((nth > 0).then(|| Attribute::whole("http.request.resend_count", nth)));
        all.extend(hedge.then(|| Attribute::flag("evener.hedge", true)));
        let failure = match self.class {
            // One that is outrun or whose client left has not failed.
            Class::Success | Class::Cancelled => None,
            _ if self.was_answered() && self.status >= 400 => Some(code_word(self.status)),
            Class::ClientError
            | Class::ServerError
            | Class::Overloaded
            | Class::Timeout
            | Class::ConnectFailure
            | Class::Reset
            | Class::Refused => Some(self.class.name().to_owned()),
        };
        all.extend(failure.as_ref().map(|failure| Attribute::text("error.type", failure)));
        client.status = Status(failure);
    }

    /// Is the status the replica's own?
    fn was_answered(&self) -> bool {
        match self.class {
            Class::Success | Class::ClientError | Class::ServerError | Class::Overloaded => true,
            Class::Timeout
            | Class::ConnectFailure
            | Class::Reset
            | Class::Cancelled
            | Class::Refused => false,
        }
    }
}

/// The status of HTTP, and that of a call.
fn answered(code: u16) -> impl Iterator<Item = Attribute> {
    let grpc = GrpcStatus::of_code(code);
    [
        Some(Attribute::whole("http.response.status_code", http_status_of_code(code))),
        grpc.map(|status| Attribute::whole("rpc.grpc.status_code", status.number())),
    ]
    .into_iter()
    .flatten()
}

/// What failed on our side of the request; a client's own mistake is none, as the conventions have it.
fn failure_of(seen: &Settled<'_>) -> Option<String> {
    let broke = match seen.class {
        Class::ServerError | Class::Timeout | Class::ConnectFailure | Class::Reset => true,
        Class::Overloaded | Class::Refused => severity_of_code(seen.status) >= 500,
        Class::Success | Class::ClientError | Class::Cancelled => false,
    };
    let status = || (seen.status >= 500).then(|| code_word(seen.status));
    broke.then(|| {
        seen.error
            .map(str::to_owned)
            .or_else(status)
            .unwrap_or_else(|| seen.class.name().to_owned())
    })
}

/// What is asked of a generative model, on the paths of OpenAI.
fn operation(path: &str) -> Option<&'static str> {
    [
        ("/chat/completions", "chat"),
        ("/responses", "chat"),
        ("/completions", "text_completion"),
        ("/embeddings", "embeddings"),
    ]
    .into_iter()
    .find_map(|(end, operation)| path.ends_with(end).then_some(operation))
}

/// `server.address`, and `server.port` where it is told.
fn address(authority: &str) -> impl Iterator<Item = Attribute> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => (host, port.parse::<u16>().ok()),
        _ => (authority, None),
    };
    // `[::1]` ends in a bracket, whatever stands behind its last colon.
    let host = if port.is_none() { authority } else { host };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = Attribute::text("server.address", cut(host));
    [Some(name), port.map(|port| Attribute::whole("server.port", port))].into_iter().flatten()
}

fn known(method: &str) -> Option<&str> {
    METHODS.contains(&method).then_some(method)
}

/// `HTTP/1.1` → `1.1`
fn version_of(protocol: &str) -> &str {
    protocol.rsplit('/').next().unwrap_or_default()
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests;
