//! One exchange with a replica, over HTTP/1 or as a stream of HTTP/2.
use super::http1::Http1;
use super::reins::Reins;
use bytes::Bytes;
use http::HeaderMap;
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::time::Duration;

/// One exchange with a replica.
pub enum ReplicaSession {
    Http1(Box<Http1>),
    Http2(Box<Http2Session>),
}

impl std::fmt::Debug for ReplicaSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple(if self.is_http2() { "Http2" } else { "Http1" }).finish()
    }
}

impl ReplicaSession {
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Those of its connection, where no other stream shares that.
    pub fn reins(&self) -> Option<Arc<Reins>> {
        match self {
            Self::Http1(http1) => Some(http1.reins()),
            Self::Http2(_) => None,
        }
    }

    /// Of each write by itself.
    pub fn set_write_timeout(&mut self, limit: Option<Duration>) {
        match self {
            Self::Http1(http1) => http1.set_write_timeout(limit),
            Self::Http2(http2) => http2.write_timeout = limit,
        }
    }

    /// Writes the head of the request. `more`: its whole body follows at once; `bodiless`: it has none.
    pub async fn write_head(
        &mut self,
        head: Box<RequestHeader>,
        more: bool,
        bodiless: bool,
    ) -> Result<()> {
        match self {
            Self::Http1(http1) => http1.write_head(&head, more).await,
            Self::Http2(http2) => http2.write_request_header(head, bodiless),
        }
    }

    /// Writes of the body. `end`: it is the last.
    pub async fn write_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        match self {
            Self::Http1(http1) => http1.write_body(bytes).await,
            Self::Http2(http2) => http2.write_request_body(bytes, end).await,
        }
    }

    /// The request is whole.
    pub async fn finish(&mut self) -> Result<()> {
        match self {
            Self::Http1(http1) => http1.finish().await,
            Self::Http2(http2) => http2.finish_request_body(),
        }
    }

    /// Reads the next head. Over HTTP/1, informational answers come before the last one.
    pub async fn read_head(&mut self) -> Result<()> {
        match self {
            Self::Http1(http1) => http1.read_head().await,
            Self::Http2(http2) => http2.read_response_header().await,
        }
    }

    /// The next piece of the body; `None` at its end.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Http1(http1) => http1.read_body().await,
            Self::Http2(http2) => http2.read_response_body().await,
        }
    }

    /// The head that was read last.
    pub fn head(&self) -> Option<&ResponseHeader> {
        match self {
            Self::Http1(http1) => http1.head(),
            Self::Http2(http2) => http2.response_header(),
        }
    }

    /// Is all of the body read?
    pub fn is_done(&mut self) -> bool {
        match self {
            Self::Http1(http1) => http1.is_done(),
            Self::Http2(http2) => http2.response_finished(),
        }
    }

    /// What came after the body.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>> {
        match self {
            Self::Http1(http1) => Ok(http1.trailers()),
            Self::Http2(http2) => http2.read_trailers().await,
        }
    }
}
