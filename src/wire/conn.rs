//! A connection as pingora's sessions want it, with the write buffering that they lack.
//!
//! pingora's own stream type has no buffers when it is made outside its listener, so that a head and a short body
//! cost two system calls. This one gathers writes until `flush`, and has three reins for the exchange that owns it:
//!
//! - `cork` makes `flush` wait, so that a request's head and body leave in one write;
//! - `duplex` makes writes queue instead of block, and every read push the queue, so that a session which needs
//!   `&mut self` for reading and for writing still moves bytes both ways;
//! - `hold` stops reads while the queue of the other side is full.
use super::chunks::Chunks;
use super::frames::{Frames, HEAD, SettingsFlood};
use super::raw::Raw;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Writes up to this many bytes are gathered; longer ones go out together with what was gathered.
const GATHER: usize = 16 * 1024;

/// Queued bytes above which the other side is no longer read.
const QUEUE_HIGH: usize = 256 * 1024;

/// How long a closing connection may take to take its last bytes.
const CLOSE: Duration = Duration::from_secs(1);

/// What an exchange may ask of a connection that a session owns.
#[derive(Debug, Default)]
pub struct Reins {
    cork: AtomicBool,
    duplex: AtomicBool,
    hold: AtomicBool,
    queued: AtomicUsize,
    /// Bytes that the socket took: a write deadline looks whether this moved.
    written: AtomicUsize,
}

impl Reins {
    pub fn cork(&self, on: bool) {
        self.cork.store(on, Relaxed);
    }

    /// Begins or ends moving bytes both ways at once.
    pub fn duplex(&self, on: bool) {
        self.duplex.store(on, Relaxed);
        if !on {
            self.hold.store(false, Relaxed);
        }
    }

    pub fn hold(&self, on: bool) {
        self.hold.store(on, Relaxed);
    }

    /// Is so much queued for writing that its source must wait?
    pub fn full(&self) -> bool {
        self.queued.load(Relaxed) > QUEUE_HIGH
    }

    pub fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    pub fn written(&self) -> usize {
        self.written.load(Relaxed)
    }
}

/// One connection, to a client or to a replica.
#[derive(Debug)]
pub struct Conn {
    raw: Raw,
    /// Read while the protocol was being told; given back first.
    prefix: BytesMut,
    out: BytesMut,
    /// Zero for HTTP/2, which has its own frame buffer.
    gather: usize,
    /// Of HTTP/2.
    frames: Option<Frames>,
    /// Of a request's body that comes in chunks.
    chunks: Option<Chunks>,
    reins: Arc<Reins>,
    /// What it was made with, where that may change.
    serial: u64,
}

impl Conn {
    /// For HTTP/1.
    pub fn http1(raw: Raw) -> Self {
        Self::new(raw, BytesMut::new(), GATHER, None)
    }

    /// For HTTP/2, with a client of whom this was read, its preface first.
    pub fn http2_client(raw: Raw, mut read: BytesMut, preface: usize) -> Self {
        let mut frames = Frames::after(preface);
        let kept = frames.sift(&mut read);
        read.truncate(kept);
        Self::new(raw, read, 0, Some(frames))
    }

    /// For HTTP/2, with a replica.
    pub fn http2_replica(raw: Raw) -> Self {
        Self::new(raw, BytesMut::new(), 0, Some(Frames::after(0)))
    }

    fn new(raw: Raw, prefix: BytesMut, gather: usize, frames: Option<Frames>) -> Self {
        let (out, reins) = (BytesMut::new(), Arc::default());
        Self { raw, prefix, out, gather, frames, chunks: None, reins, serial: 0 }
    }

