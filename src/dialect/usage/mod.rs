//! How many tokens an answer took and made, told from its bytes as they pass.
//!
//! Servers tell it in `usage` and its like, at the end, in pieces or again and again; what is told last and highest counts,
//! nothing is summed twice. A stream that tells nothing is counted by its events.
mod chunk;
mod counters;
mod lines;

pub use chunk::{UsageChunks, ask_for_usage};

use crate::dialect::media::{JsonForm, is_coded};
use counters::{Counters, Told};
use lines::{Line, Lines};

/// So many events may follow the one that tells the tokens of the whole answer.
const LAST_EVENTS: u64 = 3;

/// How an answer's bytes tell of their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageForm {
    Json,
    /// Server-sent events.
    Events,
    /// JSON values, one a line (Ollama).
    JsonLines,
    /// Nothing is read: text, media, messages of another protocol.
    Bytes,
    /// Bytes again, of which a token takes fewer.
    Compressed,
    /// A stream of those.
    CompressedStream,
}

impl UsageForm {
    /// From the answer's head.
    pub fn of(content_type: Option<&str>, content_encoding: Option<&str>) -> Self {
        let plain = !is_coded(content_encoding);
        let form = match JsonForm::of(content_type) {
            Some(JsonForm::Events) => Self::Events,
            Some(JsonForm::Lines) => Self::JsonLines,
            Some(JsonForm::Document) => Self::Json,
            None => Self::Bytes,
        };
        match form {
            form if plain => form,
            Self::Events | Self::JsonLines => Self::CompressedStream,
            Self::Json | Self::Bytes | Self::Compressed | Self::CompressedStream => {
                Self::Compressed
            }
        }
    }

    /// Are its tokens sent as they are made?
    pub const fn is_stream(self) -> bool {
        match self {
            Self::Events | Self::JsonLines | Self::CompressedStream => true,
            Self::Json | Self::Bytes | Self::Compressed => false,
        }
    }

    /// Does each line with data stand for about a token?
    const fn has_events(self) -> bool {
        matches!(self, Self::Events | Self::JsonLines)
    }

    /// How many bytes are taken for a token where nothing tells: text has four, and compresses to half of that at least.
    const fn bytes_per_token(self) -> u64 {
        match self {
            Self::Json | Self::Events | Self::JsonLines | Self::Bytes => 4,
            Self::Compressed | Self::CompressedStream => 2,
        }
    }
}

/// An answer whose tokens are counted as it passes.
#[derive(Debug)]
pub struct UsageScan {
    form: UsageForm,
    counters: Counters,
    lines: Lines,
    told: Usage,
    /// Lines with data.
    events: u64,
    /// How many of them there were when the tokens of the answer were told last.
    told_at: u64,
    /// The work goes on behind the answer.
    pending: bool,
    bytes: u64,
}

/// Tokens as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: Option<u64>,
    pub completion: Option<u64>,
}

impl UsageScan {
    pub fn new(form: UsageForm) -> Self {
        let (counters, lines) = (Counters::default(), Lines::default());
        let told = Usage::default();
        Self { form, counters, lines, told, events: 0, told_at: 0, pending: false, bytes: 0 }
    }

    /// Takes the next bytes of the body.
    pub fn chunk(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let Self { form, counters, lines, told, events, told_at, pending, .. } = self;
        match form {
            UsageForm::Json => counters.take(bytes, |one| {
                told.add(one, true);
                *pending |= one.is_pending();
            }),
            UsageForm::Events | UsageForm::JsonLines => {
                let named = *form == UsageForm::Events;
                lines.take(bytes, named, |line| match line {
                    Line::Begins => {
                        *events += 1;
                        // A value may go on in the next line of data, but not behind an empty one.
                        if counters.at_rest() {
                            *counters = Counters::default();
                        }
                    }
                    Line::Data(data) => counters.take(data, |one| {
                        told.add(one, false);
                        if one.completion().is_some() {
                            *told_at = *events;
                        }
                    }),
                    Line::Done => *events -= 1,
                    Line::Empty => *counters = Counters::default(),
                });
            }
            UsageForm::Bytes | UsageForm::Compressed | UsageForm::CompressedStream => {}
        }
    }

    /// What is known by now: of an answer that broke off, too.
    pub fn usage(&self) -> Usage {
        let mut told = self.told;
        told.add(self.counters.told(), self.form == UsageForm::Json);
        // A server that counts nothing says zero; what was seen is believed over that.
        let prompt = told.prompt.filter(|tokens| *tokens > 0);
        let counts = told.completion != Some(0) || (prompt.is_some() && self.events == 0);
        let mut completion = told.completion.filter(|_| counts);
        // Many events behind what was told: it was a beginning (Anthropic's `message_start` says 1).
        let is_old = self.events.saturating_sub(self.told_at) > LAST_EVENTS;
        if completion.is_none() || is_old {
            completion = completion.max(self.events());
        }
        Usage { prompt, completion }
    }

    /// Events that were seen, each of which stands for about a token; `None`: it has none.
    pub fn events(&self) -> Option<u64> {
        self.form.has_events().then_some(self.events)
    }

    /// Does the answer say only that the work waits or runs?
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    pub fn form(&self) -> UsageForm {
        self.form
    }

    /// Tokens of the answer, estimated by its bytes.
    pub fn estimate(&self) -> u64 {
        self.bytes.div_ceil(self.form.bytes_per_token())
    }
}

impl Usage {
    /// Adds what one value says. Running totals never fall; `beside`: values stand side by side, and each of those that
    /// answer a prompt of their own comes on top.
    fn add(&mut self, one: Told, beside: bool) {
        let sums = beside && one.is_one_of_many();
        let join = |all: Option<u64>, one: Option<u64>| match (all, one) {
            (Some(all), Some(one)) if sums => Some(all.saturating_add(one)),
            (all, one) => all.max(one),
        };
        self.prompt = join(self.prompt, one.prompt());
        self.completion = join(self.completion, one.completion());
    }
}

#[cfg(test)]
mod tests;
