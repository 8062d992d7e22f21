//! Bodies that are announced and not sent, or sent a byte at a time: they hold little, end in time, and stop nobody else.
use crate::client::{Client, Raw, Request, status_of};
use crate::grpc_client::{Calls, STREAM, echo, naming, next, said};
use crate::keys::{WithKey as _, entry};
use crate::site::{Setup, Site, Stopwatch, eventually};
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use evener::dialect::grpc::frame;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

const ASK: &str = "/v1/completions";
const BUFFERED: &str = "evener_buffered_bytes";

fn models(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false{more}}}}}\n")
}

fn json(bytes: usize) -> String {
    format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(bytes))
}

/// A request for a model whose body is announced as so long; the first of it is sent.
async fn begin(raw: &mut Raw, header: &str, length: usize, first: &str) {
    let kind = if first.starts_with('{') { "application/json" } else { "application/octet-stream" };
    raw.write(format!(
        "POST {ASK} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n{header}content-length: {length}\r\n\r\n{first}"
    ))
    .await;
}

/// Waits until no body holds anything.
async fn given_back(site: &Site) {
    eventually("all is given back", async || {
        (site.metric(BUFFERED, "").await == 0.0).then_some(())
    })
    .await;
}

/// Sends a byte now and then until the connection ends. Returns what was answered, and after how long.
async fn drip(mut raw: Raw) -> (String, Duration) {
    let began = Stopwatch::start();
    let (mut reads, mut writes) = raw.0.split();
    let mut answer = String::new();
    let reading = reads.read_to_string(&mut answer);
    let dripping = async {
        loop {
            tokio::io::AsyncWriteExt::write_all(&mut writes, b"x").await.ok();
            sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = timeout(Duration::from_secs(25), async {
        tokio::select! { read = reading => drop(read), () = dripping => {} }
    });
    assert!(ended.await.is_ok(), "a client that drips is never cut");
    (answer, began.elapsed())
}

async fn from_address(site: &Site, last: u8, request: Request) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
    let tcp = socket.connect(site.address).await.unwrap();
    Client::over(tcp, false).await.unwrap().send(request).await.unwrap().status
}

#[tokio::test]
async fn bodies_that_are_announced_take_no_space_before_they_come() {
    let mock = Mock::version("v").await;
    let site = Site::start(models(&mock.url(), "")).await;
    let tcp = TcpStream::connect(site.address).await.unwrap();
    let (streams, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let head = || {
        let post = http::Request::post(format!("http://evener.test{ASK}"));
        let post = post.header("content-type", "application/json");
        post.header("content-length", 8 << 20).body(()).unwrap()
    };
    // All of them together announce as much as `buffers` holds.
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut streams = streams.clone().ready().await.unwrap();
        let (answer, mut out) = streams.send_request(head(), false).unwrap();
        out.send_data(Bytes::from_static(b"{\"prompt\":\""), false).unwrap();
        open.push((answer, out));
    }
    eventually("what they sent is here", async || {
        (site.metric(BUFFERED, "").await >= 64.0 * 11.0).then_some(())
    })
    .await;
    assert!(site.metric(BUFFERED, "").await < 100_000.0);
    assert_eq!(site.send(Request::post(ASK, json(1_000_000))).await.status, 200);
    let mut streams = streams.ready().await.unwrap();
    let body = json(100);
    let (answer, mut out) = {
        let post = http::Request::post(format!("http://evener.test{ASK}"));
        streams
            .send_request(post.header("content-type", "application/json").body(()).unwrap(), false)
    }
    .unwrap();
    out.send_data(Bytes::from(body), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200, "on the same connection");
    drop(open);
    given_back(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_kept_ends_within_the_time_for_its_request() {
    let mock = Mock::version("v").await;
    let site = Site::start(models(&mock.url(), ", timeouts: {total: 2s}")).await;
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..32 {
        let mut raw = Raw::connect(site.address).await;
        let deadline = if n % 2 == 0 { "" } else { "x-request-timeout-ms: 700\r\n" };
        begin(&mut raw, deadline, 5000, r#"{"model":"m","prompt":""#).await;
        clients.spawn(async move { (n, drip(raw).await) });
    }
    assert_eq!(site.send(Request::post(ASK, json(1_000_000))).await.status, 200);
    while let Some(cut) = clients.join_next().await {
        let (n, (answer, took)) = cut.unwrap();
        let (within, status, code, why) = if n % 2 == 0 {
            (2000, 408, "request_timeout", "the time for the whole request")
        } else {
            (700, 504, "total_timeout", "the deadline that came with the request")
        };
        assert_eq!(status_of(&answer), status, "{answer}");
        assert!(answer.contains(&format!("x-evener-error: {code}")), "{answer}");
        assert!(answer.contains(why), "{answer}");
        // What is slower than that is the machine.
        let least = Duration::from_millis(within - 100);
        assert!(took > least && took < Duration::from_secs(8), "{took:?}");
    }
    given_back(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_below_the_least_rate_is_cut_whether_it_is_kept_or_passed_on() {
    let upstream = Upstream::start(|mut talk| async move { drop(talk.request().await) }).await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut clients = tokio::task::JoinSet::new();
    for first in [r#"{"model":"m","prompt":""#, "octets "] {
        let mut raw = Raw::connect(site.address).await;
        begin(&mut raw, "", 50_000, first).await;
        clients.spawn(drip(raw));
    }
    while let Some(cut) = clients.join_next().await {
        let (answer, took) = cut.unwrap();
        assert_eq!(status_of(&answer), 408, "{answer}");
        assert!(answer.contains("less than 1024 bytes a second"), "{answer}");
        assert!(took > Duration::from_secs(9), "{took:?}");
    }
    site.in_flight(0).await;
    given_back(&site).await;
}

/// So many clients that send a part of a body and then no more.
async fn stuck(site: &Site, count: usize, header: &str, bytes: usize) -> Vec<Raw> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut raw = Raw::connect(site.address).await;
        begin(&mut raw, header, 5_000_000, &json(bytes)[..bytes]).await;
        all.push(raw);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_fills_the_buffers_gives_way_to_another() {
    let mock = Mock::version("v").await;
    let site = Site::start(models(&mock.url(), "") + "buffers: 8MiB\n").await;
    let attack = stuck(&site, 500, "", 30_000).await;
    eventually("the buffers are full", async || {
        (site.metric(BUFFERED, "").await > 8_300_000.0).then_some(())
    })
    .await;
    for _ in 0..5 {
        let honest = Request::post("/echo", json(1_000_000));
        assert_eq!(from_address(&site, 2, honest).await, 200);
    }
    let mut given_up = 0;
    for mut raw in attack {
        let mut start = [0; 12];
        if let Ok(Ok(_)) = timeout(Duration::from_millis(1), raw.0.read_exact(&mut start)).await {
            assert_eq!(&start, b"HTTP/1.1 503");
            given_up += 1;
        }
    }
    // 279 of them find room at first, and some 35 of these give it back.
    assert!((240..=330).contains(&given_up), "{given_up}");
    given_back(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_fills_the_buffers_gives_way_to_another_from_the_same_address() {
    let mock = Mock::version("v").await;
    let keys = entry("greedy", "sk-greedy", "") + &entry("modest", "sk-modest", "");
    let text = models(&mock.url(), "") + "buffers: 1MiB\nkeys:\n" + &keys;
    let site = Site::with(Setup::new(text)).await;
    let _attack = stuck(&site, 40, "x-api-key: sk-greedy\r\n", 60_000).await;
    eventually("the buffers are full", async || {
        (site.metric(BUFFERED, "").await > 950_000.0).then_some(())
    })
    .await;
    let ask = |key, bytes| Request::post("/echo", json(bytes)).key(key);
    // The space of the one before may come back just after its answer: two of these are less than a quarter.
    for _ in 0..5 {
        assert_eq!(site.send(ask("sk-modest", 100_000)).await.status, 200);
    }
    let reply = site.send(ask("sk-greedy", 200_000)).await;
    assert_eq!((reply.status, reply.header("x-evener-error")), (503, "out_of_buffers"));
    assert!(reply.text().contains("of this client hold"), "{reply:?}");
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn a_message_whose_rest_does_not_come_ends_its_call_though_the_call_may_be_silent() {
    let replica = echo().await;
    let setup = Setup::new(models(&replica.url(), "")).listener("client: {body_timeout: 700ms}");
    let site = Site::with(setup).await;
    let calls = Calls::connect(site.address).await;
    let (response, mut up) = calls.open(STREAM, &[]).await;
    up.send_data(frame(&naming("m", b"0")).into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    next(&mut body).await;
    // Silence between messages is no slowness.
    sleep(Duration::from_millis(1500)).await;
    let message = frame(&naming("m", &[7; 5000]));
    up.send_data(message.clone().into(), false).unwrap();
    next(&mut body).await;
    up.send_data(message[..3000].to_vec().into(), false).unwrap();
    let ended = timeout(Duration::from_secs(10), async {
        while body.data().await.is_some() {}
        body.trailers().await.unwrap().unwrap()
    });
    let last = ended.await.expect("the call ends");
    assert_eq!(
        (said(&last, "grpc-status"), said(&last, "x-evener-error")),
        ("4", "request_timeout")
    );
    given_back(&site).await;
}
