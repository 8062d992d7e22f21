//! The request on its way to a replica: head, and body as far as it is here.
use super::body::Body;
use super::exchange::Exchange;
use super::placed::Placed;
use super::receive::Answer;
use super::upload::FEED;
use super::write::{send_whole, write_body, write_head};
use crate::flow::Trouble;
use bytes::Bytes;
use pingora_http::RequestHeader;

impl Exchange<'_> {
    /// Sends the head, and the body as far as it is here. A long one is returned, to be fed while the replica is
    /// listened to: it may answer before it has read all.
    pub(super) async fn send_request(
        &mut self,
        placed: &Placed<'_>,
        head: Box<RequestHeader>,
        answer: &mut Answer,
    ) -> Result<Bytes, Trouble> {
        let (body, timeouts) = (placed.outgoing(), &placed.model.plan.timeouts);
        let whole = matches!(placed.body, Body::Whole(..));
        let feed = whole && answer.reins.is_some() && body.len() > FEED;
        if whole && !feed {
            let session = &mut answer.session;
            let (body, upgrading) = (body.clone(), placed.upgrading);
            let sending = send_whole(session, head, body, upgrading);
            self.watched(timeouts, sending).await??;
            return Ok(Bytes::new());
        }
        write_head(&mut answer.session, head).await?;
        if feed {
            if let Some(reins) = &answer.reins {
                reins.duplex(true);
            }
            return Ok(body.clone());
        }
        self.attempts.body_spent = true;
        self.expect_continue().await.map_err(Trouble::Client)?;
        // From here both sides queue instead of blocking.
        self.duplex(answer, true);
        if !body.is_empty() {
            let writing = write_body(&mut answer.session, body.clone(), false);
            self.in_time(timeouts, writing).await??;
        }
        Ok(Bytes::new())
    }
}
