//! The response on its way to the client: head, chunks, end, and a stream that breaks after it began.
use super::exchange::{End, Exchange};
use super::forward::stripped;
use super::progress::Progress;
use super::relay::{Relayed, Trouble};
use super::shared::Phase;
use crate::dialect::grpc::{GrpcStatus, is_grpc, severity_of_code};
use crate::dialect::{Dialect, OutputForm, RefusalCode, UsageScan, sse_error_event};
use crate::health::{Class, RetryOn};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::client::HttpSession as Upstream;
use pingora_error::{Error, ErrorType};
use pingora_http::ResponseHeader;
use tokio::time::timeout;

/// Where gRPC says how a call ended.
const STATUS: &str = "grpc-status";

impl Exchange<'_> {
    pub(super) async fn head(
        &mut self,
        upstream: &mut Upstream,
        at: &mut Progress<'_>,
    ) -> Result<Option<Relayed>, Trouble> {
        self.answer_seen = true;
        let from = upstream.response_header().expect("a head was read").clone();
        let status = from.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            // A client of HTTP/1.0 knows no 1xx, and pingora has none for HTTP/2.
            let known = self.session.req_header().version == http::Version::HTTP_11;
            if status != StatusCode::CONTINUE && known {
                let head = stripped(from, false);
                self.attempts.informed = true;
                self.while_client_reads(async |session| session.write_response_header(head).await)
                    .await?;
            }
            return Ok(None);
        }
        if status == StatusCode::SWITCHING_PROTOCOLS && !at.upgrade {
            return Err(Trouble::uninvited_upgrade());
        }
        at.headed = true;
        at.upgraded = at.upgrade && status == StatusCode::SWITCHING_PROTOCOLS;
        let code = code_of(&from);
        at.class = class_of(&from);
        self.unless_repeated(code, at)?;
        if let Some(original) = &mut self.original {
            original.answer.begin(&from);
        }
        self.record.status = code;
        if !at.client_done() && self.call.is_some_and(|call| call.streams) {
            self.converse();
        }
        at.event_stream = !at.upgraded && is_event_stream(&from);
        if at.class == Class::Success && !at.upgraded {
            at.look = self.look(&from);
            let limited = self.record.pass.as_ref().is_some_and(|pass| pass.counts_tokens());
            let tells = self.dialect == Dialect::OpenAi || limited;
            self.record.usage = tells.then(|| UsageScan::new(form_of(&from))).flatten();
        }
        at.sized = from.headers.contains_key(header::CONTENT_LENGTH);
        let head = self.response_head(from, at.upgraded)?;
        if self.proxy.phase() >= Phase::Draining {
            self.session.set_keepalive(None);
        }
        let done = upstream.response_done() && !at.upgraded && !at.primed;
        // While its head is held, a replica that fails can still be told from one that answers, and another be asked.
        // gRPC's metadata may be waited for, but not by who asked for one answer.
        let waited_for = is_call(&head) && !self.call.is_some_and(|call| call.is_unary());
        if !done && at.sent && !at.upgraded && !waited_for {
            at.held = Some(head);
            return Ok(None);
        }
        self.write_head(head, done).await?;
        // It said something: what follows is no silence.
        if let Some(in_flight) = &mut self.in_flight {
            let now = self.proxy.now();
            in_flight.heard(now);
            if at.upgraded {
                in_flight.tunnels(now);
            }
        }
        if at.upgraded {
            self.record.tunnel = true;
            at.sent = false;
            self.duplex(at.upstream_reins, true);
            if let Upstream::H1(http1) = upstream {
                http1.maybe_upgrade_body_writer();
            }
        }
        if !done {
            return Ok(None);
        }
        self.note_first_byte(at);
        if !self.session.is_http2() {
            self.write_body(Bytes::new(), true).await?;
        }
        Ok(Some(at.whole()))
    }

    async fn write_head(&mut self, head: Box<ResponseHeader>, done: bool) -> Result<(), Trouble> {
        self.while_client_reads(async |session| {
            if let ServerSession::H2(http2) = session {
                return http2.write_response_header(head, done);
            }
            session.write_response_header(head).await
        })
        .await
    }

    async fn write_body(&mut self, bytes: Bytes, end: bool) -> Result<(), Trouble> {
        self.while_client_reads(async |session| session.write_response_body(bytes, end).await).await
    }

    /// Writes towards the client, for as long as one may take: pingora's own limit leaves heads and flushes out.
    async fn while_client_reads(
        &mut self,
        write: impl AsyncFnOnce(&mut ServerSession) -> pingora_error::Result<()>,
    ) -> Result<(), Trouble> {
        match timeout(self.listener.client.write_timeout, write(self.session)).await {
            Ok(written) => written.map_err(|error| client(&error)),
            Err(_) => Err(Trouble::ClientStalled),
        }
    }

    fn note_first_byte(&mut self, at: &mut Progress<'_>) {
        let now = self.proxy.now();
        match at.last_chunk.replace(now) {
            None => {
                self.record.first_byte = Some(now.since(self.record.began));
                if let Some(in_flight) = &mut self.in_flight {
                    in_flight.heard(now);
                }
            }
            Some(last) if at.event_stream => at.version.state.inter_chunk.observe(now.since(last)),
            Some(_) => {}
        }
    }

    pub(super) async fn chunk(
        &mut self,
        read: Option<Bytes>,
        upstream: &mut Upstream,
        at: &mut Progress<'_>,
    ) -> Result<Option<Relayed>, Trouble> {
        let Some(bytes) = read else {
            return self.end(upstream, at).await.map(Some);
        };
        self.note_first_byte(at);
        self.release_head(at).await?;
        let done = upstream.response_done() && matches!(upstream, Upstream::H1(_)) && !at.upgraded;
        if at.event_stream && at.class == Class::Success && at.errors.passes(&bytes) {
            at.class = Class::ServerError;
        }
        if let Some(original) = &mut self.original {
            original.answer.take(&bytes, &self.proxy.buffers);
        }
        self.record.bytes_out += bytes.len() as u64;
        if let Some(scan) = &mut self.record.usage {
            scan.chunk(&bytes);
        }
        self.at_event_end = bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n");
        let looked_at = at.look.is_some().then(|| bytes.clone());
        let before = self.proxy.now();
        self.write_body(bytes, done).await?;
        at.client_waits += self.proxy.now().since(before);
        self.checkpoint("chunk");
        if let (Some(look), Some(bytes)) = (&mut at.look, looked_at) {
            look.chunk(&bytes);
        }
        Ok(done.then(|| at.whole()))
    }

    /// Writes the head that was held.
    async fn release_head(&mut self, at: &mut Progress<'_>) -> Result<(), Trouble> {
        let Some(head) = at.held.take() else { return Ok(()) };
        // It leaves with the first bytes, in one write.
        self.cork_client(true);
        let written = self.write_head(head, false).await;
        self.cork_client(false);
        written
    }

    /// Stops here where what the replica said is to be asked again elsewhere. Nothing of it was passed on.
    fn unless_repeated(&self, code: u16, at: &Progress<'_>) -> Result<(), Trouble> {
        let failed = RetryOn::Status(severity_of_code(code));
        if !self.grants_retry(failed, false) {
            return Ok(());
        }
        Err(Trouble::Answered { failed, status: code, class: at.class, sent: at.sent })
    }

    fn cork_client(&self, on: bool) {
        if let Some(reins) = self.reins {
            reins.cork(on);
        }
    }

    /// The replica's body ended: trailers, and the end of ours.
    async fn end(
        &mut self,
        upstream: &mut Upstream,
        at: &mut Progress<'_>,
    ) -> Result<Relayed, Trouble> {
        let trailers = match upstream {
            Upstream::H2(http2) => http2.read_trailers().await?,
            Upstream::H1(_) | Upstream::Custom(()) => None,
        };
        if let Some(status) = self.status_of(trailers.as_ref(), at) {
            at.class = Class::of_grpc(status.number());
            if at.held.is_some() {
                self.unless_repeated(status.code(), at)?;
            }
            self.record.status = status.code();
            if let Some(original) = &mut self.original {
                original.answer.ends_as(status);
            }
        }
        self.note_first_byte(at);
        self.release_head(at).await?;
        if let (Some(trailers), ServerSession::H2(down)) = (trailers, &mut *self.session) {
            down.write_trailers(trailers).map_err(|error| client(&error))?;
            return Ok(at.whole());
        }
        self.write_body(Bytes::new(), true).await?;
        Ok(if at.upgraded { at.ended(End::Close, false) } else { at.whole() })
    }

    /// How a call ended. One that does not say so is UNKNOWN to its client.
    fn status_of(&self, trailers: Option<&HeaderMap>, at: &Progress<'_>) -> Option<GrpcStatus> {
        let said = trailers.and_then(grpc_status);
        let answer = at.held.as_deref().or_else(|| self.session.response_written());
        let is_answer = self.is_call()
            && answer.is_some_and(|head| is_call(head) && !head.headers.contains_key(STATUS));
        said.or_else(|| is_answer.then_some(GrpcStatus::UNKNOWN))
    }

    /// A sign of life for clients and proxies that take silence for death.
    pub(super) async fn beat(&mut self, at: &mut Progress<'_>) -> Result<(), Trouble> {
        if let Some(head) = at.held.take() {
            self.write_head(head, false).await?;
        }
        let comment = Bytes::from_static(b": heartbeat\n\n");
        self.record.bytes_out += comment.len() as u64;
        self.at_event_end = true;
        self.write_body(comment, false).await
    }

    /// A stream that breaks after it began. An event stream says so in its own words.
    pub(super) async fn end_broken_stream(&mut self, code: RefusalCode, what: &str) -> End {
        if self.is_call() {
            return self.end_call(code, &format!("the model server {what}"));
        }
        let open = |head: &ResponseHeader| !head.headers.contains_key(header::CONTENT_LENGTH);
        let written = self.session.response_written();
        let stream = written.is_some_and(|head| is_event_stream(head) && open(head));
        if self.record.tunnel || !(stream && self.at_event_end) {
            return End::Cut;
        }
        let message = format!("the model server {what}");
        let event = sse_error_event(code.name(), code.status(), &message, &self.record.request_id);
        self.session.set_keepalive(None);
        match self.write_body(event, true).await {
            Ok(()) => End::Close,
            Err(_) => End::Cut,
        }
    }
}

