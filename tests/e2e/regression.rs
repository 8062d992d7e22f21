//! Defects that a review of the data path found: each of these once failed.
use crate::client::{Client, Raw, Request, Wire, exchange, status_of};
use crate::h2c::H2c;
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Mock, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const SSE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn models(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false{more}}}}}\n")
}

async fn replica(site: &Site) -> Value {
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    status["models"][0]["versions"][0]["replicas"][0].clone()
}

#[tokio::test]
async fn an_upgrade_is_an_ordinary_request_to_a_replica_of_http_2() {
    let h2c = H2c::ok().await;
    let site = Site::start(models(&h2c.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    for _ in 0..2 {
        raw.write(UPGRADE).await;
        let answer = raw.read_until("ok").await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        // Its chunks end: the next answer begins where this one ended.
        if !answer.ends_with("0\r\n\r\n") {
            raw.read_until("0\r\n\r\n").await;
        }
    }
    let seen = h2c.seen();
    assert_eq!((seen.len(), h2c.accepted()), (2, 1));
    for head in seen {
        assert_eq!((head.method.as_str(), head.uri.path()), ("GET", "/ws"));
        assert!(!head.headers.contains_key("upgrade"), "{head:?}");
        assert!(!head.headers.contains_key("connection"), "{head:?}");
    }
}

#[tokio::test]
async fn a_te_that_http_2_does_not_know_stays_behind() {
    let h2c = H2c::ok().await;
    let site = Site::start(models(&h2c.url(), "")).await;
    for (te, wanted) in [
        ("gzip", None),
        ("trailers", Some("trailers")),
        ("trailers, gzip", Some("trailers")),
        ("gzip, trailers;q=0.5", Some("trailers")),
    ] {
        let request = Request::post("/pkg.Service/Do", "grpc")
            .header("content-type", "application/grpc")
            .header("te", te);
        let reply = site.send(request).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"), "{te}");
        let seen = h2c.seen().pop().unwrap();
        assert_eq!(seen.headers.get("te").map(|te| te.to_str().unwrap()), wanted, "{te}");
    }
}

#[tokio::test]
async fn a_replica_that_refuses_a_long_json_by_its_head_is_heard_and_not_asked_again() {
    let refuses = Upstream::start(|mut talk| async move {
        talk.head().await;
        talk.write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\ntoo large").await;
    })
    .await;
    let site = Site::start(models(&refuses.url(), "")).await;
    let body = format!(r#"{{"model":"m","pad":"{}"}}"#, "x".repeat(5_000_000));
    for i in 1..=10 {
        let wire = [Wire::Sized, Wire::Chunked, Wire::H2c][i % 3];
        let reply = site.send(Request::post("/p", body.clone()).wire(wire)).await;
        assert_eq!((reply.status, reply.text().as_str()), (413, "too large"), "{i} {wire:?}");
        assert_eq!(refuses.accepted(), i, "asked once each");
    }
    assert_eq!(replica(&site).await["failures_total"], 0);
}

#[tokio::test]
async fn a_replica_of_http_2_that_refuses_a_long_body_by_its_head_is_heard() {
    let refuses = H2c::start(|body, mut respond| async move {
        let head = http::Response::builder().status(413).body(()).unwrap();
        if let Ok(mut out) = respond.send_response(head, false) {
            out.send_data(bytes::Bytes::from_static(b"too large"), true).ok();
        }
        // Its unread stream is reset without an error (RFC 9113 §8.1).
        drop(body);
    })
    .await;
    let site = Site::start(models(&refuses.url(), "")).await;
    let json = format!(r#"{{"model":"m","pad":"{}"}}"#, "x".repeat(5_000_000));
    for i in 1..=10 {
        let wire = [Wire::Sized, Wire::Chunked, Wire::H2c][i % 3];
        let reply = site.send(Request::post("/p", json.clone()).wire(wire)).await;
        assert_eq!((reply.status, reply.text().as_str()), (413, "too large"), "{i} {wire:?}");
        assert_eq!(refuses.seen().len(), i, "asked once each");
    }
}

/// A replica that turns every request into a tunnel, in which it echoes.
async fn tunnels(head: &'static str) -> Upstream {
    Upstream::start(move |mut talk| async move {
        talk.request().await;
        talk.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n{head}\r\nfirst\n\n"
        ))
        .await;
        talk.echo().await;
    })
    .await
}

#[tokio::test]
async fn an_idle_tunnel_ends_without_a_byte_of_ours() {
    for head in ["", "content-type: text/event-stream\r\n"] {
        let upstream = tunnels(head).await;
        let site = Site::start(models(&upstream.url(), ", timeouts: {tunnel: 300ms}")).await;
        let mut raw = Raw::connect(site.address).await;
        raw.write(UPGRADE).await;
        let begun = raw.read_until("first\n\n").await;
        assert_eq!(status_of(&begun), 101, "{begun}");
        raw.write("last\n\n").await;
        let (rest, _) = raw.read_to_end().await;
        assert_eq!(rest, "last\n\n", "{head}");
        let line = site.logged("it is logged", |_| true).await;
        assert_eq!((&line["status"], &line["outcome"]), (&json!(101), &json!("success")), "{line}");
        eventually("nothing is in flight", async || {
            (replica(&site).await["in_flight"] == 0).then_some(())
        })
        .await;
        assert_eq!(replica(&site).await["failures_total"], 0);
    }
}

#[tokio::test]
async fn a_tunnel_in_use_outlives_the_time_of_an_exchange() {
    let upstream = tunnels("").await;
    let limits = ", timeouts: {total: 1s, first_byte: 900ms, between_chunks: 900ms}";
    let site = Site::start(models(&upstream.url(), limits)).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(UPGRADE).await;
    raw.read_until("first\n\n").await;
    for i in 0..20 {
        sleep(Duration::from_millis(100)).await;
        let line = format!("line {i}\n");
        raw.write(&line).await;
        assert_eq!(raw.read_until("\n").await, line);
    }
}

#[tokio::test]
async fn a_drain_hears_every_order_and_a_second_sigterm_ends_it() {
    let hangs = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(format!("{SSE}9\r\ndata: 0\n\n\r\n")).await;
        talk.wait_for_close().await;
    })
    .await;
    let log = "telemetry: {access_log: {file: ../access.jsonl}}\n";
    let mut site = Site::start(models(&hangs.url(), "") + log).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    raw.read_until("data: 0").await;
    site.signal(Signal::TERM);
    until("it drains", || site.count_said("Evener is ending") > 0).await;
    let log = site.path().join("access.jsonl");
    std::fs::rename(&log, site.path().join("access.1")).unwrap();
    site.signal(Signal::USR1);
    until("the log is there again", || log.exists()).await;
    site.signal(Signal::HUP);
    let reload = site.ask(Request::post("/api/v1/reload", "{}"));
    let reload = timeout(Duration::from_secs(2), reload).await.expect("it is answered");
    assert!(reload.status >= 400, "{}", reload.text());
    assert!(reload.text().contains("Evener is ending"), "{}", reload.text());
    assert!(site.runs());
    site.signal(Signal::TERM);
    let ended = timeout(Duration::from_secs(2), site.ended()).await;
    assert!(!ended.expect("the second ends it").success());
}

