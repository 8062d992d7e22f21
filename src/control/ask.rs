//! One HTTP request of Evener's own to a replica: a health check, or the question which models it serves. The caller
//! limits its time, this file its size.
use crate::fleet::Replica;
use crate::observe::Task;
use crate::wire::{Conn, Exhausted};
use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Bytes read of an answer's head at most.
const LONGEST_HEAD: usize = 64 << 10;
/// Bytes that a peer over HTTP/2 may send before they are read, and of its head.
const WINDOW: u32 = 64 << 10;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct EndsOnDrop(pub(super) AbortHandle);

impl Drop for EndsOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a replica gave no answer.
#[derive(Debug)]
pub(super) enum NotAnswered {
    /// The replica failed to, so.
    Failed(String),
    /// It could not be asked, which says nothing of the replica.
    Exhausted(Exhausted),
}

impl From<String> for NotAnswered {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Opens a connection to a replica.
pub(super) async fn dial(replica: &Replica, limit: Duration) -> Result<Conn, NotAnswered> {
    replica.upstream.dial(limit, false).await.map_err(|error| match Exhausted::of(&error) {
        Some(exhausted) => NotAnswered::Exhausted(exhausted),
        None => NotAnswered::Failed(in_words(&error)),
    })
}

/// Asks a replica on a connection of its own, which `limit` bounds, and reads `longest` bytes of the answer's body at most.
pub(super) async fn ask(
    replica: &Replica,
    limit: Duration,
    mut request: Request<Full<Bytes>>,
    longest: usize,
) -> Result<(StatusCode, Bytes), NotAnswered> {
    let upstream = &replica.upstream;
    let conn = dial(replica, limit).await?;
    let is_http2 = conn.is_http2();
    let io = TokioIo::new(conn);
    let words = |error: hyper::Error| error.to_string();
    let (response, _driver) = if is_http2 {
        let (scheme, authority) = (upstream.scheme(), upstream.authority());
        let uri = format!("{scheme}://{authority}{}", request.uri());
        *request.uri_mut() = uri.parse().map_err(|_| format!("`{uri}` is not a URL"))?;
        let (mut sender, connection) = http2_client().handshake(io).await.map_err(words)?;
        let driver = EndsOnDrop(Task::Probe.spawn(connection).abort_handle());
        (sender.send_request(request).await, driver)
    } else {
        let host = upstream.authority().parse().map_err(|_| "its address is no Host".to_owned())?;
        request.headers_mut().insert(HOST, host);
        let mut client = http1::Builder::new();
        client.max_buf_size(LONGEST_HEAD);
        let (mut sender, connection) = client.handshake(io).await.map_err(words)?;
        let driver = EndsOnDrop(Task::Probe.spawn(connection).abort_handle());
        (sender.send_request(request).await, driver)
    };
    let response = response.map_err(words)?;
    let status = response.status();
    let body = read_some(response.into_body(), longest).await.map_err(words)?;
    Ok((status, body))
}

/// A client whose peer cannot send more than is read.
pub(super) fn http2_client() -> http2::Builder<TokioExecutor> {
    let mut client = http2::Builder::new(TokioExecutor::new());
    client
        .max_header_list_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    client
}

/// Waits for the end of a body, so that one that never ends fails by the caller's time limit. A long one is not read to
/// its end.
async fn read_some(mut body: Incoming, longest: usize) -> hyper::Result<Bytes> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            read.extend_from_slice(&bytes[..bytes.len().min(longest - read.len())]);
        }
        if read.len() >= longest {
            break;
        }
    }
    Ok(read.freeze())
}

/// pingora's error without its own vocabulary.
fn in_words(error: &pingora_error::Error) -> String {
    match (&error.cause, &error.context) {
        (Some(cause), _) => cause.to_string(),
        (None, Some(context)) => context.as_str().to_owned(),
        (None, None) => error.etype().as_str().to_owned(),
    }
}
