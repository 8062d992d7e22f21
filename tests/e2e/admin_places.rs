//! The admin port under many connections and slow clients: health is answered, an operator gets in, memory stays flat.
use crate::client::{Raw, Request, send, status_of};
use crate::site::{Site, Stopwatch, eventually};
use crate::upstream::Mock;
use rustix::process::{Resource, getrlimit};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// What many idle connections may take.
const SLACK: u64 = 30 << 20;
const SOON: Duration = Duration::from_secs(1);

async fn site() -> (Mock, Site) {
    let mock = Mock::version("v").await;
    let site = Site::start(format!("models: {{m: {{versions: {{v: [\"{}\"]}}}}}}\n", mock.url()));
    let site = site.await;
    (mock, site)
}

async fn answers_soon(site: &Site, path: &str) {
    let watch = Stopwatch::start();
    assert_eq!(site.ask(Request::get(path)).await.status, 200, "{path}");
    assert!(watch.elapsed() < SOON, "{path} after {:?}", watch.elapsed());
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is cut short says so")]
async fn ten_thousand_idle_connections_take_no_memory_and_no_place() {
    // The client's ends are this process's, where other tests run as well.
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let many = most.saturating_sub(2000).min(10_000);
    if many < 10_000 {
        eprintln!("only {many} connections: the limit of open files is {most}");
    }
    let (_mock, site) = site().await;
    answers_soon(&site, "/healthz").await;
    let before = site.peak_memory();
    let mut held = Vec::new();
    for i in 0..many {
        held.push(TcpStream::connect(site.admin).await.unwrap());
        if i % 1000 == 999 {
            for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
                answers_soon(&site, path).await;
            }
        }
    }
    let grown = site.peak_memory() - before;
    assert!(grown < SLACK, "{grown} bytes more");
    let files = std::fs::read_dir(site.proc().join("fd")).unwrap().count();
    assert!(files < 400, "{files} open files");
}

/// A connection that has sent this much of an order.
async fn order(admin: SocketAddr, length: usize, body: &str) -> Raw {
    let mut raw = Raw::connect(admin).await;
    raw.write(format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    raw
}

#[tokio::test]
async fn when_all_places_are_busy_health_and_metrics_are_answered_and_the_rest_is_told_why() {
    let (_mock, site) = site().await;
    let mut busy = Vec::new();
    for _ in 0..192 {
        let mut raw = Raw::connect(site.admin).await;
        raw.write(
            "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
        )
        .await;
        raw.read_until(": following").await;
        busy.push(raw);
    }
    let follow = Request::get("/api/v1/events").header("accept", "text/event-stream");
    let reply = site.ask(follow).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (503, &"too_many_connections".into())
    );
    let status = site.ask(Request::get("/api/v1/status")).await;
    assert_eq!(status.status, 200, "streams leave places for the rest");
    for _ in 0..63 {
        busy.push(order(site.admin, 100, "{").await);
    }
    // One that is not busy yet makes room for the next one.
    eventually("all places are busy", async || {
        busy.push(order(site.admin, 100, "{").await);
        let reply = site.ask(Request::get("/api/v1/status")).await;
        (reply.status == 503).then_some(())
    })
    .await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        answers_soon(&site, path).await;
    }
    drop(busy);
    eventually("an operator gets in again", async || {
        (site.ask(Request::get("/api/v1/status")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_end_in_time() {
    let (_mock, site) = site().await;
    let mut drip = Raw::connect(site.admin).await;
    let dripping = tokio::spawn(async move {
        let mut seconds = tokio::time::interval(Duration::from_millis(500));
        drip.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n").await;
        while drip.0.write_all(b"x: y\r\n").await.is_ok() {
            seconds.tick().await;
        }
    });
    let mut slow = order(site.admin, 100, "{").await;
    let answer = tokio::time::timeout(Duration::from_secs(9), slow.read_until("HTTP/1.1")).await;
    assert_eq!(status_of(&answer.expect("a body that does not come is not waited for")), 408);
    let dripped = tokio::time::timeout(Duration::from_secs(9), dripping).await;
    dripped.expect("a head that does not end is not waited for").unwrap();
}

#[tokio::test]
async fn an_order_that_is_too_long_is_refused() {
    let (_mock, site) = site().await;
    let body = " ".repeat((1 << 20) + 1);
    let reply = send(site.admin, Request::post("/api/v1/reload", body).header("host", "localhost"));
    let reply = reply.await.unwrap();
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (413, &"body_too_large".into()));
}
