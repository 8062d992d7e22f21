//! Bytes both ways: the request's body up, the response down, and everything that can go wrong between.
//!
//! One loop serves JSON, uploads, event streams, gRPC and WebSockets. It watches the client all the while, so that a
//! client that leaves ends the replica's work within milliseconds. It alone knows both halves: `downstream` and `reply`
//! are the client's, `upload` and `receive` the replica's.
use super::asking::First;
use super::body::{Body, broken_body};
use super::call::fell_silent;
use super::downstream::Downstream;
use super::event::{Event, Expected, next};
use super::exchange::{End, Exchange};
use super::phase::{Phase, Stand};
use super::placed::Placed;
use super::receive::{Answer, Read};
use super::reply::Reply;
use super::timer::{Timer, after};
use super::tunnel::Tunnel;
use super::upload::Upload;
use super::write::write_body;
use crate::flow::{Happened, Trouble};
use crate::table::{Choice, ModelPlan, Timeouts};
use crate::wire::Reins;
use bytes::Bytes;
use pingora_error::{ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How far an exchange came.
pub(super) struct Progress<'a> {
    timeouts: &'a Timeouts,
    /// After so long a silence an event stream gets a comment.
    heartbeat: Option<Duration>,
    /// The replica is asked to leave HTTP.
    pub(super) upgrading: bool,
    pub(super) upload: Upload,
    pub(super) reply: Reply,
}

impl<'a> Progress<'a> {
    fn new(plan: &'a ModelPlan, upgrading: bool, upload: Upload) -> Self {
        let (timeouts, heartbeat) = (&plan.timeouts, plan.heartbeat);
        Self { timeouts, heartbeat, upgrading, upload, reply: Reply::default() }
    }
}

