//! What HTTP/2 lets a client send without end or sense: it ends with its connection, is counted, and harms nobody else.
use crate::client::{Request, Wire};
use crate::site::{Site, eventually};
use crate::upstream::Upstream;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// A request without a body.
const WHOLE: u8 = END_HEADERS | END_STREAM;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal header field that no table keeps (RFC 7541 §6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127, "longer ones are written otherwise");
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

fn get(path: &str) -> Vec<u8> {
    head(&[(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)])
}

async fn site() -> (Site, Upstream) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let url = upstream.url();
    (
        Site::start(format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n"))
            .await,
        upstream,
    )
}

async fn connect(site: &Site) -> TcpStream {
    let mut tcp = TcpStream::connect(site.address).await.unwrap();
    tcp.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.unwrap();
    tcp
}

/// Sends frames as long as the other side takes them, or so many. Does the connection end?
async fn pour(site: &Site, count: u32, mut nth: impl FnMut(u32) -> Vec<u8>) -> bool {
    let (mut read, mut write) = connect(site).await.into_split();
    let reads = tokio::spawn(async move {
        let mut scratch = vec![0; 1 << 16];
        while read.read(&mut scratch).await.is_ok_and(|n| n > 0) {}
    });
    for i in 0..count {
        if write.write_all(&nth(i)).await.is_err() {
            break;
        }
    }
    timeout(Duration::from_secs(10), reads).await.is_ok()
}

/// Reads until this stream is answered or reset, or the connection ends.
async fn answered(tcp: &mut TcpStream, stream: u32) {
    let answer = async {
        loop {
            let mut head = [0; 9];
            tcp.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            tcp.read_exact(&mut vec![0; length as usize]).await?;
            let of = u32::from_be_bytes(head[5..].try_into().unwrap());
            if of == stream && [HEADERS, RST_STREAM].contains(&head[3]) {
                return std::io::Result::Ok(());
            }
        }
    };
    timeout(Duration::from_secs(10), answer).await.expect("neither an answer nor an end").ok();
}

/// The connection ends, is counted, and the next client is served.
async fn is_dammed(what: &str, count: u32, nth: impl FnMut(u32) -> Vec<u8>) {
    let (site, _upstream) = site().await;
    assert!(pour(&site, count, nth).await, "{what}: the connection stays open");
    eventually(what, async || (site.refused("bad_request").await > 0).then_some(())).await;
    site.in_flight(0).await;
    assert_eq!(site.send(Request::get("/p").wire(Wire::H2c)).await.status, 200, "{what}");
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    is_dammed("rapid reset", 100_000, |i| {
        let stream = 2 * i + 1;
        let open = frame(HEADERS, WHOLE, stream, &get("/p"));
        [open, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
}

#[tokio::test]
async fn continuations_without_end_end_the_connection() {
    for more in [field("x-more", "1"), Vec::new()] {
        is_dammed("CONTINUATION flood", 100_000, |i| match i {
            0 => frame(HEADERS, END_STREAM, 1, &get("/p")),
            _ => frame(CONTINUATION, 0, 1, &more),
        })
        .await;
    }
}

#[tokio::test]
async fn settings_without_end_end_the_connection() {
    is_dammed("SETTINGS flood", 100_000, |_| frame(SETTINGS, 0, 0, b"")).await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    for (what, bytes) in [
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("a frame beyond the largest size", frame(DATA, 0, 1, &vec![0; 40_000])),
        ("a head that is no HPACK", frame(HEADERS, WHOLE, 1, &[0xff; 40])),
        ("an even stream", frame(HEADERS, WHOLE, 2, &get("/p"))),
        ("SETTINGS of a wrong length", frame(SETTINGS, 0, 0, b"x")),
    ] {
        is_dammed(what, 1, |_| bytes.clone()).await;
    }
}

#[tokio::test]
async fn malformed_streams_reach_no_replica_and_too_many_end_the_connection() {
    let (site, upstream) = site().await;
    let with = |fields: &[(&str, &str)]| [get("/odd"), head(fields)].concat();
    let (method, scheme) = ((":method", "GET"), (":scheme", "http"));
    let (authority, path) = ((":authority", "x"), (":path", "/odd"));
    let odd = [
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("X-Upper", "1")]),
        with(&[("x-a", "1\r\nx-b: 2")]),
        with(&[("x-a", "1\0")]),
        with(&[(":path", "/q")]),
        with(&[(":late", "1")]),
        with(&[("host", "other")]),
        with(&[("content-length", "+2")]),
        with(&[("content-length", "2, 3")]),
        with(&[("content-length", "2")]),
        head(&[method, scheme, path]),
        head(&[method, scheme, (":authority", "u@x"), path]),
        head(&[method, scheme, (":authority", "x y"), path]),
        head(&[method, scheme, authority, (":path", "odd")]),
        head(&[method, scheme, authority, (":path", "/odd q")]),
        head(&[method, scheme, authority, (":path", "/odd\r\nx-a: 1")]),
        head(&[method, scheme, authority, (":path", "")]),
        head(&[method, (":scheme", "ftp"), authority, path]),
        head(&[(":method", "CONNECT"), (":authority", "x:443")]),
        head(&[(":method", "TRACE"), scheme, authority, path]),
        head(&[(":method", "G T"), scheme, authority, path]),
    ];
    let mut passed = Vec::new();
    for head in &odd {
        // Each on a connection of its own: some are errors of the connection.
        let mut tcp = connect(&site).await;
        let after = frame(HEADERS, WHOLE, 3, &get("/after"));
        tcp.write_all(&[frame(HEADERS, WHOLE, 1, head), after].concat()).await.unwrap();
        answered(&mut tcp, 3).await;
        if upstream.seen().iter().any(|seen| seen.line().contains("odd")) {
            passed.push(head.escape_ascii().to_string());
            break;
        }
    }
    assert!(passed.is_empty(), "{}", passed.join("\n"));
    let malformed = with(&[("connection", "close")]);
    let streams = |i: u32| frame(HEADERS, WHOLE, 2 * i + 1, &malformed);
    assert!(pour(&site, 100_000, streams).await, "malformed streams go on for ever");
    assert_eq!(site.send(Request::get("/p").wire(Wire::H2c)).await.status, 200);
}
