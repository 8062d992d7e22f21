//! One exchange of HTTP/1 with a replica, over a connection that it owns.
use super::answer::AnswerReader;
use super::body::Piece;
use super::head::{AnswerFraming, AnswerHead};
use super::write::{Framing, LAST_CHUNK, head_bytes};
use crate::wire::conn::Conn;
use crate::wire::reins::Reins;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use pingora_core::protocols::Shutdown;
use pingora_error::ErrorType::{
    ConnectionClosed, InvalidHTTPHeader, ReadError, WriteError, WriteTimedout,
};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

const BAD_BODY: ErrorType = ErrorType::new("InvalidBody");
const CUT_SHORT: ErrorType = ErrorType::new("PrematureBodyEnd");

/// What is read at once, at least and at most: as much as came the last time.
const SMALL: usize = 4 * 1024;
const LARGE: usize = 64 * 1024;

/// One exchange with a replica.
#[derive(Debug)]
pub struct Http1 {
    conn: Box<Conn>,
    sending: Framing,
    /// The request says that the connection ends with it.
    closes: bool,
    answer: AnswerReader,
    head: Option<Box<ResponseHeader>>,
    framing: AnswerFraming,
    /// How much is read at once.
    room: usize,
    write_timeout: Option<Duration>,
}

impl Http1 {
    pub fn new(conn: Box<Conn>) -> Self {
        Self {
            conn,
            sending: Framing::Ended,
            closes: false,
            answer: AnswerReader::default(),
            head: None,
            framing: AnswerFraming::default(),
            room: SMALL,
            write_timeout: None,
        }
    }

    pub fn reins(&self) -> Arc<Reins> {
        self.conn.reins()
    }

    /// Of each write by itself.
    pub fn set_write_timeout(&mut self, limit: Option<Duration>) {
        self.write_timeout = limit;
    }

    /// Writes the head of the request. `more`: its body follows at once, and leaves in the same write.
    pub async fn write_head(&mut self, head: &RequestHeader, more: bool) -> Result<()> {
        let bytes = head_bytes(head).ok_or_else(|| {
            Error::explain(InvalidHTTPHeader, "its target or version is none of HTTP/1's")
        })?;
        self.sending = Framing::of(&head.headers);
        self.answer = AnswerReader::new(head.method == Method::HEAD);
        self.closes = has_token(&head.headers, "close");
        let Self { conn, write_timeout, .. } = self;
        timed(*write_timeout, "the head", async {
            conn.write_all(&bytes).await?;
            if more { Ok(()) } else { conn.flush().await }
        })
        .await
    }

