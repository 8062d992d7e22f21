//! Paths of many servers and clients: each finds its model, and is refused in its own words.
use crate::client::{Reply, Request};
use crate::site::Site;
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Models `chat` and `other`, whose server has the name `up/2` for it.
async fn two_models(more: &str) -> (Site, [Upstream; 2]) {
    let replicas = [Upstream::answering(OK).await, Upstream::answering(OK).await];
    let site = Site::start(format!(
        "defaults: {{health: false}}\nmodels:\n  chat: {{versions: {{v: [\"{}\"]}}}}\n  \
         other: {{versions: {{v: {{replicas: [\"{}\"], upstream_model: up/2}}}}}}\n{more}",
        replicas[0].url(),
        replicas[1].url()
    ))
    .await;
    (site, replicas)
}

fn refused(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("x-evener-error"))
}

#[tokio::test]
async fn a_path_that_names_the_model_finds_it_and_is_renamed() {
    let (site, [chat, other]) = two_models("").await;
    for path in [
        "/openai/deployments/other/chat/completions?api-version=2024-10-21",
        "/v1beta/models/other:generateContent",
        "/v1/models/other:streamGenerateContent?alt=sse",
        "/model/other/converse",
        "/endpoints/other/invocations",
        "/predictions/other",
        "/predictions/other/1.0",
        "/v1/models/other/versions/3:predict",
        "/v2/repository/models/other/load",
    ] {
        let reply = site.send(Request::post(path, "{}")).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let line = other.seen().pop().unwrap().line().to_owned();
        assert_eq!(line, format!("POST {} HTTP/1.1", path.replace("other", "up%2F2")));
    }
    assert_eq!(chat.seen().len(), 0);
    for path in ["/predictions/nobody", "/model/nobody/converse", "/endpoints/nobody/invocations"] {
        assert_eq!(refused(&site.send(Request::post(path, "{}")).await), (404, "model_not_found"));
    }
}

