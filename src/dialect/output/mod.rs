//! Is an answer any good? It is looked at as it passes, and never held up.
mod budget;
#[cfg(test)]
mod cases;
mod content;
mod events;
mod window;

pub use budget::{OutputBudget, Reserved};
pub use content::{answer_text, event_values};

use super::dialects::{AnswerFormat, Dialect};
use crate::dialect::media::{essence, is_coded};
use content::Read;
use events::Events;
use serde_json::Value;
use std::sync::Arc;
use window::Window;

/// A body that is no stream is gathered up to this; a longer one is not judged.
const LONGEST_BODY: usize = 256 << 10;
/// So many choices of a stream are told apart; text of further ones is not searched.
const MOST_CHOICES: usize = 8;

/// What an answer must not be.
#[derive(Clone, Debug, Default)]
pub struct OutputWish {
    /// No text, tool call, embedding or prediction at all, but maybe an error or a page in its place.
    pub empty: bool,
    /// It claims to be JSON and is not.
    pub json_invalid: bool,
    /// It ends early: cut, or stopped by a limit on its tokens.
    pub truncated: bool,
    /// Its text has this in it.
    pub matches: Option<regex::Regex>,
    /// What must be found where (RFC 6901); in a stream at least one event has it.
    pub json: Vec<(String, Value)>,
}

/// What is wrong with an answer; of several the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputProblem {
    Truncated,
    /// It reports an error, whatever its status.
    Reported,
    /// It has none of the shapes that answers on such a path have: a page, or JSON of somebody else's.
    Shapeless,
    Empty,
    JsonInvalid,
    /// A JSON pointer does not lead to the value it should.
    Unexpected,
    /// Its text has in it what it must not.
    Matches,
}

/// How an answer's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputForm {
    Json,
    /// Server-sent events.
    Events,
    Text,
    /// A page for a browser.
    Html,
    /// Compressed or binary: nothing is judged but its end.
    Opaque,
}

impl OutputForm {
    /// From the answer's head.
    pub fn of(content_type: Option<&str>, content_encoding: Option<&str>) -> Self {
        if is_coded(content_encoding) {
            return Self::Opaque;
        }
        let kind = essence(content_type.unwrap_or_default()).to_ascii_lowercase();
        match kind.as_str() {
            "application/json" => Self::Json,
            "text/event-stream" => Self::Events,
            kind if kind.starts_with("application/") && kind.ends_with("+json") => Self::Json,
            "text/html" | "application/xhtml+xml" => Self::Html,
            kind if kind.starts_with("text/") => Self::Text,
            _ => Self::Opaque,
        }
    }
}

/// What was found of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Output {
    pub problem: Option<OutputProblem>,
    /// It was stopped by a limit on its tokens.
    pub limited: bool,
    /// Tokens made, as the answer says, or else as a stream's chunks tell.
    pub tokens: Option<u32>,
    /// The part of its prompt that was in the prefix cache of its replica, as the answer says: 0 to 1.
    pub cached: Option<f32>,
    /// `false`: it could not be read (compressed, too long), so its lack of a problem says nothing.
    pub judged: bool,
}

/// Looks at one answer of a good status while its bytes pass. What it finds does not depend on where they are cut.
#[derive(Debug)]
pub struct OutputScan {
    dialect: Dialect,
    form: OutputForm,
    wish: Arc<OutputWish>,
    /// The body so far, if it is gathered.
    body: Vec<u8>,
    too_long: bool,
    events: Events,
    sum: Sum,
}

/// What the events of a stream said together.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings, not states")]
struct Sum {
    content: bool,
    limited: bool,
    ended: bool,
    broken: bool,
    matched: bool,
    usage: Option<u32>,
    cached: Option<f32>,
    chunks: u32,
    /// Which expectations were met.
    met: Vec<bool>,
    texts: Vec<(u64, Window)>,
}

impl OutputScan {
    pub fn new(dialect: Dialect, form: OutputForm, wish: Arc<OutputWish>) -> Self {
        let sum = Sum { met: vec![false; wish.json.len()], ..Sum::default() };
        let events = Events::default();
        Self { dialect, form, wish, body: Vec::new(), too_long: false, events, sum }
    }

    /// Takes the next bytes of the body.
    pub fn chunk(&mut self, bytes: &[u8]) {
        match self.form {
            OutputForm::Events => {
                let Self { dialect, wish, events, sum, .. } = self;
                events.take(bytes, &mut |event| sum.add(*dialect, wish, event));
            }
            OutputForm::Json | OutputForm::Text | OutputForm::Html => {
                if self.too_long || self.body.len() + bytes.len() > LONGEST_BODY {
                    self.too_long = true;
                    self.body = Vec::new();
                } else {
                    self.body.extend_from_slice(bytes);
                }
            }
            OutputForm::Opaque => {}
        }
    }

    /// The body is over; `complete`: as its framing says it should be.
    pub fn finish(mut self, complete: bool) -> Output {
        match self.form {
            OutputForm::Events => self.finish_events(complete),
            OutputForm::Json | OutputForm::Text | OutputForm::Html => self.finish_body(complete),
            OutputForm::Opaque => {
                let problem = self.first_of(&[(OutputProblem::Truncated, !complete)]);
                Output { problem, judged: problem.is_some(), ..Output::default() }
            }
        }
    }

