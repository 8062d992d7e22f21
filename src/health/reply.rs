//! What the client of a request for a model got, where nobody is proven to be at fault.
use super::Class;
use std::time::Duration;

/// A client that leaves sooner says nothing of the replica.
const PATIENCE: Duration = Duration::from_millis(250);

/// An answer, or that there was none before the client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Good,
    Redirect,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Unprocessable,
    /// Any other 4xx.
    OtherMistake,
    /// The client left before an answer began.
    Left,
}

impl Reply {
    pub const ALL: [Self; 10] = [
        Self::Good,
        Self::Redirect,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Unprocessable,
        Self::OtherMistake,
        Self::Left,
    ];

    /// `status`: of HTTP. `waited`: how long the client waited for the first byte of an answer; `None`: it came.
    /// `None`: that is a failure, which counts elsewhere, or says nothing.
    pub fn of(class: Class, status: u16, waited: Option<Duration>) -> Option<Self> {
        Some(match (class, status) {
            (Class::Success, 300..=303 | 305..=399) => Self::Redirect,
            (Class::Success, _) => Self::Good,
            (Class::ClientError, 400) => Self::BadRequest,
            (Class::ClientError, 401) => Self::Unauthorized,
            (Class::ClientError, 403) => Self::Forbidden,
            (Class::ClientError, 404) => Self::NotFound,
            (Class::ClientError, 405) => Self::MethodNotAllowed,
            (Class::ClientError, 422) => Self::Unprocessable,
            (Class::ClientError, _) => Self::OtherMistake,
            (Class::Cancelled, _) => match waited {
                None => Self::Good,
                Some(waited) if waited >= PATIENCE => Self::Left,
                Some(_) => return None,
            },
            (
                Class::ServerError
                | Class::Overloaded
                | Class::Timeout
                | Class::ConnectFailure
                | Class::Reset
                | Class::Refused,
                _,
            ) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_told_apart_by_what_the_client_got() {
        let long = Some(Duration::from_secs(1));
        for (class, status, waited, reply) in [
            (Class::Success, 200, None, Some(Reply::Good)),
            (Class::Success, 304, None, Some(Reply::Good)),
            (Class::Success, 301, None, Some(Reply::Redirect)),
            (Class::ClientError, 401, None, Some(Reply::Unauthorized)),
            (Class::ClientError, 415, None, Some(Reply::OtherMistake)),
            (Class::Cancelled, 499, None, Some(Reply::Good)),
            (Class::Cancelled, 499, long, Some(Reply::Left)),
            (Class::Cancelled, 499, Some(Duration::ZERO), None),
            (Class::Refused, 404, None, None),
            (Class::ServerError, 500, long, None),
        ] {
            assert_eq!(Reply::of(class, status, waited), reply, "{class:?} {status}");
        }
        assert!(Reply::ALL.iter().enumerate().all(|(i, reply)| *reply as usize == i));
    }
}
