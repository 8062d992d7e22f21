//! `answers: client`: answers give the name that the client used; nothing else of them changes, and nothing waits.
use crate::client::{Client, Raw, Request, Wire};
use crate::grpc_client::{Calls, INFER, STREAM, naming};
use crate::h2c::{H2c, read};
use crate::site::{Site, eventually};
use crate::upstream::Upstream;
use bytes::Bytes;
use evener::dialect::grpc::{frame, name_in, put_bytes};
use http::Response;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tokio::sync::Notify;

fn models(url: &str, answers: &str, more: &str) -> String {
    format!(
        "models:\n  chat:\n    aliases: [gpt]\n    answers: {answers}\n    health: false{more}\n    versions:\n      \
         v: {{replicas: [\"{url}\"], upstream_model: \"org/Server-8B\"}}\n"
    )
}

const SAID: &str = r#"{"id":"1","model":"org/Server-8B","x":{"model":"org/Server-8B"}}"#;
const ASK: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt","messages":[]}"#;

/// Answers with this type, these headers and this body.
async fn saying(kind: &'static str, headers: &'static str, body: &'static str) -> Upstream {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    Upstream::answering(answer.leak()).await
}

#[tokio::test]
async fn an_answer_gives_the_name_that_the_client_used() {
    let upstream = saying("application/json", "etag: \"e\"\r\ncontent-digest: d\r\n", SAID).await;
    for (answers, due) in [("upstream", "org/Server-8B"), ("client", "gpt")] {
        let site = Site::start(models(&upstream.url(), answers, "")).await;
        for wire in [Wire::Sized, Wire::H2c] {
            let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
            for _ in 0..2 {
                let reply = client.send(Request::post(ASK, BODY).wire(wire)).await.unwrap();
                let body = SAID.replacen("org/Server-8B", due, 1);
                assert_eq!(reply.text(), body, "{answers} {wire:?}");
                // An answer that is here as a whole keeps a length.
                assert_eq!(reply.header("content-length"), body.len().to_string(), "{wire:?}");
                let described = reply.headers.contains_key("etag")
                    && reply.headers.contains_key("content-digest");
                assert_eq!(described, answers == "upstream");
            }
        }
        let reply = site.send(Request::post(ASK, r#"{"messages":[]}"#)).await;
        let own = if answers == "client" { "chat" } else { due };
        assert_eq!(reply.json()["model"], own, "a request that names none");
    }
    let encodings: Vec<_> =
        upstream.seen().iter().map(|seen| seen.header("accept-encoding").to_owned()).collect();
    assert!(encodings.contains(&String::new()) && encodings.contains(&"identity".to_owned()));
}

#[tokio::test]
async fn bytes_are_untouched_by_default() {
    let upstream = saying("application/json", "etag: \"e\"\r\n", SAID).await;
    let site = Site::start(models(&upstream.url(), "upstream", "")).await;
    let request = Request::post(ASK, BODY).header("accept-encoding", "gzip");
    let reply = site.send(request).await;
    assert_eq!((reply.text().as_str(), reply.header("etag")), (SAID, "\"e\""));
    assert_eq!(upstream.only().header("accept-encoding"), "gzip");
}

#[tokio::test]
async fn a_long_answer_is_passed_in_chunks_as_it_comes() {
    let next = Arc::new(Notify::new());
    let waits = Arc::clone(&next);
    let upstream = Upstream::start(move |mut talk| {
        let next = Arc::clone(&waits);
        async move {
            while talk.request().await.is_some() {
                let length = SAID.len();
                talk.write(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                ))
                .await;
                // Cut inside the name.
                talk.write(&SAID[..24]).await;
                next.notified().await;
                talk.write(&SAID[24..]).await;
            }
        }
    })
    .await;
    let site = Site::start(models(&upstream.url(), "client", "")).await;
    let due = SAID.replacen("org/Server-8B", "gpt", 1);
    for wire in [Wire::Sized, Wire::H2c] {
        let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
        let answer = client.begin(Request::post(ASK, BODY).wire(wire)).await.unwrap();
        assert!(!answer.headers().contains_key("content-length"), "{wire:?}");
        let mut body = answer.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, r#"{"id":"1","model":"gpt""#, "what is known does not wait");
        next.notify_one();
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), due.as_bytes());
    }
    let mut raw = Raw::connect(site.address).await;
    raw.write(format!(
        "POST {ASK} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    ))
    .await;
    let begun = raw.read_until("\"gpt\"").await;
    assert!(!begun.to_lowercase().contains("content-length"), "{begun}");
    next.notify_one();
    let (rest, reset) = raw.read_to_end().await;
    assert!((begun + &rest).ends_with(&due) && !reset, "{rest}");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of streams")]
async fn events_give_the_name_as_they_pass() {
    let next = Arc::new(Notify::new());
    let waits = Arc::clone(&next);
    let upstream = Upstream::start(move |mut talk| {
        let next = Arc::clone(&waits);
        async move {
            while let Some(seen) = talk.request().await {
                let (kind, events) = match seen.line().split(' ').nth(1).unwrap() {
                    "/v1/responses" => (
                        "text/event-stream",
                        [
                            "event: response.created\ndata: {\"response\":{\"model\":\"s\"}}\n\n",
                            "data: {\"delta\":\"model\"}\n\n",
                        ],
                    ),
                    "/v1/messages" => (
                        "text/event-stream; charset=utf-8",
                        [
                            "event: message_start\r\ndata: {\"message\":{\"model\":\"s\"}}\r\n\r\n",
                            "event: ping\r\ndata: {}\r\n\r\n",
                        ],
                    ),
                    "/api/chat" => (
                        "application/x-ndjson",
                        ["{\"model\":\"s\",\"done\":false}\n", "{\"model\":\"s\",\"done\":true}\n"],
                    ),
                    path if path.ends_with("/generate_stream") => (
                        "text/event-stream",
                        ["data: {\"model_name\":\"s\"}\n\n", "data: {\"model\":\"s\"}\n\n"],
                    ),
                    _ => ("text/event-stream", ["data: {\"model\":\"s\"}\n\n", "data: [DONE]\n\n"]),
                };
                talk.write(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
                ))
                .await;
                for event in events {
                    talk.write(format!("{:x}\r\n{event}\r\n", event.len())).await;
                    next.notified().await;
                }
                talk.write("0\r\n\r\n").await;
            }
        }
    })
    .await;
    let site = Site::start(models(&upstream.url(), "client", "")).await;
    for (path, first, last) in [
        (ASK, "data: {\"model\":\"gpt\"}\n\n", "data: [DONE]\n\n"),
        (
            "/v1/responses",
            "event: response.created\ndata: {\"response\":{\"model\":\"gpt\"}}\n\n",
            "data: {\"delta\":\"model\"}\n\n",
        ),
        (
            "/v1/messages",
            "event: message_start\r\ndata: {\"message\":{\"model\":\"gpt\"}}\r\n\r\n",
            "event: ping\r\ndata: {}\r\n\r\n",
        ),
        (
            "/api/chat",
            "{\"model\":\"gpt\",\"done\":false}\n",
            "{\"model\":\"gpt\",\"done\":true}\n",
        ),
        (
            "/v2/models/gpt/generate_stream",
            "data: {\"model_name\":\"gpt\"}\n\n",
            "data: {\"model\":\"s\"}\n\n",
        ),
    ] {
        for wire in [Wire::Sized, Wire::H2c] {
            let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
            let request = Request::post(path, BODY).wire(wire);
            let mut body = client.begin(request).await.unwrap().into_body();
            for due in [first, last] {
                let mut got = Vec::new();
                while got.len() < due.len() {
                    got.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
                }
                assert_eq!(String::from_utf8(got).unwrap(), due, "{path} {wire:?}");
                next.notify_one();
            }
            assert_eq!(body.collect().await.unwrap().to_bytes(), "", "{path} {wire:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_passes_as_it_came() {
    for (kind, headers) in [
        ("application/json", "content-encoding: gzip\r\netag: \"e\"\r\n"),
        ("application/octet-stream", "inference-header-content-length: 30\r\netag: \"e\"\r\n"),
        ("application/json", "inference-header-content-length: 30\r\netag: \"e\"\r\n"),
        ("text/plain", "etag: \"e\"\r\n"),
    ] {
        let upstream = saying(kind, headers, SAID).await;
        let site = Site::start(models(&upstream.url(), "client", "")).await;
        let reply = site.send(Request::post(ASK, BODY)).await;
        assert_eq!(
            (reply.text().as_str(), reply.header("etag")),
            (SAID, "\"e\""),
            "{kind} {headers}"
        );
        assert_eq!(reply.header("content-length"), SAID.len().to_string());
    }
}

#[tokio::test]
async fn messages_of_grpc_give_the_name() {
    let replica = H2c::start(|up, mut respond| async move {
        read(up).await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let Ok(mut out) = respond.send_response(head, false) else { return };
        let mut whole = Vec::new();
        for n in 0..3 {
            let mut inner = naming("org/Server-8B", &[b'x'; 1000]);
            put_bytes(&mut inner, 3, &[b'0' + n]);
            whole.extend(frame(&inner));
        }
        // In pieces that end anywhere.
        for piece in whole.chunks(7) {
            out.send_data(Bytes::copy_from_slice(piece), false).ok();
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        out.send_trailers(trailers).ok();
    })
    .await;
    let site = Site::start(models(&replica.url(), "client", "")).await;
    let calls = Calls::connect(site.address).await;
    let ended = calls.call(INFER, &naming("gpt", b"")).await;
    assert_eq!((ended.status(), ended.messages.len()), ("0", 3), "{ended:?}");
    for message in &ended.messages {
        assert_eq!(name_in(message, &[1]).unwrap(), Some("gpt"));
        assert_eq!(message.len(), naming("gpt", &[b'x'; 1000]).len() + 3);
    }
    // The messages of a stream hold the answer in another one: this replica's begin otherwise, and pass.
    let ended = calls.call(STREAM, &naming("gpt", b"")).await;
    assert_eq!(name_in(&ended.messages[0], &[1]).unwrap(), Some("org/Server-8B"));
    assert_eq!(replica.seen()[0].headers["grpc-accept-encoding"], "identity");
}

#[tokio::test]
async fn every_api_and_every_header_of_an_answer_gives_the_clients_name() {
    for (path, method, headers, said) in [
        ("/v1beta/models/gpt:generateContent", "POST", "", r#"{"modelVersion":"org/Server-8B"}"#),
        (
            "/v1beta/models/gpt:streamGenerateContent",
            "POST",
            "",
            r#"[{"modelVersion":"org/Server-8B"}]"#,
        ),
        ("/v2/rerank", "POST", "", r#"{"model":"org/Server-8B"}"#),
        ("/v2/models/gpt", "GET", "", r#"{"name":"org/Server-8B","inputs":[{"name":"x"}]}"#),
        (ASK, "POST", "openai-model: org/Server-8B\r\n", "\u{feff}{\"model\":\"org/Server-8B\"}"),
        ("/v1/score", "POST", "", r#"[{"model":"org/Server-8B"}]"#),
    ] {
        let upstream = saying("application/json", headers, said).await;
        let site = Site::start(models(&upstream.url(), "client", "")).await;
        let request = if method == "GET" { Request::get(path) } else { Request::post(path, BODY) };
        let reply = site.send(request).await;
        assert_eq!(reply.text(), said.replace("org/Server-8B", "gpt"), "{path}");
        let told = reply.headers.get("openai-model").map(http::HeaderValue::as_bytes);
        assert_eq!(told, (!headers.is_empty()).then_some(&b"gpt"[..]), "{path}");
    }
}

#[tokio::test]
async fn tokens_and_mirrors_read_what_the_replica_said() {
    const TOLD: &str = r#"{"model":"org/Server-8B","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let (served, mirrored) =
        (saying("application/json", "", TOLD).await, saying("application/json", "", TOLD).await);
    let rest = format!(
        "models:\n  chat:\n    answers: client\n    health: false\n    versions:\n      \
         v1: [\"{}\"]\n      v2: [\"{}\"]\n    split: {{v1: 100, v2: 0}}\n    mirror: {{to: v2, percent: 100}}\n",
        served.url(),
        mirrored.url()
    );
    let site = Site::start(rest).await;
    let reply = site.send(Request::post(ASK, BODY.replace("gpt", "chat"))).await;
    assert_eq!(reply.json()["model"], "chat");
    eventually("the copy agrees, and tokens are counted", async || {
        let agreed = site.metric("evener_mirror_requests_total", "result=\"agreed\"").await;
        let tokens = site.metric("evener_tokens_total", "kind=\"completion\"").await;
        (agreed > 0.0 && tokens > 3.0).then_some(())
    })
    .await;
}
