//! The request on its way to a replica: head, body, and a body too long to be written before the answer is listened to.
use super::body::Body;
use super::exchange::Exchange;
use super::placed::Placed;
use super::progress::{Progress, fullness};
use super::write::{finish_body, send_whole, write_body, write_head};
use crate::flow::Trouble;
use crate::wire::Reins;
use bytes::Bytes;
use pingora_core::protocols::http::client::HttpSession as Upstream;
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
