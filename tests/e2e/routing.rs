//! Where a request goes, what is changed on its way, and how it is refused.
use crate::client::{Reply, Request, Wire, exchange};
use crate::site::{Setup, Site};
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use http::Method;

fn chat(model: &str) -> Request {
    Request::post("/v1/chat/completions", format!(r#"{{"model":"{model}","messages":[]}}"#))
}

fn refused(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("x-evener-error"))
}

/// Models `chat` (also called `gpt-4o`) and `other`, served by mocks of these names.
async fn two_models(more: &str) -> (Site, [Mock; 2]) {
    let mocks = [Mock::version("chat").await, Mock::version("other").await];
    let site = Site::start(format!(
        "models:\n  chat: {{aliases: [gpt-4o], versions: {{v: [\"{}\"]}}}}\n  other: {{versions: {{v: [\"{}\"]}}}}\n{more}",
        mocks[0].url(),
        mocks[1].url()
    ))
    .await;
    (site, mocks)
}

#[tokio::test]
async fn names_and_aliases_choose_their_model() {
    let (site, _mocks) = two_models("").await;
    for (name, served) in [("chat", "chat"), ("gpt-4o", "chat"), ("other", "other")] {
        let reply = site.send(chat(name)).await;
        assert_eq!((reply.status, reply.version()), (200, served));
        let path = format!("/v2/models/{name}/infer");
        let reply = site.send(Request::post(&path, r#"{"inputs":[]}"#)).await;
        assert_eq!((reply.status, reply.version()), (200, served), "{path}");
        let path = format!("/v1/models/{name}:predict");
        let reply = site.send(Request::post(&path, r#"{"instances":[]}"#)).await;
        assert_eq!((reply.status, reply.version()), (200, served), "{path}");
    }
    let reply = site.send(chat("chat")).await;
    assert_eq!(reply.json()["model"], "chat", "the name arrives as the client sent it");
}

#[tokio::test]
async fn an_unknown_model_is_404_with_the_nearest_names() {
    let (site, _mocks) = two_models("").await;
    let reply = site.send(chat("chta")).await;
    assert_eq!(refused(&reply), (404, "model_not_found"));
    let error = &reply.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&"model_not_found".into(), &"model".into()));
    assert!(error["message"].as_str().unwrap().contains("`chat`"), "{error}");
    assert_eq!(error["request_id"], reply.header("x-request-id"));
    let reply = site.send(Request::post("/v2/models/nope/infer", "{}")).await;
    assert_eq!(refused(&reply), (404, "model_not_found"));
    assert!(reply.json()["error"].is_string(), "KServe's form: {}", reply.text());
}

#[tokio::test]
async fn a_star_catches_every_unknown_name() {
    let mocks = [Mock::version("chat").await, Mock::version("rest").await];
    let site = Site::start(format!(
        "models:\n  chat: {{versions: {{v: [\"{}\"]}}}}\n  rest: {{aliases: [\"*\"], versions: {{v: [\"{}\"]}}}}\n",
        mocks[0].url(),
        mocks[1].url()
    ))
    .await;
    assert_eq!(site.send(chat("chat")).await.version(), "chat");
    assert_eq!(site.send(chat("whatever")).await.version(), "rest");
}

#[tokio::test]
async fn a_request_that_names_none_takes_the_default_or_is_told_to_name_one() {
    let (site, _mocks) = two_models("").await;
    let nameless = || Request::post("/v1/chat/completions", r#"{"messages":[]}"#);
    let reply = site.send(nameless()).await;
    assert_eq!(refused(&reply), (400, "model_required"));
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    let (site, _mocks) = two_models("default_model: other\n").await;
    assert_eq!(site.send(nameless()).await.version(), "other");
    assert_eq!(site.send(Request::get("/headers")).await.version(), "other");
}

#[tokio::test]
async fn ambiguous_broken_and_compressed_bodies_are_refused() {
    let (site, _mocks) = two_models("").await;
    let post = |body: &'static str| Request::post("/v1/chat/completions", body);
    let two = site.send(post(r#"{"model":"chat","model":"other"}"#)).await;
    assert_eq!(two.status, 400, "{}", two.text());
    let escaped = site.send(post(r#"{"model":"chat","\u006dodel":"other"}"#)).await;
    assert_eq!(escaped.status, 400, "{}", escaped.text());
    for broken in ["{\"model\":\"chat\"", "nonsense", "[1,2]x", "{\"model\":\"chat\"} {}"] {
        let reply = site.send(post(broken)).await;
        assert_eq!(refused(&reply), (400, "invalid_json"), "{broken}");
    }
    let compressed = post("\u{1f}\u{8b}").header("content-encoding", "gzip");
    assert_eq!(refused(&site.send(compressed).await), (415, "model_unreadable"));
    let named = Request::post("/v2/models/chat/infer", "zzz").header("content-encoding", "gzip");
    let reply = site.send(named).await;
    assert_ne!(reply.status, 415, "the path names the model");
    assert_eq!(reply.version(), "chat");
}

#[tokio::test]
async fn errors_speak_the_dialect_of_the_request() {
    let (site, _mocks) = two_models("").await;
    let plain = site.send(Request::get("/nowhere")).await;
    assert_eq!(refused(&plain), (400, "model_required"));
    assert!(plain.header("content-type").starts_with("text/plain"), "{:?}", plain.headers);
    assert!(plain.text().ends_with('\n'));
    let json = site.send(Request::get("/nowhere").header("accept", "application/json")).await;
    assert_eq!(json.json()["error"]["code"], "model_required");
    let kserve = site.send(Request::post("/v1/models/nope:predict", "{}")).await;
    assert!(kserve.json()["error"].as_str().unwrap().contains("nope"));
}

#[tokio::test]
async fn pages_of_the_data_port_are_answered_without_a_replica() {
    let (site, _mocks) = two_models("").await;
    let models = site.send(Request::get("/v1/models")).await.json();
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, ["chat", "gpt-4o", "other"]);
    assert_eq!(models["models"], serde_json::json!(["chat", "gpt-4o", "other"]));
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/healthz"] {
        let reply = site.send(Request::get(path)).await;
        assert_eq!((reply.status, reply.version()), (200, ""), "{path}");
    }
    assert_eq!(site.send(Request::get("/v2/models/other")).await.version(), "other");
}

#[tokio::test]
async fn routes_match_by_host_path_method_and_header_and_rewrite() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\nroutes:\n\
         \x20 - {{match: {{path: /gold/*, headers: {{x-tier: gold}}}}, model: m, rewrite: {{path: /best/*, host: upstream}}}}\n\
         \x20 - {{match: {{host: api.test, path: /exact, method: POST}}, model: m, rewrite: {{path: /v2/models/m/infer}}}}\n\
         \x20 - {{match: {{path: /gold/*}}, model: m}}\n",
        upstream.url()
    ))
    .await;
    let gold = Request::get("/gold/a/b?q=1").header("x-tier", "gold");
    assert_eq!(site.send(gold).await.status, 200);
    assert_eq!(site.send(Request::get("/gold/a?q=1")).await.status, 200);
    let exact = || Request::new(Method::POST, "/exact?x=y", Bytes::new());
    assert_eq!(site.send(exact().header("host", "API.test:80")).await.status, 200);
    let other = site.send(exact().header("host", "www.test")).await;
    assert_eq!(refused(&other), (404, "no_route"));
    let get = Request::get("/exact").header("host", "api.test");
    assert_eq!(refused(&site.send(get).await), (404, "no_route"));
    let seen = upstream.seen();
    let lines: Vec<_> = seen.iter().map(|seen| (seen.line(), seen.header("host"))).collect();
    let upstream_host = upstream.address.to_string();
    assert_eq!(
        lines,
        [
            ("GET /best/a/b?q=1 HTTP/1.1", upstream_host.as_str()),
            ("GET /gold/a?q=1 HTTP/1.1", "evener.test"),
            ("POST /v2/models/m/infer?x=y HTTP/1.1", "API.test:80"),
        ]
    );
}

#[tokio::test]
async fn the_versions_own_name_for_its_model_is_sent() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(format!(
        "models:\n  chat:\n    aliases: [gpt-4o]\n    health: false\n    versions:\n      v: {{replicas: [\"{}\"], upstream_model: meta/llama-3}}\n",
        upstream.url()
    ))
    .await;
    for (wire, name) in [(Wire::Sized, "chat"), (Wire::Chunked, "gpt-4o"), (Wire::H2c, "chat")] {
        assert_eq!(site.send(chat(name).wire(wire)).await.status, 200);
    }
    site.send(Request::post("/v2/models/gpt-4o/versions/3/infer?a=b", "{}")).await;
    let seen = upstream.seen();
    for seen in &seen[..3] {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(body["model"], "meta/llama-3");
    }
    assert_eq!(seen[3].line(), "POST /v2/models/meta%2Fllama-3/versions/3/infer?a=b HTTP/1.1");
}

const REPLIES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-evener-version: fake\r\n\
    x-mine: 1\r\nx-hop: 1\r\nconnection: x-hop\r\nkeep-alive: timeout=5\r\n\
    endpoint-load-metrics: x\r\n\r\nok";

#[tokio::test]
async fn headers_of_one_hop_and_our_own_stay_behind_both_ways() {
    let upstream = Upstream::answering(REPLIES).await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n",
        upstream.url()
    ))
    .await;
    let answer = exchange(
        site.address,
        "GET /p HTTP/1.1\r\nHost: app.test\r\nConnection: close, x-secret-hop, te\r\nx-secret-hop: 1\r\n\
         TE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nx-evener-replica: x\r\n\
         X-Evener-Version: v\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\n\
         x-forwarded-host: evil\r\nx-request-id: mine\r\nx-kept: yes\r\nVia: 1.0 before\r\n\r\n",
    )
    .await;
    let seen = upstream.only();
    for name in [
        "connection",
        "x-secret-hop",
        "te",
        "keep-alive",
        "proxy-connection",
        "x-evener-replica",
        "x-evener-version",
        "transfer-encoding",
        "content-length",
    ] {
        assert!(!seen.has(name), "{name} reached the replica: {}", seen.head);
    }
    assert_eq!((seen.header("x-kept"), seen.header("host")), ("yes", "app.test"));
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "http");
    assert_eq!(seen.header("x-forwarded-host"), "app.test");
    assert!(seen.head.contains("1.1 evener"), "{}", seen.head);
    let id = seen.header("x-request-id");
    assert!(id.len() == 36 && id != "mine", "{id}");
    assert!(answer.contains(&format!("x-request-id: {id}\r\n")), "{answer}");
    for gone in ["x-evener-", "x-hop", "keep-alive", "endpoint-load-metrics"] {
        assert!(!answer.to_lowercase().contains(gone), "{gone} reached the client: {answer}");
    }
    assert!(answer.contains("x-mine: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::answering(REPLIES).await;
    let models =
        format!("models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n", upstream.url());
    let trusting = Setup::new(models)
        .listener("trusted_proxies: [\"127.0.0.1/32\"]")
        .listener("debug_headers: true");
    let site = Site::with(trusting).await;
    let request = Request::get("/p")
        .header("x-forwarded-for", "6.6.6.6, 127.0.0.1")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "public.test")
        .header("x-request-id", "mine");
    let reply = site.send(request).await;
    let seen = upstream.only();
    assert_eq!(seen.header("x-forwarded-for"), "6.6.6.6, 127.0.0.1, 127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "https");
    assert_eq!(seen.header("x-forwarded-host"), "public.test");
    assert_eq!(seen.header("x-request-id"), "mine");
    assert_eq!((reply.header("x-request-id"), reply.header("x-evener-model")), ("mine", "m"));
    assert_eq!((reply.header("x-evener-version"), reply.header("x-evener-attempts")), ("v", "1"));
    assert_eq!(reply.header("x-evener-replica"), upstream.url());
    assert!(reply.header("server-timing").contains("upstream;dur="));
    let line = site.logged("the request", |line| line["request_id"] == "mine").await;
    assert_eq!((&line["client"], &line["status"]), (&"6.6.6.6".into(), &200.into()));
}

#[tokio::test]
async fn a_versions_header_edits_are_applied() {
    let upstream = Upstream::answering(REPLIES).await;
    let site = Site::start(format!(
        "models: {{m: {{health: false, versions: {{v: {{replicas: [\"{}\"], headers: {{set: {{x-set: \"1\"}}, remove: [cookie]}}}}}}}}}}\n",
        upstream.url()
    ))
    .await;
    site.send(Request::get("/p").header("cookie", "a=b").header("x-set", "0")).await;
    let seen = upstream.only();
    assert_eq!((seen.header("x-set"), seen.has("cookie")), ("1", false));
}
