//! What carries the bytes of a connection: a socket, or TLS over one.
use super::exhausted::is_for_replicas;
use bytes::{Buf, BytesMut};
use socket2::TcpKeepalive;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// How a peer that is gone without a word is noticed, however long nothing is to be sent: within 75 s.
pub fn keepalive() -> TcpKeepalive {
    let (time, interval) = (Duration::from_secs(30), Duration::from_secs(15));
    TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(3)
}

/// What carries the bytes.
#[derive(Debug)]
pub enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed: it is ten times as large, and rarer.
    Tls(Box<TlsStream<Begun>>),
}

/// A socket of which something was read already; that comes first.
#[derive(Debug)]
pub struct Begun {
    read: BytesMut,
    raw: Raw,
}

impl Begun {
    pub fn new(raw: Raw, read: BytesMut) -> Self {
        Self { read, raw }
    }
}

impl Raw {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
            Self::Tls(tls) => tls.get_ref().0.raw.fd(),
        }
    }

    /// Does this connection of a client leave descriptors to those of replicas?
    pub fn leaves_descriptors(&self) -> bool {
        !is_for_replicas(self.fd())
    }

    pub(super) fn is_over_tcp(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Unix(_) => false,
            Self::Tls(tls) => tls.get_ref().0.raw.is_over_tcp(),
        }
    }

    /// Has the peer said nothing, and not closed? Answers from the readiness already known: no system call unless it did.
    pub(super) fn is_silent(&self) -> bool {
        let silent = |read: io::Result<usize>| matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        match self {
            Self::Tcp(tcp) => silent(tcp.try_read(&mut [0])),
            Self::Unix(unix) => silent(unix.try_read(&mut [0])),
            Self::Tls(tls) => {
                let (begun, session) = tls.get_ref();
                // It wants no more while something is unread, or after the peer's goodbye. A record on the way would
                // be spoilt by this look; but nothing that a peer says now is good for the next request.
                session.wants_read() && begun.read.is_empty() && begun.raw.is_silent()
            }
        }
    }

    /// Is there something written that the socket has not taken? A socket alone keeps nothing.
    pub(super) fn is_behind(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.get_ref().1.wants_write(),
        }
    }

    /// The protocol that was agreed on with TLS.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Sockets keep nothing back.
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.read.is_empty() {
            return Pin::new(&mut me.raw).poll_read(cx, buf);
        }
        let n = me.read.len().min(buf.remaining());
        buf.put_slice(&me.read[..n]);
        me.read.advance(n);
        if me.read.is_empty() {
            me.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_shutdown(cx)
    }
}
