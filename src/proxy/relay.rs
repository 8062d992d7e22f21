//! Bytes both ways: the request's body up, the response down, and everything that can go wrong between.
//!
//! One loop serves JSON, uploads, event streams, gRPC and WebSockets. It watches the client all the while, so that a
//! client that leaves ends the replica's work within milliseconds.
use super::asking::{Begun, First};
use super::body::{Body, broken_body};
use super::call::fell_silent;
use super::event::Event;
use super::exchange::{End, Exchange};
use super::placed::Placed;
use super::progress::{Phase, Progress, fullness};
use super::timer::{Timer, after};
use super::tunnel::Tunnel;
use super::write::{finish_body, write_body};
use crate::dialect::Output;
use crate::flow::{Happened, Trouble};
use crate::health::Class;
use crate::table::Version;
use crate::wire::Reins;
use bytes::Bytes;
use pingora_core::protocols::http::client::HttpSession as Upstream;
use pingora_error::{ErrorType, Result};
use pingora_http::RequestHeader;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A whole exchange.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) end: End,
    pub(super) class: Class,
    /// The replica's connection may serve again.
    pub(super) reusable: bool,
    /// Time spent waiting for the client to take bytes.
    pub(super) client_waits: Duration,
    /// What a look at the answer found.
    pub(super) output: Option<Output>,
}

