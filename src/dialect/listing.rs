//! The bodies of what Evener answers itself: its models, its metadata, its health.
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

/// `GET /v2`.
pub const SERVER_BODY: &str =
    concat!(r#"{"name":"evener","version":""#, env!("CARGO_PKG_VERSION"), r#"","extensions":[]}"#);
/// `GET /v2/health/live`.
pub const LIVE_BODY: &str = r#"{"live":true}"#;
/// `GET /v2/health/ready` with 200.
pub const READY_BODY: &str = r#"{"ready":true}"#;
/// `GET /v2/health/ready` with 503.
pub const UNREADY_BODY: &str = r#"{"ready":false}"#;

/// Who asks for models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lister {
    /// OpenAI's clients and V1's.
    OpenAi,
    Anthropic,
}

/// `GET /v1/models`: OpenAI's `data` and V1's `models` in one, or Anthropic's page. `created` is when Evener started.
pub fn models_body<'a>(
    lister: Lister,
    names: impl Iterator<Item = &'a str>,
    created: Timestamp,
) -> Bytes {
    let models: Vec<&str> = names.collect();
    match lister {
        Lister::OpenAi => {
            let data = models.iter().map(|id| OpenAiModel::new(id, created)).collect();
            json(&OpenAiList { object: "list", data, models })
        }
        Lister::Anthropic => {
            let (first_id, last_id) = (models.first().copied(), models.last().copied());
            let data = models.iter().map(|id| AnthropicModel::new(id, created)).collect();
            json(&AnthropicList { data, has_more: false, first_id, last_id })
        }
    }
}

/// `GET /v1/models/{id}`.
pub fn model_body(lister: Lister, id: &str, created: Timestamp) -> Bytes {
    match lister {
        Lister::OpenAi => json(&OpenAiModel::new(id, created)),
        Lister::Anthropic => json(&AnthropicModel::new(id, created)),
    }
}

fn json(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("structs of strings are JSON"))
}

#[derive(Serialize)]
struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
    models: Vec<&'a str>,
}

/// <https://platform.openai.com/docs/api-reference/models/object>.
#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    /// Unix seconds.
    created: i64,
    owned_by: &'static str,
}

impl<'a> OpenAiModel<'a> {
    fn new(id: &'a str, created: Timestamp) -> Self {
        Self { id, object: "model", created: created.as_second(), owned_by: "evener" }
    }
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

/// <https://docs.anthropic.com/en/api/models>.
#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    /// RFC 3339.
    created_at: String,
}

impl<'a> AnthropicModel<'a> {
    fn new(id: &'a str, created: Timestamp) -> Self {
        let whole = Timestamp::from_second(created.as_second()).unwrap_or(created);
        Self { r#type: "model", id, display_name: id, created_at: whole.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn models_are_listed_for_clients_of_each_kind() {
        let created = Timestamp::from_second(7).unwrap();
        let read = |body: &Bytes| serde_json::from_slice::<Value>(body).unwrap();
        let list = |lister| read(&models_body(lister, ["a", "b"].into_iter(), created));
        let model = |lister, id| read(&model_body(lister, id, created));
        let openai = json!({"id": "a", "object": "model", "created": 7, "owned_by": "evener"});
        assert_eq!(model(Lister::OpenAi, "a"), openai);
        let all = json!({"object": "list", "data": [openai, model(Lister::OpenAi, "b")], "models": ["a", "b"]});
        assert_eq!(list(Lister::OpenAi), all);
        let anthropic = json!({"type": "model", "id": "a", "display_name": "a",
            "created_at": "1970-01-01T00:00:07Z"});
        assert_eq!(model(Lister::Anthropic, "a"), anthropic);
        let page = json!({"data": [anthropic, model(Lister::Anthropic, "b")], "has_more": false,
            "first_id": "a", "last_id": "b"});
        assert_eq!(list(Lister::Anthropic), page);
    }

    #[test]
    fn fixed_bodies_are_json() {
        for body in [SERVER_BODY, LIVE_BODY, READY_BODY, UNREADY_BODY] {
            assert!(serde_json::from_str::<Value>(body).unwrap().is_object());
        }
    }
}
