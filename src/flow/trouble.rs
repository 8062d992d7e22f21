//! Why an exchange with a replica broke: what the client is told, and what it says of the replica.
use super::refusal::Stop;
use crate::dialect::RefusalCode;
use crate::health::{Class, RetryOn};
use crate::table::Timeouts;
use crate::wire::{BadAnswer, Exhausted};
use pingora_error::{Error, ErrorType, RetryType};

/// Why an exchange broke.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("no connection: {0}")]
    Connect(String),
    /// This process lacks something that a connection takes. The replica was not asked.
    #[error("no connection: {0}")]
    Exhausted(Exhausted),
    /// The connection ended without a byte of an answer.
    #[error("connection ended: {0}")]
    Died(String),
    /// The replica says that it did not begin to work on the request.
    #[error("not worked on: {0}")]
    Unseen(String),
    #[error("connection broke: {0}")]
    Reset(String),
    /// An answer that could be read in two ways.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// An answer that is not passed on, because another attempt follows, or Evener answers instead.
    #[error("answered {status}")]
    Answered {
        /// As what another attempt is counted.
        failed: Option<RetryOn>,
        status: u16,
        class: Class,
        /// The request was sent to its end: the connection can be kept once the answer is read.
        sent: bool,
    },
    #[error("no first byte in time")]
    FirstByte,
    #[error("silent for too long")]
    Stalled,
    #[error("not done in time")]
    Total,
    #[error("the request cannot be put on the wire: {0}")]
    BadRequest(String),
    #[error("the client left")]
    ClientGone,
    #[error("the client reads nothing")]
    ClientStalled,
    #[error("the client's body: {0:?}")]
    Client(Stop),
}

impl Trouble {
    /// An error while the head was written. What cannot be written at all is the client's fault.
    pub fn of_head(error: Box<Error>) -> Self {
        let ours = error.root_cause().downcast_ref::<h2::Error>().is_some_and(|error| {
            !(error.is_io() || error.is_go_away() || error.is_reset() || error.is_library())
        });
        if ours || *error.etype() == ErrorType::InvalidHTTPHeader {
            Self::BadRequest(error.to_string())
        } else {
            error.into()
        }
    }

    /// An error while a connection was opened.
    pub fn of_dial(error: &Error) -> Self {
        match Exhausted::of(error) {
            Some(exhausted) => Self::Exhausted(exhausted),
            None => Self::Connect(error.to_string()),
        }
    }

    /// What the client is told; nothing when it left.
    pub fn code(&self) -> Option<RefusalCode> {
        Some(match self {
            Self::ClientGone | Self::ClientStalled | Self::Client(_) => return None,
            Self::Connect(_)
            | Self::Died(_)
            | Self::Unseen(_)
            | Self::Reset(_)
            | Self::Malformed(_)
            // Followed by another attempt, or by an answer of Evener's own.
            | Self::Answered { .. } => RefusalCode::UpstreamFailed,
            Self::Exhausted(_) => RefusalCode::OutOfResources,
            Self::BadRequest(_) => RefusalCode::BadRequest,
            Self::FirstByte => RefusalCode::FirstByteTimeout,
            Self::Stalled => RefusalCode::StreamStalled,
            Self::Total => RefusalCode::TotalTimeout,
        })
    }

    /// Did the replica do nothing for it, or nothing that its client should pay for?
    pub fn is_of_no_work(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Died(_)
            | Self::Unseen(_)
            | Self::Reset(_)
            | Self::Malformed(_)
            | Self::Answered { .. }
            | Self::Exhausted(_)
            | Self::BadRequest(_) => true,
            Self::FirstByte
            | Self::Stalled
            | Self::Total
            | Self::ClientGone
            | Self::ClientStalled
            | Self::Client(_) => false,
        }
    }

    /// A switch of protocols that nobody asked for: what follows is not HTTP (RFC 9110 §15.2.2).
    pub fn uninvited_upgrade() -> Self {
        Self::Malformed("it switches to a protocol that the client did not ask for")
    }

    /// The class of the attempt, and the status that is logged for it.
    pub fn meaning(&self) -> (Class, u16) {
        if let Self::Answered { class, status, .. } = self {
            return (*class, *status);
        }
        (self.class(), self.code().map_or(499, RefusalCode::status))
    }

    pub fn class(&self) -> Class {
        match self {
            Self::ClientGone | Self::ClientStalled | Self::Client(Stop::Gone) => Class::Cancelled,
            Self::Client(Stop::Refused(_)) | Self::BadRequest(_) | Self::Exhausted(_) => {
                Class::Refused
            }
            Self::Connect(_) => Class::ConnectFailure,
            Self::Died(_) | Self::Unseen(_) | Self::Reset(_) | Self::Malformed(_) => Class::Reset,
            Self::Answered { class, .. } => *class,
            Self::FirstByte | Self::Stalled | Self::Total => Class::Timeout,
        }
    }

    pub fn describe(&self, timeouts: &Timeouts, given: &str) -> String {
        match self {
            Self::Connect(_) => "could not be reached".to_owned(),
            Self::Exhausted(exhausted) => format!("could not be asked: {exhausted}"),
            Self::Answered { status, .. } => format!("answered {status}"),
            Self::Died(_) | Self::Unseen(_) | Self::Reset(_) => {
                "closed the connection or did not answer in HTTP".to_owned()
            }
            Self::Malformed(what) => format!("sent a malformed answer: {what}"),
            Self::FirstByte => format!("sent nothing within {:?}", timeouts.first_byte),
            Self::Stalled => format!("fell silent for {:?}", timeouts.between_chunks),
            Self::Total => format!("was not done within {given}"),
            Self::BadRequest(_) => "cannot be sent this request".to_owned(),
            Self::ClientGone | Self::ClientStalled | Self::Client(_) => "was abandoned".to_owned(),
        }
    }
}

