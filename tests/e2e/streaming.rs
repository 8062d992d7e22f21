//! Streams: each chunk at once, ends that are seen on both sides, and what a broken replica looks like.
use crate::client::{Client, Raw, Request, Wire, send, status_of};
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Mock, Talk, Upstream};
use evener::mock::Knobs;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) const SSE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[]}"#;

fn models(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false{more}}}}}\n")
}

pub(crate) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A replica whose one event stream sends what the test says, when it says.
pub(crate) async fn on_command() -> (Upstream, UnboundedSender<String>) {
    let (say, said) = unbounded_channel::<String>();
    let said: Arc<Mutex<Option<UnboundedReceiver<String>>>> = Arc::new(Mutex::new(Some(said)));
    let upstream = Upstream::start(move |mut talk: Talk| {
        let said = Arc::clone(&said);
        async move {
            if talk.request().await.is_none() {
                return;
            }
            let said = said.lock().take();
            if let Some(mut said) = said {
                while let Some(bytes) = said.recv().await {
                    talk.write(bytes).await;
                }
            }
        }
    })
    .await;
    (upstream, say)
}

async fn in_flight(mock: SocketAddr) -> u64 {
    let panel = send(mock, Request::get("/mock")).await.unwrap().json();
    panel["in_flight"].as_u64().unwrap()
}

async fn until_in_flight(mock: &Mock, n: u64) {
    eventually(&format!("{n} in flight"), async || {
        (in_flight(mock.address).await == n).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_event_is_seen_before_the_next_is_sent() {
    for wire in [Wire::Sized, Wire::H2c] {
        let (upstream, say) = on_command().await;
        let site = Site::start(models(&upstream.url(), "")).await;
        let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
        say.send(format!("{SSE}{}", chunk("data: 0\n\n"))).unwrap();
        let request = Request::post("/v1/chat/completions", STREAM).wire(wire);
        let mut body = client.begin(request).await.unwrap().into_body();
        for i in 0..5 {
            let frame = tokio::time::timeout(Duration::from_secs(5), body.frame());
            let frame = frame.await.expect("the event comes alone").unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), format!("data: {i}\n\n"));
            say.send(chunk(&format!("data: {}\n\n", i + 1))).unwrap();
        }
        say.send("0\r\n\r\n".to_owned()).unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "data: 5\n\n");
    }
}

