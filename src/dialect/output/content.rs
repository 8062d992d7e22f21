//! What an answer, or one event of a stream, holds: text, tool calls, numbers, and how it ended.
use crate::dialect::{AnswerFormat, Dialect};
use serde_json::Value;

/// Takes text and the choice it belongs to.
pub(super) type Take<'t> = &'t mut dyn FnMut(u64, &str);

/// What was found in one JSON value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings, not states")]
pub(super) struct Read {
    /// It has something a client asked for.
    pub(super) content: bool,
    /// Stopped by a limit on its tokens.
    pub(super) limited: bool,
    /// The stream says that it is over.
    pub(super) ended: bool,
    /// It carries a piece of an answer, even if only a thought: most servers send one for each token.
    pub(super) chunk: bool,
    /// It says that something failed.
    pub(super) reported: bool,
    /// It has none of the shapes of its dialect.
    pub(super) shapeless: bool,
    pub(super) usage: Option<u32>,
    /// The part of the prompt that was in a cache: 0 to 1.
    pub(super) cached: Option<f32>,
}

impl Read {
    /// A whole body.
    pub(super) fn of_answer(dialect: Dialect, value: &Value, take: Take<'_>) -> Self {
        let reported = reports(value);
        match dialect.answer_format() {
            AnswerFormat::OpenAi => {
                let mut read = Self { reported, ..Self::default() };
                if !read.openai(value, take) {
                    read.content = !is_hollow(value);
                    // Files, lists, tokenizers and scores.
                    let others = ["object", "tokens", "prompt", "scores", "score", "embeddings"];
                    let other = others.iter().any(|name| value.get(name).is_some());
                    read.shapeless = read.content && value.is_object() && !other;
                }
                read
            }
            AnswerFormat::KServe => Self { reported, ..Self::kserve(value, take) },
            AnswerFormat::Unknown => {
                if let Some(text) = value.as_str() {
                    take(0, text);
                } else {
                    take(0, &value.to_string());
                }
                let reported = reported && dialect.has_known_answers();
                Self {
                    content: !is_hollow(value),
                    reported,
                    usage: usage(value),
                    ..Self::default()
                }
            }
        }
    }

    /// The data of an event.
    pub(super) fn of_event(dialect: Dialect, value: &Value, take: Take<'_>) -> Self {
        match dialect.answer_format() {
            AnswerFormat::OpenAi => {
                let mut read = Self::default();
                match value["type"].as_str() {
                    Some(kind) => read.typed(kind, value, take),
                    None => drop(read.openai(value, take)),
                }
                read
            }
            AnswerFormat::KServe | AnswerFormat::Unknown => {
                let read = Self::of_answer(dialect, value, take);
                Self { chunk: read.content, ..read }
            }
        }
    }

    /// Of an event whose data was too long to be kept, only the name is known.
    pub(super) fn of_name(name: &[u8]) -> Self {
        let ended = matches!(name, b"response.completed" | b"response.incomplete");
        Self { ended, limited: name == b"response.incomplete", ..Self::default() }
    }

    /// Chat, completions, responses, messages, embeddings and their kin. `false`: none of them.
    fn openai(&mut self, value: &Value, take: Take<'_>) -> bool {
        self.usage = usage(value).or(self.usage);
        self.cached = cached(value).or(self.cached);
        let mut known = value.get("usage").is_some();
        if let Some(choices) = value["choices"].as_array() {
            known = true;
            for (index, choice) in choices.iter().enumerate() {
                let index = choice["index"].as_u64().unwrap_or(index as u64);
                self.choice(index, choice, take);
            }
        }
        if let Some(items) = value["output"].as_array() {
            known = true;
            for item in items {
                match item["type"].as_str() {
                    Some("reasoning") => {}
                    Some("message") => self.parts(0, &item["content"], take),
                    Some(_) => self.content = true,
                    None => self.content |= !is_hollow(item),
                }
            }
            self.limited |= value["status"] == "incomplete";
        }
        for name in ["data", "results"] {
            if let Some(items) = value[name].as_array() {
                known = true;
                self.content |= items.iter().any(|item| match item.get("embedding") {
                    Some(embedding) => !is_hollow(embedding),
                    None => !is_hollow(item),
                });
            }
        }
        // Anthropic's messages.
        if let Some(parts) = value.get("content").filter(|parts| parts.is_array()) {
            known = true;
            self.parts(0, parts, take);
            self.limited |= value["stop_reason"] == "max_tokens";
        }
        // Transcripts.
        if let Some(text) = value["text"].as_str() {
            known = true;
            self.text(0, text, take);
        }
        known
    }