impl Exchange<'_> {
    /// Sends a request and relays its response.
    pub(super) async fn relay(
        &mut self,
        placed: &Placed<'_>,
        head: Box<RequestHeader>,
        upstream: &mut Upstream,
        reins: Option<&Arc<Reins>>,
        version: &Version,
    ) -> Result<Relayed, Trouble> {
        let timeouts = &placed.model.plan.timeouts;
        upstream.set_write_timeout(Some(timeouts.between_chunks));
        self.record.course.note(Happened::Sent);
        let sent = self.send_request(placed, head, upstream, reins).await;
        let rest = sent.map_err(|trouble| self.before_any_answer(trouble))?;
        let progress = Progress {
            upgrade: placed.upgrading,
            sent: matches!(placed.body, Body::Whole(..)) && rest.is_empty(),
            passing: self.passing(placed),
            ..Progress::new(&placed.model.plan, version, reins, rest)
        };
        let relayed = self.pump(upstream, progress).await;
        self.duplex(reins, false);
        relayed.map_err(|trouble| self.before_any_answer(trouble))
    }

    /// A replica that takes no more of a request sends no first byte either.
    fn before_any_answer(&self, trouble: Trouble) -> Trouble {
        let stalled = matches!(trouble, Trouble::Stalled);
        if stalled && !self.answer_seen { Trouble::FirstByte } else { trouble }
    }

    /// Relays the response of a replica that has begun to answer.
    pub(super) async fn relay_begun(
        &mut self,
        placed: &Placed<'_>,
        begun: &mut Begun,
        version: &Version,
    ) -> Result<Relayed, Trouble> {
        let Begun { session, reins, hints, first, .. } = begun;
        let mut at = Progress {
            sent: true,
            primed: !matches!(first, First::Nothing),
            hints: std::mem::take(hints),
            ..Progress::new(&placed.model.plan, version, reins.as_ref(), Bytes::new())
        };
        if let Some(relayed) = self.head(session, &mut at).await? {
            return Ok(relayed);
        }
        let relayed = match std::mem::replace(first, First::Nothing) {
            First::Nothing => None,
            First::Chunk(bytes) => self.chunk(Some(bytes), session, &mut at).await?,
            First::End => self.chunk(None, session, &mut at).await?,
        };
        match relayed {
            Some(relayed) => Ok(relayed),
            None => self.pump(session, at).await,
        }
    }

    pub(super) fn duplex(&self, upstream: Option<&Arc<Reins>>, on: bool) {
        for reins in [upstream, self.reins].into_iter().flatten() {
            reins.duplex(on);
        }
    }

    async fn pump(
        &mut self,
        upstream: &mut Upstream,
        mut at: Progress<'_>,
    ) -> Result<Relayed, Trouble> {
        let pumped = self.rounds(upstream, &mut at).await;
        let tunnel = Tunnel::of(self.reins, at.upstream_reins).filter(|_| at.upgraded);
        match pumped {
            // It had said all, and waited for nothing more.
            Err(Trouble::ClientGone | Trouble::ClientStalled)
                if tunnel.is_some_and(Tunnel::client_ended) =>
            {
                Ok(at.ended(End::Cut, false))
            }
            pumped => pumped,
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one loop: each event beside what it does to the timers"
    )]
    async fn rounds(
        &mut self,
        upstream: &mut Upstream,
        at: &mut Progress<'_>,
    ) -> Result<Relayed, Trouble> {
        let total = self.time_left(at.timeouts);
        let mut phase = at.phase(self);
        let timer = Timer::new(self.limit_of(phase, at), total);
        let beat = sleep(at.heartbeat.unwrap_or_default());
        tokio::pin!(timer, beat);
        if phase == Phase::Conversation && self.deadline.own.is_none() {
            timer.as_mut().lift_total();
        }
        let mut client_took = 0;
        loop {
            self.feed(upstream, at).await?;
            if at.sent
                && let Some(in_flight) = self.in_flight.as_mut().filter(|f| f.is_being_sent())
            {
                in_flight.waits(self.proxy.now());
            }
            // A body whose end came while its future was dropped reads as idle for ever: ask first.
            if !at.client_done() && !at.upgraded && self.session.is_body_done() {
                at.sent = true;
                finish_body(upstream).await?;
                phase = at.phase(self);
                timer.as_mut().restart(self.limit_of(phase, at));
            }
            let awaited = self.awaits_body(at).then(|| self.proxy.now());
            let event = self.next(upstream, at, timer.as_mut(), beat.as_mut()).await;
            if let Some(since) = awaited {
                self.waited += self.proxy.now().since(since);
            }
            let quiet = matches!(event, Event::Beat | Event::Moved);
            let ended = match event {
                Event::Moved => self.moved(at),
                Event::Beat => {
                    self.beat(at).await?;
                    beat.as_mut().reset(after(at.heartbeat));
                    None
                }
                // Nobody's fault: it ends as if both had closed.
                Event::Late if phase == Phase::Tunnel => Some(at.ended(End::Close, false)),
                Event::Late => {
                    let total = timer.total_is_over();
                    let taken = self.reins.map_or(0, |reins| reins.written());
                    if total || phase != Phase::ClientFull || taken == client_took {
                        return Err(self.late(at, phase, total));
                    }
                    // Slowly, but it reads.
                    client_took = taken;
                    timer.as_mut().restart(self.limit_of(phase, at));
                    None
                }
                Event::FromClient(read) => self.client_sent(read, upstream, at).await?,
                Event::Head(read) => {
                    read?;
                    self.head(upstream, at).await?
                }
                Event::Chunk(read) => {
                    if at.heartbeat.is_some() {
                        beat.as_mut().reset(after(at.heartbeat));
                    }
                    self.chunk(read?, upstream, at).await?
                }
            };
            if let Some(relayed) = ended {
                return Ok(relayed);
            }
            if awaited.is_some() && self.awaits_body(at) && self.client_may_take().is_zero() {
                return Err(Trouble::Client(self.too_slow(at.timeouts.total)));
            }
            if at.upgraded || self.record.course.converses() {
                self.take_flow();
            }
            let next = at.phase(self);
            let began = next != phase && self.deadline.own.is_none();
            if (next == Phase::Tunnel && next != phase) || (next == Phase::Conversation && began) {
                timer.as_mut().lift_total();
            }
            // A sign of life of our own is none of the replica's.
            if next != phase || (next.renews() && !quiet) {
                timer.as_mut().restart(self.limit_of(next, at));
            }
            phase = next;
        }
    }

    /// Passes on the ends of a tunnel's sides. Returns how it ended once both have.
    fn moved(&self, at: &mut Progress<'_>) -> Option<Relayed> {
        let tunnel = Tunnel::of(self.reins, at.upstream_reins).filter(|_| at.upgraded)?;
        tunnel.pass_ends();
        tunnel.is_over().then(|| at.ended(End::Close, false))
    }

    /// Is it the client that the rest of the request is awaited from? Where both talk for as long as they like, nobody is
    /// slow.
    fn awaits_body(&self, at: &Progress<'_>) -> bool {
        let talks = at.upgraded || self.record.course.converses();
        !at.client_done() && !talks && !fullness(self.reins, at.upstream_reins).1
    }

    fn limit_of(&self, phase: Phase, at: &Progress<'_>) -> Duration {
        let (timeouts, client) = (at.timeouts, &self.listener.client);
        match phase {
            Phase::Upload => self.client_may_take(),
            Phase::Conversation if at.awaits_message() => client.body_timeout,
            Phase::Wait => timeouts.first_byte,
            Phase::Feed | Phase::Answer => timeouts.between_chunks,
            Phase::ClientFull => client.write_timeout,
            Phase::Conversation | Phase::Tunnel => timeouts.tunnel,
        }
    }

    /// A limit ran out: whose fault is it?
    fn late(&self, at: &Progress<'_>, phase: Phase, total: bool) -> Trouble {
        let upstream_full = fullness(self.reins, at.upstream_reins).1;
        // Neither side's fault for certain, unless the replica has the whole request or refuses to take it.
        let clients = !at.client_done() && !upstream_full;
        let slow_client = at.client_waits > at.timeouts.total / 2;
        match phase {
            Phase::ClientFull => Trouble::ClientStalled,
            _ if total && slow_client => Trouble::ClientStalled,
            _ if total && clients => Trouble::Client(self.deadline.passed(at.timeouts).into()),
            _ if total => Trouble::Total,
            Phase::Conversation if !at.awaits_message() => {
                Trouble::Client(fell_silent(at.timeouts).into())
            }
            _ if clients => Trouble::Client(self.too_slow(at.timeouts.total)),
            Phase::Answer | Phase::Tunnel => Trouble::Stalled,
            Phase::Upload | Phase::Feed | Phase::Wait | Phase::Conversation => Trouble::FirstByte,
        }
    }

    async fn client_sent(
        &mut self,
        read: Result<Option<Bytes>>,
        upstream: &mut Upstream,
        at: &mut Progress<'_>,
    ) -> Result<Option<Relayed>, Trouble> {
        let read = match read {
            Ok(read) if !at.client_done() => read,
            Ok(_) => return Err(Trouble::ClientGone),
            Err(error) if at.client_done() || at.upgraded => {
                tracing::trace!(%error, "client left");
                return Err(Trouble::ClientGone);
            }
            Err(error) if *error.etype() == ErrorType::ReadTimedout => {
                return Err(Trouble::Client(self.too_slow(at.timeouts.total)));
            }
            Err(error) => return Err(Trouble::Client(broken_body(&error))),
        };
        let read = if at.upgraded {
            let bytes = read.as_ref().map_or(0, |bytes| bytes.len() as u64);
            self.record.course.note(Happened::Read(bytes));
            read
        } else {
            self.count_body(read).map_err(Trouble::Client)?
        };
        let read = self.pass(read, at)?;
        match read {
            // pingora reads trailers as empty bytes, and would write them as a last chunk.
            Some(bytes) if bytes.is_empty() => {}
            // HTTP/1 queues it; an HTTP/2 replica may have no window.
            Some(bytes) => self.in_time(at.timeouts, write_body(upstream, bytes, false)).await??,
            None if at.upgraded => return Ok(Some(at.ended(End::Close, false))),
            None => {
                at.sent = true;
                finish_body(upstream).await?;
            }
        }
        Ok(None)
    }
}