#[tokio::test]
async fn a_slow_client_is_not_blamed_on_its_replica() {
    let http1 = Upstream::answering(OK).await;
    let h2c = H2c::ok().await;
    for url in [http1.url(), h2c.url()] {
        let limits = ", timeouts: {total: 1s, first_byte: 900ms, between_chunks: 900ms}";
        let setup = Setup::new(models(&url, limits)).listener("client: {body_timeout: 10s}");
        let site = Site::with(setup).await;
        for pause in [200, 3000] {
            let (mut read, mut write) = Raw::connect(site.address).await.0.into_split();
            let sending = tokio::spawn(async move {
                let head = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n\
                            Transfer-Encoding: chunked\r\n\r\n";
                write.write_all(head.as_bytes()).await.ok();
                while write.write_all(b"5\r\nbytes\r\n").await.is_ok() {
                    sleep(Duration::from_millis(pause)).await;
                }
            });
            let mut answer = Vec::new();
            let reading = timeout(Duration::from_secs(8), read.read_to_end(&mut answer)).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(reading.is_ok(), "{url} {pause}: {answer}");
            assert!([408, 504].contains(&status_of(&answer)), "{url} {pause}: {answer}");
            sending.abort();
        }
        let replica = replica(&site).await;
        assert_eq!((&replica["failures_total"], &replica["in_flight"]), (&json!(0), &json!(0)));
    }
}