    fn choice(&mut self, index: u64, choice: &Value, take: Take<'_>) {
        self.parts(index, &choice["text"], take);
        for message in [&choice["message"], &choice["delta"]] {
            self.parts(index, &message["content"], take);
            self.parts(index, &message["refusal"], take);
            for call in ["tool_calls", "function_call", "audio"] {
                if !is_hollow(&message[call]) {
                    (self.content, self.chunk) = (true, true);
                }
            }
            self.chunk |=
                ["reasoning_content", "reasoning"].iter().any(|t| !is_hollow(&message[*t]));
        }
        let reason = choice["finish_reason"].as_str();
        self.ended |= reason.is_some();
        self.limited |= reason == Some("length");
    }

    /// Text, or a list of parts of which some are text.
    fn parts(&mut self, index: u64, content: &Value, take: Take<'_>) {
        if let Some(text) = content.as_str() {
            self.text(index, text, take);
        }
        for part in content.as_array().into_iter().flatten() {
            match (part["text"].as_str(), part["type"].as_str()) {
                (Some(text), _) => self.text(index, text, take),
                (None, Some("thinking" | "redacted_thinking" | "reasoning")) => {}
                (None, _) => self.content |= !is_hollow(part),
            }
        }
    }

    fn text(&mut self, index: u64, text: &str, take: Take<'_>) {
        if !text.is_empty() {
            (self.content, self.chunk) = (true, true);
            take(index, text);
        }
    }

    /// Events that name their type: OpenAI's responses, Anthropic's messages.
    fn typed(&mut self, kind: &str, value: &Value, take: Take<'_>) {
        let delta = &value["delta"];
        match kind {
            "response.completed" | "response.incomplete" => {
                self.ended = true;
                self.limited = kind == "response.incomplete";
                self.usage = usage(&value["response"]);
                self.cached = cached(&value["response"]);
                // Its text was in the events before.
                let mut whole = Self::default();
                whole.openai(&value["response"], &mut |_, _| {});
                self.content = whole.content;
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                let choice = value["output_index"].as_u64().unwrap_or(0);
                self.text(choice, delta.as_str().unwrap_or_default(), take);
            }
            _ if kind.starts_with("response.") => {
                self.chunk = delta.as_str().is_some_and(|delta| !delta.is_empty());
                self.content = self.chunk && !kind.contains("reasoning");
            }
            "content_block_start" => {
                self.content = value["content_block"]["type"] == "tool_use";
            }
            "content_block_delta" => {
                let choice = value["index"].as_u64().unwrap_or(0);
                self.text(choice, delta["text"].as_str().unwrap_or_default(), take);
                self.content |= !is_hollow(&delta["partial_json"]);
                self.chunk |= self.content || !is_hollow(&delta["thinking"]);
            }
            "message_start" => self.cached = cached(&value["message"]),
            "message_delta" => {
                self.limited = delta["stop_reason"] == "max_tokens";
                self.usage = usage(value);
            }
            "message_stop" => self.ended = true,
            _ => drop(self.openai(value, take)),
        }
    }

    fn kserve(value: &Value, take: Take<'_>) -> Self {
        let mut read = Self { usage: usage(value), ..Self::default() };
        if let Some(text) = value["text_output"].as_str() {
            read.text(0, text, take);
        }
        for name in ["predictions", "results", "result", "explanations", "outputs"] {
            let found = &value[name];
            let tensors = found.as_array().map(Vec::as_slice).unwrap_or_default();
            if tensors.iter().any(|tensor| tensor.get("datatype").is_some()) {
                // V2: tensors with a name, a shape and data.
                for tensor in tensors {
                    let binary = tensor["parameters"]["binary_data_size"].as_u64();
                    let data = &tensor["data"];
                    read.content |= binary.is_some_and(|size| size > 0) || !is_hollow(data);
                    each_text(data, &mut |text| take(0, text));
                }
            } else {
                read.content |= !is_hollow(found);
                each_text(found, &mut |text| take(0, text));
            }
        }
        read
    }
}

