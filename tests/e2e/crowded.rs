//! Where one replica serves several models it gets exactly one name, that of a model of the key, in one spelling.
use crate::client::{Raw, Request, Wire, status_of};
use crate::grpc_client::{Calls, INFER, STREAM, echo, naming, next};
use crate::key_models::{SECRET, models};
use crate::keys::{WithKey as _, chat, refused};
use crate::site::Site;
use crate::spellings::{forms, spellings};
use crate::upstream::Upstream;
use bytes::Bytes;
use evener::dialect::grpc::frame;
use http::Method;
use serde_json::{Value, json};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const TRANSCRIBE: &str = "/v1/audio/transcriptions";

/// Models `chat` and `vip` in one process.
pub(crate) async fn shared(more: &str) -> (Site, Upstream) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(models(&upstream.url(), &upstream.url(), more)).await;
    (site, upstream)
}

pub(crate) fn of_kind(path: &str, kind: &str, body: impl Into<Bytes>) -> Request {
    Request::new(Method::POST, path, body.into()).header("content-type", kind)
}

#[tokio::test]
async fn a_replica_reads_no_other_name_however_it_is_spelled() {
    for more in ["default_model: chat\n", "routes: [{match: {path: /*}, model: chat}]\n"] {
        let (site, upstream) = shared(more).await;
        let spellings = spellings().into_iter().map(|(name, request)| (name.to_owned(), request));
        for (name, request) in spellings.chain(forms()) {
            for wire in [Wire::Sized, Wire::H2c] {
                let reply = site.send(request.clone().key(SECRET).wire(wire)).await;
                if name == "the query" {
                    continue;
                }
                assert!((400..500).contains(&reply.status), "{name}: {reply:?}");
                assert!(upstream.seen().len() <= 2, "{name} reaches the replica");
            }
        }
        let asked = "/v1/chat/completions?x=1&Model=vip";
        let reply =
            site.send(of_kind(asked, "application/json", r#"{"model":"chat"}"#).key(SECRET)).await;
        assert_eq!(refused(&reply), (403, "model_not_allowed"), "a query");
        assert!(upstream.seen().len() <= 2);
    }
}

#[tokio::test]
async fn the_name_is_written_back_as_it_was_understood() {
    let (site, upstream) = shared("default_model: chat\n").await;
    let last = || upstream.seen().pop().unwrap();
    for (body, model) in [
        (r#"{"messages":[],"model":"ch\u0061t"}"#, "chat"),
        (r#"{"model" : "gpt","x":"é"}"#, "gpt"),
        (r#"{"metadata":{"model":"vip"},"messages":[{"model":"vip"}]}"#, "chat"),
        ("{}", "chat"),
        (r#"{"model":null}"#, "chat"),
    ] {
        let reply = site.send(Request::post(CHAT, body).key(SECRET)).await;
        assert_eq!(reply.status, 200, "{body}: {reply:?}");
        let (mut sent, seen): (Value, Value) =
            (serde_json::from_str(body).unwrap(), serde_json::from_slice(&last().body).unwrap());
        sent["model"] = model.into();
        assert_eq!(seen, sent);
        assert!(String::from_utf8(last().body).unwrap().contains(&format!("\"{model}\"")));
    }
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\0\u{1}\r\n";
    let form = |head: &str| format!("{file}--b\r\n{head}\r\n\r\ngpt\r\n--b--\r\n");
    let sent = of_kind(
        TRANSCRIBE,
        "multipart/form-data; boundary=b",
        form("content-disposition:form-data;name=model"),
    );
    assert_eq!(site.send(sent.key(SECRET)).await.status, 200);
    let canonical = form("Content-Disposition: form-data; name=\"model\"");
    assert_eq!(String::from_utf8(last().body).unwrap(), canonical);
    // A key for all models is not held to that.
    let spaced = r#"{"model" : "ch\u0061t"}"#;
    assert_eq!(site.send(Request::post(CHAT, spaced).key("sk-all")).await.status, 200);
    assert_eq!(last().body, spaced.as_bytes());
}

#[tokio::test]
async fn a_path_that_names_its_model_needs_no_body_that_does_and_takes_no_other() {
    let (site, upstream) = shared("default_model: chat\n").await;
    for path in ["/v2/models/chat/infer", "/v1/models/gpt:predict", "/predictions/chat"] {
        let tensors = of_kind(path, "application/octet-stream", vec![0_u8, 1, 255]);
        assert_eq!(site.send(tensors.key(SECRET)).await.status, 200, "{path}");
    }
    assert_eq!(site.send(Request::get("/v2/models/chat/ready").key(SECRET)).await.status, 200);
    let named = [
        "/openai/deployments/chat/chat/completions",
        "/model/chat/invoke",
        "/predictions/chat",
        "/models/chat/invoke",
        "/v1beta/models/chat:generateContent",
    ];
    for path in named {
        for (kind, body) in [
            ("application/json", r#"{"model":"vip"}"#),
            ("application/json", r#"{"model":"org/Vip"}"#),
            ("application/json", r#"{"model":"nobody"}"#),
            ("application/json", r#"{"Model":"vip"}"#),
            ("text/plain", r#"{"model":"chat","model":"vip"}"#),
            ("application/json", r#"{"lora_name":"vip"}"#),
            ("application/x-www-form-urlencoded", "model=vip"),
            (
                "multipart/form-data; boundary=b",
                "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nvip\r\n--b--\r\n",
            ),
        ] {
            let reply = site.send(of_kind(path, kind, body).key(SECRET)).await;
            assert!((400..500).contains(&reply.status), "{path} {kind} {body}: {reply:?}");
        }
        for (body, seen) in [
            (r#"{"model":"g\u0070t","x":1}"#, r#"{"model":"chat","x":1}"#),
            (r#"{"x":1}"#, r#"{"x":1}"#),
            ("[1]", "[1]"),
        ] {
            let reply = site.send(Request::post(path, body).key(SECRET)).await;
            assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
            assert_eq!(String::from_utf8(upstream.seen().pop().unwrap().body).unwrap(), seen);
        }
    }
    for (name, status) in [("models/chat", 200), ("models/vip", 403)] {
        let body = json!({"model": name}).to_string();
        let asked = Request::post("/v1beta/models/chat:countTokens", body).key(SECRET);
        assert_eq!(site.send(asked).await.status, status, "{name}");
    }
    let before = upstream.seen().len();
    for path in ["/info", "/api/tags", "/v2/models/stats", "/x?model=chat", "/v1/responses/resp_1"]
    {
        let reply = site.send(Request::get(path).key(SECRET)).await;
        assert_eq!(refused(&reply), (403, "model_not_allowed"), "{path}");
    }
    assert_eq!(upstream.seen().len(), before);
}

#[tokio::test]
async fn fields_beside_the_name_say_the_same_or_nothing() {
    let (site, upstream) = shared("default_model: chat\n").await;
    let last = || String::from_utf8(upstream.seen().pop().unwrap().body).unwrap();
    for (path, body, seen) in [
        (
            CHAT,
            r#"{"model":"gpt","extra_body":{"model":"chat"}}"#,
            r#"{"model":"gpt","extra_body":{"model":"gpt"}}"#,
        ),
        (
            CHAT,
            r#"{"model":"chat","model_name":"g\u0070t"}"#,
            r#"{"model":"chat","model_name":"chat"}"#,
        ),
        (
            "/v1beta/models/chat:batchEmbedContents",
            r#"{"requests":[{"model":"models/chat","content":{}}]}"#,
            r#"{"requests":[{"model":"models/chat","content":{}}]}"#,
        ),
        (
            "/v2/models/chat/generate",
            r#"{"parameters":{"lora_name":"chat"}}"#,
            r#"{"parameters":{"lora_name":"chat"}}"#,
        ),
        (
            "/v2/models/chat/infer",
            r#"{"inputs":[{"data":[NaN]}]}"#,
            r#"{"inputs":[{"data":[NaN]}]}"#,
        ),
    ] {
        let reply = site.send(Request::post(path, body).key(SECRET)).await;
        assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
        assert_eq!(last(), seen);
    }
    let before = upstream.seen().len();
    let post = |path: &str, body: &str| Request::post(path, body.to_owned());
    let infer = |body: &str| {
        Request::new(Method::POST, "/v2/models/chat/infer", Bytes::copy_from_slice(body.as_bytes()))
    };
    let lora = r#"{"parameters":{"lora_name":"vip"},"inputs":[]}"#;
    for request in [
        post("/v1beta/models/chat:batchEmbedContents", r#"{"requests":[{"model":"models/vip"}]}"#),
        post("/v2/models/chat/generate", r#"{"text_input":"x","parameters":{"lora_name":"vip"}}"#),
        post("/v2/models/chat/infer", r#"{"x":NaN,"parameters":{"lora_name":"vip"}}"#),
        post("/v1/models/chat:predict", r#"{"instances":[],"adapter":"nobody"}"#),
        infer(lora),
        infer(&format!("{lora}\0\u{1}")).header("inference-header-content-length", "46"),
        infer(lora).header("content-encoding", "gzip"),
        infer(lora).header("content-type", "application/octet-stream"),
    ] {
        let reply = site.send(request.clone().key(SECRET)).await;
        assert!((400..500).contains(&reply.status), "{request:?}: {reply:?}");
    }
    assert_eq!(upstream.seen().len(), before);
    // Tensors behind the JSON are nobody's name.
    let plain = r#"{"inputs":[]}"#;
    let binary = infer(&format!("{plain}\0{lora}")).header("inference-header-content-length", "13");
    assert_eq!(site.send(binary.key(SECRET)).await.status, 200);
}

#[tokio::test]
async fn levers_of_model_servers_are_closed_unless_a_route_names_them() {
    let mine = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let other = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let routes = "routes:\n  - {match: {path: /wake_up}, model: chat}\n  - {match: {path: /v2/repository/*}, model: chat}\n  \
                  - {match: {path: /v1/*}, model: chat}\n  - {match: {path: /*}, model: chat}\n";
    let site = Site::start(models(&mine.url(), &other.url(), routes)).await;
    for path in [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1/load%5FlorA_adapter",
        "/sleep",
        "/Sleep",
        "/flush_cache",
        "/reset_prefix_cache",
        "/update_weights_from_disk",
        "/get_internal_state",
        "/server_info",
        "/collective_rpc",
        "/v1/files",
        "/v1/batches",
        "/api/pull",
    ] {
        let reply = site.send(Request::post(path, r#"{"model":"chat"}"#).key(SECRET)).await;
        assert_eq!(refused(&reply), (403, "model_not_allowed"), "{path}");
        assert!(reply.text().contains("a route with this path opens it"), "{reply:?}");
        let all = site.send(Request::post(path, r#"{"model":"chat"}"#).key("sk-all")).await;
        assert_eq!(all.status, 200, "{path}");
    }
    for path in ["/wake_up", "/v2/repository/index"] {
        let reply = site.send(Request::post(path, "{}").key(SECRET)).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    // Where no other model is near, an unknown path is the replica's business.
    assert_eq!(site.send(Request::post("/any", r#"{"x":1}"#).key(SECRET)).await.status, 200);
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_websocket_is_closed_unless_a_route_names_its_path() {
    let echo = Upstream::start(|mut talk| async move {
        if talk.request().await.is_some() {
            talk.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
            talk.echo().await;
        }
    })
    .await;
    let routes =
        "routes:\n  - {match: {path: /open}, model: chat}\n  - {match: {path: /*}, model: chat}\n";
    let site = Site::start(models(&echo.url(), &echo.url(), routes)).await;
    for (path, status) in [("/v1/realtime?model=chat", 403), ("/ws", 403), ("/open", 101)] {
        let mut raw = Raw::connect(site.address).await;
        raw.write(format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")).await;
        assert_eq!(status_of(&raw.read_until("\r\n\r\n").await), status, "{path}");
    }
}

#[tokio::test]
async fn calls_name_one_model_of_the_key_in_each_message() {
    let replica = echo().await;
    let site = Site::start(models(&replica.url(), &replica.url(), "default_model: chat\n")).await;
    let calls = Calls::connect(site.address).await;
    let bearer = format!("Bearer {SECRET}");
    let key = [("authorization", &*bearer)];
    let answer = calls.with(INFER, &naming("gpt", b"x"), &key).await;
    assert_eq!(answer.messages, [naming("gpt", b"x")]);
    for (path, message) in [
        (INFER, naming("vip", b"x")),
        (INFER, naming("org/Vip", b"x")),
        (INFER, naming("", b"x")),
        (INFER, [naming("chat", b"x"), naming("vip", b"x")].concat()),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", naming("chat", b"x")),
        ("/inference.GRPCInferenceService/RepositoryIndex", Vec::new()),
        ("/some.Other/Service", naming("chat", b"x")),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Vec::new()),
    ] {
        let before = replica.seen().len();
        let ended = calls.with(path, &message, &key).await;
        assert!(["3", "7"].contains(&ended.status()), "{path}: {ended:?}");
        assert_eq!(replica.seen().len(), before, "{path}");
    }
    // A later message of a stream is held to the first.
    let (response, mut up) = calls.open(STREAM, &key).await;
    up.send_data(frame(&naming("chat", b"0")).into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    next(&mut body).await;
    up.send_data(frame(&naming("vip", b"1")).into(), false).unwrap();
    while let Some(Ok(chunk)) = body.data().await {
        assert!(!chunk.windows(3).any(|three| three == b"vip"));
    }
    // And one without a name is not left to the replica.
    for at_once in [false, true] {
        let (response, mut up) = calls.open(STREAM, &key).await;
        let (named, nameless) = (frame(&naming("chat", b"0")), frame(&naming("", b"1")));
        if at_once {
            up.send_data([named, nameless].concat().into(), false).unwrap();
        } else {
            up.send_data(named.into(), false).unwrap();
            up.send_data(nameless.into(), false).unwrap();
        }
        let mut read = Vec::new();
        if let Ok(response) = response.await {
            let mut body = response.into_body();
            while let Some(Ok(chunk)) = body.data().await {
                read.extend_from_slice(&chunk);
            }
        }
        let second = naming("", b"1");
        assert!(!read.windows(second.len()).any(|window| window == second), "{at_once}");
    }
    // gRPC that is none to Evener.
    let before = replica.seen().len();
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
        "Application/GRPC;x",
        "application/json",
    ] {
        for wire in [Wire::Sized, Wire::H2c] {
            let call = of_kind(INFER, kind, frame(&naming("vip", b"x"))).header("te", "trailers");
            let reply = site.send(call.key(SECRET).wire(wire)).await;
            let refused = (400..500).contains(&reply.status) || reply.header("grpc-status") == "7";
            assert!(refused, "{kind} {wire:?}: {reply:?}");
        }
    }
    assert_eq!(replica.seen().len(), before);
}

#[tokio::test]
async fn a_key_for_all_models_of_a_replica_is_not_searched() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let text = models(&upstream.url(), &upstream.url(), "default_model: chat\n");
    let site = Site::start(text.replace("models: [gpt]", "models: [chat, vip]")).await;
    let odd = json!({"Model": "vip"}).to_string();
    assert_eq!(site.send(Request::post("/run", odd.clone()).key(SECRET)).await.status, 200);
    assert_eq!(upstream.seen().pop().unwrap().body, odd.as_bytes());
    assert_eq!(site.send(chat("vip").key(SECRET)).await.status, 200);
}
