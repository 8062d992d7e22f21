//! Request bodies: kept whole when they choose the model and fit, streamed when not.
use super::answer::Refusal;
use super::buffers::Reservation;
use super::exchange::{Exchange, Stop};
use super::head::Framing;
use crate::dialect::RefusalCode;
use crate::dialect::grpc::{Frame, next_frame};
use crate::wire::BadChunks;
use bytes::{Bytes, BytesMut};
use http::header;
use pingora_error::ErrorType;
use tokio::time::timeout;

/// How much is read of a body that is too long to keep.
const PEEK: usize = 64 * 1024;
/// The least by which a reservation for a body of unknown length grows.
const STEP: u64 = 64 * 1024;

/// A request's body.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it, with the space it takes of `buffers`.
    #[expect(dead_code, reason = "the reservation is held for its drop")]
    Whole(Bytes, Option<Reservation>),
    /// What was read so far; the rest is still to come.
    #[expect(dead_code, reason = "the reservation is held for its drop")]
    Stream(Bytes, Option<Reservation>),
}

impl Body {
    pub(super) const EMPTY: Self = Self::Whole(Bytes::new(), None);

    pub(super) fn read_so_far(&self) -> &Bytes {
        match self {
            Self::Whole(bytes, _) | Self::Stream(bytes, _) => bytes,
        }
    }
}

/// How much of a body to read before routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: the head says all.
    Nothing,
    /// All of it, up to so many bytes; of a longer one as much as names the model.
    Name(u64),
    /// The first message of a call, up to so many bytes.
    Message(u64),
    /// All of it, up to so many bytes.
    Whole(u64),
}

impl Need {
    /// Is it clear before the end of the body that no more need be read?
    fn is_met(self, read: &[u8]) -> bool {
        let Self::Message(most) = self else { return false };
        match next_frame(read) {
            Ok((Frame::Open, _)) => false,
            Ok((Frame::Partial { length }, _)) => length > most,
            Ok((Frame::Message { .. }, _)) | Err(_) => true,
        }
    }
}

impl Exchange<'_> {
    /// Reads the body as far as routing needs it.
    pub(super) async fn read_body(&mut self, framing: Framing, need: Need) -> Result<Body, Stop> {
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
        let mut reservation = self.proxy.buffers.reservation();
        let whole =
            !matches!(need, Need::Message(_)) && length.is_some_and(|length| length <= keep);
        let first = length.filter(|_| whole).unwrap_or(STEP);
        if !self.proxy.buffers.grow(&mut reservation, first) {
            return Err(out_of_buffers());
        }
        let Some(first) = self.next_chunk().await? else {
            return Ok(Body::EMPTY);
        };
        if self.session.is_body_done() {
            // One read held head and body: nothing to gather.
            return Ok(Body::Whole(first, Some(reservation)));
        }
        if need.is_met(&first) {
            return Ok(Body::Stream(first, Some(reservation)));
        }
        let mut gathered = BytesMut::with_capacity(
            length.filter(|_| whole).map_or(first.len() * 2, |l| l as usize),
        );
        gathered.extend_from_slice(&first);
        while let Some(chunk) = self.next_chunk().await? {
            let wanted = (gathered.len() + chunk.len()) as u64;
            let step = wanted.next_multiple_of(STEP.max(wanted / 4).max(1));
            if !whole && !self.proxy.buffers.grow(&mut reservation, step) {
                return Err(out_of_buffers());
            }
            gathered.extend_from_slice(&chunk);
            if wanted > keep || need.is_met(&gathered) {
                return Ok(Body::Stream(gathered.freeze(), Some(reservation)));
            }
            if gathered.len() >= look_at {
                if self.names_model(&gathered) {
                    return Ok(Body::Stream(gathered.freeze(), Some(reservation)));
                }
                // Twice as much each time: what is read twice is no more than what is read once.
                look_at = gathered.len() * 2;
            }
        }
        Ok(Body::Whole(gathered.freeze(), Some(reservation)))
    }

    /// The next bytes of the body, within the client's time and size.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Stop> {
        let limits = &self.listener.client;
        let read = timeout(limits.body_timeout, self.session.read_request_body()).await;
        let chunk = match read {
            Err(_) => return Err(slow_body()),
            Ok(Err(error)) if *error.etype() == ErrorType::ReadTimedout => return Err(slow_body()),
            Ok(Err(error)) => return Err(broken_body(&error)),
            Ok(Ok(chunk)) => chunk,
        };
        self.count_body(chunk)
    }

    /// Counts bytes of the request's body, and refuses beyond the listener's limit.
    pub(super) fn count_body(&mut self, chunk: Option<Bytes>) -> Result<Option<Bytes>, Stop> {
        if let Some(chunk) = &chunk {
            self.record.bytes_in += chunk.len() as u64;
            if self.record.bytes_in > self.listener.client.max_body {
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

pub(super) fn slow_body() -> Stop {
    Refusal::new(RefusalCode::RequestTimeout, "the request body did not arrive in time").into()
}

pub(super) fn out_of_buffers() -> Stop {
    Refusal::new(
        RefusalCode::OutOfBuffers,
        "no buffer space is left for request bodies; try again in a moment",
    )
    .into()
}

/// A body that cannot be read: its client left, or its framing is wrong.
pub(super) fn broken_body(error: &pingora_error::Error) -> Stop {
    let chunks = error.root_cause().downcast_ref::<std::io::Error>();
    if let Some(bad) = chunks.and_then(|error| error.get_ref()?.downcast_ref::<BadChunks>()) {
        return Refusal::new(RefusalCode::BadRequest, bad.to_string()).into();
    }
    let gone = [ErrorType::ConnectionClosed, ErrorType::ReadError, ErrorType::H2Error];
    if gone.contains(error.etype()) {
        return Stop::Gone;
    }
    Refusal::new(RefusalCode::BadRequest, "the request body's framing is malformed").into()
}
