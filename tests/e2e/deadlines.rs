//! Phases and deadlines: what ends when, whose fault it is, and what a replica is told of it.
use crate::client::{Client, Raw, Request};
use crate::h2c::H2c;
use crate::site::{Site, Stopwatch, eventually};
use crate::upstream::Upstream;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const ASK: &str = "/v1/completions";
const BODY: &str = r#"{"model":"m","prompt":"x"}"#;

fn models(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false{more}}}}}\n")
}

async fn timed(site: &Site, request: Request) -> (u16, String, Duration) {
    let began = Stopwatch::start();
    let reply = site.send(request).await;
    (reply.status, reply.header("x-evener-error").to_owned(), began.elapsed())
}

/// Is it at the limit: not before, and after it by no more than a busy machine needs?
fn at(took: Duration, limit: u64) -> bool {
    let limit = Duration::from_millis(limit);
    took >= limit && took < limit + Duration::from_secs(1)
}

#[tokio::test]
async fn a_client_sets_a_deadline_that_the_replica_hears_of() {
    let upstream = Upstream::hanging_where_asked().await;
    let site = Site::start(models(&upstream.url(), ", timeouts: {total: 10s}")).await;
    for (header, value, limit) in
        [("x-request-timeout-ms", "400", 400), ("grpc-timeout", "300m", 300)]
    {
        let request = Request::post("/hang", BODY).header(header, value);
        let (status, code, took) = timed(&site, request).await;
        assert_eq!((status, code.as_str()), (504, "total_timeout"));
        assert!(at(took, limit), "{took:?}");
        let seen = upstream.seen().pop().unwrap();
        let told = seen.header(header);
        let left = match header {
            "grpc-timeout" => told.strip_suffix('u').unwrap().parse::<u64>().unwrap() / 1000,
            _ => told.parse::<u64>().unwrap(),
        };
        assert!(left < limit && left > limit - 200, "{told}");
    }
    let longer = Request::post(ASK, BODY).header("x-request-timeout-ms", "99999999");
    assert_eq!(site.send(longer).await.status, 200);
    let seen = upstream.seen().pop().unwrap();
    assert!(seen.header("x-request-timeout-ms").parse::<u64>().unwrap() <= 10_000);
    assert_eq!(site.send(Request::post(ASK, BODY)).await.status, 200);
    assert!(!upstream.seen().pop().unwrap().has("x-request-timeout-ms"));
}

#[tokio::test]
async fn an_impatient_client_does_not_speak_against_the_replica() {
    let upstream = Upstream::hanging_where_asked().await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let request = Request::post("/hang", BODY).header("x-request-timeout-ms", "30");
    let reply = site.send(request).await;
    assert_eq!(reply.status, 504);
    assert!(reply.text().contains("30ms, the deadline that came with the request"), "{reply:?}");
    let line = site.logged("the request", |line| line["status"] == 504).await;
    assert_eq!(line["outcome"], "timeout");
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    assert_eq!(status["models"][0]["versions"][0]["replicas"][0]["failures_total"], 0);
}

