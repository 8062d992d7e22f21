//! Writes the name that the client used where an answer says its model, while the answer passes.
//!
//! Only strings at the known place are replaced; every other byte passes as it came. No byte of JSON waits for a later
//! one, and of a gRPC message at most its first 20 do, so that memory is bounded whatever comes.
mod events;
mod json;
mod messages;

use super::dialects::{Dialect, PathKind};
use super::facts::FoundIn;
use super::grpc::{Call, NameAt, is_grpc};
use super::media::JsonForm;
use super::rows::{Duty, Row};
use bytes::{Bytes, BytesMut};
use events::Events;
use json::Json;
use messages::Messages;

/// A longer name is not repeated in every event of a stream.
const LONGEST: usize = 512;

/// Where answers say their model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameIn {
    /// The fields `top` of the outermost object, or of each object in the outermost list; in an event also those of the
    /// object in its field `within`.
    Json {
        top: &'static [&'static str],
        within: Option<&'static str>,
    },
    Messages(NameAt),
}

impl NameIn {
    /// Of answers to a request of this shape. `asked`: where the request named its model; on paths of no known API an
    /// answer's `model` is a model where the request's was. `chats`: its body is one of a language model.
    pub fn of(row: &Row, call: Option<Call>, asked: Option<&FoundIn>, chats: bool) -> Option<Self> {
        let json = |top, within| Some(Self::Json { top, within });
        match row.dialect {
            Dialect::OpenAi => json(&["model"], Some("response")),
            Dialect::Anthropic => json(&["model"], Some("message")),
            Dialect::Ollama | Dialect::Tgi | Dialect::Cohere => json(&["model"], None),
            Dialect::Google => json(&["modelVersion", "model"], None),
            // Metadata and readiness of a model.
            Dialect::KServeV1 | Dialect::KServeV2 if row.duty == Duty::Page => {
                json(&["name", "model_name"], None)
            }
            Dialect::KServeV1 | Dialect::KServeV2 => json(&["model_name"], None),
            Dialect::Grpc => call?.answers_at.map(Self::Messages),
            Dialect::Aws if row.kind == PathKind::Llm => json(&["model"], None),
            Dialect::Plain if matches!(asked, Some(FoundIn::Body(_))) => json(&["model"], None),
            // Elsewhere `model` may be what a model says of a car.
            Dialect::Aws | Dialect::TorchServe | Dialect::Plain if chats => json(&["model"], None),
            Dialect::Aws | Dialect::TorchServe | Dialect::Plain => None,
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
        let name = if name.len() > LONGEST { fallback } else { name };
        let (form, in_json) = match place {
            NameIn::Json { top, within } => match JsonForm::of(content_type)? {
                JsonForm::Events => (Form::Events(Events::new(top, within)), true),
                JsonForm::Lines | JsonForm::Document => (Form::Json(Json::new(top, None)), true),
            },
            NameIn::Messages(at) if content_type.is_some_and(|kind| is_grpc(kind.as_bytes())) => {
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