impl From<Box<Error>> for Trouble {
    /// An error on the replica's side of the exchange.
    fn from(error: Box<Error>) -> Self {
        use ErrorType::{
            ConnectionClosed, H2Error, InvalidHTTPHeader, ReadError, ReadTimedout, WriteError,
            WriteTimedout,
        };
        let etype = error.etype();
        if [ReadTimedout, WriteTimedout].contains(etype) {
            return Self::Stalled;
        }
        if *etype == InvalidHTTPHeader {
            tracing::debug!(%error, "a replica's head cannot be read");
            let bad = error.root_cause().downcast_ref::<BadAnswer>();
            return Self::Malformed(bad.map_or("its head is not well-formed HTTP", |bad| bad.0));
        }
        if *etype == H2Error && error.retry != RetryType::Decided(false) {
            // A stream that was reset may have been worked on; pingora marks those that were not.
            return Self::Unseen(error.to_string());
        }
        let died = [ConnectionClosed, ReadError, WriteError].contains(etype);
        if died { Self::Died(error.to_string()) } else { Self::Reset(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Refusal;

    #[test]
    fn what_a_client_is_told_and_who_is_blamed() {
        use RefusalCode as Code;
        let gone = || Trouble::Client(Stop::Gone);
        let refused = || Trouble::Client(Refusal::new(Code::BadRequest, "no").into());
        let answered =
            Trouble::Answered { failed: None, status: 503, class: Class::Overloaded, sent: true };
        for (trouble, code, class, status) in [
            (
                Trouble::Connect(String::new()),
                Some(Code::UpstreamFailed),
                Class::ConnectFailure,
                502,
            ),
            (Trouble::Died(String::new()), Some(Code::UpstreamFailed), Class::Reset, 502),
            (Trouble::Unseen(String::new()), Some(Code::UpstreamFailed), Class::Reset, 502),
            (Trouble::Reset(String::new()), Some(Code::UpstreamFailed), Class::Reset, 502),
            (Trouble::uninvited_upgrade(), Some(Code::UpstreamFailed), Class::Reset, 502),
            (answered, Some(Code::UpstreamFailed), Class::Overloaded, 503),
            (Trouble::FirstByte, Some(Code::FirstByteTimeout), Class::Timeout, 504),
            (Trouble::Stalled, Some(Code::StreamStalled), Class::Timeout, 504),
            (Trouble::Total, Some(Code::TotalTimeout), Class::Timeout, 504),
            // Nobody's but Evener's, or the client's.
            (Trouble::BadRequest(String::new()), Some(Code::BadRequest), Class::Refused, 400),
            (refused(), None, Class::Refused, 499),
            (gone(), None, Class::Cancelled, 499),
            (Trouble::ClientGone, None, Class::Cancelled, 499),
            (Trouble::ClientStalled, None, Class::Cancelled, 499),
        ] {
            assert_eq!(trouble.code(), code, "{trouble}");
            assert_eq!(trouble.meaning(), (class, status), "{trouble}");
        }
    }

    #[test]
    fn a_key_pays_for_what_a_replica_may_have_worked_on() {
        for trouble in [Trouble::FirstByte, Trouble::Stalled, Trouble::Total, Trouble::ClientGone] {
            assert!(!trouble.is_of_no_work(), "{trouble}");
        }
        for trouble in [Trouble::Connect(String::new()), Trouble::Unseen(String::new())] {
            assert!(trouble.is_of_no_work(), "{trouble}");
        }
    }
}
