//! Streams that break, stall or fail after they began: what their clients are told, and what it is counted as.
use crate::client::{Reply, Request, Wire};
use crate::site::Site;
use crate::upstream::{Talk, Upstream};
use http::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;

const EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn head(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// Sends this much of a stream; then the connection closes, or it falls silent.
async fn site(kind: &'static str, said: &'static str, stall: bool, more: &str) -> (Site, Upstream) {
    let upstream = Upstream::start(move |mut talk: Talk| async move {
        while talk.request().await.is_some() {
            talk.write(head(kind) + &chunk(said)).await;
            if !stall {
                return;
            }
            talk.wait_for_close().await;
        }
    })
    .await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false, ejection: false, retries: false, \
         timeouts: {{between_chunks: 300ms}}}}}}\n{more}",
        upstream.url()
    ))
    .await;
    (site, upstream)
}

/// Names and data of events.
fn events(text: &str) -> Vec<(String, Value)> {
    let each = text.trim_end().split("\n\n").map(|event| {
        let (name, data) = event.split_once("data: ").expect("an event has data");
        let name = name.trim().strip_prefix("event: ").unwrap_or_default();
        (name.to_owned(), serde_json::from_str(data).expect("its data is JSON"))
    });
    each.collect()
}

fn ask(path: &str, wire: Wire) -> Request {
    Request::post(path, r#"{"model":"m","stream":true}"#).wire(wire)
}

/// What was added to what the replica said.
fn added(reply: &Reply, said: &str) -> String {
    let text = reply.text();
    text.strip_prefix(said).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn each_dialect_is_told_of_a_break_and_of_a_stall_in_its_own_words() {
    for (stall, code, status) in [(false, "upstream_failed", 502), (true, "stream_stalled", 504)] {
        let said = "event: ping\ndata: {\"a\":1}\n\n";
        let (site, _upstream) = site(EVENTS, said, stall, "").await;
        let last = async |path: &str, wire| {
            let reply = site.send(ask(path, wire)).await;
            assert_eq!(reply.status, 200, "{path}");
            events(&added(&reply, said))
        };
        for wire in [Wire::Sized, Wire::H2c] {
            for path in ["/v1/chat/completions", "/v1/completions", "/unknown"] {
                let [(name, error)] = last(path, wire).await.try_into().unwrap();
                assert_eq!((&*name, &error["error"]["code"]), ("", &code.into()), "{path}");
                assert_eq!(error["error"]["type"], "server_error", "{path}");
            }
            let [(name, error), (second, failed)] =
                last("/v1/responses", wire).await.try_into().unwrap();
            assert_eq!((&*name, &*second), ("error", "response.failed"));
            assert_eq!(
                (&error["error"]["code"], &error["sequence_number"]),
                (&code.into(), &1.into())
            );
            assert_eq!(failed["response"]["status"], "failed");
            let [(name, error)] = last("/v1/messages", wire).await.try_into().unwrap();
            let kind = if stall { "timeout_error" } else { "api_error" };
            assert_eq!(
                (&*name, &error["type"], &error["error"]["type"]),
                ("error", &"error".into(), &kind.into())
            );
            assert!(error["request_id"].is_string());
            let [(name, error)] =
                last("/v2/models/m/generate_stream", wire).await.try_into().unwrap();
            assert!(name.is_empty() && error["error"].is_string(), "{error}");
            let [(_, error)] = last("/generate_stream", wire).await.try_into().unwrap();
            assert!(error["error"].is_string() && error["error_type"] == "generation", "{error}");
            let path = "/v1beta/models/m:streamGenerateContent?alt=sse";
            let [(_, error)] = last(path, wire).await.try_into().unwrap();
            assert_eq!(error["error"]["code"], status, "{error}");
        }
        let outcome = if stall { "timeout" } else { "reset" };
        let line = site.logged("a broken stream", |line| line["path"] == "/v1/messages").await;
        assert_eq!((&line["outcome"], &line["error"]), (&outcome.into(), &code.into()), "{line}");
    }
}

#[tokio::test]
async fn a_stream_of_lines_ends_with_a_line() {
    let said = "{\"response\":\"a\"}\n";
    let (site, _upstream) = site(LINES, said, false, "").await;
    for path in ["/api/chat", "/api/generate", "/unknown"] {
        let last = added(&site.send(ask(path, Wire::Sized)).await, said);
        let error: Value = serde_json::from_str(last.strip_suffix('\n').unwrap()).unwrap();
        assert!(error["error"].is_string(), "{path}: {error}");
    }
}

#[tokio::test]
async fn the_path_that_the_replica_is_asked_by_says_how_its_stream_reads() {
    let said = "event: x\ndata: {}\n\n";
    let routes = "routes: [{match: {path: /claude}, model: m, rewrite: {path: /v1/messages}}]\n";
    let (site, _upstream) = site(EVENTS, said, false, routes).await;
    let last = added(&site.send(ask("/claude", Wire::Sized)).await, said);
    assert_eq!(events(&last)[0].1["type"], "error", "{last}");
}

#[tokio::test]
async fn nothing_is_added_within_a_piece_or_to_what_cannot_be_added_to() {
    for (kind, said) in [
        (EVENTS, "data: {\"a\":1}\n"),
        (EVENTS, "data: {\"a\":1}\n\ndata: {\"a"),
        (LINES, "{\"a\":1}\n{\"a"),
        ("application/json", "{\"a\":1}\n\n"),
        ("application/vnd.amazon.eventstream", "\n\n"),
        ("text/event-stream\r\ncontent-encoding: gzip", "x\n\n"),
    ] {
        let (site, _upstream) = site(kind, said, false, "").await;
        for wire in [Wire::Sized, Wire::H2c] {
            let sent = crate::client::send(site.address, ask("/v1/chat/completions", wire)).await;
            assert!(sent.is_err(), "cut, so that the client notices: {kind} {said:?} {sent:?}");
        }
    }
    let (site, _upstream) = site(EVENTS, "data: {}\n\n", false, "").await;
    let bedrock = Request::new(Method::POST, "/model/m/converse-stream", "{}".into());
    assert!(
        crate::client::send(site.address, bedrock).await.is_err(),
        "its clients read no events"
    );
    let sized = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {}\n\n";
    let upstream = Upstream::start(move |mut talk| async move {
        talk.request().await;
        talk.write(sized).await;
    })
    .await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n",
        upstream.url()
    ))
    .await;
    assert!(crate::client::send(site.address, ask("/v1/messages", Wire::Sized)).await.is_err());
}