#[tokio::test]
async fn a_stream_under_way_survives_sigterm_whole_and_then_the_process_ends() {
    for wire in [Wire::Sized, Wire::H2c] {
        let (upstream, say) = on_command().await;
        let mut site = Site::start(models(&upstream.url(), "")).await;
        let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
        say.send(format!("{SSE}{}", chunk("data: 0\n\n"))).unwrap();
        let request = Request::post("/v1/chat/completions", STREAM).wire(wire);
        let mut body = client.begin(request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        // A connection at rest must not hold the end up.
        let _idle = Raw::connect(site.address).await;
        site.signal(Signal::TERM);
        let address = site.address;
        eventually("nothing new is accepted", async || {
            tokio::net::TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
        assert!(site.runs());
        for i in 1..4 {
            say.send(chunk(&format!("data: {i}\n\n"))).unwrap();
            body.frame().await.unwrap().unwrap();
        }
        say.send(chunk("data: [DONE]\n\n") + "0\r\n\r\n").unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "data: [DONE]\n\n");
        drop(client);
        let ended = tokio::time::timeout(Duration::from_secs(3), site.ended()).await;
        assert!(ended.expect("it ends with its last stream").success(), "{wire:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_replica_wherever_it_left() {
    // Thinking; then in the middle of a stream.
    let slow = Knobs { latency: "20s".parse().unwrap(), ..Knobs::default() };
    let talks =
        Knobs { tokens: 10_000, token_interval: Duration::from_millis(5), ..Knobs::default() };
    for (name, knobs) in [("thinking", slow), ("streaming", talks)] {
        for (wire, body) in
            [(Wire::Sized, STREAM), (Wire::H2c, STREAM), (Wire::Sized, r#"{"model":"m"}"#)]
        {
            if name == "streaming" && body != STREAM {
                continue;
            }
            let mock = Mock::start(knobs.clone()).await;
            let site = Site::start(models(&mock.url(), "")).await;
            let address = site.address;
            let request = Request::post("/v1/chat/completions", body).wire(wire);
            let running = tokio::spawn(async move {
                let mut client = Client::connect(address, wire == Wire::H2c).await.unwrap();
                let mut body = client.begin(request).await.unwrap().into_body();
                while body.frame().await.is_some() {}
            });
            until_in_flight(&mock, 1).await;
            running.abort();
            let freed = tokio::time::timeout(Duration::from_secs(1), until_in_flight(&mock, 0));
            assert!(freed.await.is_ok(), "{name} {wire:?}: the replica works on for nobody");
            let line = site.logged("it is logged", |line| line["status"] == 499).await;
            assert_eq!(line["outcome"], "cancelled");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_body_ends_reaches_no_replica() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let site = Site::start(models(&upstream.url(), "")).await;
    for begun in [
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"model\":",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"model\":\r\n",
    ] {
        let mut raw = Raw::connect(site.address).await;
        raw.write(begun).await;
        drop(raw);
    }
    until("they are logged", || site.log().iter().filter(|l| l["status"] == 499).count() == 2)
        .await;
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn an_event_stream_whose_replica_dies_ends_with_an_error_event() {
    for (way, wire) in [("reset", Wire::Sized), ("close", Wire::Sized), ("close", Wire::H2c)] {
        let upstream = Upstream::start(move |mut talk| async move {
            talk.request().await;
            talk.write(format!("{SSE}{}", chunk("data: 0\n\n"))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            if way == "reset" {
                talk.reset();
            }
        })
        .await;
        let site = Site::start(models(&upstream.url(), "")).await;
        let reply = site.send(Request::post("/v1/chat/completions", STREAM).wire(wire)).await;
        let text = reply.text();
        let rest = text.strip_prefix("data: 0\n\n").unwrap();
        let event = rest.strip_prefix("data: ").unwrap().trim_end();
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["error"]["code"], "upstream_failed", "{text}");
        assert!(!text.contains("[DONE]"));
    }
}

#[tokio::test]
async fn a_chunked_body_that_breaks_is_cut_so_that_the_client_notices() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    })
    .await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (answer, _) = raw.read_to_end().await;
    assert!(answer.contains("part") && !answer.contains("0\r\n\r\n"), "{answer}");
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.0\r\nHost: x\r\n\r\n").await;
    let (answer, reset) = raw.read_to_end().await;
    assert!(reset, "without framing only a reset tells: {answer}");
    let h2c = send(site.address, Request::get("/p").wire(Wire::H2c)).await;
    assert!(h2c.is_err(), "{h2c:?}");
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\npart",
    )
    .await;
    let closing = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").await;
    })
    .await;
    drop(upstream);
    let site = Site::start(models(&closing.url(), "")).await;
    assert!(send(site.address, Request::get("/p")).await.is_err(), "half of a sized body");
}

#[tokio::test]
async fn an_http_1_0_client_reads_to_the_end_of_the_connection() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    )
    .await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.0\r\nHost: x\r\n\r\n").await;
    let (answer, reset) = raw.read_to_end().await;
    assert!(answer.ends_with("\r\n\r\nhello world") && !reset, "{answer}");
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn a_replica_that_closes_to_end_its_body_is_framed_for_the_client() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello").await;
    })
    .await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.send(Request::get("/p")).await.unwrap().text(), "hello");
    }
}

