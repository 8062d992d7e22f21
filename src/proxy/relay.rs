//! Bytes both ways: the request's body up, the response down, and everything that can go wrong between.
//!
//! One loop serves JSON, uploads, event streams, gRPC and WebSockets. It watches the client all the while, so that a
//! client that leaves ends the replica's work within milliseconds.
use super::attempt::total_over;
use super::body::{Body, broken_body};
use super::exchange::{End, Exchange, Placed, Stop};
use super::progress::{Phase, Progress, fullness};
use super::timer::Timer;
use crate::health::Class;
use crate::table::{Timeouts, Version};
use crate::wire::Reins;
use bytes::Bytes;
use pingora_core::protocols::http::client::HttpSession as Upstream;
use pingora_error::{ErrorType, Result};
use pingora_http::RequestHeader;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// A whole exchange.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) end: End,
    pub(super) class: Class,
    /// The replica's connection may serve again.
    pub(super) reusable: bool,
    /// Time spent waiting for the client to take bytes.
    pub(super) client_waits: Duration,
}

/// Why an exchange broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection ended without a byte of an answer.
    #[error("connection ended: {0}")]
    Died(String),
    #[error("connection broke: {0}")]
    Reset(String),
    #[error("no first byte in time")]
    FirstByte,
    #[error("silent for too long")]
    Stalled,
    #[error("not done in time")]
    Total,
    #[error("the request cannot be put on the wire: {0}")]
    BadRequest(String),
    #[error("the client left")]
    ClientGone,
    #[error("the client reads nothing")]
    ClientStalled,
    #[error("the client's body: {0:?}")]
    Client(Stop),
}

/// Bodies longer than this are fed while the replica is listened to; also the piece by which that is done.
const FEED: usize = 64 * 1024;

