//! A key that may use some models reaches no other, whatever its requests say.
use crate::client::{Reply, Request, send};
use crate::keys::{WithKey as _, chat, entry, refused};
use crate::site::{Site, eventually};
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use http::Method;

pub(crate) const SECRET: &str = "sk-evener-of-chat";

/// Models `chat` (also `gpt`) and `vip` (also `gold`, `org/Vip` upstream), and a key for `chat`.
pub(crate) fn models(chat: &str, vip: &str, more: &str) -> String {
    format!(
        "models:\n  chat: {{aliases: [gpt], versions: {{v: [\"{chat}\"]}}, health: false}}\n  \
         vip: {{aliases: [gold], versions: {{v: {{replicas: [\"{vip}\"], upstream_model: org/Vip}}}}, health: false}}\n\
         keys:\n{}{}{more}",
        entry("cheap", SECRET, ", models: [gpt]"),
        entry("all", "sk-all", "")
    )
}

async fn asked(mock: &Mock) -> u64 {
    let panel = send(mock.address, Request::get("/mock")).await.unwrap().json();
    panel["requests_total"].as_u64().unwrap()
}

fn form(parts: &[(&str, &str)]) -> Request {
    let part = |(name, value): &(&str, &str)| {
        format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = parts.iter().map(part).collect::<String>() + "--x--\r\n";
    Request::new(Method::POST, "/v1/audio/transcriptions", Bytes::from(body))
        .header("content-type", "multipart/form-data; boundary=x")
}

/// Requests that ask for `vip` in one way or another.
fn attempts() -> Vec<Request> {
    let body = |body: &str| Request::post("/v1/chat/completions", body.to_owned());
    let long = "z".repeat(100_000);
    let mut all = vec![
        chat("vip"),
        chat("gold"),
        body(r#"{"messages":[],"model":"v\u0069p"}"#),
        body(r#"{"model":"chat","model":"vip"}"#),
        body(r#"{"model":"vip","model":"chat"}"#),
        body(r#"{"model":"chat","\u006dodel":"vip"}"#),
        body(r#"{"model":"chat","Model":"vip"}"#),
        Request::post("/v1/completions", r#"{"model":"vip","prompt":"x"}"#),
        Request::post("/openai/v1/chat/completions", r#"{"model":"vip","messages":[]}"#),
        Request::post("/v1/%63hat/completions", r#"{"model":"vip","messages":[]}"#),
        Request::post("/any/path", r#"{"model":"vip"}"#),
        form(&[("model", "vip"), ("file", "x")]),
        form(&[("file", &long), ("model", "vip")]),
        form(&[("model", "chat"), ("file", &long), ("model", "vip")]),
        chat("chat").header("x-evener-version", "vip"),
    ];
    for path in [
        "/v2/models/vip/infer",
        "/v2/models/%76%69p/infer",
        "/v2/models/gold/infer",
        "/v2/models/vip/versions/1/infer",
        "/v2/models/vip/generate",
        "/v1/models/vip:predict",
        "/v1/models/vip%3Apredict",
        "/v1/models/chat/../vip:predict",
        "/v2/models/chat/../vip/infer",
        "/v2/models/chat/%2e%2e/vip/infer",
        "/v2/models/chat%2f..%2fvip/infer",
        "/v2/models/chat%2Fvip/infer",
        "/v2/./models/vip/infer",
        "/v2//models/vip/infer",
        "//v2/models/vip/infer",
        "/v2/models//vip/infer",
    ] {
        all.push(Request::post(path, r#"{"model":"chat","inputs":[]}"#));
    }
    all
}

#[tokio::test]
async fn no_name_leads_to_a_model_that_the_key_may_not_use() {
    let mocks = [Mock::version("chat").await, Mock::version("vip").await];
    let site = Site::start(models(&mocks[0].url(), &mocks[1].url(), "")).await;
    for (i, attempt) in attempts().into_iter().enumerate() {
        let reply = site.send(attempt.clone().key(SECRET)).await;
        assert!(
            (400..500).contains(&reply.status) || reply.version() == "chat",
            "{i} {attempt:?} {reply:?}"
        );
    }
    assert_eq!(asked(&mocks[1]).await, 0);
    for name in ["chat", "gpt"] {
        let reply = site.send(chat(name).key(SECRET)).await;
        assert_eq!((reply.status, reply.version()), (200, "chat"));
    }
    let reply = site.send(chat("vip").key("sk-all")).await;
    assert_eq!((reply.status, reply.version()), (200, "vip"));
}

#[tokio::test]
async fn what_is_refused_says_so_in_the_words_of_its_api() {
    let mocks = [Mock::version("chat").await, Mock::version("vip").await];
    let site = Site::start(models(&mocks[0].url(), &mocks[1].url(), "default_model: vip\n")).await;
    let reply = site.send(chat("gold").key(SECRET)).await;
    assert_eq!(refused(&reply), (403, "model_not_allowed"));
    let error = &reply.json()["error"];
    let told = (error["type"].as_str(), error["param"].as_str());
    assert_eq!(told, (Some("permission_error"), Some("model")));
    assert!(error["message"].as_str().unwrap().contains("key `cheap`"), "{error}");
    let reply = site.send(Request::post("/v2/models/vip/infer", "{}").key(SECRET)).await;
    assert!(reply.status == 403 && reply.json()["error"].is_string(), "{}", reply.text());
    // The default model is one, too.
    let reply = site.send(Request::post("/v1/chat/completions", "{}").key(SECRET)).await;
    assert_eq!(refused(&reply), (403, "model_not_allowed"));
    // What does not exist is told in the same words as what is not for this key.
    for (exists, does_not) in [("vip", "vop"), ("gold", "zold"), ("org/Vip", "org/Vop")] {
        let [one, other] = [exists, does_not].map(|name| chat(name).key(SECRET));
        let [one, other] = [site.send(one).await, site.send(other).await];
        assert_eq!(refused(&one), (403, "model_not_allowed"));
        assert_eq!(refused(&one), refused(&other));
        let told = |reply: &Reply| reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(told(&one).replace(exists, does_not), told(&other));
    }
    let near = site.send(chat("chta").key(SECRET)).await;
    assert!(near.status == 403 && near.text().contains("did you mean `chat`?"), "{near:?}");
    let near = site.send(chat("vipp").key("sk-all")).await;
    assert!(near.text().contains("`vip`"), "{}", near.text());
    let logged = site.logged("a refusal", |line| line["error"] == "model_not_allowed").await;
    assert_eq!((&logged["key"], &logged["model"]), (&"cheap".into(), &"vip".into()));
}

#[tokio::test]
async fn a_name_in_a_body_is_told_the_same_whether_it_exists_or_not() {
    let mocks = [Mock::version("chat").await, Mock::version("vip").await];
    for (default, shared) in
        [("", false), ("default_model: chat\n", false), ("default_model: chat\n", true)]
    {
        let vip = if shared { mocks[0].url() } else { mocks[1].url() };
        let site = Site::start(models(&mocks[0].url(), &vip, default)).await;
        for path in [
            "/generate",
            "/foo",
            "/invocations",
            "/predictions/chat",
            "/openai/deployments/chat/chat/completions",
            "/v1/chat/completions",
        ] {
            let mut told = Vec::new();
            for name in ["vip", "gold", "org/Vip", "vop", "zold", "org/Vop"] {
                let body = format!(r#"{{"model":"{name}","messages":[]}}"#);
                let reply = site.send(Request::post(path, body).key(SECRET)).await;
                assert_eq!(refused(&reply), (403, "model_not_allowed"), "{path} {name}");
                let said = reply.text().replace(reply.header("x-request-id"), "ID");
                told.push(said.replace(name, "NAME"));
            }
            told.dedup();
            assert_eq!(told.len(), 1, "{path}: {told:?}");
        }
        for name in ["chat", "gpt", "gpt:latest"] {
            let body = format!(r#"{{"model":"{name}","messages":[]}}"#);
            let reply = site.send(Request::post("/predictions/chat", body).key(SECRET)).await;
            assert!(shared || reply.version() == "chat", "{name}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_route_with_a_model_tells_nothing_of_others() {
    let mocks = [Mock::version("chat").await, Mock::version("vip").await];
    let routes = "routes:\n  - {match: {path: /v2/models/legacy/*}, model: chat}\n  \
                  - {match: {path: /llm/*}, model: chat, rewrite: {path: /*}}\n  - {match: {path: /*}, model: chat}\n";
    let site = Site::start(models(&mocks[0].url(), &mocks[1].url(), routes)).await;
    for path in [
        "/v1/chat/completions",
        "/llm/v1/chat/completions",
        "/generate",
        "/v2/models/NAME/infer",
        "/llm/v2/models/NAME/infer",
    ] {
        let mut told = Vec::new();
        for name in ["vip", "gold", "org%2FVip", "vop", "zold", "org%2FVop"] {
            let name = if path.contains("NAME") {
                name.replace("%2F", "-")
            } else {
                name.replace("%2F", "/")
            };
            let body = format!(r#"{{"model":"{name}","messages":[],"inputs":[]}}"#);
            let reply =
                site.send(Request::post(&path.replace("NAME", &name), body).key(SECRET)).await;
            assert_eq!(reply.status, 403, "{path} {name}: {reply:?}");
            let said = reply.text().replace(reply.header("x-request-id"), "ID");
            told.push(said.replace(&name, "NAME"));
        }
        told.dedup();
        assert_eq!(told.len(), 1, "{path}: {told:?}");
    }
    // What the file writes into the path of its route is the file's business; other keys may name anything.
    let own = Request::post("/v2/models/legacy/infer", r#"{"inputs":[]}"#);
    assert_eq!(site.send(own.key(SECRET)).await.status, 200);
    assert_eq!(site.send(chat("vop").key("sk-all")).await.status, 200);
}

#[tokio::test]
async fn levers_are_closed_in_every_spelling() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let other = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let text = models(&upstream.url(), &other.url(), "default_model: chat\n");
    let site = Site::start(text).await;
    for path in [
        "/sleep%0A",
        "/sleep%0d",
        "/v1/load_lora_adapter%0A",
        "//sleep",
        "/v1//load_lora_adapter",
        "/sleep//",
        "/sleep;x",
        "/v2/repository%3Bx/index",
        "/v1%5Cload_lora_adapter",
    ] {
        let reply = site.send(Request::post(path, "{}").key(SECRET)).await;
        assert_eq!(refused(&reply), (400, "bad_request"), "{path}");
    }
    for path in [
        "/sleep%20",
        "/%20sleep",
        "/%53leep",
        "/SLEEP/",
        "/v1/%4coad_lora_adapter%20",
        "/abort_requests",
        "/v1/config/reload",
        "/v1/config",
        "/workflows",
        "/hicache/storage-backend",
        "/v1/model/load",
        "/v1/lora/load",
        "/v1/internal/model/load",
        "/add_worker",
        "/backend/shutdown",
        // Those of servers that Evener does not know.
        "/unload",
        "/quit",
        "/rpc",
        "/v1/lora_adapters",
        "/v1/loads",
        "/flush_l2",
    ] {
        let reply = site.send(Request::post(path, "{}").key(SECRET)).await;
        assert_eq!(refused(&reply), (403, "model_not_allowed"), "{path}");
    }
    let reply = site.send(Request::get("/slots").key(SECRET)).await;
    assert_eq!(refused(&reply), (403, "model_not_allowed"));
    assert!(upstream.seen().is_empty());
    for path in ["/sleep%0A", "//sleep", "/slots"] {
        assert_eq!(site.send(Request::post(path, "{}").key("sk-all")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_key_sees_its_models_in_the_list() {
    let mocks = [Mock::version("chat").await, Mock::version("vip").await];
    let site = Site::start(models(&mocks[0].url(), &mocks[1].url(), "")).await;
    let list = async |key| {
        let reply = site.send(Request::get("/v1/models").key(key)).await;
        reply.json()["models"].clone()
    };
    assert_eq!(list(SECRET).await, serde_json::json!(["chat", "gpt"]));
    assert_eq!(list("sk-all").await, serde_json::json!(["chat", "gpt", "vip", "gold"]));
}

#[tokio::test]
async fn a_star_is_a_model_as_any_other() {
    let mocks = [Mock::version("chat").await, Mock::version("rest").await];
    let site = Site::start(format!(
        "models:\n  chat: {{versions: {{v: [\"{}\"]}}}}\n  rest: {{aliases: [\"*\"], versions: {{v: [\"{}\"]}}}}\nkeys:\n{}{}",
        mocks[0].url(),
        mocks[1].url(),
        entry("chat", SECRET, ", models: [chat]"),
        entry("rest", "sk-rest", ", models: [rest]")
    ))
    .await;
    let ask = async |name, key| {
        let reply = site.send(chat(name).key(key)).await;
        (reply.status, reply.version().to_owned())
    };
    assert_eq!(ask("whatever", SECRET).await.0, 403);
    assert_eq!(ask("whatever", "sk-rest").await, (200, "rest".to_owned()));
    assert_eq!(ask("chat", "sk-rest").await.0, 403);
    assert_eq!(ask("chat", SECRET).await, (200, "chat".to_owned()));
}

/// Both models live in one process, which goes by the name that it reads itself.
async fn shared() -> (Site, Upstream) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let routes = "routes:\n  - {match: {headers: {x-fixed: \"1\"}}, model: chat}\n  \
                  - {match: {headers: {x-model: chat}}, model_from: [\"header:x-model\", body]}\n  - {match: {}}\n";
    let site = Site::start(models(&upstream.url(), &upstream.url(), routes)).await;
    (site, upstream)
}

#[tokio::test]
async fn a_replica_of_several_models_is_not_told_another_one_than_was_allowed() {
    let (site, upstream) = shared().await;
    let long = "z".repeat(9 << 20);
    let sealed = |request: Request| request.header("content-encoding", "gzip");
    let body = |body: &str| Request::post("/v1/chat/completions", body.to_owned());
    let mut tricks = attempts();
    tricks.extend([
        body(r#"{"model":"org/Vip","messages":[]}"#),
        body(r#"{"model":"vip","temperature":NaN}"#),
        body(&format!(r#"{{"model":"chat","pad":"{long}","model":"vip"}}"#)),
        body(r#"{"model":"vip"}"#).header("content-type", "text/plain"),
        body(r#"{"model":"vip"}"#).header("content-type", "multipart/form-data; boundary=x"),
        Request::post("//v1/chat/completions", r#"{"model":"vip"}"#)
            .header("content-type", "text/plain"),
        Request::post("/invocations", r#"{"model":"org/Vip"}"#),
        form(&[("model", "chat"), ("file", &long), ("model", "vip")]),
        sealed(body("\u{1f}")),
    ]);
    let mut refusals = 0;
    for named_by in ["x-fixed", "x-model", "x-none"] {
        for (i, trick) in tricks.iter().enumerate() {
            let value = if named_by == "x-model" { "chat" } else { "1" };
            let before = upstream.seen().len();
            let reply = site.send(trick.clone().header(named_by, value).key(SECRET)).await;
            refusals += usize::from(reply.status >= 400);
            for seen in &upstream.seen()[before..] {
                let said =
                    seen.head.to_lowercase() + &String::from_utf8_lossy(&seen.body).to_lowercase();
                let tells =
                    ["vip", "gold", "v\\u0069p", "%76%69p"].iter().any(|name| said.contains(name));
                // Our own header of that name was removed, and chose nothing.
                assert!(!tells, "{named_by} {i}: {}", seen.head);
            }
        }
    }
    assert!(refusals > 2 * tricks.len(), "{refusals}");
    let good = |request: Request| request.header("x-fixed", "1").key(SECRET);
    for fine in [chat("chat"), chat("gpt"), body("{}")] {
        assert_eq!(site.send(good(fine)).await.status, 200);
    }
    // Names that exist and names that do not are told the same.
    for stranger in ["unheard-of", "vip", "gold", "org/Vip"] {
        assert_eq!(refused(&site.send(good(chat(stranger))).await), (403, "model_not_allowed"));
    }
    assert_eq!(site.send(chat("vip").key("sk-all")).await.status, 200);
}

#[tokio::test]
async fn a_long_upload_of_a_key_for_all_models_streams_as_before() {
    let (site, upstream) = shared().await;
    let body = Bytes::from(vec![b'z'; 9 << 20]);
    let upload = Request::new(Method::POST, "/upload", body).header("x-fixed", "1");
    let reply: Reply = site.send(upload.clone().key("sk-all")).await;
    assert_eq!(reply.status, 200);
    // To a key for one of them it is not known what the replica makes of that path.
    let reply = site.send(upload.key(SECRET)).await;
    assert_eq!(refused(&reply), (403, "model_not_allowed"));
    let body = Bytes::from(vec![b'z'; 9 << 20]);
    let long = Request::new(Method::POST, "/v1/chat/completions", body).header("x-fixed", "1");
    let reply = site.send(long.key(SECRET)).await;
    assert_eq!(refused(&reply), (413, "body_too_large"));
    assert!(reply.text().contains("max_buffered_body"), "{}", reply.text());
    eventually("one arrived", async || (upstream.seen().len() == 1).then_some(())).await;
}