#[tokio::test]
async fn a_replica_that_stays_silent_is_a_timeout_of_its_phase() {
    let hangs = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.wait_for_close().await;
    })
    .await;
    let limits = ", timeouts: {first_byte: 300ms, between_chunks: 300ms, total: 10s}";
    let site = Site::start(models(&hangs.url(), limits)).await;
    for wire in [Wire::Sized, Wire::H2c] {
        let reply = site.send(Request::post("/v1/chat/completions", STREAM).wire(wire)).await;
        assert_eq!((reply.status, reply.header("x-evener-error")), (504, "first_byte_timeout"));
    }
    hangs.until_closed(2).await;
    let head_only = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(SSE).await;
        talk.wait_for_close().await;
    })
    .await;
    let site = Site::start(models(&head_only.url(), limits)).await;
    let reply = site.send(Request::post("/v1/chat/completions", STREAM)).await;
    assert_eq!((reply.status, reply.header("x-evener-error")), (504, "first_byte_timeout"));
    let stalls = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(format!("{SSE}{}", chunk("data: 0\n\n"))).await;
        talk.wait_for_close().await;
    })
    .await;
    let site = Site::start(models(&stalls.url(), limits)).await;
    let reply = site.send(Request::post("/v1/chat/completions", STREAM)).await;
    assert!(reply.text().contains(r#""code":"stream_stalled""#), "{}", reply.text());
    stalls.until_closed(1).await;
    let line = site.logged("it is logged", |line| line["error"] == "stream_stalled").await;
    assert_eq!(line["outcome"], "timeout");
}

#[tokio::test]
async fn a_request_has_a_total_time() {
    let drips = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(SSE).await;
        for _ in 0..100 {
            talk.write(chunk("data: 0\n\n")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let limits = ", timeouts: {first_byte: 300ms, between_chunks: 300ms, total: 600ms}";
    let site = Site::start(models(&drips.url(), limits)).await;
    let reply = site.send(Request::post("/v1/chat/completions", STREAM)).await;
    assert!(reply.text().contains(r#""code":"total_timeout""#), "{}", reply.text());
}

#[tokio::test]
async fn nonsense_and_dead_replicas_are_502() {
    let nonsense = Upstream::answering("SSH-2.0-OpenSSH_9.2p1\r\n\r\n").await;
    let silent = Upstream::start(|mut talk| async move {
        talk.request().await;
    })
    .await;
    let resets = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.reset();
    })
    .await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = format!("http://{dead}");
    for url in [nonsense.url(), silent.url(), resets.url(), dead] {
        let site = Site::start(models(&url, "")).await;
        for wire in [Wire::Sized, Wire::H2c] {
            let reply = site.send(Request::post("/v1/chat/completions", STREAM).wire(wire)).await;
            assert_eq!((reply.status, reply.header("x-evener-error")), (502, "upstream_failed"));
            let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.starts_with("the model server of `m` "), "{message}");
        }
    }
}

#[tokio::test]
async fn a_listener_with_limits_drops_a_client_that_reads_nothing() {
    let floods = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let flood = chunk(&"x".repeat(100_000));
        for _ in 0..1000 {
            talk.write(&flood).await;
        }
        talk.wait_for_close().await;
    })
    .await;
    let setup = Setup::new(models(&floods.url(), "")).listener("client: {write_timeout: 500ms}");
    let site = Site::with(setup).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    raw.read_until("200").await;
    assert_eq!(status_of(&site.logged("dropped", |_| true).await["status"].to_string()), 0);
    floods.until_closed(1).await;
    let line = &site.log()[0];
    assert_eq!(line["outcome"], "cancelled", "{line}");
}

#[tokio::test]
async fn tokens_are_counted_by_usage_or_by_events() {
    let told = r#"{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7}}"#;
    let upstream = Upstream::start(move |mut talk| async move {
        while let Some(request) = talk.request().await {
            let events = "data: {\"choices\":[1]}\n\ndata: {\"choices\":[2]}\n\ndata: [DONE]\n\n";
            let stream = request.line().contains("stream");
            let (kind, body) =
                if stream { ("text/event-stream", events) } else { ("application/json", told) };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            talk.write(head + body).await;
        }
    })
    .await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n",
        upstream.url()
    ))
    .await;
    let body = r#"{"model":"m","prompt":"x"}"#;
    for path in ["/v1/completions", "/v1/completions?stream", "/v1/completions"] {
        assert_eq!(site.send(Request::post(path, body)).await.status, 200);
    }
    eventually("they are counted", async || {
        let page = site.ask(Request::get("/metrics")).await.text();
        let has = |line: &str| page.lines().any(|each| each == line);
        (has("evener_tokens_total{model=\"m\",version=\"v\",kind=\"completion\"} 16")
            && has("evener_tokens_total{model=\"m\",version=\"v\",kind=\"prompt\"} 22"))
        .then_some(())
    })
    .await;
}
