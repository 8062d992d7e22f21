//! A request that a canary learns from: its side, and how its first answer comes.
use crate::canary::Open;
use crate::fleet::Ticket;
use crate::stats::Moment;
use bytes::Bytes;
use std::time::Duration;

/// A request that a canary learns from.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) open: Open,
    /// While it can be read before its end.
    pub(super) ticket: Option<Ticket>,
    /// The first byte of its answer has come.
    pub(super) answered: bool,
    /// Since when its stream says nothing.
    pub(super) silent_since: Option<Moment>,
    /// The longest silence of its stream.
    pub(super) gap: Option<Duration>,
    /// What it asked, as far as it was read before a replica was.
    pub(super) body: Bytes,
}

impl Witness {
    /// A piece of the answer has come. `streams`: it is one of a stream.
    pub(super) fn heard(&mut self, now: Moment, streams: bool) {
        if let Some(ticket) = self.ticket.as_ref().filter(|_| !self.answered) {
            ticket.answers(now);
        }
        self.answered = true;
        if let Some(since) = self.silent_since.take().filter(|_| streams) {
            self.gap = self.gap.max(Some(now.since(since)));
            self.note_silence(None);
        }
    }

    /// That piece was handed to the client: from now on the replica is waited for again.
    pub(super) fn waits(&mut self, now: Moment, streams: bool) {
        if streams {
            self.silent_since = Some(now);
            self.note_silence(Some(now));
        }
    }

    fn note_silence(&self, since: Option<Moment>) {
        if let Some(ticket) = &self.ticket {
            ticket.is_silent_since(since);
        }
    }

    /// It lasts as long as both sides like: only its end tells something.
    pub(super) fn converses(&mut self) {
        self.ticket = None;
    }
}
