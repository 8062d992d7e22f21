//! Writes the name that the client used where an answer says its model, while the answer passes.
//!
//! Only strings at the known place are replaced; every other byte passes as it came. No byte of JSON waits for a later
//! one, and of a gRPC message at most its first 20 do, so that memory is bounded whatever comes.
mod events;
mod json;
mod messages;

use super::dialects::Dialect;
use super::facts::FoundIn;
use super::grpc::{Call, NameAt, is_grpc};
use crate::dialect::media::essence;
use bytes::{Bytes, BytesMut};
use events::Events;
use json::Json;
use messages::Messages;

/// A longer name is not repeated in every event of a stream.
const LONGEST: usize = 512;

/// Where answers say their model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameIn {
    /// The field `top` of the outermost object; in an event also that of the object in its field `within`.
    Json {
        top: &'static str,
        within: Option<&'static str>,
    },
    Messages(NameAt),
}

impl NameIn {
    /// Of answers in this dialect. `asked`: where the request named its model; on paths of no known API an answer's
    /// `model` is a model where the request's was.
    pub fn of(dialect: Dialect, call: Option<Call>, asked: Option<&FoundIn>) -> Option<Self> {
        let json = |top, within| Some(Self::Json { top, within });
        match dialect {
            Dialect::OpenAi => json("model", Some("response")),
            Dialect::Anthropic => json("model", Some("message")),
            Dialect::Ollama => json("model", None),
            Dialect::KServeV2 => json("model_name", None),
            Dialect::Grpc => call?.answers_at.map(Self::Messages),
            Dialect::Plain if matches!(asked, Some(FoundIn::Body(_))) => json("model", None),
            Dialect::Google
            | Dialect::Cohere
            | Dialect::Aws
            | Dialect::Tgi
            | Dialect::TorchServe
            | Dialect::KServeV1
            | Dialect::Plain => None,
        }
    }
}

/// Writes a name into one answer.
#[derive(Debug)]
pub struct NameWriter {
    form: Form,
    /// As it stands in the answer: a JSON string with its quotes, or bare.
    name: Bytes,
}

#[derive(Debug)]
enum Form {
    Json(Json),
    Events(Events),
    Messages(Messages),
}

impl NameWriter {
    /// For a body of this type; `None`: no name is written into it. `fallback` stands for a name that is too long.
    pub fn new(
        place: NameIn,
        content_type: Option<&str>,
        name: &str,
        fallback: &str,
    ) -> Option<Self> {
        let kind = essence(content_type?).to_ascii_lowercase();
        let name = if name.len() > LONGEST { fallback } else { name };
        let (form, in_json) = match place {
            NameIn::Json { top, within } => match kind.as_str() {
                "text/event-stream" => (Form::Events(Events::new(top, within)), true),
                "application/json"
                | "application/x-ndjson"
                | "application/ndjson"
                | "application/jsonl"
                | "application/x-jsonlines" => (Form::Json(Json::new(top, None)), true),
                kind if kind.starts_with("application/") && kind.ends_with("+json") => {
                    (Form::Json(Json::new(top, None)), true)
                }
                _ => return None,
            },
            NameIn::Messages(at) if is_grpc(kind.as_bytes()) => {
                (Form::Messages(Messages::new(at)), false)
            }
            NameIn::Messages(_) => return None,
        };
        let name = if in_json {
            Bytes::from(serde_json::to_vec(name).expect("a string is JSON"))
        } else {
            Bytes::copy_from_slice(name.as_bytes())
        };
        Some(Self { form, name })
    }

    /// What the client gets of these bytes.
    pub fn write(&mut self, bytes: Bytes) -> Bytes {
        let mut out = Pieces { from: &bytes, passed: 0, out: BytesMut::new() };
        match &mut self.form {
            Form::Json(json) => json.read(&mut out, 0..bytes.len(), &self.name),
            Form::Events(events) => events.read(&mut out, &self.name),
            Form::Messages(messages) => messages.read(&mut out, &self.name),
        }
        let Pieces { passed, mut out, .. } = out;
        if passed == 0 && out.is_empty() {
            return bytes;
        }
        out.extend_from_slice(&bytes[passed..]);
        out.freeze()
    }

    /// What is left of an answer that ended inside a message.
    pub fn finish(&mut self) -> Bytes {
        match &mut self.form {
            Form::Messages(messages) => messages.finish(),
            Form::Json(_) | Form::Events(_) => Bytes::new(),
        }
    }
}

/// Bytes on their way through: those before `passed` were taken or left out.
#[derive(Debug)]
struct Pieces<'a> {
    from: &'a [u8],
    passed: usize,
    out: BytesMut,
}

impl Pieces<'_> {
    /// Takes what stands before `end`.
    fn pass(&mut self, end: usize) {
        self.out.extend_from_slice(&self.from[self.passed..end]);
        self.passed = end;
    }

    /// Leaves out what stands before `end` and was not taken.
    fn skip(&mut self, end: usize) {
        self.passed = end;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
