//! What the head of an answer says: how its replica fared, what is counted, and how its body is framed and read.
use crate::dialect::grpc::{GrpcStatus, is_grpc, severity_of_code};
use crate::dialect::{Failure, OutputForm, StreamForm, UsageForm, essence};
use crate::flow::Trouble;
use crate::health::Class;
use crate::wire::{AnswerFraming, BadAnswer, ReplicaSession, read_length};
use http::{HeaderMap, Method, StatusCode, header};
use pingora_http::ResponseHeader;

/// Where gRPC says how a call ended.
const GRPC_STATUS: &str = "grpc-status";

/// How an answer is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The status, or how a call of gRPC ended, as its `code`.
    pub(super) code: u16,
    pub(super) class: Class,
    /// The status of HTTP that decides about a retry.
    pub(super) severity: u16,
}

impl Meaning {
    /// Of this head. `call`: the request is gRPC; elsewhere a `grpc-status` is a header like any other.
    pub(super) fn of(head: &ResponseHeader, call: bool) -> Self {
        let status = head.status.as_u16();
        let class = Class::of_status(status, head.headers.contains_key(header::RETRY_AFTER));
        if !call {
            return Self { code: status, class, severity: status };
        }
        if !is_grpc_answer(head) {
            // A server or proxy that knows no gRPC. Clients make a status of HTTP's, and none of theirs is OK.
            let code = GrpcStatus::of_foreign(status).code();
            if class == Class::Success {
                return Self { code, class: Class::ServerError, severity: 500 };
            }
            return Self { code, class, severity: status };
        }
        match grpc_status(&head.headers) {
            Some(said) => Self::of_call(said),
            None => Self { code: status, class, severity: status },
        }
    }

    /// Of a call that ended so.
    pub(super) fn of_call(status: GrpcStatus) -> Self {
        let code = status.code();
        Self { code, class: Class::of_grpc(status.number()), severity: severity_of_code(code) }
    }
}

/// How a body is framed on its way from a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framed {
    /// The length that the head tells.
    pub(super) length: Option<u64>,
    /// No body follows, whatever the head tells (RFC 9112 §6.3).
    pub(super) bare: bool,
    /// The connection can be in step with the next answer.
    pub(super) keep: bool,
}

impl Framed {
    /// Of the head that a replica has sent, if it has one meaning.
    pub(super) fn of(upstream: &ReplicaSession, asked: &Method) -> Result<Self, Trouble> {
        let head = upstream.head().expect("a head was read");
        let status = head.status;
        let bare = *asked == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let AnswerFraming { length, chunked } = match upstream {
            ReplicaSession::Http1(http1) => http1.framing(),
            ReplicaSession::Http2(_) => framing_of_http2(&head.headers)?,
        };
        // A replica that frames a body where none may be may also send it, into the next answer.
        let sends = chunked || (status == StatusCode::NO_CONTENT && length.is_some_and(|n| n > 0));
        Ok(Self { length: length.filter(|_| !chunked), bare, keep: !(bare && sends) })
    }
}

impl From<BadAnswer> for Trouble {
    fn from(bad: BadAnswer) -> Self {
        Self::Malformed(bad.0)
    }
}

/// HTTP/2 frames bodies itself, and the h2 crate ends a stream whose body has another length than its head tells.
fn framing_of_http2(headers: &HeaderMap) -> Result<AnswerFraming, BadAnswer> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let read = read_length(value.as_bytes());
        let read = read.ok_or(BadAnswer("its Content-Length is not a number"))?;
        if length.replace(read).is_some_and(|other| other != read) {
            return Err(BadAnswer("it has two different Content-Lengths"));
        }
    }
    Ok(AnswerFraming { length, chunked: false })
}

/// How the body after this head can be read.
pub(super) fn form_of(head: &ResponseHeader) -> OutputForm {
    let text = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or("unknown"));
    OutputForm::of(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING))
}

/// How the body after this head tells its tokens.
pub(super) fn usage_form_of(head: &ResponseHeader) -> UsageForm {
    let text = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or("unknown"));
    UsageForm::of(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING))
}

