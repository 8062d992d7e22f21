//! Where a route rewrites the path, a request is what a replica is asked: for keys with `models`, retries and errors.
use crate::client::Request;
use crate::grpc_client::{Calls, naming};
use crate::key_models::{SECRET, models};
use crate::keys::{WithKey as _, refused};
use crate::site::Site;
use crate::upstream::Upstream;
use http::Method;
use serde_json::Value;

const ROUTES: &str = "routes:
  - {match: {path: /llm/*}, model: chat, rewrite: {path: /*}}
  - {match: {path: /sniff/*}, rewrite: {path: /*}}
  - {match: {path: \"/t/{tenant}/*\"}, model: chat, rewrite: {path: \"/{tenant}/*\"}}
  - {match: {path: \"/do/{verb}\"}, model: chat, rewrite: {path: \"/{verb}\"}}
  - {match: {path: /openai/deployments/chat/*}, model: chat, rewrite: {path: /v1/*}}
  - {match: {path: \"/serve/{m}/*\"}, model: \"{m}\", rewrite: {path: /v1/*}}
  - {match: {path: \"/v1/models/chat:predict\"}, model: chat, rewrite: {path: /v1/chat/completions}}
  - {match: {path: /nap}, model: chat, rewrite: {path: /sleep}}
  - {match: {path: /adapters/*}, model: chat, rewrite: {path: /v2/repository/*}}
  - {match: {path: /score}, model: chat, rewrite: {path: /v2/models/resnet/infer}}
  - {match: {path: /*}, model: chat}
";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Models `chat` and `vip`, in one process or in two.
async fn routed(shared: bool) -> (Site, Upstream, Upstream) {
    let (one, other) = (Upstream::answering(OK).await, Upstream::answering(OK).await);
    let vip = if shared { one.url() } else { other.url() };
    let site = Site::start(models(&one.url(), &vip, ROUTES)).await;
    (site, one, other)
}

#[tokio::test]
async fn levers_are_closed_behind_a_rewrite_that_does_not_name_them() {
    for shared in [false, true] {
        let (site, upstream, _) = routed(shared).await;
        for (method, path) in [
            (Method::POST, "/llm/sleep"),
            (Method::POST, "/llm/SLEEP"),
            (Method::POST, "/llm/%53leep"),
            (Method::POST, "/llm/v1/load_lora_adapter"),
            (Method::POST, "/llm/v2/repository/models/x/load"),
            (Method::GET, "/llm/metrics"),
            (Method::GET, "/llm/slots"),
            (Method::POST, "/openai/deployments/chat/load_lora_adapter"),
            (Method::POST, "/serve/chat/unload_lora_adapter"),
            (Method::POST, "/t/v1/load_lora_adapter"),
            (Method::POST, "/t/v2/repository/index"),
            (Method::POST, "/do/sleep"),
        ] {
            let request = Request::new(method, path, r#"{"model":"chat"}"#.into()).key(SECRET);
            let reply = site.send(request).await;
            assert_eq!(refused(&reply), (403, "model_not_allowed"), "{path} {shared}");
        }
        for path in ["/llm/sleep%0A", "/llm//sleep", "/llm/sleep//", "/llm/sleep;x", "/do/sleep%0a"]
        {
            let reply = site.send(Request::post(path, r#"{"model":"chat"}"#).key(SECRET)).await;
            assert_eq!(refused(&reply), (400, "bad_request"), "{path} {shared}");
        }
        assert!(upstream.seen().is_empty());
        // What the rewritten path names is open, and keys for all models are not held to any of it.
        for (path, key, asked) in [
            ("/nap", SECRET, "/sleep"),
            ("/adapters/index", SECRET, "/v2/repository/index"),
            ("/llm/sleep", "sk-all", "/sleep"),
        ] {
            assert_eq!(site.send(Request::post(path, "{}").key(key)).await.status, 200, "{path}");
            let line = upstream.seen().pop().unwrap().line().to_owned();
            assert!(line.starts_with(&format!("POST {asked} ")), "{line}");
        }
    }
}

#[tokio::test]
async fn a_shared_replica_is_told_no_other_name_behind_a_rewrite() {
    let (site, upstream, _) = routed(true).await;
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nvip\r\n--b--\r\n";
    let deployment = "/openai/deployments/chat/chat/completions";
    let mut tricks = vec![
        Request::new(Method::POST, "/openai/deployments/chat/audio/transcriptions", form.into())
            .header("content-type", "multipart/form-data; boundary=b"),
    ];
    for path in [
        deployment,
        "/serve/chat/chat/completions",
        "/v1/models/chat:predict",
        "/llm/v1/completions",
    ] {
        for body in
            [r#"{"model":"vip"}"#, r#"{"Model":"vip"}"#, r#"{"model":"chat","model":"vip"}"#]
        {
            tricks.push(Request::post(path, body));
        }
    }
    for path in [
        "/llm/v2/models/vip/infer",
        "/sniff/v2/models/vip/infer",
        "/t/predictions/vip",
        "/llm/v1/models/vip:predict",
        "/llm/nobody/knows",
        "/sniff/v2/models/stats",
    ] {
        tricks.push(Request::post(path, r#"{"inputs":[]}"#));
    }
    for trick in tricks {
        let reply = site.send(trick.clone().key(SECRET)).await;
        assert!((400..500).contains(&reply.status), "{trick:?}: {reply:?}");
    }
    assert!(upstream.seen().is_empty());
    for (path, body, seen) in [
        (deployment, r#"{"n":1}"#, r#"{"model":"chat","n":1}"#),
        (deployment, r#"{"model" : "g\u0070t"}"#, r#"{"model" : "gpt"}"#),
        ("/llm/v2/models/chat/infer", r#"{"inputs":[]}"#, r#"{"inputs":[]}"#),
        ("/score", r#"{"inputs":[]}"#, r#"{"inputs":[]}"#),
    ] {
        let reply = site.send(Request::post(path, body).key(SECRET)).await;
        assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
        let got: Value = serde_json::from_slice(&upstream.seen().pop().unwrap().body).unwrap();
        let mut wanted: Value = serde_json::from_str(seen).unwrap();
        if wanted["model"] == "gpt" {
            // The route says which model serves, so that its own name is written.
            wanted["model"] = "chat".into();
        }
        assert_eq!(got, wanted, "{path}");
    }
}

#[tokio::test]
async fn a_call_is_what_its_rewritten_path_says() {
    let replica = crate::grpc_client::echo().await;
    let routes = "routes: [{match: {path: /g/*}, model: chat, rewrite: {path: /*}}]\n";
    let site = Site::start(models(&replica.url(), &replica.url(), routes)).await;
    let calls = Calls::connect(site.address).await;
    let bearer = format!("Bearer {SECRET}");
    let key = [("authorization", &*bearer)];
    let service = "/g/inference.GRPCInferenceService";
    let infer = format!("{service}/ModelInfer");
    for (path, message) in [
        (format!("{service}/RepositoryModelLoad"), naming("chat", b"x")),
        (infer.clone(), naming("vip", b"x")),
        ("/g/some.Other/Service".to_owned(), naming("chat", b"x")),
    ] {
        let ended = calls.with(&path, &message, &key).await;
        assert!(["3", "7"].contains(&ended.status()), "{path}: {ended:?}");
    }
    assert!(replica.seen().is_empty());
    let answer = calls.with(&infer, &naming("gpt", b"x"), &key).await;
    assert_eq!(answer.messages.len(), 1, "{answer:?}");
}

#[tokio::test]
async fn a_request_is_repeated_and_refused_as_what_a_replica_is_asked() {
    let dead = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.reset();
    })
    .await;
    let good = Upstream::answering(OK).await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: {{replicas: [\"{}\", \"{}\"], upstream_model: org/m}}}}, health: false, \
         balance: round_robin, ejection: false, retries: {{budget: 100%}}}}, other: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n\
         routes: [{{match: {{path: /llm/*}}, rewrite: {{path: /*}}}}, {{match: {{}}}}]\n",
        dead.url(),
        good.url(),
        good.url()
    ))
    .await;
    let named = r#"{"model":"m"}"#;
    for (path, body) in [
        ("/llm/v1/chat/completions", named),
        ("/llm/v2/models/m/infer", "{}"),
        ("/llm/v1/messages", named),
    ] {
        for _ in 0..2 {
            let reply = site.send(Request::post(path, body)).await;
            assert_eq!(reply.status, 200, "{path}: {reply:?}");
        }
    }
    assert!(dead.seen().len() >= 3);
    // The version's own name stands in the path that the route makes.
    let paths: Vec<String> = good.seen().iter().map(|seen| seen.line().to_owned()).collect();
    assert!(paths.iter().any(|line| line.contains("/v2/models/org%2Fm/infer")), "{paths:?}");
    let reply = site.send(Request::post("/llm/v1/messages", r#"{"model":"nope"}"#)).await;
    assert_eq!((reply.status, reply.json()["type"].as_str()), (404, Some("error")), "{reply:?}");
    let reply = site.send(Request::post("/llm/v2/models/nope/infer", "{}")).await;
    assert!(reply.status == 404 && reply.json()["error"].is_string(), "{reply:?}");
    let reply = site.send(Request::post("/llm/v1%2Fchat/completions", r#"{"model":"m"}"#)).await;
    assert_eq!(refused(&reply), (400, "bad_request"));
}
