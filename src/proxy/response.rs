//! What each part of an answer does to the exchange: its head, its chunks, its end.
use super::exchange::{End, Exchange};
use super::hops::{is_invited, stripped};
use super::look::Look;
use super::meaning::{
    Framed, Meaning, ends_call, form_of, grpc_status, is_grpc_answer, is_stream, stream_of,
    usage_form_of,
};
use super::receive::{Answer, Told};
use super::relay::{Progress, tunnel};
use super::shared::Phase;
use crate::dialect::grpc::GrpcStatus;
use crate::dialect::{OutputForm, StreamForm, StreamWatch, UsageAt, UsageChunks, UsageScan};
use crate::flow::{Happened, Trouble};
use crate::health::{Class, RetryOn};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use pingora_http::ResponseHeader;

impl Exchange<'_> {
    pub(super) async fn head(
        &mut self,
        answer: &mut Answer,
        at: &mut Progress<'_>,
    ) -> Result<Option<End>, Trouble> {
        let asked = self.session.req_header();
        let (mut from, mut framed, meaning) = match answer.head(&asked.method, self.is_call())? {
            Told::GoOn => return Ok(None),
            Told::Hint(hint) => return self.inform(hint).await.map(|()| None),
            Told::Head(head, framed, meaning) => (head, framed, meaning),
        };
        let upgraded = answer.is_upgraded();
        if upgraded && !(at.upgrading && is_invited(&asked.headers, &from.headers)) {
            return Err(Trouble::uninvited_upgrade());
        }
        self.unless_repeated(meaning, answer, at)?;
        for hint in std::mem::take(&mut answer.hints) {
            self.inform(hint).await?;
        }
        if let Some(original) = &mut self.original {
            original.answer.begin(&from, meaning);
        }
        self.record.course.note(Happened::Told { code: meaning.code });
        self.note_form(&from, answer, at.upload.client_done());
        if meaning.class == Class::Success && !upgraded {
            self.begin_reading(&from, &mut framed, answer, at);
        }
        at.reply.length = framed.length;
        at.reply.names = self.name_writer(&mut from, &mut framed);
        let sized = framed.length.is_some();
        at.reply.takes_comments = self.is_event_stream() && !sized;
        if let Some(reins) = self.reins.filter(|_| sized) {
            reins.direct(true);
        }
        let head = self.response_head(from, framed, upgraded)?;
        if self.proxy.phase() >= Phase::Draining {
            self.session.set_keepalive(None);
        }
        let done = answer.is_bare();
        // While its head is held, a replica that fails can still be told from one that answers, and another be asked.
        // gRPC's metadata may be waited for, but not by who asked for one answer.
        let waited_for = is_grpc_answer(&head) && !self.call.is_some_and(|call| call.is_unary());
        if !done && at.upload.sent && !upgraded && !waited_for {
            at.reply.hold(head);
            return Ok(None);
        }
        self.downstream().head(head, done).await?;
        // It said something: what follows is no silence.
        answer.attempt.in_flight.heard(self.proxy.now());
        if upgraded {
            self.begin_tunnel(answer, at);
        }
        if !done {
            return Ok(None);
        }
        self.note_chunk(answer);
        if !self.session.is_http2() {
            self.downstream().end(None).await?;
        }
        Ok(Some(whole(answer, at)))
    }

    /// Notes whether the answer comes in pieces.
    fn note_form(&mut self, from: &ResponseHeader, answer: &mut Answer, client_done: bool) {
        let upgraded = answer.is_upgraded();
        let call_streams = self.call.is_some_and(|call| call.streams);
        if !client_done && call_streams {
            self.record.course.note(Happened::Converses(true));
            answer.attempt.in_flight.converse();
            if let Some(witness) = &mut self.witness {
                witness.converses();
            }
        }
        self.stream =
            stream_of(from).filter(|_| !upgraded).map(|form| StreamWatch::new(form).into());
        let streams = is_stream(from) || call_streams;
        self.record.course.note(Happened::Streams(streams && !upgraded));
    }

    fn is_event_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.form() == StreamForm::Events)
    }

    fn begin_tunnel(&mut self, answer: &mut Answer, at: &mut Progress<'_>) {
        self.record.course.note(Happened::Tunnels);
        answer.attempt.tunnels(self.proxy.now());
        // A tunnel says nothing of speed or failure.
        self.witness = None;
        at.upload.sent = false;
        if let Some(tunnel) = tunnel(self.reins, answer) {
            tunnel.begin();
        }
        answer.begin_tunnel();
    }

    /// Sets up what is read of a good answer as it passes.
    fn begin_reading(
        &mut self,
        from: &ResponseHeader,
        framed: &mut Framed,
        answer: &mut Answer,
        at: &mut Progress<'_>,
    ) {
        answer.attempt.look = self.look(from);
        let pass = self.record.pass.as_ref();
        let limited = pass.is_some_and(|pass| pass.counts_tokens());
        if limited || self.row.usage != UsageAt::Nowhere {
            self.record.usage = Some(UsageScan::new(usage_form_of(from)));
        }
        if self.is_event_stream() && pass.is_some_and(|pass| pass.asks_usage()) {
            at.reply.usage_chunks = Some(UsageChunks::default());
            framed.length = None;
        }
    }

    /// Begins to look at an answer of a good status, where a canary learns from this attempt and its checks ask for it.
    fn look(&self, head: &ResponseHeader) -> Option<Box<Look>> {
        let model = self.record.model.as_ref().filter(|_| self.witness.is_some())?;
        let wish = model.output.as_ref()?;
        // Only what was sent to be worked on has an output: a page of metadata is none.
        let worked = self.session.req_header().method == Method::POST
            && head.status.is_success()
            && head.status != StatusCode::NO_CONTENT;
        let form = form_of(head);
        let looked_at = worked && form != OutputForm::Opaque;
        looked_at.then(|| Look::begin(self.proxy, self.dialect(), form, wish)).flatten()
    }

    /// Passes an informational answer on. From then on the request is not sent again.
    async fn inform(&mut self, from: ResponseHeader) -> Result<(), Trouble> {
        self.attempts.informed |= self.downstream().inform(stripped(from, false)).await?;
        Ok(())
    }

    fn note_chunk(&mut self, answer: &mut Answer) {
        let now = self.proxy.now();
        if let Some(witness) = &mut self.witness {
            witness.heard(now, self.stream.is_some());
        }
        if answer.attempt.hears(now, self.is_event_stream()) {
            self.record.course.note(Happened::FirstByte(now));
        }
    }

    pub(super) async fn chunk(
        &mut self,
        read: Option<Bytes>,
        answer: &mut Answer,
        at: &mut Progress<'_>,
    ) -> Result<Option<End>, Trouble> {
        let Some(bytes) = read else {
            return self.end(answer, at).await.map(Some);
        };
        self.note_chunk(answer);
        let done = answer.is_whole();
        let passed = at.reply.passed(bytes.clone(), done)?;
        let failure = self.stream.as_mut().and_then(|stream| stream.take(&bytes));
        if self.stream.as_ref().is_none_or(|stream| stream.pieces() > 0) {
            self.record.course.note(Happened::Spoke);
        }
        answer.attempt.note_failure(failure);
        if let Some(original) = &mut self.original {
            original.answer.take(&bytes, &self.proxy.buffers);
        }
        self.record.course.note(Happened::Passed(passed.len() as u64));
        if let Some(scan) = &mut self.record.usage {
            scan.chunk(&bytes);
        }
        let before = self.proxy.now();
        at.reply.write(&mut self.downstream(), passed, done).await?;
        let after = self.proxy.now();
        answer.attempt.reader_took(after.since(before));
        if let Some(witness) = &mut self.witness {
            witness.waits(after, self.stream.is_some());
        }
        self.checkpoint("chunk");
        // Replicas are judged by what they said.
        if let Some(look) = &mut answer.attempt.look {
            look.chunk(&bytes);
        }
        if !done {
            return Ok(None);
        }
        self.end_stream(answer);
        Ok(Some(whole(answer, at)))
    }

    /// The stream ended as its framing said. Some servers forget the empty line after the last event.
    fn end_stream(&mut self, answer: &mut Answer) {
        let failure = self.stream.as_mut().and_then(|stream| stream.finish());
        answer.attempt.note_failure(failure);
    }

    /// Stops here where what the replica said is to be asked again elsewhere. Nothing of it was passed on.
    fn unless_repeated(
        &self,
        meaning: Meaning,
        answer: &Answer,
        at: &Progress<'_>,
    ) -> Result<(), Trouble> {
        let Meaning { code, class, severity } = meaning;
        let failed = RetryOn::Status(severity);
        let failed = self.grants_retry(failed, false).then_some(failed);
        if failed.is_none() && !(code == 404 && self.own_answer.is_some()) {
            return Ok(());
        }
        let sent = answer.may_be_drained(at.upload.sent);
        Err(Trouble::Answered { failed, status: code, class, sent })
    }

    /// The replica's body ended: trailers, and the end of ours.
    async fn end(&mut self, answer: &mut Answer, at: &mut Progress<'_>) -> Result<End, Trouble> {
        let trailers = answer.trailers().await?;
        if let Some(status) = self.status_of(trailers.as_ref(), at) {
            let meaning = Meaning::of_call(status);
            answer.attempt.told(meaning);
            if at.reply.held().is_some() {
                self.unless_repeated(meaning, answer, at)?;
            }
            self.record.course.note(Happened::Told { code: meaning.code });
            if let Some(original) = &mut self.original {
                original.answer.ends_as(status);
            }
        }
        self.end_stream(answer);
        self.note_chunk(answer);
        let rest = at.reply.passed(Bytes::new(), true)?;
        let mut down = self.downstream();
        at.reply.end(&mut down, rest, trailers).await?;
        Ok(if answer.is_upgraded() { End::Close } else { whole(answer, at) })
    }

    /// How a call ended. One that does not say so is UNKNOWN to its client.
    fn status_of(&self, trailers: Option<&HeaderMap>, at: &Progress<'_>) -> Option<GrpcStatus> {
        let answer = at.reply.held().or_else(|| self.session.response_written());
        // In an answer that is not gRPC, or to a request that is not, trailers of that name mean nothing.
        let answer = answer.filter(|head| self.is_call() && is_grpc_answer(head))?;
        let said = trailers.and_then(grpc_status);
        said.or_else(|| (!ends_call(answer)).then_some(GrpcStatus::UNKNOWN))
    }

    /// A sign of life for clients and proxies that take silence for death.
    pub(super) async fn beat(&mut self, at: &mut Progress<'_>) -> Result<(), Trouble> {
        let comment = Bytes::from_static(b": heartbeat\n\n");
        self.record.course.note(Happened::Passed(comment.len() as u64));
        at.reply.write(&mut self.downstream(), comment, false).await
    }
}

/// The answer is complete. Where the request is not, the client may still be sending.
fn whole(answer: &mut Answer, at: &Progress<'_>) -> End {
    answer.ends(at.upload.sent);
    if at.upload.client_done() { End::Keep } else { End::Linger }
}
