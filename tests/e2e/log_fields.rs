//! What a line of the access log says, and what it keeps to itself.
use crate::client::{Raw, Request, exchange};
use crate::site::{Site, eventually, until};
use crate::upstream::{Mock, Upstream};
use serde_json::{Value, json};

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n")
}

#[tokio::test]
async fn a_query_is_a_field_of_its_own_and_its_secrets_are_masked_wherever_it_is_shown() {
    let mock = Mock::version("v").await;
    let site = Site::start(
        models(&mock.url()) + "telemetry: {decision_log: {file: ../decisions.jsonl}}\n",
    )
    .await;
    let target =
        "/headers?a=1&api-key=hush1&sig=hush2&X-Amz-Signature=hush3&a%70i_key=hush4&max_tokens=5";
    site.send(Request::get(target)).await;
    // Also of what is no request at all.
    exchange(site.address, "GET /bad?token=hush5 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n").await;
    let line = site.logged("the request", |line| line["path"] == "/headers").await;
    let query = "a=1&api-key=***&sig=***&X-Amz-Signature=***&a%70i_key=***&max_tokens=5";
    assert_eq!(line["query"], query);
    let bad = site.logged("the bad one", |line| line["path"] == "/bad").await;
    assert_eq!(bad["query"], "token=***");
    let decisions = site.ask(Request::get("/api/v1/decisions")).await.text();
    assert!(decisions.contains("X-Amz-Signature=***"), "{decisions}");
    let (_, told, _) =
        site.evener(&["explain", "--id", line["request_id"].as_str().unwrap()]).await;
    assert!(told.contains("GET /headers?a=1&api-key=***"), "{told}");
    let written =
        || std::fs::read_to_string(site.path().join("decisions.jsonl")).unwrap_or_default();
    until("it is written", || written().contains("max_tokens=5")).await;
    let events = site.ask(Request::get("/api/v1/events")).await.text();
    let log: String = site.log().iter().map(Value::to_string).collect();
    for (place, text) in [
        ("log", log),
        ("page", decisions),
        ("file", written()),
        ("terminal", told),
        ("events", events),
    ] {
        assert!(!text.contains("hush"), "{place}: {text}");
    }
    let plain = site.send(Request::get("/headers")).await;
    assert_eq!(plain.status, 200);
    site.logged("no query", |line| line["path"] == "/headers" && line["query"].is_null()).await;
}

#[tokio::test]
async fn streaming_says_what_came_and_not_what_was_asked() {
    let upstream = Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            let kind = match seen.line().split(' ').nth(1).unwrap() {
                "/events" => "text/event-stream; charset=utf-8",
                "/lines" => "Application/X-NDJSON",
                _ => "application/json",
            };
            talk.write(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 2\r\n\r\n{{}}"
            ))
            .await;
        }
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    for (path, streams) in [("/events", true), ("/lines", true), ("/json", false)] {
        site.send(Request::get(path)).await;
        let line = site.logged(path, |line| line["path"] == path).await;
        assert_eq!(line["streaming"], streams, "{line}");
    }
    let asked = json!({"model": "m", "stream": true}).to_string();
    site.send(Request::post("/v1/chat/completions", asked)).await;
    let line = site.logged("asked", |line| line["path"] == "/v1/chat/completions").await;
    assert_eq!(line["streaming"], false, "{line}");
}

#[tokio::test]
async fn bytes_of_a_tunnel_are_counted_both_ways() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
        talk.echo().await;
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    raw.read_until("\r\n\r\n").await;
    for _ in 0..3 {
        raw.write("0123456789").await;
        raw.read_until("0123456789").await;
    }
    drop(raw);
    let line = eventually("it is logged", async || {
        site.log().into_iter().find(|line| line["path"] == "/ws")
    })
    .await;
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&json!(30), &json!(30)), "{line}");
}
