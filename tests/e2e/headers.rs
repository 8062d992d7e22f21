//! Heads on their way to a replica: what strangers claim, cookies of HTTP/2, full host names, methods, switched protocols.
use crate::client::{Client, Raw, Request, Wire, exchange, status_of};
use crate::site::{Setup, Site};
use crate::upstream::Upstream;
use bytes::Bytes;
use http::Method;
use tokio::net::TcpStream;

fn models(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false{more}}}}}\n")
}

async fn ok() -> Upstream {
    Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
}

const CLAIMS: &str = "Forwarded: for=6.6.6.6;proto=https\r\nX-Real-IP: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n\
                      X-Forwarded-Port: 6666\r\nX-Forwarded-Prefix: /6.6.6.6\r\nX-Original-URL: /6.6.6.6\r\n\
                      True-Client-IP: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6\r\nX-Forwarded-Server: 6.6.6.6\r\n";

#[tokio::test]
async fn claims_of_strangers_end_here_and_those_of_trusted_proxies_pass() {
    let request = format!(
        "GET /p HTTP/1.1\r\nHost: x\r\n{CLAIMS}X-Forwarded-For: 6.6.6.6\r\nX-Mine: kept\r\nConnection: close\r\n\r\n"
    );
    let upstream = ok().await;
    let site = Site::start(models(&upstream.url(), "")).await;
    assert_eq!(status_of(&exchange(site.address, &request).await), 200);
    let seen = upstream.only();
    assert!(!seen.head.contains("6.6.6.6") && !seen.head.contains("6666"), "{}", seen.head);
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-mine"), "kept");

    let upstream = ok().await;
    let trusting =
        Setup::new(models(&upstream.url(), "")).listener("trusted_proxies: [127.0.0.0/8]");
    let site = Site::with(trusting).await;
    assert_eq!(status_of(&exchange(site.address, &request).await), 200);
    let seen = upstream.only();
    for line in CLAIMS.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(seen.header(name), value, "{}", seen.head);
    }
    assert_eq!(seen.header("x-forwarded-for"), "6.6.6.6, 127.0.0.1");
}

#[tokio::test]
async fn cookies_that_http2_split_reach_http1_as_one() {
    let upstream = ok().await;
    for more in ["", ", hedge: {after: 10s}"] {
        let site = Site::start(models(&upstream.url(), more)).await;
        let tcp = TcpStream::connect(site.address).await.unwrap();
        let (mut streams, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://x/p").header("cookie", "a=1");
        let request = request.header("cookie", "b=2").header("cookie", "c=3; d=4");
        let (answer, _) = streams.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.header("cookie"), "a=1; b=2; c=3; d=4");
        assert_eq!(seen.head.to_lowercase().matches("cookie:").count(), 1, "{}", seen.head);
    }
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn settings_of_http2_end_here_though_connection_does_not_name_them() {
    let upstream = ok().await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let answer = exchange(
        site.address,
        "GET /p HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status_of(&answer), 200);
    let seen = upstream.only();
    assert!(!seen.has("http2-settings") && !seen.has("upgrade"), "{}", seen.head);
}

#[tokio::test]
async fn a_switch_to_a_protocol_that_nobody_asked_for_is_no_tunnel() {
    for said in ["upgrade: h2c\r\n", "upgrade: websocket, h2c\r\n", ""] {
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{said}\r\nTUNNEL");
        let upstream = Upstream::answering(answer.leak()).await;
        let site = Site::start(models(&upstream.url(), ", retries: false")).await;
        let mut raw = Raw::connect(site.address).await;
        raw.write(
            "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
        let answer = raw.read_until("did not ask for").await;
        assert_eq!(status_of(&answer), 502, "{said}: {answer}");
        assert!(!answer.contains("TUNNEL"), "{answer}");
    }
}

#[tokio::test]
async fn a_host_with_its_last_dot_is_the_same_host() {
    let (api, wild) = (ok().await, ok().await);
    let rest = format!(
        "models:\n  a: {{versions: {{v: [\"{}\"]}}, health: false}}\n  b: {{versions: {{v: [\"{}\"]}}, health: false}}\n\
         routes:\n  - {{match: {{host: api.example.com.}}, model: a}}\n  - {{match: {{host: \"*.wild.test\"}}, model: b}}\n",
        api.url(),
        wild.url()
    );
    let site = Site::start(rest).await;
    for (host, status) in [
        ("api.example.com", 200),
        ("API.example.com.", 200),
        ("api.example.com.:443", 200),
        ("x.wild.test.", 200),
        ("api.example.com..", 404),
        ("wild.test.", 404),
    ] {
        let request = format!("GET /p HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(status_of(&exchange(site.address, request).await), status, "{host}");
    }
    assert_eq!((api.seen().len(), wild.seen().len()), (3, 1));
    // The replica gets the host as it was sent.
    assert_eq!(api.seen()[1].header("host"), "API.example.com.");
}

#[tokio::test]
async fn methods_that_no_model_server_has_are_refused() {
    let upstream = ok().await;
    let rest = models(&upstream.url(), "")
        + "routes:\n  - {match: {method: PROPFIND}, model: m}\n  - {model: m}\n";
    let site = Site::start(rest).await;
    for method in ["X|id", "MKCOL", "get", "FOO"] {
        let request = format!("{method} /p HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = exchange(site.address, request).await.to_lowercase();
        assert_eq!(status_of(&answer), 405, "{method}: {answer}");
        assert!(answer.contains("allow: get, head, post, put, patch, delete, options"), "{answer}");
        assert!(answer.contains("x-evener-error: method_not_allowed"), "{answer}");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut client = Client::connect(site.address, true).await.unwrap();
        let request = Request::new(method, "/p", Bytes::new()).wire(Wire::H2c);
        let reply = client.send(request).await.unwrap();
        assert_eq!(reply.status, 405, "over HTTP/2");
        assert!(reply.header("allow").starts_with("GET, HEAD, POST"), "{:?}", reply.headers);
        // The other streams of the connection go on.
        assert_eq!(client.send(Request::get("/p").wire(Wire::H2c)).await.unwrap().status, 200);
    }
    let before = upstream.seen().len();
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "QUERY", "PROPFIND"] {
        let request = format!("{method} /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(status_of(&exchange(site.address, request).await), 200, "{method}");
    }
    assert_eq!(upstream.seen().len(), before + 7);
}

#[tokio::test]
async fn hosts_of_http2_are_as_strict_as_those_of_http1() {
    let upstream = ok().await;
    let site = Site::start(models(&upstream.url(), "")).await;
    for host in ["a,b", "u@x", "a;b,c:80"] {
        let tcp = TcpStream::connect(site.address).await.unwrap();
        let (mut streams, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://{host}/p"));
        let (answer, _) = streams.send_request(request.body(()).unwrap(), true).unwrap();
        let refused = answer.await.map_or(true, |answer| answer.status() == 400);
        assert!(refused, "{host}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}