impl Exchange<'_> {
    /// Sends a request and relays its response.
    pub(super) async fn relay(
        &mut self,
        placed: &Placed<'_>,
        choice: Choice<'_>,
        answer: &mut Answer,
    ) -> Result<End, Trouble> {
        let plan = &placed.model.plan;
        answer.session.set_write_timeout(Some(plan.timeouts.between_chunks));
        let head = self.head_for(placed, choice, answer)?;
        self.record.course.note(Happened::Sent);
        let sent = self.send_request(placed, head, answer).await;
        let rest = sent.map_err(|trouble| before_any_answer(trouble, answer))?;
        let sent = matches!(placed.body, Body::Whole(..)) && rest.is_empty();
        let upload = Upload { sent, rest, passing: self.passing(placed) };
        let progress = Progress::new(plan, placed.upgrading, upload);
        let relayed = self.pump(answer, progress).await;
        self.duplex(answer, false);
        relayed.map_err(|trouble| before_any_answer(trouble, answer))
    }

    /// Relays the response of a replica that has begun to answer.
    pub(super) async fn relay_begun(
        &mut self,
        placed: &Placed<'_>,
        answer: &mut Answer,
    ) -> Result<End, Trouble> {
        let mut at = Progress::new(&placed.model.plan, false, Upload::SENT);
        if let Some(end) = self.head(answer, &mut at).await? {
            return Ok(end);
        }
        let ended = match answer.first() {
            First::Nothing => None,
            First::Chunk(bytes) => self.chunk(Some(bytes), answer, &mut at).await?,
            First::End => self.chunk(None, answer, &mut at).await?,
        };
        match ended {
            Some(end) => Ok(end),
            None => self.pump(answer, at).await,
        }
    }

    /// The client's side of this exchange.
    pub(super) fn downstream(&mut self) -> Downstream<'_> {
        let limits = &self.listener.client;
        Downstream { session: self.session, reins: self.reins, limits }
    }

    /// From here both sides queue instead of blocking.
    pub(super) fn duplex(&self, answer: &Answer, on: bool) {
        for reins in [answer.reins.as_ref(), self.reins].into_iter().flatten() {
            reins.duplex(on);
        }
    }

    async fn pump(&mut self, answer: &mut Answer, mut at: Progress<'_>) -> Result<End, Trouble> {
        let pumped = self.rounds(answer, &mut at).await;
        match pumped {
            // It had said all, and waited for nothing more.
            Err(Trouble::ClientGone | Trouble::ClientStalled)
                if tunnel(self.reins, answer).is_some_and(Tunnel::client_ended) =>
            {
                Ok(End::Cut)
            }
            pumped => pumped,
        }
    }

    async fn rounds(&mut self, answer: &mut Answer, at: &mut Progress<'_>) -> Result<End, Trouble> {
        let mut phase = self.phase(answer, at);
        let total = (!self.is_endless(phase)).then(|| self.time_left(at.timeouts));
        let timer = Timer::new(self.limit_of(phase, at), total);
        let beat = sleep(at.heartbeat.unwrap_or_default());
        tokio::pin!(timer, beat);
        let mut client_took = 0;
        loop {
            if self.send_on(answer, at).await? {
                phase = self.phase(answer, at);
                timer.as_mut().restart(self.limit_of(phase, at));
            }
            let awaited = self.awaits_body(answer, at).then(|| self.proxy.now());
            let expected = self.expected(answer, at);
            let (timing, beating) = (timer.as_mut(), beat.as_mut());
            let event = next(&mut self.downstream(), answer, expected, timing, beating).await;
            if let Some(since) = awaited {
                self.waited += self.proxy.now().since(since);
            }
            let quiet = matches!(event, Event::Beat | Event::Moved);
            let ended = match event {
                Event::Moved => self.moved(answer),
                Event::Beat => {
                    self.beat(at).await?;
                    beat.as_mut().reset(after(at.heartbeat));
                    None
                }
                // Nobody's fault: it ends as if both had closed.
                Event::Late if phase == Phase::Tunnel => Some(End::Close),
                Event::Late => {
                    let total = timer.total_is_over();
                    let taken = self.reins.map_or(0, |reins| reins.written());
                    if total || phase != Phase::ClientFull || taken == client_took {
                        return Err(self.late(answer, at, phase, total));
                    }
                    // Slowly, but it reads.
                    client_took = taken;
                    timer.as_mut().restart(self.limit_of(phase, at));
                    None
                }
                Event::FromClient(read) => self.client_sent(read, answer, at).await?,
                Event::FromReplica(Read::Head(read)) => {
                    read.map_err(|error| answer.broken(error))?;
                    self.head(answer, at).await?
                }
                Event::FromReplica(Read::Chunk(read)) => {
                    if at.heartbeat.is_some() {
                        beat.as_mut().reset(after(at.heartbeat));
                    }
                    self.chunk(read?, answer, at).await?
                }
            };
            if let Some(end) = ended {
                return Ok(end);
            }
            if awaited.is_some() {
                self.unless_slow(answer, at)?;
            }
            if answer.is_upgraded() || self.record.course.converses() {
                self.take_flow();
            }
            let then = self.phase(answer, at);
            if then != phase && self.is_endless(then) {
                timer.as_mut().lift_total();
            }
            // A sign of life of our own is none of the replica's.
            if then != phase || (then.renews() && !quiet) {
                timer.as_mut().restart(self.limit_of(then, at));
            }
            phase = then;
        }
    }

    /// Sends on what is left of the request. Returns whether its end was found without having been read.
    async fn send_on(
        &mut self,
        answer: &mut Answer,
        at: &mut Progress<'_>,
    ) -> Result<bool, Trouble> {
        let Answer { session, reins, attempt, .. } = answer;
        at.upload.feed(session, reins.as_ref()).await?;
        if at.upload.sent && attempt.in_flight.is_being_sent() {
            attempt.in_flight.waits(self.proxy.now());
        }
        // A body whose end came while its future was dropped reads as idle for ever: ask first.
        let missed =
            !at.upload.client_done() && !answer.is_upgraded() && self.session.is_body_done();
        if missed {
            at.upload.finish(&mut answer.session).await?;
        }
        Ok(missed)
    }

    fn expected(&self, answer: &Answer, at: &Progress<'_>) -> Expected {
        Expected {
            only_watch: at.upload.client_done() && !answer.is_upgraded(),
            // Never inside an event.
            beat: at.heartbeat.is_some()
                && at.reply.takes_comments
                && (at.reply.held().is_some() || self.is_between_events()),
        }
    }

    fn phase(&self, answer: &Answer, at: &Progress<'_>) -> Phase {
        let stand = Stand {
            upgraded: answer.is_upgraded(),
            client_full: self.reins.is_some_and(|reins| reins.full()),
            converses: self.record.course.converses(),
            sent: at.upload.sent,
            feeds: !at.upload.rest.is_empty(),
            answered: answer.attempt.has_begun(),
        };
        stand.phase()
    }

    /// Passes on the ends of a tunnel's sides. Returns how it ended once both have.
    fn moved(&self, answer: &Answer) -> Option<End> {
        let tunnel = tunnel(self.reins, answer)?;
        tunnel.pass_ends();
        tunnel.is_over().then_some(End::Close)
    }

    /// Is it the client that the rest of the request is awaited from? Where both talk for as long as they like, nobody is
    /// slow.
    fn awaits_body(&self, answer: &Answer, at: &Progress<'_>) -> bool {
        let talks = answer.is_upgraded() || self.record.course.converses();
        !at.upload.client_done() && !talks && !answer.is_full()
    }

    /// The client has used up the time that its body may take.
    fn unless_slow(&self, answer: &Answer, at: &Progress<'_>) -> Result<(), Trouble> {
        if self.awaits_body(answer, at) && self.client_may_take().is_zero() {
            return Err(Trouble::Client(self.too_slow(at.timeouts.total)));
        }
        Ok(())
    }

    /// May the whole last as long as both like?
    fn is_endless(&self, phase: Phase) -> bool {
        match phase {
            Phase::Tunnel => true,
            Phase::Conversation => self.deadline.own.is_none(),
            Phase::Upload | Phase::Feed | Phase::Wait | Phase::Answer | Phase::ClientFull => false,
        }
    }

    fn limit_of(&self, phase: Phase, at: &Progress<'_>) -> Duration {
        let (timeouts, client) = (at.timeouts, &self.listener.client);
        match phase {
            Phase::Upload => self.client_may_take(),
            Phase::Conversation if at.upload.awaits_message() => client.body_timeout,
            Phase::Wait => timeouts.first_byte,
            Phase::Feed | Phase::Answer => timeouts.between_chunks,
            Phase::ClientFull => client.write_timeout,
            Phase::Conversation | Phase::Tunnel => timeouts.tunnel,
        }
    }

    /// A limit ran out: whose fault is it?
    fn late(&self, answer: &Answer, at: &Progress<'_>, phase: Phase, total: bool) -> Trouble {
        // Neither side's fault for certain, unless the replica has the whole request or refuses to take it.
        let clients = !at.upload.client_done() && !answer.is_full();
        let slow_client = answer.attempt.time_of_reader() > at.timeouts.total / 2;
        match phase {
            Phase::ClientFull => Trouble::ClientStalled,
            _ if total && slow_client => Trouble::ClientStalled,
            _ if total && clients => Trouble::Client(self.deadline.passed(at.timeouts).into()),
            _ if total => Trouble::Total,
            Phase::Conversation if !at.upload.awaits_message() => {
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
        answer: &mut Answer,
        at: &mut Progress<'_>,
    ) -> Result<Option<End>, Trouble> {
        let upgraded = answer.is_upgraded();
        let client_done = at.upload.client_done();
        let read = match read {
            Ok(read) if !client_done => read,
            Ok(_) => return Err(Trouble::ClientGone),
            Err(error) if client_done || upgraded => {
                tracing::trace!(%error, "client left");
                return Err(Trouble::ClientGone);
            }
            Err(error) if *error.etype() == ErrorType::ReadTimedout => {
                return Err(Trouble::Client(self.too_slow(at.timeouts.total)));
            }
            Err(error) => return Err(Trouble::Client(broken_body(&error))),
        };
        let read = if upgraded {
            let bytes = read.as_ref().map_or(0, |bytes| bytes.len() as u64);
            self.record.course.note(Happened::Read(bytes));
            read
        } else {
            self.count_body(read).map_err(Trouble::Client)?
        };
        let read = match &mut at.upload.passing {
            Some(passing) => {
                let rate = self.listener.client.min_rate;
                passing.take(read, &self.proxy.buffers, rate, self.proxy.now())?
            }
            None => read,
        };
        match read {
            // pingora reads trailers as empty bytes, and would write them as a last chunk.
            Some(bytes) if bytes.is_empty() => {}
            // HTTP/1 queues it; an HTTP/2 replica may have no window.
            Some(bytes) => {
                let writing = write_body(&mut answer.session, bytes, false);
                self.in_time(at.timeouts, writing).await??;
            }
            None if upgraded => return Ok(Some(End::Close)),
            None => at.upload.finish(&mut answer.session).await?,
        }
        Ok(None)
    }
}

/// A replica that takes no more of a request sends no first byte either.
fn before_any_answer(trouble: Trouble, answer: &Answer) -> Trouble {
    let stalled = matches!(trouble, Trouble::Stalled);
    if stalled && !answer.attempt.seen { Trouble::FirstByte } else { trouble }
}

/// The tunnel between both connections, once both left HTTP.
pub(super) fn tunnel<'a>(down: Option<&'a Arc<Reins>>, answer: &'a Answer) -> Option<Tunnel<'a>> {
    Tunnel::of(down, answer.reins.as_ref()).filter(|_| answer.is_upgraded())
}
