//! The connections kept open to one replica: HTTP/1 parked last in first out, HTTP/2 shared by streams.
use super::conn::Conn;
use super::dialed::Dialed;
use super::http1::Http1;
use super::replica_session::ReplicaSession;
use crate::stats::Moment;
use crate::tls::ClientTls;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pingora_core::connectors::http::v2::{ConnectionRef, H2HandshakeSettings, handshake};
use pingora_core::protocols::Stream;
use pingora_error::ErrorType::{ConnectError, ConnectTimedout};
use pingora_error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A connection unused for so long is closed: below the 5 s after which uvicorn, which serves most models, closes.
const PARKED: Duration = Duration::from_secs(4);
/// Connections parked at most for one replica.
const MAX_PARKED: usize = 256;
/// Streams on one HTTP/2 connection before another is opened.
const MAX_STREAMS: usize = 100;

/// What a replica may send for a client that does not read. A stream shares room for small frames with all others.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What it may send for all clients of a connection together. Half of it is room for small frames that nobody has read
/// yet, at 256 bytes each; where that is used up, the h2 crate closes the connection under all of its streams.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Streams in the life of an HTTP/2 connection, after which it gets no more: what the h2 crate counts against a peer, it
/// counts for ever, small frames of answers that nobody waits for any more among it.
const LIFETIME_STREAMS: u64 = 1000;

#[derive(Debug)]
struct Parked {
    conn: Box<Conn>,
    since: Moment,
}

/// One replica, seen as connections.
pub struct Upstream {
    pub(super) dialed: Dialed,
    /// Of its version.
    pub(super) tls: ArcSwapOption<ClientTls>,
    /// It chose HTTP/2 when it last had the choice.
    pub(super) chose_http2: AtomicBool,
    /// Why the last TLS handshake failed; `None`: it did not.
    pub(super) distrust: ArcSwapOption<String>,
    parked: Mutex<Vec<Parked>>,
    shared: Mutex<Vec<Shared>>,
    /// HTTP/2 connections opened so far.
    opened: AtomicU64,
    /// No table lists it: what runs ends, and nothing is kept for more.
    retired: AtomicBool,
}

/// An HTTP/2 connection, told from the others of this replica by its number.
#[derive(Clone)]
struct Shared {
    conn: ConnectionRef,
    number: u64,
    streams: Arc<AtomicU64>,
    /// Of the TLS settings that it was made with.
    serial: u64,
}

impl Shared {
    /// It ends with the streams that it has.
    fn is_worn_out(&self) -> bool {
        self.streams.load(Relaxed) >= LIFETIME_STREAMS
    }

    fn has_room(&self) -> bool {
        self.conn.more_streams_allowed() && !self.is_worn_out()
    }

    async fn checkout(&self, reused: bool) -> Result<Option<Checkout>> {
        let Some(stream) = self.conn.spawn_stream().await? else { return Ok(None) };
        self.streams.fetch_add(1, Relaxed);
        let (session, connection) = (ReplicaSession::Http2(Box::new(stream)), Some(self.number));
        Ok(Some(Checkout { session, reused, connection }))
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("dialed", &self.dialed).finish_non_exhaustive()
    }
}

/// A session ready for one exchange.
pub struct Checkout {
    pub session: ReplicaSession,
    /// The connection served before: it may have died unnoticed.
    pub reused: bool,
    /// The number of the connection that other streams share; `None` for HTTP/1.
    pub connection: Option<u64>,
}

impl Checkout {
    /// Over a connection of HTTP/1.
    pub fn over(conn: Box<Conn>, reused: bool) -> Self {
        let session = ReplicaSession::Http1(Box::new(Http1::new(conn)));
        Self { session, reused, connection: None }
    }
}

impl std::fmt::Debug for Checkout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkout").field("reused", &self.reused).finish_non_exhaustive()
    }
}

impl Upstream {
    pub fn new(dialed: Dialed) -> Self {
        let (parked, shared) = (Mutex::default(), Mutex::default());
        let (opened, retired) = (AtomicU64::default(), AtomicBool::default());
        let (tls, distrust) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        let chose_http2 = AtomicBool::default();
        Self { dialed, tls, chose_http2, distrust, parked, shared, opened, retired }
    }

    /// A session on a kept connection, or on a new one when none is left or `fresh` asks for it.
    /// `upgrade`: it is to leave HTTP, which HTTP/2 cannot.
    pub async fn checkout(
        &self,
        connect: Duration,
        fresh: bool,
        upgrade: bool,
        now: Moment,
    ) -> Result<Checkout> {
        if !fresh && let Some(kept) = self.kept(upgrade, now).await {
            return Ok(kept);
        }
        let conn = self.dial(connect, upgrade).await?;
        if conn.is_http2() {
            return self.greet(conn, connect).await;
        }
        Ok(Checkout::over(Box::new(conn), false))
    }

