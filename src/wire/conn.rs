//! A connection as pingora's sessions want it, with the write buffering that they lack.
//!
//! pingora's own stream type has no buffers when it is made outside its listener, so that a head and a short body
//! cost two system calls. This one gathers writes until `flush`. The exchange that owns it changes by [`Reins`] how it
//! reads and writes: a session needs `&mut self` for either, and bytes must move both ways at once.
use super::chunks::Chunks;
use super::frames::{Frames, HEAD, SettingsFlood};
use super::raw::Raw;
use super::reins::{Reading, Reins};
use super::reset_watch::ResetWatch;
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes up to this many bytes are gathered; longer ones go out together with what was gathered.
const GATHER: usize = 16 * 1024;

/// What is read ahead of a client that waits for its answer, to see whether it left behind what it sent.
const READ_AHEAD: usize = 8 * 1024;

/// One connection, to a client or to a replica.
#[derive(Debug)]
pub struct Conn {
    raw: Raw,
    /// Read before somebody asked for it; given first.
    prefix: BytesMut,
    out: BytesMut,
    /// Zero for HTTP/2, which has its own frame buffer.
    gather: usize,
    /// Of HTTP/2.
    frames: Option<Frames>,
    /// Of a request's body that comes in chunks.
    chunks: Option<Chunks>,
    reins: Arc<Reins>,
    /// The sending side is closed, as `Reins::finish` asked.
    finished: bool,
    /// Of a peer that ended its sending.
    reset: Option<Box<ResetWatch>>,
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
        Self {
            raw,
            prefix,
            out: BytesMut::new(),
            gather,
            frames,
            chunks: None,
            reins: Arc::default(),
            finished: false,
            reset: None,
            serial: 0,
        }
    }

    /// Notes the TLS settings that it was made with.
    pub(super) fn made_with(self, serial: u64) -> Self {
        Self { serial, ..self }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.raw.fd()
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

    /// Sees whether bytes of HTTP/1 are framed as a body must be. An error is one of the connection, with `BadChunks`
    /// in it.
    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(chunks) = &mut self.chunks else { return Ok(()) };
        chunks.read(bytes).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))
    }

    /// Reads nothing for the reader, but sees whether the client leaves while it waits for its answer.
    fn poll_watch(&mut self, cx: &mut Context<'_>, half_close: bool) -> Poll<io::Result<()>> {
        while !self.reins.has_ended() {
            if self.prefix.len() >= READ_AHEAD {
                return Poll::Pending;
            }
            let mut ahead = [0; 512];
            let mut ahead = ReadBuf::new(&mut ahead);
            ready!(Pin::new(&mut self.raw).poll_read(cx, &mut ahead))?;
            self.prefix.extend_from_slice(ahead.filled());
            if ahead.filled().is_empty() {
                self.reins.note_end();
            }
        }
        if half_close { self.poll_reset(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Waits for a reset by a peer that ended its sending.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { raw, reset, .. } = self;
        let watch = reset.get_or_insert_with(|| Box::new(ResetWatch::new(raw)));
        watch.poll(cx).map(Err)
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
        if self.prefix.is_empty() {
            self.prefix = BytesMut::new();
        }
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
            self.reins.note_written(n);
            self.note_queued();
        }
        if self.raw.is_behind() {
            let flushed = Pin::new(&mut self.raw).poll_flush(cx);
            self.note_queued();
            ready!(flushed)?;
        }
        if self.must_finish() {
            ready!(Pin::new(&mut self.raw).poll_shutdown(cx))?;
            self.finished = true;
        }
        Poll::Ready(Ok(()))
    }

    fn must_finish(&self) -> bool {
        self.reins.is_finishing() && !self.finished
    }

    /// What TLS has taken and the socket has not, is queued too.
    fn note_queued(&self) {
        let queued = self.out.len() + usize::from(self.raw.is_behind());
        self.reins.note_queued(queued);
    }

    /// Pushes while reading goes on. A peer that takes no more may have said why before: what it said is read first,
    /// and the end of the connection after it.
    fn push_queue(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.push(cx) {
            tracing::trace!(%error, "the peer takes no more");
            self.out.clear();
            self.finished |= self.reins.is_finishing();
            self.reins.note_queued(0);
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
        let reading = me.reins.reading();
        if me.reins.is_duplex() && (me.reins.queued() > 0 || me.must_finish()) {
            me.push_queue(cx);
        }
        if matches!(reading, Reading::Watch | Reading::WatchHalf) {
            return me.poll_watch(cx, reading == Reading::WatchHalf);
        }
        let before = buf.filled().len();
        if !me.give_prefix(buf) {
            if me.reins.is_held() {
                // Woken by our own socket's writability, or by the other connection: both belong to one task.
                return Poll::Pending;
            }
            if me.frames.is_some() {
                return me.poll_sifted(cx, buf);
            }
            let ends = reading == Reading::Tunnel;
            if ends && me.reins.has_ended() {
                return me.poll_reset(cx);
            }
            ready!(Pin::new(&mut me.raw).poll_read(cx, buf))?;
            if ends && buf.filled().len() == before {
                me.reins.note_end();
                return me.poll_reset(cx);
            }
        }
        Poll::Ready(me.check(&buf.filled()[before..]))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        let fits = me.reins.gathers() && me.out.len() + buf.len() <= me.gather;
        if me.reins.is_duplex() || fits {
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
            me.reins.note_written(n);
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
        if self.reins.is_corked() {
            return Poll::Ready(Ok(()));
        }
        if self.reins.is_duplex() {
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

#[cfg(test)]
mod tests;
