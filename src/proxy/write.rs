//! Writes towards a replica: a head, a body, or both at once.
use crate::flow::Trouble;
use crate::wire::Reins;
use bytes::Bytes;
use http::Uri;
use http::header::HOST;
use pingora_core::protocols::http::client::HttpSession as Upstream;
use pingora_error::{ErrorType, Result};
use pingora_http::RequestHeader;
use std::sync::Arc;

/// Sends a request that is here as a whole.
pub(super) async fn send_whole(
    upstream: &mut Upstream,
    reins: Option<&Arc<Reins>>,
    head: Box<RequestHeader>,
    body: Bytes,
    upgrading: bool,
) -> Result<(), Trouble> {
    let cork = |on: bool| {
        if let Some(reins) = reins {
            reins.cork(on);
        }
    };
    let bodiless = body.is_empty();
    // Head and body leave in one write.
    cork(!bodiless);
    write_head(upstream, head, bodiless).await?;
    if !bodiless {
        write_body(upstream, body, true).await?;
    }
    cork(false);
    let ended = bodiless && matches!(upstream, Upstream::H2(_));
    if ended || upgrading { Ok(()) } else { finish_body(upstream).await }
}

pub(super) async fn write_head(
    upstream: &mut Upstream,
    mut head: Box<RequestHeader>,
    bodiless: bool,
) -> Result<(), Trouble> {
    let written = if let Upstream::H2(http2) = &mut *upstream {
        move_host(&mut head);
        http2.write_request_header(head, bodiless)
    } else {
        upstream.write_request_header(head).await
    };
    written.map_err(Trouble::of_head)
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
    upstream: &mut Upstream,
    bytes: Bytes,
    end: bool,
) -> Result<(), Trouble> {
    let written = upstream.write_request_body(bytes, end).await;
    unless_told_by_reading(upstream, written)
}

pub(super) async fn finish_body(upstream: &mut Upstream) -> Result<(), Trouble> {
    let finished = upstream.finish_request_body().await;
    unless_told_by_reading(upstream, finished)
}

/// A stream of HTTP/2 that takes no more tells why to its reader: by an answer that came early, or by an error that
/// says whether the request was seen.
fn unless_told_by_reading(upstream: &Upstream, written: Result<()>) -> Result<(), Trouble> {
    match written {
        Err(error)
            if matches!(upstream, Upstream::H2(_))
                && *error.etype() != ErrorType::WriteTimedout =>
        {
            tracing::trace!(%error, "the replica takes no more");
            Ok(())
        }
        written => Ok(written?),
    }
}
