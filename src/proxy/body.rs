//! Request bodies: kept whole when they choose the model and fit, streamed when not.
use super::buffers::Reservation;
use crate::dialect::RefusalCode;
use crate::dialect::grpc::{Frame, next_frame};
use crate::flow::{Refusal, Stop};
use crate::wire::BadChunks;
use bytes::Bytes;
use pingora_error::ErrorType;

/// A request's body.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it, with the space it takes of `buffers`.
    Whole(Bytes, Option<Reservation>),
    /// What was read so far; the rest is still to come.
    #[expect(dead_code, reason = "the reservation is held for its drop")]
    Stream(Bytes, Option<Reservation>),
}

impl Body {
    pub(super) const EMPTY: Self = Self::Whole(Bytes::new(), None);

    /// The client has its answer: what is kept from now on takes no space of its own.
    pub(super) fn disown(&mut self) {
        if let Self::Whole(_, Some(space)) = self {
            space.disown();
        }
    }

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
    pub(super) fn is_met(self, read: &[u8]) -> bool {
        let Self::Message(most) = self else { return false };
        match next_frame(read) {
            Ok((Frame::Open, _)) => false,
            Ok((Frame::Partial { length }, _)) => length > most,
            Ok((Frame::Message { .. }, _)) | Err(_) => true,
        }
    }
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