    /// Writes of the body. What is beyond the length that its head told, is left out.
    pub async fn write_body(&mut self, mut bytes: Bytes) -> Result<()> {
        if let Framing::Length(left) = self.sending
            && bytes.len() as u64 > left
        {
            tracing::warn!(left, bytes = bytes.len(), "a body is longer than its head told");
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let Self { conn, write_timeout, sending, .. } = self;
        timed(*write_timeout, "the body", async {
            match sending {
                Framing::Ended => return Ok(()),
                Framing::Length(left) => {
                    conn.write_all(&bytes).await?;
                    *left -= bytes.len() as u64;
                    if *left > 0 {
                        return Ok(());
                    }
                }
                Framing::Tunnel => conn.write_all(&bytes).await?,
                Framing::Chunked => {
                    conn.write_all(format!("{:X}\r\n", bytes.len()).as_bytes()).await?;
                    conn.write_all(&bytes).await?;
                    conn.write_all(b"\r\n").await?;
                }
            }
            conn.flush().await
        })
        .await
    }

    /// The request is whole.
    pub async fn finish(&mut self) -> Result<()> {
        let sending = std::mem::replace(&mut self.sending, Framing::Ended);
        if let Framing::Length(left @ 1..) = sending {
            return Error::e_explain(CUT_SHORT, format!("{left} bytes of the body are missing"));
        }
        let Self { conn, write_timeout, .. } = self;
        timed(*write_timeout, "the end of the body", async {
            if sending == Framing::Chunked {
                conn.write_all(LAST_CHUNK).await?;
            }
            conn.flush().await
        })
        .await
    }

    /// Reads the next head: of an informational answer, or of the last one.
    pub async fn read_head(&mut self) -> Result<()> {
        loop {
            let read = self.answer.head();
            let read = read.map_err(|bad| Error::because(InvalidHTTPHeader, "its head", bad))?;
            if let Some(AnswerHead { head, framing }) = read {
                (self.head, self.framing) = (Some(head), framing);
                return Ok(());
            }
            if self.fill().await? == 0 {
                let read = self.answer.buf().len();
                return Error::e_explain(ConnectionClosed, format!("{read} bytes into its head"));
            }
        }
    }

    pub fn head(&self) -> Option<&ResponseHeader> {
        self.head.as_deref()
    }

    /// What the head that was read last says of its body.
    pub fn framing(&self) -> AnswerFraming {
        self.framing
    }

    /// The next piece of the body; `None` at its end.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        loop {
            let piece = self.answer.piece();
            match piece.map_err(|bad| Error::because(BAD_BODY, "its body", bad))? {
                Piece::Data(data) => return Ok(Some(data)),
                Piece::End => return Ok(None),
                Piece::More => {}
            }
            if self.fill().await? == 0 {
                let closed = self.answer.close();
                closed.map_err(|bad| Error::because(ConnectionClosed, "its body", bad))?;
            }
        }
    }

    async fn fill(&mut self) -> Result<usize> {
        let ahead = self.answer.ahead();
        let buf = self.answer.buf();
        // Else what is left of the room is too small for a read of its own.
        if buf.capacity() - buf.len() < SMALL {
            buf.reserve(self.room.max(ahead.min(LARGE)));
        }
        let room = buf.capacity() - buf.len();
        let read = self.conn.read_buf(buf).await;
        let n = read.map_err(|error| Error::because(ReadError, "an answer", error))?;
        self.room = if n == room { (self.room * 4).min(LARGE) } else { n.clamp(SMALL, LARGE) };
        Ok(n)
    }

    /// Is all of the body read?
    pub fn is_done(&self) -> bool {
        self.answer.is_done()
    }

    pub fn has_trailers(&self) -> bool {
        self.answer.has_trailers()
    }

    /// What came after the body, once.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        self.answer.trailers()
    }

    /// From here on bytes of any kind are written, if both sides left HTTP.
    pub fn begin_tunnel(&mut self) {
        if self.head().is_some_and(|head| head.status == StatusCode::SWITCHING_PROTOCOLS) {
            self.sending = Framing::Tunnel;
        }
    }

    /// The connection, where another exchange may follow on it; else it is closed.
    pub(in crate::wire) async fn into_kept(mut self) -> Option<Box<Conn>> {
        if self.may_be_kept() {
            return Some(self.conn);
        }
        Shutdown::shutdown(&mut *self.conn).await;
        None
    }

    fn may_be_kept(&self) -> bool {
        let Some(head) = &self.head else { return false };
        if self.closes || has_token(&head.headers, "close") || !self.answer.is_in_step() {
            return false;
        }
        // Chunks are none of HTTP/1.0's (RFC 9112 §6.1).
        head.version == Version::HTTP_11
            || (has_token(&head.headers, "keep-alive") && !self.framing.chunked)
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let mut tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

async fn timed(
    limit: Option<Duration>,
    what: &'static str,
    writing: impl Future<Output = io::Result<()>>,
) -> Result<()> {
    let written = match limit {
        Some(limit) => timeout(limit, writing)
            .await
            .map_err(|_| Error::explain(WriteTimedout, format!("{what}, within {limit:?}")))?,
        None => writing.await,
    };
    written.map_err(|error| Error::because(WriteError, what, error))
}

#[cfg(test)]
mod tests;
