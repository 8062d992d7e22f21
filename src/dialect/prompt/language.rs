//! Does a body ask a language model? For paths behind which any kind of model may serve: their body alone tells.
use super::names::folded;
use crate::dialect::encoding::{JsonText, json_text};
use crate::dialect::media::is_coded;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The fields of one request.
#[derive(Deserialize)]
#[serde(transparent)]
struct Fields<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

impl Fields<'_> {
    /// vLLM answers chats, completions and embeddings on `/invocations`; TGI takes a text in `inputs`, where others take
    /// tensors; Vertex AI wraps requests in `instances`.
    fn ask(&self) -> bool {
        self.0.iter().any(|(key, value)| match &*folded(key) {
            "messages" | "prompt" | "prompts" | "input" => true,
            "inputs" => value.get().starts_with('"'),
            "instances" => any_asks(value.get()),
            _ => false,
        })
    }
}

fn any_asks(list: &str) -> bool {
    let requests: Vec<Fields<'_>> = serde_json::from_str(list).unwrap_or_default();
    requests.iter().any(Fields::ask)
}

/// `whole`: all of the body is here. What cannot be read may be such a request, for some server reads it.
pub fn asks_language_model(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    body: &[u8],
    whole: bool,
) -> bool {
    if is_coded(content_encoding) {
        return true;
    }
    let bare = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    match json_text(content_type, bare) {
        JsonText::No => false,
        JsonText::Unusual(_) => true,
        JsonText::Utf8(_) if !whole => true,
        JsonText::Utf8(text) => match serde_json::from_str::<Fields<'_>>(text) {
            Ok(fields) => fields.ask(),
            Err(_) => any_asks(text) || serde_json::from_str::<IgnoredAny>(text).is_err(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(body: &str) -> bool {
        asks_language_model(Some("application/json"), None, body.as_bytes(), true)
    }

    #[test]
    fn a_chat_is_told_from_tensors() {
        for body in [
            r#"{"messages":[]}"#,
            r#"{"model":"m","prompt":"a"}"#,
            r#"{"Prompt":"a"}"#,
            r#"{"input":["a"]}"#,
            r#"{"inputs":"a","parameters":{}}"#,
            r#"{"mess\u0061ges":[]}"#,
            r#"{"instances":[{"@requestFormat":"chatCompletions","messages":[]}]}"#,
            r#"[{"prompt":"a"}]"#,
            "\u{feff}{\"messages\":[]}",
            // Python reads this.
            r#"{"messages":[],"temperature":NaN}"#,
        ] {
            assert!(asks(body), "{body}");
        }
        for body in [
            r#"{"inputs":[[1.0,2.0]]}"#,
            r#"{"inputs":[{"name":"x","data":[1]}]}"#,
            r#"{"dataframe_split":{"columns":["messages"],"data":[["prompt"]]}}"#,
            r#"{"instances":[[1,2],[3,4]]}"#,
            r#"{"instances":[{"x":{"prompt":"a"}}]}"#,
            "[[1,2],[3,4]]",
            "[1]",
            "{}",
            "3",
        ] {
            assert!(!asks(body), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_read_may_be_one() {
        let asks =
            |kind, encoding, body: &[u8], whole| asks_language_model(kind, encoding, body, whole);
        assert!(asks(None, Some("gzip"), b"\x1f\x8b", true));
        assert!(asks(None, None, b"{\"x\":", false), "the rest may be a prompt");
        assert!(asks(None, None, b"{\0\"\0m\0", true));
        assert!(!asks(Some("text/csv"), None, b"1,2,3", true));
        assert!(!asks(Some("application/x-npy"), None, b"\x93NUMPY", false));
    }
}
