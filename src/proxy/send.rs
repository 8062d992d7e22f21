//! The request on its way to a replica: head, body, and a body too long to be written before the answer is listened to.
use super::body::Body;
use super::exchange::Exchange;
use super::placed::Placed;
use super::progress::{Progress, fullness};
use crate::flow::Trouble;
use crate::wire::Reins;
use bytes::Bytes;
use http::Uri;
use http::header::HOST;
use pingora_core::protocols::http::client::HttpSession as Upstream;
use pingora_error::{ErrorType, Result};
use pingora_http::RequestHeader;
use std::sync::Arc;

/// Bodies longer than this are fed while the replica is listened to; also the piece by which that is done.
pub(super) const FEED: usize = 64 * 1024;

impl Exchange<'_> {
    /// Sends the head, and the body as far as it is here. A long one is returned, to be fed while the replica is
    /// listened to: it may answer before it has read all.
    pub(super) async fn send_request(
        &mut self,
        placed: &Placed<'_>,
        head: Box<RequestHeader>,
        upstream: &mut Upstream,
        reins: Option<&Arc<Reins>>,
    ) -> Result<Bytes, Trouble> {
        let (body, timeouts) = (placed.outgoing(), &placed.model.plan.timeouts);
        let whole = matches!(placed.body, Body::Whole(..));
        let feed = whole && reins.is_some() && body.len() > FEED;
        if whole && !feed {
            let sending = send_whole(upstream, reins, head, body.clone(), placed.upgrading);
            self.watched(timeouts, sending).await??;
            return Ok(Bytes::new());
        }
        write_head(upstream, head, false).await?;
        if feed {
            if let Some(reins) = reins {
                reins.duplex(true);
            }
            return Ok(body.clone());
        }
        self.attempts.body_spent = true;
        self.expect_continue().await.map_err(Trouble::Client)?;
        // From here both sides queue instead of blocking.
        self.duplex(reins, true);
        if !body.is_empty() {
            self.in_time(timeouts, write_body(upstream, body.clone(), false)).await??;
        }
        Ok(Bytes::new())
    }

    /// Gives the replica as much of a long body as it takes.
    pub(super) async fn feed(
        &self,
        upstream: &mut Upstream,
        at: &mut Progress<'_>,
    ) -> Result<(), Trouble> {
        while !at.rest.is_empty() && !fullness(None, at.upstream_reins).1 {
            let next = at.rest.split_to(FEED.min(at.rest.len()));
            write_body(upstream, next, false).await?;
            if at.rest.is_empty() {
                finish_body(upstream).await?;
                at.sent = true;
            }
        }
        Ok(())
    }
}

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

async fn write_head(
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