/// What a head says of the replica that sent it.
pub(super) fn class_of(head: &ResponseHeader) -> Class {
    match grpc_status(&head.headers) {
        Some(status) => Class::of_grpc(status.number()),
        None => {
            Class::of_status(head.status.as_u16(), head.headers.contains_key(header::RETRY_AFTER))
        }
    }
}

/// What the answer of this head is counted as.
pub(super) fn code_of(head: &ResponseHeader) -> u16 {
    grpc_status(&head.headers).map_or(head.status.as_u16(), GrpcStatus::code)
}

/// How the body after this head can be read.
pub(super) fn form_of(head: &ResponseHeader) -> OutputForm {
    let text = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or("unknown"));
    OutputForm::of(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING))
}

/// The status of a gRPC answer: in its trailers, or in the head of one without a body.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<GrpcStatus> {
    Some(GrpcStatus::read(headers.get(STATUS)?.as_bytes()))
}

fn is_call(head: &ResponseHeader) -> bool {
    head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| is_grpc(kind.as_bytes()))
}

/// Events that can be read, and written to: not compressed.
fn is_event_stream(head: &ResponseHeader) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
        && !head.headers.contains_key(header::CONTENT_ENCODING)
}

/// An error on the client's side.
fn client(error: &Error) -> Trouble {
    if *error.etype() == ErrorType::WriteTimedout {
        Trouble::ClientStalled
    } else {
        Trouble::ClientGone
    }
}
