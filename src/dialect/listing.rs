//! The bodies of what Evener answers itself: its models, its metadata, its health.
use bytes::Bytes;
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

/// `GET /v1/models`: OpenAI's `data` and V1's `models` in one. `created` is in Unix seconds.
pub fn models_body<'a>(names: impl Iterator<Item = &'a str>, created: u64) -> Bytes {
    let models: Vec<&str> = names.collect();
    let entry = |&id| Entry { id, object: "model", created, owned_by: "evener" };
    let data = models.iter().map(entry).collect();
    let listing = Listing { object: "list", data, models };
    Bytes::from(serde_json::to_vec(&listing).expect("structs of strings are JSON"))
}

#[derive(Serialize)]
struct Listing<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
    models: Vec<&'a str>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn models_are_listed_for_both_dialects() {
        let seen: Value = serde_json::from_slice(&models_body(["a", "b"].into_iter(), 7)).unwrap();
        let entry = |id| json!({"id": id, "object": "model", "created": 7, "owned_by": "evener"});
        let want =
            json!({"object": "list", "data": [entry("a"), entry("b")], "models": ["a", "b"]});
        assert_eq!(seen, want);
    }

    #[test]
    fn fixed_bodies_are_json() {
        for body in [SERVER_BODY, LIVE_BODY, READY_BODY, UNREADY_BODY] {
            assert!(serde_json::from_str::<Value>(body).unwrap().is_object());
        }
    }
}
