//! Heads on their way through: what is taken out, put in and rewritten.
use super::body::Body;
use super::exchange::Exchange;
use super::hops::{join_cookies, remove_claims, remove_connection_headers, stripped};
use super::meaning::Framed;
use super::placed::Placed;
use super::receive::Answer;
use super::request::{host_of, origin_form, text};
use super::rounds::LOOP;
use crate::dialect::grpc::is_grpc;
use crate::dialect::{DeadlineHeader, FoundIn, rename_in_path, rename_in_query};
use crate::flow::Trouble;
use crate::table::{Choice, HeaderEdits};
use crate::wire::read_length;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

/// What a replica is asked.
pub(super) struct Upstream<'a> {
    pub(super) http2: bool,
    pub(super) authority: &'a str,
    /// The name to send instead of the client's.
    pub(super) model_name: Option<&'a str>,
    pub(super) edits: &'a HeaderEdits,
}

impl Exchange<'_> {
    /// The head of the request that goes to this replica, over the connection on which it will answer.
    pub(super) fn head_for(
        &self,
        placed: &Placed<'_>,
        choice: Choice<'_>,
        answer: &Answer,
    ) -> std::result::Result<Box<RequestHeader>, Trouble> {
        let http2 = answer.session.is_http2();
        let plan = placed.model.plan_of(choice.version);
        let to = upstream(plan, &choice.member.replica, http2);
        self.request_head(placed, &to).map_err(|error| Trouble::BadRequest(error.to_string()))
    }

    /// The head of the request that goes to a replica.
    pub(super) fn request_head(
        &self,
        placed: &Placed<'_>,
        to: &Upstream<'_>,
    ) -> Result<Box<RequestHeader>> {
        let sent = self.session.req_header();
        let mut head = Box::new(sent.clone());
        set_target(&mut head, sent, placed, to)?;
        let grpc = sent.headers.get(header::CONTENT_TYPE).is_some_and(|t| is_grpc(t.as_bytes()));
        remove_connection_headers(&mut head, placed.upgrading);
        // gRPC servers ask for it; no other value may pass a proxy.
        let trailers = grpc && text(&sent.headers, "te").is_some_and(|te| te.contains("trailers"));
        head.remove_header(&header::TE);
        if trailers {
            head.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
        }
        head.remove_header(&header::EXPECT);
        remove_claims(&mut head, self.trusted);
        self.remove_key(&mut head);
        self.set_forwarded(&mut head, sent)?;
        self.set_deadline(&mut head, placed)?;
        #[cfg(feature = "otlp")]
        self.set_trace(&mut head)?;
        if let Some(names) = &self.names {
            names.ask_for_plain(&mut head)?;
        }
        for name in &to.edits.remove {
            head.remove_header(name);
        }
        for (name, value) in &to.edits.set {
            head.insert_header(name.clone(), value.clone())?;
        }
        if !to.http2 {
            join_cookies(&mut head);
        }
        frame(&mut head, placed, to.http2)?;
        Ok(head)
    }

    fn set_forwarded(&self, head: &mut RequestHeader, sent: &RequestHeader) -> Result<()> {
        head.insert_header("x-request-id", &self.record.request_id)?;
        head.append_header(header::VIA, HeaderValue::from_static("1.1 evener"))?;
        head.append_header(LOOP, self.proxy.instance.header().clone())?;
        let peer = self.peer.to_string();
        let earlier =
            sent.headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let chain = if self.trusted {
            earlier.chain([peer.as_str()]).collect::<Vec<_>>().join(", ")
        } else {
            peer
        };
        head.insert_header("x-forwarded-for", chain)?;
        if !(self.trusted && sent.headers.contains_key("x-forwarded-proto")) {
            let scheme = if self.record.secure { "https" } else { "http" };
            head.insert_header("x-forwarded-proto", HeaderValue::from_static(scheme))?;
        }
        if !(self.trusted && sent.headers.contains_key("x-forwarded-host")) {
            head.insert_header("x-forwarded-host", host_of(sent))?;
        }
        Ok(())
    }

    /// A replica is told what is left of the time that the client gave.
    fn set_deadline(&self, head: &mut RequestHeader, placed: &Placed<'_>) -> Result<()> {
        if self.deadline.own.is_none() {
            return Ok(());
        }
        let left = self.time_left(&placed.model.plan.timeouts);
        for header in DeadlineHeader::ALL {
            if head.headers.contains_key(header.name()) {
                head.insert_header(header.name(), header.write(left))?;
            }
        }
        Ok(())
    }

    /// The head of the response that goes to the client.
    pub(super) fn response_head(
        &mut self,
        from: ResponseHeader,
        framed: Framed,
        upgraded: bool,
    ) -> Result<Box<ResponseHeader>> {
        let mut head = stripped(from, upgraded);
        set_length(&mut head, framed.length)?;
        head.insert_header("x-request-id", &self.record.request_id)?;
        self.add_limits(&mut head)?;
        if self.listener.debug_headers {
            self.add_debug_headers(&mut head)?;
        }
        if self.session.is_http2() {
            head.set_version(http::Version::HTTP_2);
            return Ok(head);
        }
        head.set_version(http::Version::HTTP_11);
        if !framed.bare && framed.length.is_none() {
            if self.session.req_header().version == http::Version::HTTP_11 {
                head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
            } else {
                // HTTP/1.0 knows no chunks: the end of the body is the end of the connection.
                self.session.set_keepalive(None);
            }
        }
        Ok(head)
    }

    pub(super) fn add_debug_headers(&self, head: &mut ResponseHeader) -> Result<()> {
        let record = &self.record;
        if let Some(model) = &record.model {
            head.insert_header("x-evener-model", &*model.name)?;
        }
        if let Some((version, _)) = record.course.version() {
            head.insert_header("x-evener-version", &**version)?;
        }
        if let Some(replica) = record.course.replica() {
            head.insert_header("x-evener-replica", &*replica.id.url)?;
        }
        head.insert_header("x-evener-attempts", record.course.attempts().to_string())?;
        if let Some(reasons) = &record.reasons {
            let replica = record.course.replica().map(|replica| &*replica.id.url);
            head.insert_header("x-evener-decision", reasons.in_brief(replica))?;
        }
        if record.course.fail_open() {
            head.insert_header("x-evener-fail-open", HeaderValue::from_static("1"))?;
        }
        let now = self.proxy.now();
        let millis = |d: std::time::Duration| format!("{:.3}", d.as_secs_f64() * 1e3);
        let upstream = self.asked_at.map_or_else(|| "0".to_owned(), |at| millis(now.since(at)));
        let route = millis(self.asked_at.unwrap_or(now).since(record.began));
        let timing = format!("route;dur={route}, upstream;dur={upstream}");
        head.append_header("server-timing", timing)?;
        Ok(())
    }
}