#[tokio::test]
async fn a_body_that_names_the_model_finds_it_and_is_renamed() {
    let (site, [_chat, other]) = two_models("").await;
    for path in [
        "/api/chat",
        "/api/show",
        "/v1/messages/count_tokens",
        "/v2/chat",
        "/chat/completions",
        "/api/v1/chat/completions",
        "/v1/fim/completions",
        "/invocations",
        "/generate",
        "/completion",
    ] {
        let reply = site.send(Request::post(path, r#"{"model":"other","x":1}"#)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(other.seen().pop().unwrap().body, br#"{"model":"up/2","x":1}"#, "{path}");
    }
    let tagged = site.send(Request::post("/api/chat", r#"{"model":"other:latest"}"#)).await;
    assert_eq!(tagged.status, 200, "Ollama's tag for none");
    let tagged = site.send(Request::post("/v1/embeddings", r#"{"model":"other:latest"}"#)).await;
    assert_eq!(tagged.status, 404, "to others a name of its own");
}

#[tokio::test]
async fn an_unknown_model_is_told_in_the_words_of_each_dialect() {
    let (site, _replicas) = two_models("").await;
    let body = r#"{"model":"nobody"}"#;
    let text = |error: &Value| error.as_str().is_some_and(|text| text.contains("nobody"));
    for (path, ok) in [
        ("/v1/messages", json!({"type": "error", "error": {"type": "not_found_error"}})),
        ("/v1/chat/completions", json!({"error": {"code": "model_not_found", "param": "model"}})),
        (
            "/v1beta/models/nobody:generateContent",
            json!({"error": {"code": 404, "status": "NOT_FOUND"}}),
        ),
        ("/predictions/nobody", json!({"code": 404, "type": "ModelNotFoundException"})),
    ] {
        let reply = site.send(Request::post(path, body)).await;
        assert_eq!(refused(&reply), (404, "model_not_found"), "{path}");
        let said = reply.json();
        let mut merged = said.clone();
        merge(&mut merged, &ok);
        assert_eq!(merged, said, "{path}");
        assert_eq!(said["request_id"].is_string(), path == "/v1/messages");
    }
    for (path, field) in
        [("/api/chat", "error"), ("/v2/models/nobody/infer", "error"), ("/v2/chat", "message")]
    {
        let reply = site.send(Request::post(path, body)).await;
        assert!(text(&reply.json()[field]), "{path}: {}", reply.text());
    }
    let reply = site.send(Request::post("/model/nobody/converse", body)).await;
    assert!(text(&reply.json()["message"]), "{}", reply.text());
    assert_eq!(reply.header("x-amzn-errortype"), "ResourceNotFoundException");
}

/// Puts `more` over `into`.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

#[tokio::test]
async fn pages_of_a_server_go_to_the_default_model_or_are_told_to_need_one() {
    let pages = [
        (Method::GET, "/v2/models/stats"),
        (Method::GET, "/v2/models"),
        (Method::POST, "/v2/repository/index"),
        (Method::GET, "/v2/logging"),
        (Method::GET, "/v2/trace/setting"),
        (Method::GET, "/v2/cudasharedmemory/status"),
        (Method::POST, "/v2/systemsharedmemory/region/r/register"),
        (Method::GET, "/health"),
        (Method::GET, "/api/tags"),
    ];
    let (site, _replicas) = two_models("").await;
    for (method, path) in &pages {
        let reply = site.send(Request::new(method.clone(), path, Bytes::new())).await;
        assert_eq!(refused(&reply), (400, "model_required"), "{path}");
        let said = reply.text();
        assert!(
            said.contains("set `default_model`, or a route") && !said.contains("body"),
            "{said}"
        );
    }
    let (site, [chat, _other]) = two_models("default_model: chat\n").await;
    for (method, path) in &pages {
        assert_eq!(site.send(Request::new(method.clone(), path, Bytes::new())).await.status, 200);
        assert!(chat.seen().pop().unwrap().line().contains(path));
    }
}

#[tokio::test]
async fn metrics_are_not_here_unless_a_route_says_so() {
    let (site, [chat, _other]) = two_models("default_model: chat\n").await;
    let reply = site.send(Request::get("/metrics")).await;
    assert_eq!(refused(&reply), (404, "no_route"));
    assert!(reply.text().contains("admin address"), "{}", reply.text());
    let any = "routes: [{match: {path: /*}, model: chat}]\n";
    assert_eq!(two_models(any).await.0.send(Request::get("/metrics")).await.status, 404);
    assert_eq!(chat.seen().len(), 0);
    let own = "routes: [{match: {path: /metrics}, model: chat}]\n";
    assert_eq!(two_models(own).await.0.send(Request::get("/metrics")).await.status, 200);
}

#[tokio::test]
async fn models_are_told_to_each_client_in_its_form() {
    let mock = Mock::version("v").await;
    let bare = Upstream::answering("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope").await;
    let site = Site::start(format!(
        "defaults: {{health: false}}\nmodels:\n  org/m: {{aliases: [gpt], versions: {{v: [\"{}\"]}}}}\n  \
         bare: {{versions: {{v: [\"{}\"]}}}}\n  \
         predictor: {{kind: predict, versions: {{v: [\"{}\"]}}}}\n",
        mock.url(),
        bare.url(),
        bare.url(),
    ))
    .await;
    let anthropic = |path: &str| Request::get(path).header("anthropic-version", "2023-06-01");
    let openai = |path: &str| Request::get(path).header("x-stainless-lang", "python");
    let page = site.send(anthropic("/v1/models")).await.json();
    assert_eq!((&page["data"][0]["type"], &page["has_more"]), (&"model".into(), &false.into()));
    assert_eq!((&page["first_id"], &page["last_id"]), (&"org/m".into(), &"predictor".into()));
    for path in ["/v1/models/org/m", "/v1/models/org%2Fm"] {
        let model = site.send(openai(path)).await.json();
        assert_eq!((&model["id"], &model["object"]), (&"org/m".into(), &"model".into()), "{path}");
        assert_eq!(model["owned_by"], "evener");
        let model = site.send(anthropic(path)).await.json();
        assert_eq!((&model["id"], &model["type"]), (&"org/m".into(), &"model".into()), "{path}");
    }
    assert_eq!(site.send(openai("/v1/models/gpt")).await.json()["id"], "gpt");
    let lost = site.send(anthropic("/v1/models/lost")).await;
    assert_eq!((lost.status, &lost.json()["error"]["type"]), (404, &"not_found_error".into()));
    // V1's clients ask a server. Where it has no such path, Evener knows.
    let v1 = site.send(Request::get("/v1/models/gpt")).await;
    assert_eq!((v1.version(), &v1.json()["ready"]), ("v", &true.into()));
    assert_eq!(site.send(Request::get("/v1/models/bare")).await.json()["owned_by"], "evener");
    assert_eq!(bare.seen().len(), 1);
    assert_eq!(site.send(Request::get("/v1/models/predictor")).await.text(), "nope");
    assert_eq!(site.send(openai("/v1/models/predictor")).await.text(), "nope");
    site.in_flight(0).await;
}