    /// Notes the TLS settings that it was made with.
    pub(super) fn made_with(self, serial: u64) -> Self {
        Self { serial, ..self }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub fn is_http2(&self) -> bool {
        self.frames.is_some()
    }

    pub fn reins(&self) -> Arc<Reins> {
        Arc::clone(&self.reins)
    }

    /// What is read from here on is a body in chunks, begun so, or is not.
    pub fn expect_chunks(&mut self, chunks: Option<Chunks>) {
        self.chunks = chunks;
    }

    /// Reads bytes of HTTP/1. An error of the framing is one of the connection, with `BadChunks` in it.
    fn poll_checked(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.raw).poll_read(cx, buf))?;
        Poll::Ready(match &mut self.chunks {
            Some(chunks) => chunks
                .read(&buf.filled()[before..])
                .map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad)),
            None => Ok(()),
        })
    }

    /// May a parked connection be used again? Answers from the readiness already known: no system call unless the
    /// peer sent something or closed.
    pub fn alive(&self) -> bool {
        self.prefix.is_empty()
            && self.out.is_empty()
            && !self.raw.is_behind()
            && self.raw.is_silent()
    }

    /// Makes the close that follows a reset, so that a cut body cannot pass for a whole one.
    pub fn reset_on_close(&self) {
        let linger = socket2::SockRef::from(&self.raw.fd()).set_linger(Some(Duration::ZERO));
        if let Err(error) = linger {
            tracing::debug!(%error, "cannot set linger");
        }
    }

    /// Was there anything?
    fn give_prefix(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix.split_to(n));
        n > 0
    }

    /// Reads frames, without those that mean nothing.
    fn poll_sifted(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { raw, frames: Some(frames), .. } = self else {
            return Pin::new(&mut self.raw).poll_read(cx, buf);
        };
        while buf.remaining() > frames.held().len() {
            if ready!(read_sifted(raw, frames, cx, buf))? == Some(0) {
                continue;
            }
            return Poll::Ready(Ok(()));
        }
        // No room for the head that was begun: it is completed apart.
        let mut apart = [0; HEAD];
        let mut apart = ReadBuf::new(&mut apart);
        while ready!(read_sifted(raw, frames, cx, &mut apart))? == Some(0) {}
        self.prefix.extend_from_slice(apart.filled());
        self.give_prefix(buf);
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(Pin::new(&mut self.raw).poll_write(cx, &self.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
            self.reins.written.fetch_add(n, Relaxed);
            self.note_queued();
        }
        if !self.raw.is_behind() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.raw).poll_flush(cx);
        self.note_queued();
        flushed
    }

    /// What TLS has taken and the socket has not, is queued too.
    fn note_queued(&self) {
        let queued = self.out.len() + usize::from(self.raw.is_behind());
        self.reins.queued.store(queued, Relaxed);
    }

    /// Pushes while reading goes on. A peer that takes no more may have said why before: what it said is read first,
    /// and the end of the connection after it.
    fn push_queue(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.push(cx) {
            tracing::trace!(%error, "the peer takes no more");
            self.out.clear();
            self.reins.queued.store(0, Relaxed);
        }
    }
}

/// Reads once, after what was held back. Returns how much passes, or `None` at the end of the connection: whether that
/// may come within a head, is the protocol's to judge.
fn read_sifted(
    raw: &mut Raw,
    frames: &mut Frames,
    cx: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<io::Result<Option<usize>>> {
    let began = into.filled().len();
    into.put_slice(frames.held());
    let before = into.filled().len();
    let read = Pin::new(raw).poll_read(cx, into);
    if !matches!(read, Poll::Ready(Ok(()))) {
        into.set_filled(began);
        return read.map_ok(|()| None);
    }
    if into.filled().len() == before {
        frames.forget();
        return Poll::Ready(Ok(None));
    }
    let kept = frames.sift(&mut into.filled_mut()[began..]);
    into.set_filled(began + kept);
    if frames.is_flood() {
        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, SettingsFlood)));
    }
    Poll::Ready(Ok(Some(kept)))
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.give_prefix(buf) {
            return Poll::Ready(Ok(()));
        }
        if me.reins.queued() > 0 && me.reins.duplex.load(Relaxed) {
            me.push_queue(cx);
        }
        if me.reins.hold.load(Relaxed) {
            // Woken by our own socket's writability, or by the other connection: both belong to one task.
            return Poll::Pending;
        }
        if me.frames.is_some() { me.poll_sifted(cx, buf) } else { me.poll_checked(cx, buf) }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        if me.reins.duplex.load(Relaxed) || me.out.len() + buf.len() <= me.gather {
            me.out.extend_from_slice(buf);
            me.note_queued();
            return Poll::Ready(Ok(buf.len()));
        }
        loop {
            let queued = me.out.len();
            let both = [IoSlice::new(&me.out), IoSlice::new(buf)];
            let n = ready!(Pin::new(&mut me.raw).poll_write_vectored(cx, &both))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            me.reins.written.fetch_add(n, Relaxed);
            me.out.advance(n.min(queued));
            me.note_queued();
            if n > queued {
                return Poll::Ready(Ok(n - queued));
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.gather == 0 && self.out.is_empty() {
            return Pin::new(&mut self.raw).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| &**b);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.gather == 0
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reins.cork.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        if self.reins.duplex.load(Relaxed) {
            self.push_queue(cx);
            return Poll::Ready(Ok(())); // reading goes on with it
        }
        self.push(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.push(cx)) {
            Ok(()) => Pin::new(&mut self.raw).poll_shutdown(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        self.reins.cork(false);
        self.reins.duplex(false);
        let closed = tokio::time::timeout(CLOSE, AsyncWriteExt::shutdown(self)).await;
        if let Ok(Err(error)) = closed {
            tracing::trace!(%error, "peer closed first");
        }
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.raw.fd().as_raw_fd()
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        None
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Conn {}