#[tokio::test]
async fn each_phase_ends_at_its_own_limit() {
    let upstream = Upstream::start(|mut talk| async move {
        let Some(seen) = talk.request().await else { return };
        if seen.line().contains("/head") {
            talk.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
        } else if seen.line().contains("/part") {
            talk.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").await;
        } else if seen.line().contains("/drip") {
            talk.write("HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n").await;
            for _ in 0..100 {
                talk.write("x").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        talk.wait_for_close().await;
    })
    .await;
    let timeouts = ", timeouts: {first_byte: 300ms, between_chunks: 400ms, total: 700ms}";
    let site = Site::start(models(&upstream.url(), timeouts)).await;
    // A head alone is no first byte: the client can still be told.
    for path in ["/hang", "/head"] {
        let (status, code, took) = timed(&site, Request::post(path, BODY)).await;
        assert_eq!((status, code.as_str()), (504, "first_byte_timeout"), "{path}");
        assert!(at(took, 300), "{took:?}");
    }
    for (path, limit, code) in [("/part", 400, "stream_stalled"), ("/drip", 700, "total_timeout")] {
        let mut client = Client::connect(site.address, false).await.unwrap();
        let began = Stopwatch::start();
        assert!(client.send(Request::post(path, BODY)).await.is_err(), "{path} is cut");
        assert!(at(began.elapsed(), limit), "{path}: {:?}", began.elapsed());
        let line = site.logged(path, |line| line["path"] == path).await;
        assert_eq!((&line["outcome"], &line["error"]), (&"timeout".into(), &code.into()));
    }
}

#[tokio::test]
async fn a_silent_stream_beats_and_is_not_asked_again() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(2300)).await;
        talk.write("data: one\n\n").await;
        talk.write("data: tw").await;
        tokio::time::sleep(Duration::from_millis(1300)).await;
        talk.write("o\n\n").await;
    })
    .await;
    let site = Site::start(models(&upstream.url(), ", stream_heartbeat: 1s")).await;
    let stream = r#"{"model":"m","stream":true}"#;
    let reply = site.send(Request::post(ASK, stream)).await;
    assert_eq!(reply.header("content-type"), "text/event-stream");
    assert_eq!(reply.text(), ": heartbeat\n\n: heartbeat\n\ndata: one\n\ndata: two\n\n");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_after_a_heartbeat_says_so_in_an_event() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
        talk.wait_for_close().await;
    })
    .await;
    let more =
        ", stream_heartbeat: 1s, timeouts: {first_byte: 1500ms}, retries: {when: [first_byte]}";
    let site = Site::start(models(&upstream.url(), more)).await;
    let reply = site.send(Request::post(ASK, r#"{"model":"m","stream":true}"#)).await;
    assert_eq!(reply.status, 200);
    let text = reply.text();
    assert!(text.starts_with(": heartbeat\n\ndata: {\"error\":"), "{text}");
    assert!(text.contains("first_byte_timeout") && !text.contains("[DONE]"), "{text}");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn an_error_inside_a_stream_counts_as_the_servers() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 38\r\n\r\n\
         data: x\n\ndata: {\"error\":{\"code\":500}}\n\n",
    )
    .await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let reply = site.send(Request::post(ASK, r#"{"model":"m","stream":true}"#)).await;
    assert!(reply.text().contains("\"code\":500"), "passed on unchanged");
    eventually("the log says so", async || {
        site.log()
            .iter()
            .any(|l| l["outcome"] == "server_error" && l["status"] == 200)
            .then_some(())
    })
    .await;
}

/// A port that neither takes nor refuses connections: its queue is full.
async fn deaf() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let one = || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
    while let Ok(taken) = one().await {
        waiting.push(taken.unwrap());
    }
    (listener, waiting)
}

#[tokio::test]
async fn a_deadline_holds_while_connecting_and_while_a_replica_takes_no_body() {
    let (listener, _waiting) = deaf().await;
    // Two windows' worth of a body, and no byte of it read.
    let stuck = H2c::start(|body, respond| async move {
        std::future::pending::<()>().await;
        drop((body, respond));
    })
    .await;
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(128 * 1024));
    let connecting = format!("http://{}", listener.local_addr().unwrap());
    for url in [connecting, stuck.url()] {
        let site = Site::start(models(&url, ", timeouts: {connect: 30s}")).await;
        let request = Request::post(ASK, body.clone()).header("x-request-timeout-ms", "400");
        let (status, code, took) = timed(&site, request).await;
        assert_eq!((status, code.as_str()), (504, "total_timeout"), "{url}");
        assert!(at(took, 400), "{url}: {took:?}");
        // Whoever leaves is not waited for either.
        let mut raw = Raw::connect(site.address).await;
        let length = body.len();
        raw.write(format!("POST {ASK} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"))
            .await;
        raw.write(&body).await;
        site.in_flight(1).await;
        drop(raw);
        site.in_flight(0).await;
        let line = site.logged("the client left", |line| line["status"] == 499).await;
        assert_eq!(line["outcome"], "cancelled", "{line}");
    }
}