    fn finish_events(&mut self, complete: bool) -> Output {
        if complete {
            // Some servers forget the empty line after the last event.
            let Self { dialect, wish, events, sum, .. } = self;
            events.end(&mut |event| sum.add(*dialect, wish, event));
        }
        let sum = &mut self.sum;
        let matched = sum.matched
            || self.wish.matches.as_ref().is_some_and(|pattern| {
                sum.texts.iter_mut().any(|(_, window)| window.finish(pattern))
            });
        let sum = &self.sum;
        let must_end = self.dialect.answer_format() == AnswerFormat::OpenAi;
        let truncated = !complete || sum.limited || (must_end && !sum.ended);
        let problem = self.first_of(&[
            (OutputProblem::Truncated, truncated),
            (OutputProblem::Empty, !sum.content && !sum.broken),
            (OutputProblem::JsonInvalid, sum.broken),
            (OutputProblem::Unexpected, sum.met.contains(&false)),
            (OutputProblem::Matches, matched),
        ]);
        let counted = (sum.chunks > 0).then_some(sum.chunks);
        let (tokens, cached) = (sum.usage.or(counted), sum.cached);
        Output { problem, limited: sum.limited, tokens, cached, judged: true }
    }

    fn finish_body(&self, complete: bool) -> Output {
        if self.too_long {
            let problem = self.first_of(&[(OutputProblem::Truncated, !complete)]);
            return Output { problem, judged: problem.is_some(), ..Output::default() };
        }
        let body = &self.body;
        let blank = body.trim_ascii().is_empty();
        let mut read = Read::default();
        let mut texts = Vec::new();
        let mut broken = false;
        let mut unexpected = false;
        if matches!(self.form, OutputForm::Text | OutputForm::Html) {
            read.shapeless = self.form == OutputForm::Html && self.dialect.has_known_answers();
            read.content = !blank;
            texts.push(String::from_utf8_lossy(body).into_owned());
        } else if let Ok(value) = serde_json::from_slice::<Value>(body) {
            read = Read::of_answer(self.dialect, &value, &mut |_, text| {
                texts.push(text.to_owned());
            });
            unexpected =
                self.wish.json.iter().any(|(at, wanted)| value.pointer(at) != Some(wanted));
        } else {
            (broken, unexpected) = (true, true);
        }
        let pattern = self.wish.matches.as_ref();
        let matched =
            pattern.is_some_and(|pattern| texts.iter().any(|text| pattern.is_match(text)));
        let problem = self.first_of(&[
            (OutputProblem::Truncated, !complete || read.limited),
            (OutputProblem::Reported, read.reported),
            (OutputProblem::Shapeless, read.shapeless),
            (OutputProblem::Empty, if broken { blank } else { !read.content }),
            (OutputProblem::JsonInvalid, broken),
            (OutputProblem::Unexpected, unexpected),
            (OutputProblem::Matches, matched),
        ]);
        let Read { limited, usage: tokens, cached, .. } = read;
        Output { problem, limited, tokens, cached, judged: true }
    }

    /// The first that is so and is looked for.
    fn first_of(&self, found: &[(OutputProblem, bool)]) -> Option<OutputProblem> {
        let wish = &self.wish;
        let wished = |problem: OutputProblem| match problem {
            OutputProblem::Truncated => wish.truncated,
            OutputProblem::Empty | OutputProblem::Reported | OutputProblem::Shapeless => wish.empty,
            OutputProblem::JsonInvalid => wish.json_invalid,
            OutputProblem::Unexpected => !wish.json.is_empty(),
            OutputProblem::Matches => wish.matches.is_some(),
        };
        found.iter().find(|(problem, so)| *so && wished(*problem)).map(|(problem, _)| *problem)
    }
}

impl Sum {
    fn add(&mut self, dialect: Dialect, wish: &OutputWish, event: events::Event<'_>) {
        let Some(data) = event.data else {
            // Too long to be kept. Its name still tells an end, and something was said.
            let read = Read::of_name(event.name);
            self.content = true;
            self.ended |= read.ended;
            self.limited |= read.limited;
            return;
        };
        if data == b"[DONE]" {
            self.ended = true;
            return;
        }
        if data.is_empty() {
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(data) else {
            // Other streams may carry plain text.
            if dialect.answer_format() == AnswerFormat::Unknown {
                self.content = true;
                self.text(wish, 0, &String::from_utf8_lossy(data));
            } else {
                self.broken = true;
            }
            return;
        };
        let read = Read::of_event(dialect, &value, &mut |choice, text| {
            self.text(wish, choice, text);
        });
        self.content |= read.content;
        self.limited |= read.limited;
        self.ended |= read.ended;
        self.usage = read.usage.or(self.usage);
        self.cached = read.cached.or(self.cached);
        self.chunks = self.chunks.saturating_add(u32::from(read.chunk));
        for (met, (at, wanted)) in self.met.iter_mut().zip(&wish.json) {
            *met |= value.pointer(at) == Some(wanted);
        }
    }

    fn text(&mut self, wish: &OutputWish, choice: u64, text: &str) {
        let Some(pattern) = &wish.matches else { return };
        let known = self.texts.iter().position(|(index, _)| *index == choice);
        let place = match known {
            Some(place) => place,
            None if self.texts.len() < MOST_CHOICES => {
                self.texts.push((choice, Window::default()));
                self.texts.len() - 1
            }
            None => return,
        };
        self.matched |= self.texts[place].1.add(text, pattern);
    }
}
