//! One health check: over TCP or HTTP here, over gRPC in `grpc_probe`. The caller limits its time, this file its size.
use super::grpc_probe::ask_grpc;
use super::prober::Probing;
use crate::fleet::Replica;
use crate::health::{ProbeKind, ProbePlan};
use crate::observe::Task;
use crate::wire::{Conn, Exhausted};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

/// Bytes read of an answer: of its head at most, and of its body at most.
pub(super) const LONGEST: usize = 64 << 10;
/// The same for settings of HTTP/2.
pub(super) const LONGEST_U32: u32 = 64 << 10;

/// Why a health check did not pass.
#[derive(Debug)]
pub(super) enum NotPassed {
    /// The replica failed it, so.
    Failed(String),
    /// It could not be made, which says nothing of the replica.
    Exhausted(Exhausted),
}

impl From<String> for NotPassed {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Opens a connection for a health check.
pub(super) async fn dial(replica: &Replica, limit: Duration) -> Result<Conn, NotPassed> {
    replica.upstream.dial(limit, false).await.map_err(|error| match Exhausted::of(&error) {
        Some(exhausted) => NotPassed::Exhausted(exhausted),
        None => NotPassed::Failed(in_words(&error)),
    })
}

/// Asks a replica as its plan says.
pub(super) async fn probe(replica: &Replica, plan: &ProbePlan) -> Result<(), NotPassed> {
    let only = replica.upstream.only_http2();
    let by_grpc = only || (plan.ask == ProbeKind::Tcp && replica.upstream.takes_calls());
    if let Some(name) = plan.grpc.as_ref().filter(|_| by_grpc) {
        return ask_grpc(replica, plan.timeout, name).await;
    }
    let (method, path, body, expect) = match &plan.ask {
        ProbeKind::Tcp => return dial(replica, plan.timeout).await.map(drop),
        ProbeKind::Get { path, expect } => (Method::GET, path, String::new(), expect),
        ProbeKind::Post { path, body, expect } => (Method::POST, path, body.clone(), expect),
    };
    let mut request = Request::builder()
        .method(&method)
        .uri(path)
        .header(USER_AGENT, concat!("evener/", env!("CARGO_PKG_VERSION"), " (health check)"));
    if method == Method::POST {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    let status = ask_http(replica, plan.timeout, request).await?;
    if expect.iter().any(|range| range.contains(&status.as_u16())) {
        Ok(())
    } else {
        Err(format!("{method} {path} answered {status}").into())
    }
}

async fn ask_http(
    replica: &Replica,
    limit: Duration,
    mut request: Request<Full<Bytes>>,
) -> Result<StatusCode, NotPassed> {
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
        let driver = Probing(Task::Probe.spawn(connection).abort_handle());
        (sender.send_request(request).await, driver)
    } else {
        let host = upstream.authority().parse().map_err(|_| "its address is no Host".to_owned())?;
        request.headers_mut().insert(HOST, host);
        let mut client = http1::Builder::new();
        client.max_buf_size(LONGEST);
        let (mut sender, connection) = client.handshake(io).await.map_err(words)?;
        let driver = Probing(Task::Probe.spawn(connection).abort_handle());
        (sender.send_request(request).await, driver)
    };
    let response = response.map_err(words)?;
    let status = response.status();
    read_some(response.into_body()).await.map_err(words)?;
    Ok(status)
}

/// A client whose peer cannot send more than is read.
pub(super) fn http2_client() -> http2::Builder<TokioExecutor> {
    let mut client = http2::Builder::new(TokioExecutor::new());
    client
        .max_header_list_size(LONGEST_U32)
        .initial_stream_window_size(LONGEST_U32)
        .initial_connection_window_size(LONGEST_U32);
    client
}

/// Waits for the end of a body, so that one that never ends fails the health check by its timeout. A long one is not
/// read to its end: its status has said all.
async fn read_some(mut body: Incoming) -> hyper::Result<()> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
        if read >= LONGEST {
            return Ok(());
        }
    }
    Ok(())
}

/// pingora's error without its own vocabulary.
fn in_words(error: &pingora_error::Error) -> String {
    match (&error.cause, &error.context) {
        (Some(cause), _) => cause.to_string(),
        (None, Some(context)) => context.as_str().to_owned(),
        (None, None) => error.etype().as_str().to_owned(),
    }
}
