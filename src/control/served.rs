//! Asking a replica which models it serves: for replicas that answer nothing but 404.
use super::prober::in_words;
use crate::fleet::Replica;
use crate::table::HeaderEdits;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;

/// For connecting, asking and reading, of each of the two questions.
const LIMIT: Duration = Duration::from_secs(2);
/// Bytes of an answer: some five hundred models.
const LONGEST: usize = 256 << 10;
/// Names that are kept of an answer, and characters of each.
const NAMES: usize = 100;
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
    let list = ask(replica, Method::GET, "/v1/models", edits).await;
    let names = list.as_deref().and_then(names_in_list);
    if names.as_ref().is_some_and(|names| !names.is_empty()) {
        return names;
    }
    let index = ask(replica, Method::POST, "/v2/repository/index", edits).await?;
    names_in_index(&index)
}

fn names_in_list(body: &[u8]) -> Option<Vec<String>> {
    let Models { data, models } = serde_json::from_slice(body).ok()?;
    let ids = data.into_iter().map(|model| model.id);
    let named = models.into_iter().map(|named| match named {
        Named::Name(name) | Named::Entry { name } => name,
    });
    Some(bounded(ids.chain(named)))
}

fn names_in_index(body: &[u8]) -> Option<Vec<String>> {
    let entries: Vec<Indexed> = serde_json::from_slice(body).ok()?;
    Some(bounded(entries.into_iter().map(|entry| entry.name)))
}

fn bounded(names: impl Iterator<Item = String>) -> Vec<String> {
    let sane = names.filter(|name| !name.is_empty() && name.chars().count() <= LENGTH);
    let mut names: Vec<String> = sane.take(NAMES).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The body of a good answer.
async fn ask(replica: &Replica, method: Method, path: &str, edits: &HeaderEdits) -> Option<Bytes> {
    match timeout(LIMIT, exchange(replica, method, path, edits)).await {
        Ok(Ok((status, body))) if status.is_success() => Some(body),
        Ok(Ok((status, _))) => {
            tracing::debug!(replica = %replica.id, path, %status, "it does not list its models");
            None
        }
        Ok(Err(why)) => {
            tracing::debug!(replica = %replica.id, path, why, "it does not list its models");
            None
        }
        Err(_) => None,
    }
}

async fn exchange(
    replica: &Replica,
    method: Method,
    path: &str,
    edits: &HeaderEdits,
) -> Result<(StatusCode, Bytes), String> {
    let upstream = &replica.upstream;
    let conn = upstream.dial(LIMIT, false).await.map_err(|error| in_words(&error))?;
    let http2 = conn.is_http2();
    let authority = upstream.authority();
    let uri =
        if http2 { format!("{}://{authority}{path}", upstream.scheme()) } else { path.to_owned() };
    let body = if method == Method::POST { "{}" } else { "" };
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header(USER_AGENT, concat!("evener/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    if !http2 {
        let host = authority.parse().map_err(|_| "its address is no Host".to_owned())?;
        request.headers_mut().insert(HOST, host);
    }
    // A server that asks for a key has its key here.
    for (name, value) in &edits.set {
        request.headers_mut().insert(name, value.clone());
    }
    let words = |error: hyper::Error| error.to_string();
    let io = TokioIo::new(conn);
    let (response, _driver) = if http2 {
        let greeted = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = greeted.map_err(words)?;
        let driver = Driver(tokio::spawn(connection).abort_handle());
        (sender.send_request(request).await.map_err(words)?, driver)
    } else {
        let greeted = hyper::client::conn::http1::handshake(io).await;
        let (mut sender, connection) = greeted.map_err(words)?;
        let driver = Driver(tokio::spawn(connection).abort_handle());
        (sender.send_request(request).await.map_err(words)?, driver)
    };
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, body))
}

/// The task that moves a connection, which ends with this.
struct Driver(tokio::task::AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_each_server_writes_them() {
        let list = |body: &str| names_in_list(body.as_bytes());
        let vllm =
            r#"{"object":"list","data":[{"id":"meta-llama/L","object":"model"},{"id":"lora"}]}"#;
        assert_eq!(list(vllm).unwrap(), ["lora", "meta-llama/L"]);
        assert_eq!(list(r#"{"models":["iris","iris"]}"#).unwrap(), ["iris"]);
        assert_eq!(list(r#"{"models":[{"name":"llama3:8b"}],"data":[]}"#).unwrap(), ["llama3:8b"]);
        assert_eq!(list("<html>"), None);
        assert_eq!(list(r#"{"detail":"Not Found"}"#).unwrap(), Vec::<String>::new());
        let index = br#"[{"name":"fraud","version":"1","state":"READY"},{"name":"iris"}]"#;
        assert_eq!(names_in_index(index).unwrap(), ["fraud", "iris"]);
    }

    #[test]
    fn few_names_of_sane_length_are_kept() {
        let long = "x".repeat(LENGTH + 1);
        let names = (0..1000).map(|i| if i == 0 { long.clone() } else { i.to_string() });
        assert_eq!(bounded(names).len(), NAMES);
    }
}
