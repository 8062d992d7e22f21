//! gRPC on its way in: which call it is, and how much of it is read.
use super::body::{Body, Need};
use crate::dialect::grpc::{Call, MessageProblem, Messages, first_name, is_grpc, read_call};
use crate::dialect::{BodyProblem, BodyRead, RefusalCode};
use crate::flow::Refusal;
use crate::table::{Table, Timeouts};
use http::{Method, Version, header};
use pingora_http::RequestHeader;

/// The call that this head begins. gRPC needs HTTP/2: over HTTP/1 nobody would see how it ends.
pub(super) fn call_of(head: &RequestHeader) -> Option<Call> {
    let kind = head.headers.get(header::CONTENT_TYPE)?;
    let is_call =
        is_grpc(kind.as_bytes()) && head.version == Version::HTTP_2 && head.method == Method::POST;
    is_call.then(|| read_call(head.uri.path()))
}

/// How much of a call is read before it is routed. One with a single message is kept whole, for retries.
pub(super) fn needed_of(call: Call, table: &Table) -> Need {
    let most = table.max_buffered_body;
    match call.name_at {
        None => Need::Nothing,
        Some(_) if call.streams => Need::Message(most),
        Some(_) => Need::Whole(most),
    }
}

/// The model that a call names, in what was read of it.
pub(super) fn read_messages(call: Call, body: &Body, table: &Table) -> BodyRead {
    let Some(at) = call.name_at else { return BodyRead::Absent };
    let (read, limit) = (body.read_so_far(), table.max_buffered_body);
    let named = first_name(read, at, call.streams, limit);
    // Those of a stream that came along have to agree with the first.
    let agreed = named.and_then(|name| {
        if call.streams
            && let Some(name) = &name
        {
            Messages::new(at, name, None, limit).take(read)?;
        }
        Ok(name)
    });
    match agreed {
        Ok(name) => BodyRead::Messages(name, at),
        Err(MessageProblem::Sealed) => BodyRead::Sealed,
        Err(problem) => BodyRead::Broken(BodyProblem::Message(problem)),
    }
}

/// Nobody said anything in a call that might have lasted.
pub(super) fn fell_silent(timeouts: &Timeouts) -> Refusal {
    let message = format!("neither side sent a message for {:?}", timeouts.tunnel);
    Refusal::new(RefusalCode::StreamStalled, message)
}