#[tokio::test]
async fn a_route_may_send_its_own_authority_to_a_replica_of_http_2() {
    let h2c = H2c::ok().await;
    let routes = "routes: [{match: {path: /p}, model: m, rewrite: {host: upstream}}, {match: {path: /q}, model: m}]\n";
    let site = Site::start(models(&h2c.url(), "") + routes).await;
    for wire in [Wire::H2c, Wire::Sized] {
        for (path, wanted) in [("/p", h2c.authority()), ("/q", "evener.test".to_owned())] {
            let reply = site.send(Request::get(path).wire(wire)).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "ok"), "{wire:?} {path}");
            let seen = h2c.seen().pop().unwrap();
            let authority = seen.uri.authority().map(ToString::to_string);
            assert_eq!(authority.as_deref(), Some(&*wanted), "{wire:?} {path}");
            assert!(
                seen.headers.get("host").is_none_or(|host| host == wanted.as_str()),
                "{seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_drain_by_any_name_survives_reloads_until_it_is_undone() {
    let mocks = [Mock::version("a").await, Mock::version("b").await];
    let [a, b] = [mocks[0].url(), mocks[1].url()];
    let setup = |more: &str| {
        let models = format!(
            "models: {{m: {{aliases: [other], slow_start: 0s, versions: {{v: [\"{a}\", \"{b}\"]}}{more}}}}}\n"
        );
        Setup::new(models)
    };
    let slashed = format!("{a}/");
    for (model, url) in [("other", &a), ("m", &slashed), ("other", &slashed)] {
        let site = Site::with(setup("")).await;
        let order = async |verb: &str| {
            let body = json!({"model": model, "version": "v", "replica": url}).to_string();
            let reply = site.ask(Request::post(&format!("/api/v1/replicas/{verb}"), body)).await;
            assert_eq!(reply.status, 200, "{model} {url}: {}", reply.text());
        };
        let state = async || replica(&site).await["state"].clone();
        let served = async || {
            let mut by_a = 0;
            for _ in 0..20 {
                by_a += u32::from(site.send(Request::get("/headers")).await.version() == "a");
            }
            by_a
        };
        order("drain").await;
        site.reload(&setup(", fail_open: false")).await;
        assert_eq!((state().await, served().await), (json!("draining"), 0), "{model} {url}");
        order("undrain").await;
        site.reload(&setup("")).await;
        eventually("it serves again", async || (served().await > 0).then_some(())).await;
        assert_ne!(state().await, "draining", "{model} {url}");
    }
}

#[tokio::test]
async fn early_hints_are_stripped_and_an_old_client_is_spared_them() {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx-evener-foo: 1\r\nx-hop: 1\r\n\
         connection: x-hop\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let answer =
        exchange(site.address, "GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (hints, rest) = answer.split_once("\r\n\r\n").unwrap();
    let hints = hints.to_lowercase();
    assert!(hints.starts_with("http/1.1 103 ") && hints.contains("link: </a>"), "{answer}");
    for name in ["x-evener-foo", "x-hop", "connection"] {
        assert!(!hints.contains(name), "{name}: {answer}");
    }
    assert!(rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("\r\n\r\nok"), "{answer}");
    let answer = exchange(site.address, "GET /p HTTP/1.0\r\nHost: x\r\n\r\n").await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    assert!(!answer.contains("103") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(site.send(Request::get("/p").wire(Wire::H2c)).await.text(), "ok");
}

#[tokio::test]
async fn pages_of_the_data_port_have_a_head_too() {
    let upstream = Upstream::answering(OK).await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    for path in ["/healthz", "/v1/models"] {
        raw.write(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = raw.read_until("\r\n\r\n").await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "a body: {answer}");
        let head = Request::new(http::Method::HEAD, path, bytes::Bytes::new()).wire(Wire::H2c);
        let reply = site.send(head).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{path}");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn an_event_stream_that_ends_after_its_head_is_not_asked_again() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.answer("ok").await;
        talk.request().await;
        talk.write(SSE).await;
    })
    .await;
    let site = Site::start(models(&upstream.url(), ", retries: false")).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    assert_eq!(client.send(Request::post("/p", "{}")).await.unwrap().text(), "ok");
    let stream = r#"{"model":"m","stream":true,"messages":[]}"#;
    let reply = client.send(Request::post("/v1/chat/completions", stream)).await.unwrap();
    assert_eq!((reply.status, reply.header("x-evener-error")), (502, "upstream_failed"));
    assert_eq!((upstream.seen().len(), upstream.accepted()), (2, 1));
}