/// The status of a gRPC answer: in its trailers, or in the head of one without a body.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<GrpcStatus> {
    Some(GrpcStatus::read(headers.get(GRPC_STATUS)?.as_bytes()))
}

/// Does the head of a gRPC answer say how the call ended?
pub(super) fn ends_call(head: &ResponseHeader) -> bool {
    head.headers.contains_key(GRPC_STATUS)
}

/// Is it an answer in gRPC?
pub(super) fn is_grpc_answer(head: &ResponseHeader) -> bool {
    head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| is_grpc(kind.as_bytes()))
}

/// How the body after this head is cut into pieces that can be read, and added to. `None`: it is no stream.
pub(super) fn stream_of(head: &ResponseHeader) -> Option<StreamForm> {
    let text = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or("unknown"));
    StreamForm::of(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING))
}

/// How the attempt is counted whose stream says this.
pub(super) const fn class_of_failure(failure: Failure) -> Class {
    match failure {
        Failure::Client => Class::ClientError,
        Failure::Overloaded => Class::Overloaded,
        Failure::Server => Class::ServerError,
    }
}

/// Does an answer come piece by piece, each of which means something by itself? By its media type.
pub(super) fn is_stream(head: &ResponseHeader) -> bool {
    const OPAQUE: [&str; 2] = ["application/json-seq", "application/vnd.amazon.eventstream"];
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = essence(kind.unwrap_or_default());
    StreamForm::of(kind, None).is_some()
        || OPAQUE.iter().any(|stream| essence.eq_ignore_ascii_case(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

    #[test]
    fn a_plain_answer_is_what_its_status_says() {
        for (status, headers, class) in [
            (200, &[("grpc-status", "14")][..], Class::Success),
            (200, &[GRPC, ("grpc-status", "14")], Class::Success),
            (503, &[("retry-after", "1")], Class::Overloaded),
            (404, &[], Class::ClientError),
        ] {
            let meaning = Meaning { code: status, class, severity: status };
            assert_eq!(Meaning::of(&head(status, headers), false), meaning, "{headers:?}");
        }
    }

    #[test]
    fn a_call_answered_by_something_else_is_no_success() {
        const HTML: &[(&str, &str)] = &[("content-type", "text/html")];
        for (status, headers, code, class, severity) in [
            (200, HTML, 602, Class::ServerError, 500),
            (200, &[("content-type", "application/json")][..], 602, Class::ServerError, 500),
            (200, &[], 602, Class::ServerError, 500),
            (
                200,
                &[("content-type", "text/html"), ("grpc-status", "0")],
                602,
                Class::ServerError,
                500,
            ),
            (302, HTML, 602, Class::ServerError, 500),
            (401, HTML, 616, Class::ClientError, 401),
            (404, HTML, 612, Class::ClientError, 404),
            (429, HTML, 614, Class::Overloaded, 429),
            (503, HTML, 614, Class::ServerError, 503),
        ] {
            let meaning = Meaning { code, class, severity };
            assert_eq!(Meaning::of(&head(status, headers), true), meaning, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_call_that_ends_with_its_head_says_how() {
        let said = Meaning::of(&head(200, &[GRPC, ("grpc-status", "14")]), true);
        assert_eq!(said, Meaning { code: 614, class: Class::ServerError, severity: 503 });
        let open = Meaning::of(&head(200, &[GRPC]), true);
        assert_eq!(open, Meaning { code: 200, class: Class::Success, severity: 200 });
    }

    #[test]
    fn http2_tells_one_length_or_none() {
        let framing = |values: &[&'static str]| {
            let all: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            framing_of_http2(&head(200, &all).headers).ok().map(|framing| framing.length)
        };
        assert_eq!(framing(&[]), Some(None));
        assert_eq!(framing(&["5"]), Some(Some(5)));
        assert_eq!(framing(&["5", "5"]), Some(Some(5)));
        for odd in [&["5", "6"][..], &["5, 5"], &["+5"], &[""]] {
            assert_eq!(framing(odd), None, "{odd:?}");
        }
    }
}
