//! Headers, queries, fields, stars and addresses by which a replica of several models could be led to another one.
use crate::client::{Request, exchange, status_of};
use crate::crowded::{CHAT, of_kind, shared};
use crate::key_models::{SECRET, models};
use crate::keys::{WithKey as _, refused};
use crate::site::Site;
use crate::upstream::Upstream;
use serde_json::json;

#[tokio::test]
async fn headers_queries_and_fields_that_name_a_model_somewhere_are_refused() {
    let route = "routes: [{match: {path: /by/*}, model_from: [\"header:x-pick\", \"query:pick\", body], \
                 rewrite: {path: /v1/*}}, {match: {}}]\n";
    let (site, upstream) = shared(route).await;
    let json = |path: &str| of_kind(path, "application/json", r#"{"model":"chat"}"#).key(SECRET);
    for name in [
        "x-amzn-sagemaker-adapter-identifier",
        "serve_multiplexed_model_id",
        "serve-multiplexed-model-id",
        "seldon-model",
        "azureml-model-deployment",
        "x-gateway-model-name",
        "x-ai-eg-model",
        "mm-vmodel-id",
    ] {
        let reply = site.send(json(CHAT).header(name, "vip")).await;
        assert_eq!(refused(&reply), (400, "bad_request"), "{name}");
    }
    for (path, pick, status) in [
        (CHAT, "vip", 403),
        (CHAT, "gold", 403),
        (CHAT, "nobody", 403),
        ("/by/chat/completions", "gpt", 200),
        (CHAT, "chat", 200),
    ] {
        let reply = site.send(json(path).header("x-pick", pick)).await;
        assert_eq!(reply.status, status, "{path} {pick}");
    }
    for second in ["vip", "chat"] {
        let body = r#"{"model":"chat"}"#;
        let twice = format!(
            "POST /by/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\nx-pick: chat\r\nx-pick: {second}\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(status_of(&exchange(site.address, twice).await), 400, "{second}");
    }
    for query in
        ["model[]=vip", "deployment=vip", "model_name=vip", "MODEL=vip", "pick=vip", "Pick=nobody"]
    {
        let reply = site.send(json(&format!("{CHAT}?{query}"))).await;
        assert_eq!(refused(&reply), (403, "model_not_allowed"), "{query}");
    }
    let reply = site.send(json(&format!("{CHAT}?Pick=chat&pick=gpt"))).await;
    assert_eq!(refused(&reply), (400, "bad_request"));
    assert_eq!(site.send(json(&format!("{CHAT}?pick=chat&x=1"))).await.status, 200);
    let before = upstream.seen().len();
    for field in [
        "lora",
        "adapters",
        "lora_name",
        "model_id",
        "Model_Name",
        "context_window_fallbacks",
        "merged_adapters",
    ] {
        for body in [
            format!(r#"{{"model":"chat","{field}":["vip"]}}"#),
            format!(r#"{{"model":"chat","parameters":{{"{field}":["vip"]}}}}"#),
        ] {
            let reply = site.send(of_kind(CHAT, "application/json", body).key(SECRET)).await;
            assert_eq!(refused(&reply), (400, "bad_request"), "{field}");
        }
    }
    assert_eq!(upstream.seen().len(), before);
}

#[tokio::test]
async fn what_a_star_catches_resembles_no_other_model() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let text = models(&upstream.url(), &upstream.url(), "").replace("[gpt]", "[gpt, \"*\"]");
    let site = Site::start(text.replace("models: [gpt, \"*\"]", "models: [gpt]")).await;
    let ask = async |path: &str, name: &str| {
        let body = json!({"model": name}).to_string();
        site.send(of_kind(path, "application/json", body).key(SECRET)).await.status
    };
    for name in [
        "VIP",
        "vip:latest",
        "VIP:Latest",
        "library/vip",
        "registry.ollama.ai/library/vip:latest",
        "vip@sha256:1",
        "vip ",
        " vip",
        "vip\u{200b}",
        "gold:7b",
        "other/VIP",
    ] {
        for path in [CHAT, "/api/chat"] {
            assert_eq!(ask(path, name).await, 403, "{path} {name:?}");
        }
    }
    let reply = site.send(Request::post("/v2/models/VIP/infer", "{}").key(SECRET)).await;
    assert_eq!(refused(&reply), (403, "model_not_allowed"));
    assert!(upstream.seen().is_empty());
    for name in ["chat", "gpt", "chat:latest", "anything", "org/any:7b"] {
        assert_eq!(ask("/api/chat", name).await, 200, "{name}");
    }
}

#[tokio::test]
async fn spellings_of_one_address_are_one_replica() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let port = upstream.address.port();
    for host in ["localhost", "LOCALHOST.", "0.0.0.0", "[::ffff:127.0.0.1]", "127.0.0.1"] {
        let other = format!("http://{host}:{port}");
        let site = Site::start(models(&upstream.url(), &other, "default_model: chat\n")).await;
        let odd = Request::post(CHAT, r#"{"Model":"vip"}"#).key(SECRET);
        assert_eq!(refused(&site.send(odd).await), (400, "bad_request"), "{host}");
    }
    assert!(upstream.seen().is_empty());
}
