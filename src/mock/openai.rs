//! OpenAI's API as vLLM and its like serve it: chat, completions, embeddings, models.
use super::events;
use super::work::{Mock, Tokens, Work, refuse};
use crate::dialect::Dialect;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Answers have no time of their own: tests compare them.
const CREATED: u64 = 1_700_000_000;

#[derive(Clone, Copy)]
enum Api {
    Chat,
    Completions,
}

pub(super) async fn chat(State(mock): State<Arc<Mock>>, body: Bytes) -> Response {
    generate(mock, &body, Api::Chat).await
}

pub(super) async fn completions(State(mock): State<Arc<Mock>>, body: Bytes) -> Response {
    generate(mock, &body, Api::Completions).await
}

async fn generate(mock: Arc<Mock>, body: &[u8], api: Api) -> Response {
    let request = match read(body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let at_most = request.get("max_completion_tokens").or_else(|| request.get("max_tokens"));
    let at_most =
        at_most.and_then(Value::as_u64).map(|most| u32::try_from(most).unwrap_or(u32::MAX));
    let streams = request.get("stream") == Some(&Value::Bool(true));
    let tokens = if streams { Tokens::Stream { at_most } } else { Tokens::Whole { at_most } };
    let work = match mock.work(tokens).await {
        Ok(work) => work,
        Err(fault) => return fault.response(Dialect::OpenAi),
    };
    let answer = Answer::new(&work, &request, api);
    if !streams {
        return Json(answer.whole()).into_response();
    }
    let mut last = vec![answer.finish().to_string()];
    if request.get("stream_options").is_some_and(|options| options["include_usage"] == true) {
        last.push(answer.usage_chunk().to_string());
    }
    last.push("[DONE]".to_owned());
    events::stream(work, move |i| answer.chunk(i).to_string(), last)
}

struct Answer {
    api: Api,
    id: String,
    model: Value,
    fingerprint: String,
    prompt_tokens: usize,
    tokens: u32,
    finish_reason: &'static str,
}

impl Answer {
    fn new(work: &Work, request: &Map<String, Value>, api: Api) -> Self {
        let prompt = request.get("messages").or_else(|| request.get("prompt"));
        let kind = match api {
            Api::Chat => "chatcmpl",
            Api::Completions => "cmpl",
        };
        let tokens = work.tokens;
        Self {
            api,
            id: format!("{kind}-{}", work.serial),
            model: model(request),
            fingerprint: work.knobs.version.clone(),
            // Four bytes a token, the usual rule of thumb.
            prompt_tokens: prompt.map_or(0, |prompt| prompt.to_string().len().div_ceil(4)),
            tokens,
            finish_reason: if tokens < work.knobs.tokens { "length" } else { "stop" },
        }
    }

    fn frame(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": CREATED, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices,
        })
    }

    fn usage(&self) -> Value {
        let (prompt, completion) = (self.prompt_tokens, self.tokens as usize);
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion,
        })
    }

    fn whole(&self) -> Value {
        let text: String = (0..self.tokens).map(word).collect();
        let (object, mut choice) = match self.api {
            Api::Chat => {
                let message = json!({"role": "assistant", "content": text});
                ("chat.completion", json!({"message": message}))
            }
            Api::Completions => ("text_completion", json!({"text": text})),
        };
        choice["index"] = json!(0);
        choice["logprobs"] = Value::Null;
        choice["finish_reason"] = json!(self.finish_reason);
        let mut answer = self.frame(object, &json!([choice]));
        answer["usage"] = self.usage();
        answer
    }

    fn part(&self, text: Option<String>, finish_reason: Option<&str>) -> Value {
        let (object, mut choice) = match (self.api, text) {
            (Api::Chat, Some(text)) => {
                let delta = json!({"role": "assistant", "content": text});
                ("chat.completion.chunk", json!({"delta": delta}))
            }
            (Api::Chat, None) => ("chat.completion.chunk", json!({"delta": {}})),
            (Api::Completions, text) => {
                ("text_completion", json!({"text": text.unwrap_or_default()}))
            }
        };
        choice["index"] = json!(0);
        choice["logprobs"] = Value::Null;
        choice["finish_reason"] = json!(finish_reason);
        self.frame(object, &json!([choice]))
    }

    fn chunk(&self, i: u32) -> Value {
        self.part(Some(word(i)), None)
    }

    fn finish(&self) -> Value {
        self.part(None, Some(self.finish_reason))
    }

    /// What `stream_options.include_usage` asks for: one more chunk, without choices.
    fn usage_chunk(&self) -> Value {
        let object = match self.api {
            Api::Chat => "chat.completion.chunk",
            Api::Completions => "text_completion",
        };
        let mut chunk = self.frame(object, &json!([]));
        chunk["usage"] = self.usage();
        chunk
    }
}

/// The word that stands for token `i`.
pub(super) fn word(i: u32) -> String {
    const WORDS: [&str; 8] = ["the", "quick", "brown", "fox", "jumps", "over", "a", "dog"];
    let space = if i == 0 { "" } else { " " };
    format!("{space}{}", WORDS[i as usize % WORDS.len()])
}

pub(super) async fn embeddings(State(mock): State<Arc<Mock>>, body: Bytes) -> Response {
    let request = match read(&body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    if let Err(fault) = mock.work(Tokens::None).await {
        return fault.response(Dialect::OpenAi);
    }
    let inputs = match request.get("input") {
        // An array of numbers is one input, tokenized.
        Some(Value::Array(inputs)) if !inputs.first().is_some_and(Value::is_number) => {
            inputs.clone()
        }
        input => vec![input.cloned().unwrap_or_default()],
    };
    let embedding = |(index, input): (usize, &Value)| {
        let length = input.to_string().len() as f64;
        json!({"object": "embedding", "index": index, "embedding": [length / 1000.0, 0.5, -0.5, 0.25]})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(embedding).collect();
    let tokens: usize = inputs.iter().map(|input| input.to_string().len().div_ceil(4)).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Json(json!({"object": "list", "data": data, "model": model(&request), "usage": usage}))
        .into_response()
}

pub(super) async fn models() -> Response {
    let model = json!({"id": "mock", "object": "model", "created": CREATED, "owned_by": "evener"});
    Json(json!({"object": "list", "data": [model]})).into_response()
}

fn model(request: &Map<String, Value>) -> Value {
    request.get("model").cloned().unwrap_or_else(|| "mock".into())
}

fn read(body: &[u8]) -> Result<Map<String, Value>, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| {
        Box::new(refuse(Dialect::OpenAi, 400, &format!("the body is not a JSON object: {error}")))
    })
}
