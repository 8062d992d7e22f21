//! The response on its way to the client: head, chunks, end.
use super::exchange::{End, Exchange};
use super::hops::{is_invited, stripped};
use super::meaning::{
    Framed, Meaning, ends_call, grpc_status, is_grpc_answer, is_stream, stream_of, usage_form_of,
};
use super::progress::Progress;
use super::relay::Relayed;
use super::shared::Phase;
use super::tunnel::Tunnel;
use crate::dialect::grpc::GrpcStatus;
use crate::dialect::{StreamForm, StreamWatch, UsageAt, UsageChunks, UsageScan};
use crate::flow::{Happened, Trouble};
use crate::health::{Class, RetryOn};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::client::HttpSession as Upstream;
use pingora_error::{Error, ErrorType};
use pingora_http::ResponseHeader;
use tokio::time::timeout;

impl Exchange<'_> {
    pub(super) async fn head(
        &mut self,
        upstream: &mut Upstream,
        at: &mut Progress<'_>,
    ) -> Result<Option<Relayed>, Trouble> {
        self.answer_seen = true;
        let asked = self.session.req_header();
        let mut framed = Framed::of(upstream, &asked.method)?;
        let mut from = upstream.response_header().expect("a head was read").clone();
        let status = from.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            if status != StatusCode::CONTINUE {
                self.inform(from).await?;
            }
            return Ok(None);
        }
        at.upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        if at.upgraded && !(at.upgrade && is_invited(&asked.headers, &from.headers)) {
            return Err(Trouble::uninvited_upgrade());
        }
        at.headed = true;
        at.keep = framed.keep;
        let meaning = Meaning::of(&from, self.is_call());
        at.class = meaning.class;
        self.unless_repeated(meaning, at)?;
        for hint in std::mem::take(&mut at.hints) {
            self.inform(hint).await?;
        }
        if let Some(original) = &mut self.original {
            original.answer.begin(&from, meaning);
        }
        self.record.course.note(Happened::Told { code: meaning.code });
        self.note_form(&from, at);
        if at.class == Class::Success && !at.upgraded {
            self.begin_reading(&from, &mut framed, at);
        }
        at.length = framed.length;
        at.names = self.name_writer(&mut from, &mut framed);
        at.sized = framed.length.is_some();
        if let Some(reins) = self.reins.filter(|_| at.sized) {
            reins.direct(true);
        }
        let head = self.response_head(from, framed, at.upgraded)?;
        if self.proxy.phase() >= Phase::Draining {
            self.session.set_keepalive(None);
        }
        let done = (upstream.response_done() || framed.bare) && !at.upgraded && !at.primed;
        // While its head is held, a replica that fails can still be told from one that answers, and another be asked.
        // gRPC's metadata may be waited for, but not by who asked for one answer.
        let waited_for = is_grpc_answer(&head) && !self.call.is_some_and(|call| call.is_unary());
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
            self.begin_tunnel(upstream, at);
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

    /// Notes whether the answer comes in pieces.
    fn note_form(&mut self, from: &ResponseHeader, at: &mut Progress<'_>) {
        if !at.client_done() && self.call.is_some_and(|call| call.streams) {
            self.converse();
        }
        self.stream =
            stream_of(from).filter(|_| !at.upgraded).map(|form| StreamWatch::new(form).into());
        at.event_stream = self.stream.as_ref().is_some_and(|s| s.form() == StreamForm::Events);
        let streams = is_stream(from) || self.call.is_some_and(|call| call.streams);
        self.record.course.note(Happened::Streams(streams && !at.upgraded));
    }

    fn begin_tunnel(&mut self, upstream: &mut Upstream, at: &mut Progress<'_>) {
        self.record.course.note(Happened::Tunnels);
        // A tunnel says nothing of speed or failure.
        self.witness = None;
        at.sent = false;
        if let Some(tunnel) = Tunnel::of(self.reins, at.upstream_reins) {
            tunnel.begin();
        }
        if let Upstream::H1(http1) = upstream {
            http1.maybe_upgrade_body_writer();
        }
    }

    /// Sets up what is read of a good answer as it passes.
    fn begin_reading(&mut self, from: &ResponseHeader, framed: &mut Framed, at: &mut Progress<'_>) {
        at.look = self.look(from);
        let pass = self.record.pass.as_ref();
        let limited = pass.is_some_and(|pass| pass.counts_tokens());
        if limited || self.row.usage != UsageAt::Nowhere {
            self.record.usage = Some(UsageScan::new(usage_form_of(from)));
        }
        if at.event_stream && pass.is_some_and(|pass| pass.asks_usage()) {
            at.usage_chunks = Some(UsageChunks::default());
            framed.length = None;
        }
    }

    /// Passes an informational answer on. From then on the request is not sent again.
    async fn inform(&mut self, from: ResponseHeader) -> Result<(), Trouble> {
        // Clients of HTTP/1.0 know no 1xx, and pingora writes none to HTTP/2.
        if self.session.req_header().version != http::Version::HTTP_11 {
            return Ok(());
        }
        let mut head = stripped(from, false);
        head.remove_header(&header::CONTENT_LENGTH);
        self.attempts.informed = true;
        self.while_client_reads(async |session| session.write_response_header(head).await).await
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

    pub(super) async fn write_body(&mut self, bytes: Bytes, end: bool) -> Result<(), Trouble> {
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
        if let Some(witness) = &mut self.witness {
            witness.heard(now, self.stream.is_some());
        }
        match at.last_chunk.replace(now) {
            None => {
                self.record.course.note(Happened::FirstByte(now));
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
        let done = upstream.response_done() && matches!(upstream, Upstream::H1(_)) && !at.upgraded;
        let passed = at.passed(bytes.clone(), done)?;
        let failure = self.stream.as_mut().and_then(|stream| stream.take(&bytes));
        if self.stream.as_ref().is_none_or(|stream| stream.pieces() > 0) {
            self.record.course.note(Happened::Spoke);
        }
        at.note_failure(failure);
        if let Some(original) = &mut self.original {
            original.answer.take(&bytes, &self.proxy.buffers);
        }
        self.record.course.note(Happened::Passed(passed.len() as u64));
        if let Some(scan) = &mut self.record.usage {
            scan.chunk(&bytes);
        }
        let before = self.proxy.now();
        if !passed.is_empty() || done {
            self.release_head(at).await?;
            self.write_body(passed, done).await?;
        }
        let after = self.proxy.now();
        at.client_waits += after.since(before);
        if let Some(witness) = &mut self.witness {
            witness.waits(after, self.stream.is_some());
        }
        self.checkpoint("chunk");
        // Replicas are judged by what they said.
        if let Some(look) = &mut at.look {
            look.chunk(&bytes);
        }
        if !done {
            return Ok(None);
        }
        self.end_stream(at);
        Ok(Some(at.whole()))
    }

    /// The stream ended as its framing said. Some servers forget the empty line after the last event.
    fn end_stream(&mut self, at: &mut Progress<'_>) {
        let failure = self.stream.as_mut().and_then(|stream| stream.finish());
        at.note_failure(failure);
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
    fn unless_repeated(&self, meaning: Meaning, at: &Progress<'_>) -> Result<(), Trouble> {
        let Meaning { code, class, severity } = meaning;
        let failed = RetryOn::Status(severity);
        let failed = self.grants_retry(failed, false).then_some(failed);
        if failed.is_none() && !(code == 404 && self.own_answer.is_some()) {
            return Ok(());
        }
        Err(Trouble::Answered { failed, status: code, class, sent: at.sent && at.keep })
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
            let meaning = Meaning::of_call(status);
            at.class = meaning.class;
            if at.held.is_some() {
                self.unless_repeated(meaning, at)?;
            }
            self.record.course.note(Happened::Told { code: meaning.code });
            if let Some(original) = &mut self.original {
                original.answer.ends_as(status);
            }
        }
        self.end_stream(at);
        self.note_first_byte(at);
        self.release_head(at).await?;
        let rest = at.passed(Bytes::new(), true)?;
        if !rest.is_empty() {
            self.write_body(rest, false).await?;
        }
        if let (Some(trailers), ServerSession::H2(down)) = (trailers, &mut *self.session) {
            down.write_trailers(trailers).map_err(|error| client(&error))?;
            return Ok(at.whole());
        }
        self.write_body(Bytes::new(), true).await?;
        Ok(if at.upgraded { at.ended(End::Close, false) } else { at.whole() })
    }

    /// How a call ended. One that does not say so is UNKNOWN to its client.
    fn status_of(&self, trailers: Option<&HeaderMap>, at: &Progress<'_>) -> Option<GrpcStatus> {
        let answer = at.held.as_deref().or_else(|| self.session.response_written());
        // In an answer that is not gRPC, or to a request that is not, trailers of that name mean nothing.
        let answer = answer.filter(|head| self.is_call() && is_grpc_answer(head))?;
        let said = trailers.and_then(grpc_status);
        said.or_else(|| (!ends_call(answer)).then_some(GrpcStatus::UNKNOWN))
    }

    /// A sign of life for clients and proxies that take silence for death.
    pub(super) async fn beat(&mut self, at: &mut Progress<'_>) -> Result<(), Trouble> {
        if let Some(head) = at.held.take() {
            self.write_head(head, false).await?;
        }
        let comment = Bytes::from_static(b": heartbeat\n\n");
        self.record.course.note(Happened::Passed(comment.len() as u64));
        self.write_body(comment, false).await
    }
}

/// An error on the client's side.
fn client(error: &Error) -> Trouble {
    if *error.etype() == ErrorType::WriteTimedout {
        Trouble::ClientStalled
    } else {
        Trouble::ClientGone
    }
}
