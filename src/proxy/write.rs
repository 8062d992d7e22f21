//! Writes towards a replica: a head, a body, or both at once.
use crate::flow::Trouble;
use crate::wire::ReplicaSession;
use bytes::Bytes;
use http::Uri;
use http::header::HOST;
use pingora_error::{ErrorType, Result};
use pingora_http::RequestHeader;

/// Sends a request that is here as a whole.
pub(super) async fn send_whole(
    upstream: &mut ReplicaSession,
    head: Box<RequestHeader>,
    body: Bytes,
    upgrading: bool,
) -> Result<(), Trouble> {
    let bodiless = body.is_empty();
    // Head and body leave in one write.
    written_head(upstream, head, !bodiless, bodiless).await?;
    if !bodiless {
        write_body(upstream, body, true).await?;
    }
    let ended = bodiless && upstream.is_http2();
    if ended || upgrading { Ok(()) } else { finish_body(upstream).await }
}

/// Writes the head of a request whose body comes later.
pub(super) async fn write_head(
    upstream: &mut ReplicaSession,
    head: Box<RequestHeader>,
) -> Result<(), Trouble> {
    written_head(upstream, head, false, false).await
}

async fn written_head(
    upstream: &mut ReplicaSession,
    mut head: Box<RequestHeader>,
    more: bool,
    bodiless: bool,
) -> Result<(), Trouble> {
    if upstream.is_http2() {
        move_host(&mut head);
    }
    upstream.write_head(head, more, bodiless).await.map_err(Trouble::of_head)
}

/// HTTP/2 says the host as `:authority`; where `host` stands beside it, nginx refuses the request. What is no authority
/// stays, to be refused when it is written.
fn move_host(head: &mut RequestHeader) {
    let host = head.headers.get(HOST).map(|host| host.as_bytes().to_vec());
    let target = head.uri.path_and_query().cloned();
    let Some((host, target)) = host.zip(target) else { return };
    let uri = Uri::builder().scheme("https").authority(host.as_slice()).path_and_query(target);
    if let Ok(uri) = uri.build() {
        head.set_uri(uri);
        head.remove_header(&HOST);
    }
}

/// Writes towards the replica.
pub(super) async fn write_body(
    upstream: &mut ReplicaSession,
    bytes: Bytes,
    end: bool,
) -> Result<(), Trouble> {
    let written = upstream.write_body(bytes, end).await;
    unless_told_by_reading(upstream, written)
}

pub(super) async fn finish_body(upstream: &mut ReplicaSession) -> Result<(), Trouble> {
    let finished = upstream.finish().await;
    unless_told_by_reading(upstream, finished)
}

/// A stream of HTTP/2 that takes no more tells why to its reader: by an answer that came early, or by an error that
/// says whether the request was seen.
fn unless_told_by_reading(upstream: &ReplicaSession, written: Result<()>) -> Result<(), Trouble> {
    match written {
        Err(error) if upstream.is_http2() && *error.etype() != ErrorType::WriteTimedout => {
            tracing::trace!(%error, "the replica takes no more");
            Ok(())
        }
        written => Ok(written?),
    }
}
