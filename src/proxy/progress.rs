//! How far an exchange came, and whom it waits for.
use super::call::Passing;
use super::exchange::{End, Exchange};
use super::look::Look;
use super::meaning::class_of_failure;
use super::relay::Relayed;
use crate::dialect::{Failure, NameWriter, UsageChunks};
use crate::health::Class;
use crate::stats::Moment;
use crate::table::{ModelPlan, Timeouts, Version};
use crate::wire::Reins;
use bytes::Bytes;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use std::sync::Arc;
use std::time::Duration;

/// Whom an exchange waits for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client, to send its body.
    Upload,
    /// The replica, to take a body that is here.
    Feed,
    /// The replica, for the first byte of its answer.
    Wait,
    /// The replica, for the next chunk.
    Answer,
    /// The client, to take what is queued.
    ClientFull,
    /// Either, in a call that lasts as long as both like.
    Conversation,
    /// Either, after both left HTTP.
    Tunnel,
}

impl Phase {
    /// Does anything that happens begin its limit anew?
    pub(super) const fn renews(self) -> bool {
        match self {
            Self::Upload | Self::Feed | Self::Answer | Self::Conversation | Self::Tunnel => true,
            Self::Wait | Self::ClientFull => false,
        }
    }
}

/// How far an exchange came.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Progress<'a> {
    pub(super) timeouts: &'a Timeouts,
    pub(super) version: &'a Version,
    pub(super) upstream_reins: Option<&'a Arc<Reins>>,
    pub(super) upgrade: bool,
    /// The request was sent to its end.
    pub(super) sent: bool,
    /// What is left to send of a body that is here as a whole.
    pub(super) rest: Bytes,
    /// What reads the messages of a stream as they pass.
    pub(super) passing: Option<Passing>,
    /// The first of the response's body is read already.
    pub(super) primed: bool,
    /// Informational answers that are passed on when the head is.
    pub(super) hints: Vec<ResponseHeader>,
    /// The head of the response was taken.
    pub(super) headed: bool,
    pub(super) upgraded: bool,
    /// The response's head, kept back until its first byte.
    pub(super) held: Option<Box<ResponseHeader>>,
    pub(super) event_stream: bool,
    /// Its length is told: nothing can be put in between.
    pub(super) sized: bool,
    /// The length of the answer, as the replica tells it.
    pub(super) length: Option<u64>,
    /// Writes the client's name for the model into the answer.
    pub(super) names: Option<Box<NameWriter>>,
    /// The replica's connection is in step with its next answer once this one is read.
    pub(super) keep: bool,
    pub(super) last_chunk: Option<Moment>,
    pub(super) client_waits: Duration,
    pub(super) class: Class,
    /// After so long a silence an event stream gets a comment.
    pub(super) heartbeat: Option<Duration>,
    /// Looks at the answer for a canary.
    pub(super) look: Option<Box<Look>>,
    /// Takes usage out of a stream that its client did not ask for.
    pub(super) usage_chunks: Option<UsageChunks>,
}

impl<'a> Progress<'a> {
    /// An exchange that has just begun; `rest` is still to be sent.
    pub(super) fn new(
        plan: &'a ModelPlan,
        version: &'a Version,
        upstream_reins: Option<&'a Arc<Reins>>,
        rest: Bytes,
    ) -> Self {
        Self {
            timeouts: &plan.timeouts,
            version,
            upstream_reins,
            upgrade: false,
            sent: false,
            rest,
            passing: None,
            primed: false,
            hints: Vec::new(),
            headed: false,
            upgraded: false,
            held: None,
            event_stream: false,
            sized: false,
            length: None,
            names: None,
            keep: true,
            last_chunk: None,
            client_waits: Duration::ZERO,
            class: Class::Success,
            heartbeat: plan.heartbeat,
            look: None,
            usage_chunks: None,
        }
    }

    /// A stream that began well says that it failed. What it says first counts.
    pub(super) fn note_failure(&mut self, failure: Option<Failure>) {
        if let (Some(failure), Class::Success) = (failure, self.class) {
            self.class = class_of_failure(failure);
        }
    }

    /// May a heartbeat go out now? Never inside an event.
    pub(super) fn may_beat(&self, between: bool) -> bool {
        self.event_stream
            && !self.sized
            && self.heartbeat.is_some()
            && (self.held.is_some() || between)
    }

    /// Is a part of a message here, and the rest awaited?
    pub(super) fn awaits_message(&self) -> bool {
        self.passing.as_ref().is_some_and(Passing::awaits)
    }

    pub(super) fn phase(&self, exchange: &Exchange<'_>) -> Phase {
        if self.upgraded {
            return Phase::Tunnel;
        }
        if fullness(exchange.reins, self.upstream_reins).0 {
            return Phase::ClientFull;
        }
        if exchange.record.course.converses() && !self.client_done() {
            return Phase::Conversation;
        }
        match (self.sent, self.last_chunk.is_some()) {
            (_, true) => Phase::Answer,
            _ if !self.rest.is_empty() => Phase::Feed,
            (true, false) => Phase::Wait,
            (false, false) => Phase::Upload,
        }
    }

    /// What the client gets of these bytes of the answer. `done`: they are the last.
    pub(super) fn passed(&mut self, bytes: Bytes, done: bool) -> Result<Bytes> {
        let bytes = self.without_usage(bytes, done);
        self.named(bytes, done)
    }

    /// These bytes without the usage that the client did not ask for.
    fn without_usage(&mut self, bytes: Bytes, done: bool) -> Bytes {
        let Some(chunks) = &mut self.usage_chunks else { return bytes };
        let passed = chunks.take(bytes);
        if !done {
            return passed;
        }
        let rest = chunks.finish();
        if rest.is_empty() { passed } else { [passed, rest].concat().into() }
    }

    /// Nothing more is expected of the client.
    pub(super) fn client_done(&self) -> bool {
        self.sent || !self.rest.is_empty()
    }

    /// The response is complete. Where the request is not, the client may still be sending.
    pub(super) fn whole(&mut self) -> Relayed {
        let end = if self.client_done() { End::Keep } else { End::Linger };
        self.ended(end, self.sent && self.keep)
    }

    pub(super) fn ended(&mut self, end: End, reusable: bool) -> Relayed {
        let output = self.look.take().and_then(|look| look.finish());
        Relayed { end, class: self.class, reusable, client_waits: self.client_waits, output }
    }
}

/// Is the client's queue full, and the replica's?
pub(super) fn fullness(client: Option<&Arc<Reins>>, upstream: Option<&Arc<Reins>>) -> (bool, bool) {
    let full = |reins: Option<&Arc<Reins>>| reins.is_some_and(|reins| reins.full());
    (full(client), full(upstream))
}