#[tokio::test]
async fn what_an_error_inside_a_stream_says_decides_about_its_class() {
    let good = "data: {\"choices\":[]}\n\n";
    let json = |value: Value| format!("data: {value}\n\n");
    let streams = [
        (EVENTS, json(json!({"error": {"code": 400, "type": "BadRequestError"}})), "client_error"),
        (EVENTS, json(json!({"choices": [], "error": {"code": 502}})), "server_error"),
        (EVENTS, json(json!({"error": {"type": "overloaded_error"}})), "overloaded"),
        (EVENTS, json(json!({"type": "error", "code": "server_error"})), "server_error"),
        (EVENTS, "event: error\ndata: busy\n\n".to_owned(), "server_error"),
        (
            EVENTS,
            json(
                json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}}),
            ),
            "overloaded",
        ),
        (EVENTS, json(json!({"type": "response.incomplete", "response": {}})), "success"),
        ("Text/Event-Stream ; charset=x", json(json!({"error": "x"})), "server_error"),
        (LINES, "{\"error\":\"model runner\"}\n".to_owned(), "server_error"),
        (LINES, "{\"done\":true}\n".to_owned(), "success"),
    ];
    let mut expected = std::collections::BTreeMap::<_, f64>::new();
    let mut all = Vec::new();
    for (kind, said, class) in &streams {
        let mut answer = head(kind);
        let begun = if *kind == LINES { "{}\n" } else { good };
        write!(answer, "{}{}0\r\n\r\n", chunk(begun), chunk(said)).unwrap();
        all.push(answer);
        *expected.entry(*class).or_default() += 1.0;
    }
    let upstream = Upstream::start(move |mut talk| {
        let all = all.clone();
        async move {
            while let Some(seen) = talk.request().await {
                let number: usize = seen.header("x-number").parse().unwrap();
                talk.write(&all[number]).await;
            }
        }
    })
    .await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false, ejection: false}}}}\n",
        upstream.url()
    ))
    .await;
    for (number, (_, said, _)) in streams.iter().enumerate() {
        let request = ask("/v1/responses", Wire::Sized).header("x-number", &number.to_string());
        let reply = site.send(request).await;
        assert!(reply.text().contains(said), "it passes as it is");
    }
    for (class, times) in expected {
        let counted = site.metric("evener_requests_total", &format!("outcome=\"{class}\"")).await;
        assert!((counted - times).abs() < 0.1, "{class}: {counted} instead of {times}");
    }
}
