//! Where one replica serves several models it gets exactly one name, that of a model of the key, in one spelling.
use crate::client::{Raw, Request, Wire, status_of};
use crate::grpc_client::{Calls, INFER, STREAM, echo, naming, next};
use crate::key_models::{SECRET, models};
use crate::keys::{WithKey as _, chat, refused};
use crate::site::Site;
use crate::upstream::Upstream;
use bytes::Bytes;
use evener::dialect::grpc::frame;
use http::Method;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const TRANSCRIBE: &str = "/v1/audio/transcriptions";

/// Models `chat` and `vip` in one process.
async fn shared(more: &str) -> (Site, Upstream) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(models(&upstream.url(), &upstream.url(), more)).await;
    (site, upstream)
}

fn of_kind(path: &str, kind: &str, body: impl Into<Bytes>) -> Request {
    Request::new(Method::POST, path, body.into()).header("content-type", kind)
}

fn wide(text: &str, unit: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

/// Bodies of JSON in which some server reads `vip`.
fn spellings() -> Vec<(&'static str, Request)> {
    let vip = r#"{"model":"vip"}"#;
    let json = |body: &[u8]| of_kind(CHAT, "application/json", body.to_vec());
    let u32s = |unit: u16| u32::from(unit);
    vec![
        ("plain", json(vip.as_bytes())),
        ("escaped", json(br#"{"mod\u0065l":"v\u0069p"}"#)),
        ("twice", json(br#"{"model":"chat","model":"vip"}"#)),
        ("alike beside", json(br#"{"model":"chat","Model":"vip"}"#)),
        ("alike alone", json(br#"{"MODEL":"vip"}"#)),
        (
            "kelvin and long s are no letters of it",
            json("{\"model\":\"chat\",\"\u{212a}\":\"vip\",\"model\":\"vip\"}".as_bytes()),
        ),
        ("byte order mark", json(format!("\u{feff}{vip}").as_bytes())),
        ("utf-16le", json(&wide(vip, |unit| unit.to_le_bytes().into()))),
        ("utf-16be", json(&wide(vip, |unit| unit.to_be_bytes().into()))),
        (
            "utf-16 with a mark",
            json(&wide(&format!("\u{feff}{vip}"), |unit| unit.to_le_bytes().into())),
        ),
        ("utf-32le", json(&wide(vip, |unit| u32s(unit).to_le_bytes().into()))),
        ("utf-32be", json(&wide(vip, |unit| u32s(unit).to_be_bytes().into()))),
        ("two values", json(b"{\"model\":\"chat\"}{\"model\":\"vip\"}")),
        ("a list", json(br#"[{"model":"vip"}]"#)),
        ("not a number", json(br#"{"model":"vip","temperature":NaN}"#)),
        ("single quotes", json(b"{'model':'vip'}")),
        ("a comment", json(b"/**/{\"model\":\"vip\"}")),
        (
            "utf-7",
            of_kind(
                CHAT,
                "application/json; charset=utf-7",
                r#"{"model":"chat","x":"+ACI-,+ACI-model+ACI-:+ACI-vip"}"#,
            ),
        ),
        ("form-urlencoded", of_kind(CHAT, "application/x-www-form-urlencoded", "model=vip")),
        (
            "form-urlencoded that is JSON",
            of_kind(
                CHAT,
                "application/x-www-form-urlencoded",
                r#"{"model":"chat","x":"&model=vip&"}"#,
            ),
        ),
        ("a form that is JSON", of_kind(CHAT, "multipart/form-data; boundary=b", vip)),
        ("a list of models", json(br#"{"model":"chat","models":["vip"]}"#)),
        ("an adapter", json(br#"{"model":"chat","lora_path":"vip"}"#)),
        (
            "an adapter in parameters",
            of_kind(
                "/generate",
                "application/json",
                r#"{"inputs":"x","parameters":{"adapter_id":"vip"}}"#,
            ),
        ),
        ("the query", json(br#"{"model":"chat"}"#).header("x-more", "1")),
        ("compressed", json(b"\x1f\x8b vip").header("content-encoding", "gzip")),
        ("compressed twice", json(b"vip").header("content-encoding", "identity, gzip")),
        ("a header", json(br#"{"model":"chat"}"#).header("x-amzn-sagemaker-target-model", "vip")),
        ("another path", of_kind("/api/chat", "application/json", r#"{"Model":"vip"}"#)),
        ("an unknown path", of_kind("/predict/vip", "application/json", r#"{"x":1}"#)),
        (
            "an unknown path with a body of its own",
            of_kind("/run", "application/octet-stream", "model: vip"),
        ),
        ("an empty segment", of_kind("//v1/chat/completions", "application/json", vip)),
    ]
}

/// Forms in which some framework reads `vip`.
fn forms() -> Vec<(String, Request)> {
    let first = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nchat\r\n--b\r\n";
    let file = "content-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nxx";
    let usual = "multipart/form-data; boundary=b";
    let mut all: Vec<(String, Request)> = [
        "content-disposition: form-data; name=\"model\"",
        "content-disposition: form-data; foo; name=\"model\"",
        "content-disposition: form-data;; name=\"model\"",
        "content-disposition: form-data; name=\"x\"; name=\"model\"",
        "content-disposition: form-data;\r\n name=\"model\"",
        "content-disposition: form-data; name*=utf-8''model",
        "content-disposition: form-data; name=\"Model\"",
        "content-disposition: form-data; name=\"mo\\del\"",
        "content-disposition: form-data; name=\"model\"; filename=\"\"",
        "content-disposition: form-data; name=\"x\"\r\ncontent-transfer-encoding: quoted-printable",
    ]
    .into_iter()
    .map(|head| {
        let body = format!("{first}{head}\r\n\r\nvip\r\n--b\r\n{file}\r\n--b--\r\n");
        (head.to_owned(), of_kind(TRANSCRIBE, usual, body))
    })
    .collect();
    let vip = first.replace("chat", "vip") + file + "\r\n--b--\r\n";
    for kind in [
        "multipart/form-data; boundary=zz; boundary=b",
        "multipart/form-data; boundary=b; boundary=zz",
        "multipart/form-data; foo; boundary=b",
        "multipart/form-data; boundary=b; charset=utf-16",
        "multipart/mixed; boundary=b",
    ] {
        all.push((kind.to_owned(), of_kind(TRANSCRIBE, kind, vip.clone())));
    }
    let before = format!("preamble\r\n{vip}");
    all.push(("a preamble".to_owned(), of_kind(TRANSCRIBE, usual, before)));
    all
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
        (r#"{"x":{"model":"vip"}}"#, "chat"),
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
async fn a_path_that_names_its_model_needs_no_body_that_does() {
    let (site, upstream) = shared("default_model: chat\n").await;
    for path in ["/v2/models/chat/infer", "/v1/models/gpt:predict", "/predictions/chat"] {
        let tensors = of_kind(path, "application/octet-stream", vec![0_u8, 1, 255]);
        assert_eq!(site.send(tensors.key(SECRET)).await.status, 200, "{path}");
    }
    assert_eq!(site.send(Request::get("/v2/models/chat/ready").key(SECRET)).await.status, 200);
    let before = upstream.seen().len();
    for path in ["/info", "/api/tags", "/v2/models/stats", "/x", "/v1/responses/resp_1"] {
        let reply = site.send(Request::get(path).key(SECRET)).await;
        assert_eq!(refused(&reply), (403, "model_not_allowed"), "{path}");
    }
    assert_eq!(upstream.seen().len(), before);
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
