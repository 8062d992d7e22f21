//! Reading a request's body as far as its routing needs it, within the client's time and size.
use super::body::{Body, Need, broken_body};
use super::buffers::Shortage;
use super::exchange::Exchange;
use super::head::Framing;
use crate::dialect::RefusalCode;
use crate::fleet::Holder;
use crate::flow::{Happened, Refusal, Stop};
use bytes::{Bytes, BytesMut};
use http::header;
use pingora_error::ErrorType;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How much is read of a body that is too long to keep.
const PEEK: usize = 64 * 1024;

impl Exchange<'_> {
    /// Reads the body as far as routing needs it. It must end `within` this time from the request's first byte.
    pub(super) async fn read_body(
        &mut self,
        framing: Framing,
        need: Need,
        within: Duration,
    ) -> Result<Body, Stop> {
        let length = framing.content_length;
        let keep = match need {
            Need::Nothing => return Ok(Body::Stream(Bytes::new(), None)),
            Need::Whole(most) | Need::Name(most) if length.is_none_or(|length| length <= most) => {
                most
            }
            Need::Message(most) | Need::Name(most) => most,
            Need::Whole(_) => PEEK as u64,
        };
        // What fits is kept, wherever the name stands.
        let mut look_at = match need {
            Need::Name(_) if length.is_some_and(|length| length > keep) => PEEK,
            Need::Nothing | Need::Name(_) | Need::Message(_) | Need::Whole(_) => usize::MAX,
        };
        self.expect_continue().await?;
        let Some(first) = self.next_chunk(within).await? else {
            return Ok(Body::EMPTY);
        };
        let buffers = &self.proxy.buffers;
        let mut space = buffers.reservation(Some(self.holder()));
        buffers.grow(&mut space, first.len() as u64, self.proxy.now())?;
        if self.session.is_body_done() {
            // One read held head and body: nothing to gather.
            return Ok(Body::Whole(first, Some(space)));
        }
        if need.is_met(&first) {
            return Ok(Body::Stream(first, Some(space)));
        }
        buffers.await_rest(&mut space);
        // What a client announces takes no memory before it is here.
        let expected = length.unwrap_or(0).min(PEEK as u64) as usize;
        let mut gathered = BytesMut::with_capacity(expected.max(first.len() * 2));
        gathered.extend_from_slice(&first);
        drop(first);
        loop {
            let chunk = tokio::select! { biased;
                () = space.given_up() => return Err(Shortage::GivenUp.into()),
                chunk = self.next_chunk(within) => chunk?,
            };
            let Some(chunk) = chunk else { break };
            let wanted = (gathered.len() + chunk.len()) as u64;
            self.proxy.buffers.grow(&mut space, wanted, self.proxy.now())?;
            gathered.extend_from_slice(&chunk);
            let found = gathered.len() >= look_at && self.has_said_model(&gathered);
            if found || wanted > keep || need.is_met(&gathered) {
                space.complete()?;
                return Ok(Body::Stream(gathered.freeze(), Some(space)));
            }
            if gathered.len() >= look_at {
                // Twice as much each time: what is read twice is no more than what is read once.
                look_at = gathered.len() * 2;
            }
        }
        space.complete()?;
        Ok(Body::Whole(gathered.freeze(), Some(space)))
    }

    /// Whose space a body takes: its key's, else its address's, else its connection's.
    pub(super) fn holder(&self) -> Arc<Holder> {
        if let Some(pass) = &self.record.pass {
            return Arc::clone(&pass.key.allowance.holder);
        }
        if self.client_ip == self.peer {
            let client = &self.client;
            let account = || self.proxy.buffers.holder_of(self.peer);
            return Arc::clone(client.holder.get_or_init(account));
        }
        self.proxy.buffers.holder_of(self.client_ip)
    }

    /// The next bytes of the body, within the client's time and size.
    async fn next_chunk(&mut self, within: Duration) -> Result<Option<Bytes>, Stop> {
        let began = self.proxy.now();
        let end = self.record.began + within;
        let limit = self.client_may_take().min(end.since(began));
        if limit.is_zero() {
            return Err(self.too_slow(within));
        }
        let read = timeout(limit, self.session.read_request_body()).await;
        self.waited += self.proxy.now().since(began);
        let chunk = match read {
            Err(_) => return Err(self.too_slow(within)),
            Ok(Err(error)) if *error.etype() == ErrorType::ReadTimedout => {
                return Err(self.too_slow(within));
            }
            Ok(Err(error)) => return Err(broken_body(&error)),
            Ok(Ok(chunk)) => chunk,
        };
        self.count_body(chunk)
    }

    /// How long the client may take for the next bytes of its body.
    pub(super) fn client_may_take(&self) -> Duration {
        let limits = &self.listener.client;
        let Some(rate) = limits.min_rate else { return limits.body_timeout };
        let left = rate.allows(self.record.course.bytes_in()).saturating_sub(self.waited);
        left.min(limits.body_timeout)
    }

    /// The client sent its body too slowly: by which of the limits?
    pub(super) fn too_slow(&self, within: Duration) -> Stop {
        let limits = &self.listener.client;
        let rate = limits
            .min_rate
            .filter(|rate| self.waited >= rate.allows(self.record.course.bytes_in()));
        let over = self.proxy.now().since(self.record.began) >= within;
        if let Some(own) = self.deadline.own.filter(|own| over && *own <= within) {
            let message = format!(
                "the request body was not here within {own:?}, the deadline that came with the request"
            );
            return Refusal::new(RefusalCode::TotalTimeout, message).into();
        }
        let why = if over {
            format!("it was not here within {within:?}, the time for the whole request")
        } else if let Some(rate) = rate {
            let rate = rate.get();
            format!("it came at less than {rate} bytes a second, the `min_rate` of this listener")
        } else {
            format!(
                "nothing of it came for {:?}, the `body_timeout` of this listener",
                limits.body_timeout
            )
        };
        let message = format!("the request body is too slow: {why}");
        Refusal::new(RefusalCode::RequestTimeout, message).into()
    }

    /// Counts bytes of the request's body, and refuses beyond the listener's limit.
    pub(super) fn count_body(&mut self, chunk: Option<Bytes>) -> Result<Option<Bytes>, Stop> {
        if let Some(chunk) = &chunk {
            self.record.course.note(Happened::Read(chunk.len() as u64));
            if self.record.course.bytes_in() > self.listener.client.max_body {
                return Err(Refusal::new(
                    RefusalCode::BodyTooLarge,
                    "the request body is larger than this server takes",
                )
                .into());
            }
        }
        Ok(chunk)
    }

    /// Tells a client that waits for leave to send its body (RFC 9110 §10.1.1).
    pub(super) async fn expect_continue(&mut self) -> Result<(), Stop> {
        let head = self.session.req_header();
        let expects = head.headers.get(header::EXPECT);
        let expects =
            expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if !expects || head.version != http::Version::HTTP_11 || self.continued {
            return Ok(());
        }
        self.continued = true;
        self.session.write_continue_response().await.map_err(|_| Stop::Gone)
    }
}
