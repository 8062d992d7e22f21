//! gRPC on its way in: which call it is, how much of it is read, and the messages of a stream as they pass.
use super::body::{Body, Need};
use super::exchange::Exchange;
use super::identify::no_model;
use super::placed::Placed;
use super::upload::Passing;
use crate::dialect::grpc::{Call, MessageProblem, Messages, first_name, is_grpc, read_call};
use crate::dialect::{BodyProblem, BodyRead, Duty, RefusalCode};
use crate::flow::Refusal;
use crate::table::{Table, Timeouts, Unrouted};
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

impl Exchange<'_> {
    /// Is it gRPC?
    pub(super) fn is_call(&self) -> bool {
        self.call.is_some()
    }

    /// Why no model answers. `sealed`: what might have named one is compressed.
    pub(super) fn refuse_unplaced(&self, why: Unrouted, sealed: bool) -> Refusal {
        if why != Unrouted::ModelRequired {
            return Refusal::from(why);
        }
        if !self.is_call() {
            let reads = [Method::GET, Method::HEAD].contains(&self.session.req_header().method);
            let page = matches!(self.row.duty, Duty::Page | Duty::Management);
            let message = no_model(reads || page, self.row.model);
            return Refusal::new(RefusalCode::ModelRequired, message).about(Some("model"));
        }
        if sealed {
            let message = "the first message is compressed and is not opened: name the model in a \
                           header that `model_from` lists, set `default_model`, or send it uncompressed";
            return Refusal::new(RefusalCode::ModelUnreadable, message);
        }
        let message = "the call names no model: set it in the first message (`model_name`), in a \
                       header that `model_from` lists, or set `default_model`";
        Refusal::new(RefusalCode::ModelRequired, message)
    }

    /// What reads the rest of a stream whose messages each name the model.
    pub(super) fn passing(&self, placed: &Placed<'_>) -> Option<Passing> {
        let messages = placed.messages.clone()?;
        let space = self.proxy.buffers.reservation(Some(self.holder()));
        Some(Passing::new(messages, space))
    }
}
