//! A side that reads nothing stops the other; it fills no memory, and holds nothing for ever.
use crate::client::{Raw, Request};
use crate::h2c::{self, H2c};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Talk, Upstream};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;

const LARGE: usize = 64_000_000;

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n")
}

fn large() -> Bytes {
    (0..LARGE).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()
}

/// Waits until some bytes were taken, and then none for many looks. Returns how many.
async fn until_stalled(taken: &AtomicUsize) -> usize {
    let (mut last, mut looks) = (0, 0);
    eventually("the writer is stopped", async || {
        let now = taken.load(SeqCst);
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        (now > 0 && looks > 60).then_some(now)
    })
    .await
}

async fn replica(site: &Site) -> Value {
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    status["models"][0]["versions"][0]["replicas"][0].clone()
}

type Streams = h2::client::SendRequest<Bytes>;

async fn connect(site: &Site) -> Streams {
    let tcp = TcpStream::connect(site.address).await.unwrap();
    let (streams, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    streams.ready().await.unwrap()
}

#[tokio::test]
async fn an_upload_over_http_2_waits_for_a_slow_http_1_replica_outside_of_memory() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let slow = Upstream::start(move |mut talk: Talk| {
        let told = Arc::clone(&told);
        async move {
            told.notified().await;
            talk.request().await;
            talk.answer("taken").await;
        }
    })
    .await;
    let site = Site::start(models(&slow.url())).await;
    let before = site.peak_memory();
    let body = large();
    let mut streams = connect(&site).await;
    let post = http::Request::post("http://evener.test/upload")
        .header("content-type", "application/octet-stream");
    let (answer, mut out) = streams.send_request(post.body(()).unwrap(), false).unwrap();
    let taken = Arc::<AtomicUsize>::default();
    let sending = tokio::spawn({
        let (body, taken) = (body.clone(), Arc::clone(&taken));
        async move { h2c::write(&mut out, body, &taken).await }
    });
    let stalled = until_stalled(&taken).await;
    assert!(stalled < LARGE, "nothing stopped it");
    go.notify_one();
    assert!(sending.await.unwrap());
    let mut answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "taken");
    let grown = site.peak_memory() - before;
    assert!(grown < 30_000_000, "{grown} bytes more");
    assert!(slow.only().body == body, "{} bytes arrived", slow.only().body.len());
}

/// Reads the answer to its end, checks that it is whole, and forgets it as it comes.
async fn read_chunked(tcp: &mut (impl tokio::io::AsyncRead + Unpin)) -> usize {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut read = BufReader::with_capacity(256 * 1024, tcp);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(read.read_line(&mut line).await.unwrap() > 0, "no answer");
    }
    let (mut length, mut chunk) = (0, Vec::new());
    loop {
        line.clear();
        read.read_line(&mut line).await.unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        chunk.resize(size + 2, 0);
        read.read_exact(&mut chunk).await.unwrap();
        if size == 0 {
            return length;
        }
        let as_sent = |(i, byte): (usize, &u8)| usize::from(*byte) == (length + i) % 251;
        assert!(chunk[..size].iter().enumerate().all(as_sent), "other bytes after {length}");
        length += size;
    }
}

#[tokio::test]
async fn an_answer_over_http_2_waits_for_a_slow_http_1_client_outside_of_memory() {
    for upload_ends_first in [false, true] {
        let taken = Arc::<AtomicUsize>::default();
        let (counted, body) = (Arc::clone(&taken), large());
        let talks = H2c::start(move |upload, mut respond| {
            let (counted, body) = (Arc::clone(&counted), body.clone());
            async move {
                let reading = tokio::spawn(h2c::read(upload));
                let mut out = respond.send_response(http::Response::new(()), false).unwrap();
                h2c::write(&mut out, body, &counted).await;
                reading.await.unwrap();
            }
        })
        .await;
        let site = Site::start(models(&talks.url())).await;
        let before = site.peak_memory();
        let mut raw = Raw::connect(site.address).await;
        raw.write(
            "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
        )
        .await;
        if upload_ends_first {
            raw.write("0\r\n\r\n").await;
        }
        let stalled = until_stalled(&taken).await;
        assert!(stalled < LARGE, "nothing stopped it");
        if !upload_ends_first {
            raw.write("5\r\ngoing\r\n0\r\n\r\n").await;
        }
        assert_eq!(read_chunked(&mut raw.0).await, LARGE, "{upload_ends_first}");
        let grown = site.peak_memory() - before;
        assert!(grown < 30_000_000, "{grown} bytes more ({upload_ends_first})");
    }
}

/// A replica whose every answer is some megabytes in chunks.
async fn chunks() -> Upstream {
    Upstream::start(|mut talk| async move {
        let chunk = format!("{:x}\r\n{}\r\n", 100_000, "x".repeat(100_000));
        while talk.request().await.is_some() {
            talk.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for _ in 0..60 {
                talk.write(&chunk).await;
            }
            talk.write("0\r\n\r\n").await;
        }
        talk.wait_for_close().await;
    })
    .await
}

#[tokio::test]
async fn a_client_that_asks_and_asks_but_reads_nothing_is_let_go() {
    let upload = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 2\r\n\r\nhi";
    let open = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 9\r\n\r\nhi";
    for (name, asked) in [
        ("gets", "GET /p HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20)),
        ("uploads", upload.repeat(20)),
        ("json", upload.replace("octet-stream", "json").replace("hi", "{}").repeat(20)),
        ("an upload that goes on", upload.repeat(19) + open),
    ] {
        let chunks = chunks().await;
        let setup = Setup::new(models(&chunks.url())).listener("client: {write_timeout: 500ms}");
        let site = Site::with(setup).await;
        let mut raw = Raw::connect(site.address).await;
        raw.write(asked).await;
        let _line = site.logged(name, |line| line["outcome"] == "cancelled").await;
        eventually("nothing is in flight", async || {
            (replica(&site).await["in_flight"] == 0).then_some(())
        })
        .await;
        // The connection is over: what else it asked is not asked of the replica.
        let replica = replica(&site).await;
        assert!(replica["requests_total"].as_u64().unwrap() < 20, "{name}: {replica}");
        assert_eq!(replica["failures_total"], 0, "{name}: {replica}");
    }
}

#[tokio::test]
async fn a_stream_of_http_2_that_is_not_read_is_let_go_and_its_connection_serves_on() {
    let chunks = chunks().await;
    let setup = Setup::new(models(&chunks.url())).listener("client: {write_timeout: 500ms}");
    let site = Site::with(setup).await;
    let mut streams = connect(&site).await;
    let get = || http::Request::get("http://evener.test/p").body(()).unwrap();
    let (unread, _) = streams.send_request(get(), true).unwrap();
    let unread = unread.await.unwrap();
    site.logged("it is let go", |line| line["outcome"] == "cancelled").await;
    eventually("nothing is in flight", async || {
        (replica(&site).await["in_flight"] == 0).then_some(())
    })
    .await;
    assert_eq!(replica(&site).await["failures_total"], 0);
    drop(unread);
    let health = http::Request::get("http://evener.test/healthz").body(()).unwrap();
    let (answer, _) = streams.ready().await.unwrap().send_request(health, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}
