//! What is known of a request that decides whether it may be asked again, and for how long.
use crate::dialect::DeadlineHeader;
use crate::fleet::Replica;
use crate::health::Repeatable;
use pingora_http::RequestHeader;
use std::sync::Arc;
use std::time::Duration;

/// What decides whether another attempt may follow.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) repeatable: Repeatable,
    /// Retries so far.
    pub(super) retries: u32,
    /// A part of a body that is not kept was sent: it cannot be sent again.
    pub(super) body_spent: bool,
    /// An informational answer was passed on.
    pub(super) informed: bool,
    /// Those that failed.
    pub(super) tried: Vec<Arc<Replica>>,
}

impl Attempts {
    pub(super) const NONE: Self = Self {
        repeatable: Repeatable::Unseen,
        retries: 0,
        body_spent: false,
        informed: false,
        tried: Vec::new(),
    };
}

/// The time that the client gives the whole exchange, counted from its first byte.
pub(super) fn client_deadline(head: &RequestHeader) -> Option<Duration> {
    let read = |header: DeadlineHeader| {
        head.headers.get(header.name())?.to_str().ok().and_then(|text| header.read(text))
    };
    DeadlineHeader::ALL.into_iter().filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, b"/", None).unwrap();
        for (name, value) in headers {
            head.insert_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn the_shorter_of_two_deadlines_counts() {
        let both = [("x-request-timeout-ms", "900"), ("grpc-timeout", "1S")];
        assert_eq!(client_deadline(&head("POST", &both)), Some(Duration::from_millis(900)));
        let none = [("x-request-timeout-ms", "soon")];
        assert_eq!(client_deadline(&head("POST", &none)), None);
    }
}
