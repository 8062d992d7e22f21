//! The PROXY protocol, as a proxy in front speaks it.
use crate::client::{Client, Raw, Request, exchange, status_of};
use crate::secure::{Authority, Drawer};
use crate::site::{Setup, Site, Stopwatch};
use crate::upstream::Upstream;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const ASK: &str =
    "GET /v2/models/m HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 9.9.9.9\r\nconnection: close\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const LINE: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n";

async fn site(replica: &Upstream, trusted: &str, more: &str) -> Site {
    let models =
        format!("models: {{m: {{health: false, versions: {{v1: [\"{}\"]}}}}}}\n", replica.url());
    let setup = Setup::new(models)
        .listener("proxy_protocol: true")
        .listener(&format!("trusted_proxies: [{trusted}]"))
        .listener(more);
    Site::with(setup).await
}

fn version_two(command: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, 0x11, 0, u8::try_from(body.len()).unwrap()]);
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn the_address_in_the_header_is_the_clients() {
    let replica = Upstream::answering(OK).await;
    let site = site(&replica, "127.0.0.0/8", "").await;
    let two = version_two(1, &[198, 51, 100, 3, 10, 0, 0, 1, 0, 1, 0, 2]);
    let local = version_two(0, &[]);
    for (header, client, forwarded) in [
        // Whom the header names is not one of the trusted: what it says itself is not believed.
        (LINE.as_bytes(), "192.0.2.7", "192.0.2.7"),
        (&two, "198.51.100.3", "198.51.100.3"),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "2001:db8::1", "2001:db8::1"),
        // Of the connection itself, whose peer is trusted.
        (&local, "9.9.9.9", "9.9.9.9, 127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "9.9.9.9", "9.9.9.9, 127.0.0.1"),
    ] {
        let answer = exchange(site.address, [header, ASK.as_bytes()].concat()).await;
        assert_eq!(status_of(&answer), 200, "{client}: {answer}");
        let seen = replica.seen().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-for"), forwarded);
        site.logged("the log has the client", |line| line["client"] == client).await;
    }
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_before_http2() {
    let replica = Upstream::answering(OK).await;
    let site = site(&replica, "127.0.0.1", "").await;
    let mut raw = Raw::connect(site.address).await;
    for piece in [&LINE[..3], &LINE[3..20], &LINE[20..], ASK] {
        raw.write(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(status_of(&raw.read_to_end().await.0), 200);
    let mut tcp = TcpStream::connect(site.address).await.unwrap();
    tcp.write_all(LINE.as_bytes()).await.unwrap();
    let mut client = Client::over(tcp, true).await.unwrap();
    let request = Request::get("/v2/models/m").wire(crate::client::Wire::H2c);
    assert_eq!(client.send(request).await.unwrap().status, 200);
    assert_eq!(replica.seen().pop().unwrap().header("x-forwarded-for"), "192.0.2.7");
}

#[tokio::test]
async fn it_comes_before_tls() {
    let (authority, drawer, replica) =
        (Authority::new("ca"), Drawer::new(), Upstream::answering(OK).await);
    authority.issue(&["evener.test"]).write(drawer.path(), "a");
    let site = site(&replica, "127.0.0.1", &format!("tls: {}", drawer.named("a"))).await;
    let mut tcp = TcpStream::connect(site.address).await.unwrap();
    tcp.write_all(LINE.as_bytes()).await.unwrap();
    let client = authority.client().offers(&["h2"]);
    let tls = client.connect_over(tcp, "evener.test").await.unwrap();
    let mut client = Client::over(tls, true).await.unwrap();
    let reply = client.send(Request::get("/v2/models/m").secure(true)).await.unwrap();
    assert_eq!(reply.status, 200);
    let seen = replica.seen().pop().unwrap();
    assert_eq!(seen.header("x-forwarded-for"), "192.0.2.7");
    assert_eq!(seen.header("x-forwarded-proto"), "https");
}

#[tokio::test]
async fn a_trusted_peer_must_send_one() {
    let replica = Upstream::answering(OK).await;
    let site = site(&replica, "127.0.0.1", "client: {header_timeout: 500ms}").await;
    for bad in [ASK, "PROXY TCP4 nonsense\r\n", &"PROXY TCP4 ".repeat(20)] {
        assert_eq!(exchange(site.address, bad).await, "", "{bad}");
    }
    let watch = Stopwatch::start();
    let mut raw = Raw::connect(site.address).await;
    raw.write("PROXY TCP4 1.2").await;
    assert_eq!(raw.read_to_end().await.0, "");
    assert!(watch.elapsed() < Duration::from_secs(5));
    let turned_away = site.metric("evener_refusals_total", r#"code="bad_proxy_header""#).await;
    assert!((turned_away - 4.0).abs() < 0.1, "{turned_away}");
    assert!(replica.seen().is_empty());
}

#[tokio::test]
async fn one_from_a_stranger_is_not_believed() {
    let replica = Upstream::answering(OK).await;
    let site = site(&replica, "10.0.0.0/8", "").await;
    let answer = exchange(site.address, [LINE, ASK].concat()).await;
    assert_eq!(status_of(&answer), 400, "{answer}");
    let answer = exchange(site.address, ASK).await;
    assert_eq!(status_of(&answer), 200, "without one it is a client like others");
    assert_eq!(replica.seen().pop().unwrap().header("x-forwarded-for"), "127.0.0.1");
}
