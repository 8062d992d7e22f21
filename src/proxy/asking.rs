//! One replica, asked once: over a kept connection, and once more over a fresh one where the kept one had died unnoticed.
//!
//! Attempts, hedges and copies ask in this way. An attempt listens to its client meanwhile; the other two know a whole
//! request, and come back with the first byte of the answer.
use super::hops::join_cookies;
use super::meaning::{Framed, Meaning};
use super::shared::Proxy;
use super::write::send_whole;
use crate::fleet::{InFlight, Replica};
use crate::flow::Trouble;
use crate::health::{Class, Repeatable};
use crate::stats::Moment;
use crate::table::Timeouts;
use crate::wire::{Checkout, ReplicaSession, Upstream};
use bytes::Bytes;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Informational answers of one attempt that are kept for the client; more are dropped.
const MOST_HINTS: usize = 16;

/// Connects to a replica, twice at most.
pub(super) struct Asking<'a> {
    upstream: &'a Upstream,
    connect: Duration,
    /// The request is to leave HTTP, which HTTP/2 cannot.
    upgrading: bool,
    /// It is gRPC, which HTTP/1 cannot carry.
    call: bool,
    /// A kept connection had died.
    fresh: bool,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        replica: &'a Replica,
        timeouts: &Timeouts,
        upgrading: bool,
        call: bool,
    ) -> Self {
        let (upstream, connect) = (&replica.upstream, timeouts.connect);
        Self { upstream, connect, upgrading, call, fresh: false }
    }

    pub(super) async fn connect(&self, now: Moment) -> Result<Checkout, Trouble> {
        let checkout = self.upstream.checkout(self.connect, self.fresh, self.upgrading, now).await;
        let checkout = checkout.map_err(|error| Trouble::of_dial(&error))?;
        if self.call && !checkout.session.is_http2() {
            let why = "it chose HTTP/1.1, and gRPC needs HTTP/2";
            return Err(Trouble::Connect(why.to_owned()));
        }
        Ok(checkout)
    }

    /// May it be asked once more, after this trouble? Its connection closed while it was idle, which is nobody's fault;
    /// nothing of an answer was `seen`, and sending the request twice does no harm.
    pub(super) fn again(
        &mut self,
        reused: bool,
        trouble: &Trouble,
        repeatable: Repeatable,
        seen: bool,
    ) -> bool {
        let again = reused && !self.fresh && !seen && harmless(trouble, repeatable);
        self.fresh |= again;
        again
    }
}

/// A stream that was reset alone is a failure of its own: only what a broken connection takes along is one.
pub(super) fn alone(class: Class, in_flight: &mut InFlight) {
    let stands = |number| in_flight.replica().upstream.stands(number);
    if class == Class::Reset && in_flight.connection().is_some_and(stands) {
        in_flight.on_connection(None);
    }
}

/// Can the request be sent again on another connection without being worked on twice where that matters?
fn harmless(trouble: &Trouble, repeatable: Repeatable) -> bool {
    match trouble {
        Trouble::Unseen(_) => true,
        Trouble::Died(_) => repeatable == Repeatable::Always,
        Trouble::Connect(_)
        | Trouble::Exhausted(_)
        | Trouble::Reset(_)
        | Trouble::Malformed(_)
        | Trouble::Answered { .. }
        | Trouble::FirstByte
        | Trouble::Stalled
        | Trouble::Total
        | Trouble::BadRequest(_)
        | Trouble::ClientGone
        | Trouble::ClientStalled
        | Trouble::Client(_) => false,
    }
}

/// A whole request that may be sent twice. Its head is one for HTTP/2, which HTTP/1 can send too.
pub(super) struct Whole {
    pub(super) head: Box<RequestHeader>,
    pub(super) body: Bytes,
    /// It is gRPC.
    pub(super) call: bool,
}

/// A replica that has begun to answer: its head is read.
pub(super) struct Begun {
    pub(super) session: ReplicaSession,
    /// Informational answers that came before the head, in their order. They promise nothing until this attempt wins.
    pub(super) hints: Vec<ResponseHeader>,
    pub(super) first: First,
    /// The connection can be in step with the next answer.
    pub(super) keep: bool,
}

/// What the first read of a body gave.
#[derive(Debug)]
pub(super) enum First {
    /// There is no body to read.
    Nothing,
    Chunk(Bytes),
    /// It was empty.
    End,
}

/// What carries an attempt, as soon as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carrier {
    /// The number of a shared connection.
    connection: Option<u64>,
    /// When a new connection was made for it.
    connected: Option<Moment>,
}

impl Carrier {
    pub(super) fn of(checkout: &Checkout, now: impl Fn() -> Moment) -> Self {
        let connected = (!checkout.reused).then(now);
        Self { connection: checkout.connection, connected }
    }

    pub(super) fn tell(self, in_flight: &mut InFlight) {
        in_flight.on_connection(self.connection);
        if let Some(connected) = self.connected {
            in_flight.connects(connected);
        }
    }
}

impl Begun {
    /// What its head says of the replica.
    pub(super) fn meaning(&self, call: bool) -> Option<Meaning> {
        Some(Meaning::of(self.session.head()?, call))
    }
}

/// Asks a replica, up to the first byte of its answer.
pub(super) async fn open(
    proxy: Arc<Proxy>,
    replica: Arc<Replica>,
    whole: Whole,
    timeouts: &Timeouts,
    carrier: Arc<Mutex<Carrier>>,
) -> Result<Begun, Trouble> {
    let Whole { mut head, body, call } = whole;
    let mut asking = Asking::new(&replica, timeouts, false, call);
    loop {
        let checkout = asking.connect(proxy.now()).await?;
        *carrier.lock() = Carrier::of(&checkout, || proxy.now());
        let Checkout { mut session, reused, .. } = checkout;
        if !session.is_http2() {
            head.set_version(http::Version::HTTP_11);
            join_cookies(&mut head);
        }
        session.set_write_timeout(Some(timeouts.between_chunks));
        let mut heard = Heard::default();
        let begun = async {
            send_whole(&mut session, head.clone(), body.clone(), false).await?;
            let answer = first_byte(&mut session, &head.method, &mut heard);
            timeout(timeouts.first_byte, answer).await.unwrap_or(Err(Trouble::FirstByte))
        };
        match begun.await {
            Ok((first, keep)) => {
                return Ok(Begun { session, hints: heard.hints, first, keep });
            }
            Err(trouble) if asking.again(reused, &trouble, Repeatable::Always, heard.any) => {}
            Err(trouble) => return Err(trouble),
        }
    }
}

/// What came before the head of an answer.
#[derive(Default)]
struct Heard {
    /// A head came, be it 1xx.
    any: bool,
    hints: Vec<ResponseHeader>,
}

/// Reads the head, and the first of the body where there is one. With that comes whether the connection can be kept.
async fn first_byte(
    session: &mut ReplicaSession,
    asked: &Method,
    heard: &mut Heard,
) -> Result<(First, bool), Trouble> {
    let framed = loop {
        session.read_head().await?;
        heard.any = true;
        let framed = Framed::of(session, asked)?;
        let Some(head) = session.head() else { continue };
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Trouble::uninvited_upgrade());
        }
        if !head.status.is_informational() {
            break framed;
        }
        if head.status != StatusCode::CONTINUE && heard.hints.len() < MOST_HINTS {
            heard.hints.push(head.clone());
        }
    };
    let first = if framed.bare || session.is_done() {
        First::Nothing
    } else {
        session.read_body().await?.map_or(First::End, First::Chunk)
    };
    Ok((first, framed.keep))
}
