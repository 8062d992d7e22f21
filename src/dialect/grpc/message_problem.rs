//! Why a message of a call is not forwarded.
use crate::dialect::RefusalCode;

/// Why a message is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageProblem {
    #[error("the call holds bytes that are no gRPC message of its method")]
    Malformed,
    #[error("the message names two models, `{0}` and `{1}`: send one")]
    TwoModels(String, String),
    #[error("the call names two models, `{0}` and then `{1}`: use a stream for each")]
    OtherModel(String, String),
    #[error("a message of this stream names no model: name `{0}` in each")]
    Nameless(String),
    #[error("a method that takes one message was sent several")]
    SeveralMessages,
    #[error(
        "a message of this stream is compressed, and what model it names cannot be read: send it uncompressed, or name the model in a header"
    )]
    Sealed,
    #[error(
        "a message of {length} bytes is longer than `max_buffered_body`, {limit}, and may name a model anywhere: send less, raise it, or name the model in a header"
    )]
    TooLong { length: u64, limit: u64 },
}

impl MessageProblem {
    /// The code of the refusal.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::TooLong { .. } => RefusalCode::BodyTooLarge,
            Self::Sealed => RefusalCode::ModelUnreadable,
            Self::Malformed
            | Self::TwoModels(..)
            | Self::OtherModel(..)
            | Self::Nameless(_)
            | Self::SeveralMessages => RefusalCode::BadRequest,
        }
    }
}