    async fn kept(&self, upgrade: bool, now: Moment) -> Option<Checkout> {
        if self.may_speak_http2() && !upgrade {
            for shared in self.open_http2() {
                if let Ok(Some(checkout)) = shared.checkout(true).await {
                    return Some(checkout);
                }
            }
        }
        let parked = self.unpark_alive(now)?;
        Some(Checkout::over(parked.conn, true))
    }

    /// The connection parked last that its peer did not close.
    fn unpark_alive(&self, now: Moment) -> Option<Parked> {
        let serial = self.serial();
        let alive = |parked: &Parked| parked.conn.serial() == serial && parked.conn.alive();
        std::iter::from_fn(|| self.unpark(now)).find(alive)
    }

    fn unpark(&self, now: Moment) -> Option<Parked> {
        let mut parked = self.parked.lock();
        let newest = parked.pop()?;
        if now.since(newest.since) < PARKED {
            return Some(newest);
        }
        // Last in, first out: when the newest is too old, all are.
        let old = std::mem::take(&mut *parked);
        drop(parked);
        drop(old);
        None
    }

    /// Begins HTTP/2 on a new connection, which later requests share.
    async fn greet(&self, conn: Conn, connect: Duration) -> Result<Checkout> {
        let serial = conn.serial();
        let stream: Stream = Box::new(conn);
        let mut settings = H2HandshakeSettings::new();
        settings.max_streams = MAX_STREAMS;
        settings.stream_window_size = Some(STREAM_WINDOW);
        settings.connection_window_size = Some(CONNECTION_WINDOW);
        settings.ping_interval = Some(Duration::from_secs(20));
        let greeted = tokio::time::timeout(connect, handshake(stream, settings)).await;
        let conn = greeted.map_err(|_| Error::explain(ConnectTimedout, "HTTP/2 handshake"))??;
        let number = self.opened.fetch_add(1, Relaxed);
        let opened = Shared { conn, number, streams: Arc::default(), serial };
        let checkout = opened.checkout(false).await?;
        let checkout = checkout.ok_or_else(|| Error::explain(ConnectError, "no HTTP/2 stream"))?;
        let mut shared = self.shared.lock();
        // Else its stream alone holds it.
        if !self.retired.load(Relaxed) {
            shared.push(opened);
        }
        drop(shared);
        Ok(checkout)
    }

    /// Does the HTTP/2 connection of this number still stand?
    pub fn stands(&self, number: u64) -> bool {
        self.shared.lock().iter().any(|shared| shared.number == number && !shared.conn.is_closed())
    }

    /// The HTTP/2 connections with room, forgetting the closed ones and those of other TLS settings.
    fn open_http2(&self) -> Vec<Shared> {
        let present = self.serial();
        let mut shared = self.shared.lock();
        shared.retain(|Shared { conn, serial, .. }| {
            *serial == present && !conn.is_closed() && !conn.is_shutting_down()
        });
        shared.iter().filter(|shared| shared.has_room()).cloned().collect()
    }

    /// Takes a session back after a whole exchange; closes what cannot be used again.
    pub async fn park(&self, session: ReplicaSession, now: Moment) {
        let ReplicaSession::Http1(http1) = session else { return };
        // A replica that answered before it took all of the request: nobody would send it the rest.
        if http1.reins().queued() > 0 {
            return;
        }
        let Some(conn) = http1.into_kept().await else { return };
        if conn.serial() != self.serial() {
            return;
        }
        let mut parked = self.parked.lock();
        if parked.len() < MAX_PARKED && !self.retired.load(Relaxed) {
            parked.push(Parked { conn, since: now });
        }
    }

    /// The replica left: what nobody uses closes now, and the rest when its request ends.
    pub fn retire(&self) {
        self.retired.store(true, Relaxed);
        // Each taken after the mark is set: whoever keeps a connection looks for it under the same lock.
        let parked = std::mem::take(&mut *self.parked.lock());
        let shared = std::mem::take(&mut *self.shared.lock());
        drop((parked, shared));
    }

    /// The replica joined: connections are kept.
    pub fn join(&self) {
        self.retired.store(false, Relaxed);
    }

    /// Closes what nobody used since. Called by the second.
    pub fn close_parked(&self, older_than: Moment) {
        let mut parked = self.parked.lock();
        let old = parked.partition_point(|parked| parked.since < older_than);
        let kept = parked.split_off(old);
        let old = std::mem::replace(&mut *parked, kept);
        drop(parked);
        drop(old);
        // Of the HTTP/2 connections that run nothing, one is enough to begin with.
        let mut idle = 0;
        self.shared.lock().retain(|shared| {
            let is_spare = shared.conn.is_idle() && (shared.is_worn_out() || idle > 0);
            idle += usize::from(shared.conn.is_idle() && !is_spare);
            !shared.conn.is_closed() && !is_spare
        });
    }
}