/// What happened next.
enum Event {
    FromClient(Result<Option<Bytes>>),
    Head(Result<()>),
    Chunk(Result<Option<Bytes>>),
    /// A full queue has room again, or filled up.
    Room,
    Late,
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
        let rest = self.send_request(placed, head, upstream, reins).await?;
        let progress = Progress {
            timeouts,
            version,
            upstream_reins: reins,
            upgrade: placed.upgrade,
            sent: matches!(placed.body, Body::Whole(..)) && rest.is_empty(),
            rest,
            headed: false,
            upgraded: false,
            held: None,
            event_stream: false,
            last_chunk: None,
            client_waits: Duration::ZERO,
            class: Class::Success,
        };
        let relayed = self.pump(upstream, progress).await;
        self.duplex(reins, false);
        relayed
    }

    /// Sends the head, and the body as far as it is here. A long one is returned, to be fed while the replica is
    /// listened to: it may answer before it has read all.
    async fn send_request(
        &mut self,
        placed: &Placed<'_>,
        head: Box<RequestHeader>,
        upstream: &mut Upstream,
        reins: Option<&Arc<Reins>>,
    ) -> Result<Bytes, Trouble> {
        let body = placed.body.read_so_far();
        let whole = matches!(placed.body, Body::Whole(..));
        let feed = whole && reins.is_some() && body.len() > FEED;
        let cork = |on: bool| {
            if let Some(reins) = reins {
                reins.cork(on);
            }
        };
        let bodiless = whole && body.is_empty();
        // Head and body leave in one write.
        cork(whole && !body.is_empty() && !feed);
        let written = if let Upstream::H2(http2) = &mut *upstream {
            http2.write_request_header(head, bodiless)
        } else {
            upstream.write_request_header(head).await
        };
        written.map_err(Trouble::of_head)?;
        if feed {
            if let Some(reins) = reins {
                reins.duplex(true);
            }
            return Ok(body.clone());
        }
        if whole {
            if !bodiless {
                write_body(upstream, body.clone(), true).await?;
            }
            cork(false);
            let ended = bodiless && matches!(upstream, Upstream::H2(_));
            if !ended && !placed.upgrade {
                finish_body(upstream).await?;
            }
            return Ok(Bytes::new());
        }
        self.expect_continue().await.map_err(Trouble::Client)?;
        // From here both sides queue instead of blocking.
        self.duplex(reins, true);
        if !body.is_empty() {
            write_body(upstream, body.clone(), false).await?;
        }
        Ok(Bytes::new())
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
        let total = self.time_left(at.timeouts);
        let mut phase = at.phase(self);
        let timer = Timer::new(self.limit_of(phase, at.timeouts), total);
        tokio::pin!(timer);
        let mut client_took = 0;
        loop {
            self.feed(upstream, &mut at).await?;
            // A body whose end came while its future was dropped reads as idle for ever: ask first.
            if !at.client_done() && !at.upgraded && self.session.is_body_done() {
                at.sent = true;
                finish_body(upstream).await?;
                phase = at.phase(self);
                timer.as_mut().restart(self.limit_of(phase, at.timeouts));
            }
            let event = {
                let full = self.set_holds(&at);
                let (down, up) = (self.reins, at.upstream_reins);
                let room = std::future::poll_fn(|_| {
                    // Polled last: the reads before it push the queues.
                    if fullness(down, up) == full { Poll::Pending } else { Poll::Ready(()) }
                });
                let headed = at.headed;
                // HTTP/2 has no reins to hold: its side is not read while the other's queue is full.
                let hold_upstream = full.0 && at.upstream_reins.is_none();
                let hold_client = full.1 && self.reins.is_none();
                let only_watch = at.client_done() && !at.upgraded;
                let reading = async {
                    if headed {
                        Event::Chunk(upstream.read_response_body().await)
                    } else {
                        Event::Head(upstream.read_response_header().await)
                    }
                };
                tokio::select! { biased;
                    event = reading, if !hold_upstream => event,
                    read = self.session.read_body_or_idle(only_watch), if !hold_client => Event::FromClient(read),
                    () = room => Event::Room,
                    () = timer.as_mut() => Event::Late,
                }
            };
            let ended = match event {
                Event::Room => None,
                // Nobody's fault: it ends as if both had closed.
                Event::Late if phase == Phase::Tunnel => Some(at.ended(End::Close, false)),
                Event::Late => {
                    let total = timer.total_is_over();
                    let taken = self.reins.map_or(0, |reins| reins.written());
                    if total || phase != Phase::ClientFull || taken == client_took {
                        return Err(self.late(&at, phase, total));
                    }
                    // Slowly, but it reads.
                    client_took = taken;
                    timer.as_mut().restart(self.limit_of(phase, at.timeouts));
                    None
                }
                Event::FromClient(read) => self.client_sent(read, upstream, &mut at).await?,
                Event::Head(read) => {
                    read?;
                    self.head(upstream, &mut at).await?
                }
                Event::Chunk(read) => self.chunk(read?, upstream, &mut at).await?,
            };
            if let Some(relayed) = ended {
                return Ok(relayed);
            }
            let next = at.phase(self);
            if next == Phase::Tunnel && phase != next {
                timer.as_mut().lift_total();
            }
            if next != phase || next.renews() {
                timer.as_mut().restart(self.limit_of(next, at.timeouts));
            }
            phase = next;
        }
    }

    /// Lets neither side read on while the other's queue is full.
    fn set_holds(&self, at: &Progress<'_>) -> (bool, bool) {
        let full = fullness(self.reins, at.upstream_reins);
        for (reins, hold) in [(at.upstream_reins, full.0), (self.reins, full.1)] {
            if let Some(reins) = reins {
                reins.hold(hold);
            }
        }
        full
    }

    fn limit_of(&self, phase: Phase, timeouts: &Timeouts) -> Duration {
        match phase {
            Phase::Upload => self.listener.client.body_timeout,
            Phase::Wait => timeouts.first_byte,
            Phase::Feed | Phase::Answer => timeouts.between_chunks,
            Phase::ClientFull => self.listener.client.write_timeout,
            Phase::Tunnel => timeouts.tunnel,
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
            _ if total && clients => Trouble::Client(total_over(at.timeouts).into()),
            _ if total => Trouble::Total,
            _ if clients => Trouble::Client(super::body::slow_body()),
            Phase::Answer | Phase::Tunnel => Trouble::Stalled,
            Phase::Upload | Phase::Feed | Phase::Wait => Trouble::FirstByte,
        }
    }

    /// Gives the replica as much of a long body as it takes.
    async fn feed(&self, upstream: &mut Upstream, at: &mut Progress<'_>) -> Result<(), Trouble> {
        while !at.rest.is_empty() && !fullness(None, at.upstream_reins).1 {
            let next = at.rest.split_to(FEED.min(at.rest.len()));
            write_body(upstream, next, false).await?;
            if at.rest.is_empty() {
                finish_body(upstream).await?;
                at.sent = true;
            }
        }
        Ok(())
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
                return Err(Trouble::Client(super::body::slow_body()));
            }
            Err(error) => return Err(Trouble::Client(broken_body(&error))),
        };
        let read =
            if at.upgraded { read } else { self.count_body(read).map_err(Trouble::Client)? };
        match read {
            // pingora reads trailers as empty bytes, and would write them as a last chunk.
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => write_body(upstream, bytes, false).await?,
            None if at.upgraded => return Ok(Some(at.ended(End::Close, false))),
            None => {
                at.sent = true;
                finish_body(upstream).await?;
            }
        }
        Ok(None)
    }
}

/// Writes towards the replica.
async fn write_body(upstream: &mut Upstream, bytes: Bytes, end: bool) -> Result<(), Trouble> {
    let written = upstream.write_request_body(bytes, end).await;
    unless_told_by_reading(upstream, written)
}

async fn finish_body(upstream: &mut Upstream) -> Result<(), Trouble> {
    let finished = upstream.finish_request_body().await;
    unless_told_by_reading(upstream, finished)
}

/// A stream of HTTP/2 that takes no more tells why to its reader: by an answer that came early, or by an error that
/// says whether the request was seen.
fn unless_told_by_reading(upstream: &Upstream, written: Result<()>) -> Result<(), Trouble> {
    match written {
        Err(error)
            if matches!(upstream, Upstream::H2(_))
                && *error.etype() != ErrorType::WriteTimedout =>
        {
            tracing::trace!(%error, "the replica takes no more");
            Ok(())
        }
        written => Ok(written?),
    }
}
