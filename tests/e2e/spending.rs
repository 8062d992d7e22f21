//! What a key pays for: whatever a replica worked on, whoever ended it and however the answer tells its tokens.
use crate::client::{Client, Raw, Request, Wire};
use crate::keys::{WithKey as _, entry, refused};
use crate::limits::{SECRET, STREAM, ask, limited, number, take, tokens_left};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Talk, Upstream};
use bytes::Bytes;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

const COMPLETIONS: &str = "/v1/completions";

/// A replica that gives each request this answer, as HTTP/1.1 has it after its first line.
pub(crate) async fn answering(kind: &'static str, body: impl Into<String>) -> Upstream {
    let body = body.into();
    let length = body.len();
    Upstream::start(move |mut talk| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        async move {
            while talk.request().await.is_some() {
                talk.write(&answer).await;
            }
        }
    })
    .await
}

async fn limited_to(upstream: &Upstream, tokens: u64) -> Site {
    let limits = format!("tokens_per_minute: {tokens}, requests_per_minute: 1000");
    Site::with(limited(&upstream.url(), &limits)).await
}

fn post(path: &str, body: &Value) -> Request {
    Request::post(path, body.to_string()).key(SECRET)
}

#[tokio::test]
async fn what_a_replica_worked_on_is_paid_for_whoever_ended_it() {
    let upstream = Upstream::hanging_where_asked().await;
    let keys = entry("few", SECRET, ", limits: {requests_per_minute: 6, tokens_per_minute: 6000}");
    let site = Site::with(Setup::new(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false, retries: false, timeouts: {{first_byte: 500ms}}}}}}\nkeys:\n{keys}",
        upstream.url()
    )))
    .await;
    let hang = || post("/v1/hang", &json!({"model": "m", "max_tokens": 1000}));
    // The client's deadline.
    for (name, value) in [("x-request-timeout-ms", "50"), ("grpc-timeout", "50m")] {
        assert_eq!(site.send(hang().header(name, value)).await.status, 504);
    }
    // Its leaving.
    let mut raw = Raw::connect(site.address).await;
    let body = r#"{"model":"m","max_tokens":1000}"#;
    raw.write(format!(
        "POST /v1/hang HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    eventually("it is at the replica", async || (upstream.seen().len() == 3).then_some(())).await;
    drop(raw);
    site.in_flight(0).await;
    // The time that the operator gives.
    let reply = site.send(hang()).await;
    assert_eq!(refused(&reply), (504, "first_byte_timeout"));
    let left = number(&reply, "x-ratelimit-remaining-tokens");
    assert!((1900..=2000).contains(&left), "{left} of 6000 are left after four times 1000");
    assert_eq!(number(&reply, "x-ratelimit-remaining-requests"), 2);
    assert_eq!(upstream.seen().len(), 4);
    // What never reached a replica is free.
    let late = hang().header("x-request-timeout-ms", "0");
    let reply = site.send(late).await;
    assert_eq!((reply.status, number(&reply, "x-ratelimit-remaining-requests")), (504, 2));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_paid_by_its_bytes() {
    let sealed = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n\
                  fa0\r\n";
    let upstream = Upstream::start(move |mut talk| async move {
        while let Some(seen) = talk.request().await {
            talk.write(sealed).await;
            talk.write(vec![0x1f; 4000]).await;
            if seen.line().contains("/cut") {
                return talk.wait_for_close().await;
            }
            talk.write("\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let site = limited_to(&upstream, 100_000).await;
    // Two bytes to a token, of those that were reserved.
    take(&site, 10, &[ask(10, "")]).await;
    take(&site, 2000, &[ask(50_000, "")]).await;
    take(&site, 2000, &[ask(50_000, STREAM)]).await;
    let before = tokens_left(&site).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let cut = post("/v1/completions/cut", &json!({"model": "m", "max_tokens": 50_000}));
    let begun = client.begin(cut).await.unwrap();
    let mut body = begun.into_body();
    let first = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    assert!(!first.into_data().unwrap().is_empty());
    drop((body, client));
    let left = eventually("it is settled", async || {
        let left = tokens_left(&site).await;
        (left > before - 50_000).then_some(left)
    })
    .await;
    assert!((1..=2100).contains(&(before - left)), "{before} - {left}");
}

async fn echo(mut talk: Talk) {
    while let Some(seen) = talk.request().await {
        if seen.has("upgrade") {
            talk.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
            return talk.echo().await;
        }
        talk.answer("{}").await;
    }
}

#[tokio::test]
async fn a_websocket_pays_for_what_flows_while_it_flows() {
    let upstream = Upstream::start(echo).await;
    let site = limited_to(&upstream, 12_000).await;
    let open = format!(
        "GET /v1/socket HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    let mut raw = Raw::connect(site.address).await;
    raw.write(&open).await;
    assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    // 20 000 bytes there and back are 10 000 tokens.
    raw.write("x".repeat(19_999) + ".").await;
    raw.read_until(".").await;
    eventually("it is taken on the way", async || {
        (tokens_left(&site).await < 12_000 - 8500).then_some(())
    })
    .await;
    raw.write("x".repeat(9_999) + ".").await;
    raw.read_until(".").await;
    eventually("nothing is left", async || (tokens_left(&site).await == 0).then_some(())).await;
    let mut second = Raw::connect(site.address).await;
    second.write(&open).await;
    assert!(second.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 429"), "no other begins");
    raw.write("still open.").await;
    raw.read_until("still open.").await;
    drop(raw);
    let line = site.logged("the tunnel", |line| line["status"] == 101).await;
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&30_011.into(), &30_011.into()));
}

#[tokio::test]
async fn each_prompt_is_reserved_and_what_is_no_number_is_refused_in_words() {
    let upstream = Upstream::start(echo).await;
    let site = limited_to(&upstream, 10_000).await;
    let many = json!({"model": "m", "prompt": vec!["a"; 50], "max_tokens": 1000});
    let reply = site.send(post(COMPLETIONS, &many)).await;
    assert_eq!(refused(&reply), (400, "exceeds_token_limit"));
    assert!(reply.text().contains("may take 500"), "{reply:?}");
    let few = json!({"model": "m", "prompt": vec!["a"; 9], "max_tokens": 1000});
    let reply = site.send(post(COMPLETIONS, &few)).await;
    assert_eq!(reply.status, 200);
    assert!(number(&reply, "x-ratelimit-remaining-tokens") < 1000, "{reply:?}");
    for (field, value) in [
        ("max_tokens", json!("1000")),
        ("max_tokens", json!(true)),
        ("max_completion_tokens", json!(-1)),
        ("n", json!(1.5)),
        ("best_of", json!([2])),
    ] {
        let reply = site.send(post(COMPLETIONS, &json!({"model": "m", field: value}))).await;
        assert_eq!(refused(&reply), (400, "bad_request"), "{field} {value}");
        let error = &reply.json()["error"];
        assert_eq!(error["param"], field);
        assert!(error["message"].as_str().unwrap().contains("as a whole number"), "{error}");
    }
    for body in [
        r#"{"model":"m","max_tokens":1,"max_tokens":9000}"#,
        r#"{"model":"m","max_tokens":1e400}"#,
        r#"{"model":"m","parameters":{"max_new_tokens":"9"}}"#,
    ] {
        let reply = site.send(Request::post(COMPLETIONS, body).key(SECRET)).await;
        assert_eq!(refused(&reply), (400, "bad_request"), "{body}");
    }
    // Who has no limit is not asked.
    let free = post(COMPLETIONS, &json!({"model": "m", "max_tokens": "1000"})).key("sk-free");
    assert_eq!(site.send(free).await.status, 200);
}

#[tokio::test]
async fn a_body_whose_tokens_cannot_be_counted_is_refused_in_words() {
    let upstream = Upstream::start(echo).await;
    let site = limited_to(&upstream, 1_000_000).await;
    let json = r#"{"model":"m","max_tokens":9}"#;
    let wide: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let long = format!("{{\"model\":\"m\",\"prompt\":\"{}\"}}", "x".repeat(9 << 20));
    let plain = || Request::post("/generate", json).key(SECRET);
    assert_eq!(site.send(plain()).await.status, 200);
    let gzip = plain().header("content-encoding", "gzip");
    for (request, refusal, word) in [
        (gzip, (415, "model_unreadable"), "uncompressed"),
        (Request::post("/generate", wide).key(SECRET), (400, "invalid_json"), "UTF-16"),
        (
            Request::post("/generate", long).key(SECRET),
            (413, "body_too_large"),
            "max_buffered_body",
        ),
        (Request::post("/generate", "{\"n\":NaN}").key(SECRET), (400, "invalid_json"), "JSON"),
    ] {
        let reply = site.send(request).await;
        assert_eq!(refused(&reply), refusal, "{word}");
        assert!(reply.text().contains(word), "{reply:?}");
    }
}

/// A server as OpenAI's: it sends usage where it is asked to.
async fn openai() -> Upstream {
    Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            let asked: Value = serde_json::from_slice(&seen.body).unwrap();
            let chunk = |rest: &str| format!("data: {{\"id\":\"c\",{rest}}}\n\n");
            let mut events = chunk(r#""choices":[{"index":0,"delta":{"content":"Hi"}}]"#);
            events += ": a comment\n\n";
            events += &chunk(r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#);
            if asked["stream_options"]["include_usage"] == true {
                events += &chunk(
                    r#""choices":[],"usage":{"prompt_tokens":40,"completion_tokens":500,"total_tokens":540}"#,
                );
            }
            events += "data: [DONE]\n\n";
            talk.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
            // In pieces that respect nothing.
            let mut chunked = String::new();
            for piece in events.as_bytes().chunks(37) {
                let text = std::str::from_utf8(piece).unwrap();
                write!(chunked, "{:x}\r\n{text}\r\n", piece.len()).unwrap();
            }
            talk.write(chunked + "0\r\n\r\n").await;
        }
    })
    .await
}

#[tokio::test]
async fn usage_is_asked_for_and_the_client_sees_none_of_that() {
    let upstream = openai().await;
    let site = limited_to(&upstream, 100_000).await;
    for path in ["/v1/chat/completions", COMPLETIONS, "/invocations"] {
        for wire in [Wire::Sized, Wire::Chunked, Wire::H2c] {
            let body = r#"{"model":"m","messages":[],"stream":true,"max_tokens":4000}"#;
            let request = || Request::post(path, body).wire(wire);
            let free = site.send(request().key("sk-free")).await;
            assert_eq!(upstream.seen().pop().unwrap().body, body.as_bytes(), "nobody asks");
            let before = tokens_left(&site).await;
            let limited = site.send(request().key(SECRET)).await;
            let seen: Value = serde_json::from_slice(&upstream.seen().pop().unwrap().body).unwrap();
            assert_eq!(seen["stream_options"]["include_usage"], true);
            assert_eq!(seen["max_tokens"], 4000);
            assert_eq!(limited.body, free.body, "{wire:?}");
            assert!(!limited.text().contains("usage"));
            eventually("540 are taken", async || {
                (tokens_left(&site).await == before - 540).then_some(())
            })
            .await;
            let own = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
            let own = site.send(Request::post(path, own).key(SECRET).wire(wire)).await;
            assert!(own.text().contains("\"completion_tokens\":500"), "who asks gets it");
        }
    }
}

#[tokio::test]
async fn what_a_request_takes_goes_by_the_path_that_a_replica_is_asked() {
    let upstream = openai().await;
    let routes = "routes:\n  - {match: {path: /ask}, model: m, rewrite: {path: /v1/chat/completions}}\n  \
                  - {match: {path: /v1/completions}, model: m, rewrite: {path: /v1/embeddings}}\n";
    let site = Site::with(Setup::new(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\nkeys:\n{}{routes}",
        upstream.url(),
        entry("few", SECRET, ", limits: {tokens_per_minute: 9000}")
    )))
    .await;
    let body = json!({"model": "m", "messages": [], "stream": true, "max_tokens": 8000});
    let seen =
        || -> Value { serde_json::from_slice(&upstream.seen().pop().unwrap().body).unwrap() };
    assert_eq!(site.send(post("/ask", &body)).await.status, 200);
    assert_eq!(seen()["stream_options"]["include_usage"], true);
    // Embeddings make no text: nothing is set aside for one, or asked about it.
    for _ in 0..2 {
        assert_eq!(site.send(post(COMPLETIONS, &body)).await.status, 200);
        assert!(seen()["stream_options"].is_null());
    }
}

#[tokio::test]
async fn tokens_that_are_told_in_pieces_or_as_zero_are_paid_once_and_in_full() {
    let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":20,\
                     \"cache_creation_input_tokens\":300,\"cache_read_input_tokens\":5000,\"output_tokens\":1}}}\n\n\
                     event: ping\ndata: {\"type\":\"ping\"}\n\n\
                     event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":70}}\n\n\
                     event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let ollama = "{\"response\":\"a\",\"done\":false}\n{\"done\":true,\"prompt_eval_count\":26,\"eval_count\":298}\n";
    let zero = "data: 1\n\n".repeat(50)
        + "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}\n\n";
    let anthropic = answering("text/event-stream", anthropic).await;
    let ollama = answering("application/x-ndjson", ollama).await;
    let zero = answering("text/event-stream", zero).await;
    for (upstream, path, tokens) in [
        (&anthropic, "/v1/messages", 20 + 300 + 5000 + 70),
        (&ollama, "/api/generate", 26 + 298),
        (&zero, COMPLETIONS, 51),
    ] {
        let site = limited_to(upstream, 20_000).await;
        let request = post(path, &json!({"model": "m", "max_tokens": 100, "stream": true}));
        take(&site, tokens, &[request]).await;
    }
}

#[tokio::test]
async fn a_replica_that_breaks_is_nobodys_expense() {
    let upstream = Upstream::start(|mut talk| async move {
        if talk.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            talk.reset();
        }
    })
    .await;
    let site = limited_to(&upstream, 10_000).await;
    let reply = site.send(ask(5000, "")).await;
    assert_eq!(refused(&reply), (502, "upstream_failed"));
    assert_eq!(number(&reply, "x-ratelimit-remaining-tokens"), 10_000);
    assert_eq!(number(&reply, "x-ratelimit-remaining-requests"), 1000);
    let body = Bytes::from_static(b"{}");
    assert_eq!(site.send(Request::post("/nowhere", body).key("sk-no")).await.status, 401);
}