/// Tells the one length of the body, or of the one that the same GET would have; 1xx and 204 tell none (RFC 9110 §8.6).
fn set_length(head: &mut ResponseHeader, length: Option<u64>) -> Result<()> {
    let none = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    let Some(length) = length.filter(|_| !none) else {
        head.remove_header(&header::CONTENT_LENGTH);
        return Ok(());
    };
    let told = head.headers.get_all(header::CONTENT_LENGTH);
    let mut values = told.iter().map(|value| read_length(value.as_bytes()));
    if (values.next(), values.next()) != (Some(Some(length)), None) {
        head.insert_header(header::CONTENT_LENGTH, length)?;
    }
    Ok(())
}

fn set_target(
    head: &mut RequestHeader,
    sent: &RequestHeader,
    placed: &Placed<'_>,
    to: &Upstream<'_>,
) -> Result<()> {
    let target = origin_form(sent);
    let rewritten = placed.route.and_then(|route| route.rewritten(target, to.model_name));
    let target = match (rewritten, &placed.facts.found_in, to.model_name) {
        (Some(rewritten), Some(FoundIn::Path(range)), Some(name))
            if placed.named_where_rewritten =>
        {
            rename_in_path(&rewritten, range.clone(), name)
        }
        (Some(rewritten), _, _) => rewritten,
        (None, Some(FoundIn::Path(range)), Some(name)) => {
            rename_in_path(target, range.clone(), name)
        }
        (None, Some(FoundIn::Query { range, .. }), Some(name)) => {
            rename_in_query(target, range.clone(), name)
        }
        (None, _, _) => target.to_owned(),
    };
    let host = host_of(sent).to_owned();
    let rewritten = placed.route.and_then(|route| route.rewrite_host.as_deref());
    let host = match rewritten {
        Some("upstream") => to.authority.to_owned(),
        Some(host) => host.to_owned(),
        None if host.is_empty() => to.authority.to_owned(),
        None => host,
    };
    // An authority that stays in the URI would stand against a rewritten Host on the way to an HTTP/2 replica;
    // pingora keeps an absolute target as it came, beside a URI that shows its path alone.
    let plain = !to.http2 && sent.raw_path().starts_with(b"/") && target == origin_form(sent);
    if !plain {
        head.set_raw_path(target.as_bytes())?;
    }
    head.insert_header(header::HOST, host)?;
    head.set_version(if to.http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 });
    Ok(())
}

/// How the body is framed on the way to a replica.
fn frame(head: &mut RequestHeader, placed: &Placed<'_>, http2: bool) -> Result<()> {
    match &placed.body {
        Body::Whole(..) => {
            let bytes = placed.outgoing();
            head.remove_header(&header::TRANSFER_ENCODING);
            let bodied = [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
            if !bytes.is_empty() || (bodied && !placed.upgrading) {
                head.insert_header(header::CONTENT_LENGTH, bytes.len())?;
            } else {
                head.remove_header(&header::CONTENT_LENGTH);
            }
        }
        Body::Stream(..) => {
            if placed.messages.is_some() {
                // Each message may change its length.
                head.remove_header(&header::CONTENT_LENGTH);
            }
            if let Some(length) =
                text(&head.headers, "content-length").and_then(|v| v.parse::<i64>().ok())
                && placed.length_change() != 0
            {
                head.insert_header(
                    header::CONTENT_LENGTH,
                    (length + placed.length_change()).to_string(),
                )?;
            }
            if http2 {
                head.remove_header(&header::TRANSFER_ENCODING);
            } else if !head.headers.contains_key(header::CONTENT_LENGTH) {
                head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
            }
        }
    }
    Ok(())
}

/// Evener's part of what a version says about its requests.
pub(super) fn upstream<'a>(
    plan: &'a crate::table::VersionPlan,
    replica: &'a crate::fleet::Replica,
    http2: bool,
) -> Upstream<'a> {
    Upstream {
        http2,
        authority: replica.upstream.authority(),
        model_name: plan.upstream_model.as_deref(),
        edits: &plan.headers,
    }
}