fn each_text(value: &Value, take: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, take)),
        Value::Object(fields) => fields.values().for_each(|field| each_text(field, take)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The tokens made, as `usage` tells them.
fn usage(value: &Value) -> Option<u32> {
    let usage = value.get("usage")?;
    let made = usage.get("completion_tokens").or_else(|| usage.get("output_tokens"))?;
    made.as_u64().map(|made| u32::try_from(made).unwrap_or(u32::MAX))
}

/// Does a whole answer say at its top that something failed? `"error": null` stands in many good ones.
fn reports(value: &Value) -> bool {
    value.get("error").is_some_and(|error| !is_hollow(error) && *error != Value::Bool(false))
}

/// The part of the prompt that was in a prefix cache, as `usage` tells it (OpenAI and those like it; Anthropic).
fn cached(value: &Value) -> Option<f32> {
    let usage = value.get("usage")?;
    let number = |at: &str| usage.pointer(at).and_then(Value::as_f64);
    let found = ["/prompt_tokens_details/cached_tokens", "/input_tokens_details/cached_tokens"];
    if let Some(hits) = found.into_iter().find_map(number) {
        let all = number("/prompt_tokens").or_else(|| number("/input_tokens"))?;
        return (all > 0.0).then(|| (hits / all).clamp(0.0, 1.0) as f32);
    }
    // Anthropic counts what was in its cache, and what was put there, beside the rest.
    let hits = number("/cache_read_input_tokens")?;
    let written = number("/cache_creation_input_tokens").unwrap_or_default();
    let all = hits + written + number("/input_tokens")?;
    (all > 0.0).then(|| (hits / all).clamp(0.0, 1.0) as f32)
}

/// Nothing at all, however it is wrapped: `null`, `""`, `[[]]`, `{}`.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_hollow),
        Value::Object(fields) => fields.values().all(is_hollow),
    }
}

/// All that an answer says in words, for comparing: each choice on a line of its own. `None`: it has no text.
pub fn answer_text(dialect: Dialect, form: super::OutputForm, body: &[u8]) -> Option<String> {
    use super::OutputForm;
    let mut texts: Vec<(u64, String)> = Vec::new();
    let mut take = |choice: u64, text: &str| match texts.iter_mut().find(|(c, _)| *c == choice) {
        Some((_, so_far)) => so_far.push_str(text),
        None => texts.push((choice, text.to_owned())),
    };
    match form {
        OutputForm::Json => {
            let value = serde_json::from_slice::<Value>(body).ok()?;
            Read::of_answer(dialect, &value, &mut take);
        }
        OutputForm::Events => {
            let mut events = super::events::Events::default();
            let mut each = |event: super::events::Event<'_>| {
                let data = event.data.unwrap_or_default();
                match serde_json::from_slice::<Value>(data) {
                    Ok(value) => drop(Read::of_event(dialect, &value, &mut take)),
                    Err(_) if dialect.answer_format() == AnswerFormat::Unknown => {
                        take(0, &String::from_utf8_lossy(data));
                    }
                    Err(_) => {}
                }
            };
            events.take(body, &mut each);
            events.end(&mut each);
        }
        OutputForm::Text | OutputForm::Html => take(0, &String::from_utf8_lossy(body)),
        OutputForm::Opaque => {}
    }
    texts.sort_by_key(|(choice, _)| *choice);
    let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// The JSON events of a stream.
pub fn event_values(body: &[u8]) -> Vec<Value> {
    let mut events = super::events::Events::default();
    let mut values = Vec::new();
    let mut each = |event: super::events::Event<'_>| {
        values.extend(event.data.and_then(|data| serde_json::from_slice::<Value>(data).ok()));
    };
    events.take(body, &mut each);
    events.end(&mut each);
    values
}
