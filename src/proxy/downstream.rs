//! The client's connection while it is answered: what is written to it, for as long as that may take, and how it is read
//! meanwhile. It knows no replica.
use crate::flow::Trouble;
use crate::table::ClientLimits;
use crate::wire::{Reading, Reins};
use bytes::Bytes;
use http::{HeaderMap, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use std::sync::Arc;
use tokio::time::timeout;

/// The client's side of an exchange.
pub(super) struct Downstream<'a> {
    pub(super) session: &'a mut ServerSession,
    /// HTTP/1 only.
    pub(super) reins: Option<&'a Arc<Reins>>,
    pub(super) limits: &'a ClientLimits,
}

impl Downstream<'_> {
    /// From here on a read of the client tells only that it left. One that ended its sending has left, unless the
    /// listener says `half_close`.
    pub(super) fn watch(&self) {
        let half = self.limits.half_close;
        self.read_as(if half { Reading::WatchHalf } else { Reading::Watch });
    }

    pub(super) fn read_as(&self, reading: Reading) {
        if let Some(reins) = self.reins {
            reins.read_as(reading);
        }
    }

    /// Passes an informational answer on. Returns whether it went out: clients of HTTP/1.0 know no 1xx, and pingora
    /// writes none to HTTP/2.
    pub(super) async fn inform(&mut self, mut head: Box<ResponseHeader>) -> Result<bool, Trouble> {
        if self.session.req_header().version != Version::HTTP_11 {
            return Ok(false);
        }
        head.remove_header(&header::CONTENT_LENGTH);
        self.while_it_reads(async |session| session.write_response_header(head).await).await?;
        Ok(true)
    }

    /// `done`: no body follows.
    pub(super) async fn head(
        &mut self,
        head: Box<ResponseHeader>,
        done: bool,
    ) -> Result<(), Trouble> {
        self.while_it_reads(async |session| {
            if let ServerSession::H2(http2) = session {
                return http2.write_response_header(head, done);
            }
            session.write_response_header(head).await
        })
        .await
    }

    pub(super) async fn body(&mut self, bytes: Bytes, end: bool) -> Result<(), Trouble> {
        self.while_it_reads(async |session| session.write_response_body(bytes, end).await).await
    }

    /// Ends the answer, by its trailers where there are some and HTTP/2 carries them.
    pub(super) async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Trouble> {
        if let (Some(trailers), ServerSession::H2(http2)) = (trailers, &mut *self.session) {
            return http2.write_trailers(trailers).map_err(|error| of_client(&error));
        }
        self.body(Bytes::new(), true).await
    }

    /// What is written from here on is kept, to leave in one piece when this is turned off.
    pub(super) fn cork(&self, on: bool) {
        if let Some(reins) = self.reins {
            reins.cork(on);
        }
    }

    /// Writes for as long as one write may take: pingora's own limit leaves heads and flushes out.
    async fn while_it_reads(
        &mut self,
        write: impl AsyncFnOnce(&mut ServerSession) -> Result<()>,
    ) -> Result<(), Trouble> {
        match timeout(self.limits.write_timeout, write(self.session)).await {
            Ok(written) => written.map_err(|error| of_client(&error)),
            Err(_) => Err(Trouble::ClientStalled),
        }
    }
}

/// An error on the client's side.
fn of_client(error: &Error) -> Trouble {
    if *error.etype() == ErrorType::WriteTimedout {
        Trouble::ClientStalled
    } else {
        Trouble::ClientGone
    }
}
