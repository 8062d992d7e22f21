//! How far an exchange came, and whom it waits for.
use super::exchange::{End, Exchange};
use super::relay::Relayed;
use crate::health::Class;
use crate::stats::Moment;
use crate::table::{Timeouts, Version};
use crate::wire::Reins;
use bytes::Bytes;
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
    /// Either, after both left HTTP.
    Tunnel,
}

impl Phase {
    /// Does anything that happens begin its limit anew?
    pub(super) const fn renews(self) -> bool {
        match self {
            Self::Upload | Self::Feed | Self::Answer | Self::Tunnel => true,
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
    /// The head of the response was taken.
    pub(super) headed: bool,
    pub(super) upgraded: bool,
    /// An event stream's head, kept back until its first byte.
    pub(super) held: Option<Box<ResponseHeader>>,
    pub(super) event_stream: bool,
    pub(super) last_chunk: Option<Moment>,
    pub(super) client_waits: Duration,
    pub(super) class: Class,
}

impl Progress<'_> {
    pub(super) fn phase(&self, exchange: &Exchange<'_>) -> Phase {
        if self.upgraded {
            return Phase::Tunnel;
        }
        if fullness(exchange.reins, self.upstream_reins).0 {
            return Phase::ClientFull;
        }
        match (self.sent, self.last_chunk.is_some()) {
            (_, true) => Phase::Answer,
            _ if !self.rest.is_empty() => Phase::Feed,
            (true, false) => Phase::Wait,
            (false, false) => Phase::Upload,
        }
    }

    /// Nothing more is expected of the client.
    pub(super) fn client_done(&self) -> bool {
        self.sent || !self.rest.is_empty()
    }

    /// The response is complete. Where the request is not, the client may still be sending.
    pub(super) fn whole(&self) -> Relayed {
        self.ended(if self.client_done() { End::Keep } else { End::Linger }, self.sent)
    }

    pub(super) fn ended(&self, end: End, reusable: bool) -> Relayed {
        Relayed { end, class: self.class, reusable, client_waits: self.client_waits }
    }
}

/// Is the client's queue full, and the replica's?
pub(super) fn fullness(client: Option<&Arc<Reins>>, upstream: Option<&Arc<Reins>>) -> (bool, bool) {
    let full = |reins: Option<&Arc<Reins>>| reins.is_some_and(|reins| reins.full());
    (full(client), full(upstream))
}
