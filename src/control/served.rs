//! Asking a replica which models it serves: for replicas that answer nothing but 404.
use super::ask::{NotAnswered, ask};
use crate::fleet::Replica;
use crate::table::HeaderEdits;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request};
use http_body_util::Full;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;

/// For connecting, asking and reading, of each of the two questions.
const LIMIT: Duration = Duration::from_secs(2);
/// Bytes of an answer: some two thousand models of vLLM.
const LONGEST: usize = 1 << 20;
/// Characters of a name: a longer one is none.
const LENGTH: usize = 200;

/// OpenAI's list of models, and that of KServe's V1.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Models {
    data: Vec<Model>,
    models: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
}

/// KServe writes names, others objects that have one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Named {
    Name(String),
    Entry { name: String },
}

/// One entry of Triton's and `MLServer`'s repository index.
#[derive(Debug, Deserialize)]
struct Indexed {
    name: String,
}

/// The models that `replica` says it serves. `None`: it does not say, or not in time.
pub async fn served_models(replica: &Replica, edits: &HeaderEdits) -> Option<Vec<String>> {
    let list = body_of(replica, Method::GET, "/v1/models", edits).await;
    let names = list.as_deref().and_then(names_in_list);
    if names.as_ref().is_some_and(|names| !names.is_empty()) {
        return names;
    }
    let index = body_of(replica, Method::POST, "/v2/repository/index", edits).await?;
    names_in_index(&index)
}

fn names_in_list(body: &[u8]) -> Option<Vec<String>> {
    let Models { data, models } = serde_json::from_slice(body).ok()?;
    let ids = data.into_iter().map(|model| model.id);
    let named = models.into_iter().map(|named| match named {
        Named::Name(name) | Named::Entry { name } => name,
    });
    Some(sane(ids.chain(named)))
}

fn names_in_index(body: &[u8]) -> Option<Vec<String>> {
    let entries: Vec<Indexed> = serde_json::from_slice(body).ok()?;
    Some(sane(entries.into_iter().map(|entry| entry.name)))
}

fn sane(names: impl Iterator<Item = String>) -> Vec<String> {
    names.filter(|name| !name.is_empty() && name.chars().count() <= LENGTH).collect()
}

/// The body of a good answer.
async fn body_of(
    replica: &Replica,
    method: Method,
    path: &str,
    edits: &HeaderEdits,
) -> Option<Bytes> {
    let question = Request::builder()
        .method(&method)
        .uri(path)
        .header(USER_AGENT, concat!("evener/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    let body = if method == Method::POST { "{}" } else { "" };
    let mut question = question.body(Full::new(Bytes::from(body))).ok()?;
    // A server that asks for a key has its key here.
    for (name, value) in &edits.set {
        question.headers_mut().insert(name, value.clone());
    }
    let why = match timeout(LIMIT, ask(replica, LIMIT, question, LONGEST)).await {
        Ok(Ok((status, body))) if status.is_success() => return Some(body),
        Ok(Ok((status, _))) => format!("it answered {status}"),
        Ok(Err(NotAnswered::Failed(why))) => why,
        Ok(Err(NotAnswered::Exhausted(exhausted))) => exhausted.to_string(),
        Err(_) => format!("no answer within {LIMIT:?}"),
    };
    tracing::debug!(replica = %replica.id, path, why, "a replica did not list its models");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_each_server_writes_them() {
        let list = |body: &str| names_in_list(body.as_bytes());
        let vllm =
            r#"{"object":"list","data":[{"id":"meta-llama/L","object":"model"},{"id":"lora"}]}"#;
        assert_eq!(list(vllm).unwrap(), ["meta-llama/L", "lora"]);
        assert_eq!(list(r#"{"models":["iris"]}"#).unwrap(), ["iris"]);
        assert_eq!(list(r#"{"models":[{"name":"llama3:8b"}],"data":[]}"#).unwrap(), ["llama3:8b"]);
        assert_eq!(list("<html>"), None);
        assert_eq!(list(r#"{"detail":"Not Found"}"#).unwrap(), Vec::<String>::new());
        let index = br#"[{"name":"fraud","version":"1","state":"READY"},{"name":"iris"}]"#;
        assert_eq!(names_in_index(index).unwrap(), ["fraud", "iris"]);
    }

    #[test]
    fn every_name_of_sane_length_is_read() {
        let long = "x".repeat(LENGTH + 1);
        let names = (0..1000).map(|i| if i == 0 { long.clone() } else { i.to_string() });
        assert_eq!(sane(names).len(), 999);
    }
}
