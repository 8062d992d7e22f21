//! Hostile clients and odd replicas that speak well-formed HTTP: nothing leaks, nothing is lost, nothing falls over.
use crate::client::{Client, Raw, Request, Wire, exchange, send, status_of};
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use http::Method;
use std::time::Duration;

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n")
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_body_on_an_upgrade_is_never_read_as_the_next_request() {
    let upstream =
        Upstream::answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let site = Site::start(models(&upstream.url())).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
    ] {
        let mut raw = Raw::connect(site.address).await;
        let upgrade =
            "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        raw.write(format!(
            "{upgrade}{framing}GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await;
        raw.read_to_end().await;
    }
    let lines: Vec<_> = upstream.seen().iter().map(|seen| seen.line().to_owned()).collect();
    assert!(!lines.iter().any(|line| line.contains("hidden")), "{lines:?}");
}

#[tokio::test]
async fn bytes_after_a_refused_upgrade_are_not_sent_to_the_replica_unread() {
    let upstream = Upstream::answering(OK).await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    let upgrade =
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    raw.write(format!("{upgrade}GET /next HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    raw.read_until("ok").await;
    let mut other = Raw::connect(site.address).await;
    other.write("GET /other HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = other.read_until("ok").await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    let seen = upstream.seen();
    assert!(seen.iter().all(|seen| seen.body.is_empty()), "{seen:?}");
}

#[tokio::test]
async fn chunks_with_extensions_and_trailers_arrive_as_plain_bytes() {
    let upstream = Upstream::answering(OK).await;
    let site = Site::start(models(&upstream.url())).await;
    for kind in ["application/json", "application/octet-stream"] {
        let mut raw = Raw::connect(site.address).await;
        raw.write(format!(
            "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n\
             2;a=b\r\n{{}}\r\n3\r\n   \r\n0\r\nx-trailer: 1\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n"
        ))
        .await;
        raw.read_until("ok").await;
        until("both arrive", || upstream.seen().len() % 2 == 0).await;
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 4);
    for pair in seen.chunks(2) {
        assert_eq!(pair[0].body, b"{}   ");
        assert_eq!(pair[1].line(), "GET /next HTTP/1.1");
    }
}

#[tokio::test]
async fn trailers_of_an_answer_leave_its_framing_whole() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n",
    )
    .await;
    let late = Upstream::start(|mut talk| async move {
        while talk.request().await.is_some() {
            talk.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            talk.write("0\r\nx-t: 1\r\n").await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            talk.write("\r\n").await;
        }
    })
    .await;
    for upstream in [upstream, late] {
        let site = Site::start(models(&upstream.url())).await;
        for wire in [Wire::Sized, Wire::H2c] {
            let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
            for _ in 0..4 {
                let reply = client.send(Request::get("/p").wire(wire)).await.unwrap();
                assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
            }
        }
        let answers = exchange(
            site.address,
            "GET /p HTTP/1.1\r\nHost: x\r\n\r\nGET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert_eq!(answers.matches("0\r\n\r\n").count(), 2, "{answers}");
    }
}

#[tokio::test]
async fn broken_chunks_end_the_connection_and_never_reach_a_replica_whole() {
    let upstream = Upstream::answering(OK).await;
    let site = Site::start(models(&upstream.url())).await;
    for kind in ["application/json", "application/octet-stream"] {
        for body in [
            "-1\r\n{}\r\n0\r\n\r\n",
            "0x2\r\n{}\r\n0\r\n\r\n",
            "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            "2 2\r\n{}\r\n0\r\n\r\n",
            "2\r\n{}GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let answer = exchange(
                site.address,
                format!(
                    "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
                ),
            )
            .await;
            assert!([0, 400].contains(&status_of(&answer)), "{kind} {body:?}: {answer}");
        }
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn json_nested_without_end_is_no_danger() {
    let mock = Mock::version("v").await;
    let site = Site::start(format!(
        "models:\n  m: {{versions: {{v: [\"{0}\"]}}}}\n  n: {{versions: {{v: [\"{0}\"]}}}}\n",
        mock.url()
    ))
    .await;
    let deep = "[".repeat(1_000_000);
    let closed = format!("{deep}{}", "]".repeat(1_000_000));
    for body in [
        format!(r#"{{"a":{deep}"#),
        format!(r#"{{"a":{closed},"model":"m"}}"#),
        format!(r#"{{"a":{},"model":"m"}}"#, r#"{"a":"#.repeat(500_000)),
        deep.clone(),
    ] {
        let reply = site.send(Request::post("/v1/chat/completions", body)).await;
        assert!([200, 400, 422].contains(&reply.status), "{}", reply.status);
    }
    let reply = site.send(Request::post("/v1/chat/completions", r#"{"model":"m"}"#)).await;
    assert_eq!(reply.status, 200, "it lives");
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_through_as_they_are() {
    let upstream = Upstream::answering(OK).await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(b"GET /p%20q?x=%ff&y=\xc3\xa9 HTTP/1.1\r\nHost: x\r\nx-latin: caf\xe9\r\n\r\n").await;
    raw.read_until("ok").await;
    let seen = upstream.only();
    assert!(seen.line().starts_with("GET /p%20q?x=%ff&y="), "{}", seen.line());
    assert!(seen.header("x-latin").starts_with("caf"), "{}", seen.head);
}

#[tokio::test]
async fn a_client_that_dies_in_the_middle_of_an_upload_frees_the_replica() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.head().await;
        talk.wait_for_close().await;
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let head = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n";
    for (i, framing) in
        ["Content-Length: 999\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
            .iter()
            .enumerate()
    {
        let mut raw = Raw::connect(site.address).await;
        raw.write(format!("{head}{framing}")).await;
        until("it reaches the replica", || upstream.accepted() == i + 1).await;
        drop(raw);
        upstream.until_closed(i + 1).await;
    }
    until("both are logged as left", || {
        site.log().iter().filter(|line| line["outcome"] == "cancelled").count() == 2
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_dies_in_the_middle_of_an_upload_is_502() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.head().await;
        talk.reset();
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let body = Bytes::from(vec![1; 3_000_000]);
    for wire in [Wire::Sized, Wire::Chunked, Wire::H2c] {
        let upload = Request::new(Method::POST, "/p", body.clone()).wire(wire);
        let reply = send(site.address, upload).await;
        assert_eq!(reply.map(|reply| reply.status), Ok(502), "{wire:?}");
    }
}

#[tokio::test]
async fn half_an_event_is_cut_not_continued_by_an_error_event() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        talk.write("8\r\ndata: {\"\r\n").await;
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (answer, _) = raw.read_to_end().await;
    assert!(answer.contains("data: {\"") && !answer.contains("error"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn bodies_beyond_the_buffers_together_are_503_and_the_space_comes_back() {
    let mock = Mock::version("v").await;
    let site = Site::start(models(&mock.url()) + "buffers: 1MiB\n").await;
    let body = |size: usize| format!(r#"{{"model":"m","pad":"{}"}}"#, "x".repeat(size));
    for wire in [Wire::Sized, Wire::Chunked, Wire::H2c] {
        let reply = site.send(Request::post("/echo", body(2_000_000)).wire(wire)).await;
        assert_eq!((reply.status, reply.header("x-evener-error")), (503, "out_of_buffers"));
        assert!(!reply.header("retry-after").is_empty());
        for _ in 0..4 {
            // The space of the one before may come back just after its answer was read.
            eventually("there is room again", async || {
                let reply = site.send(Request::post("/echo", body(700_000)).wire(wire)).await;
                assert!([200, 503].contains(&reply.status), "{wire:?}: {}", reply.text());
                (reply.status == 200).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_turned_away_and_room_comes_back() {
    let mock = Mock::version("v").await;
    let setup =
        Setup::new(models(&mock.url())).listener("client: {max_connections: 2, idle_timeout: 10s}");
    let site = Site::with(setup).await;
    let first = Client::connect(site.address, false).await.unwrap();
    let second = Raw::connect(site.address).await;
    eventually("the third is refused", async || {
        let refused = send(site.address, Request::get("/headers")).await;
        refused.map_or(true, |reply| reply.status == 503).then_some(())
    })
    .await;
    drop((first, second));
    eventually("there is room again", async || {
        send(site.address, Request::get("/headers")).await.ok().filter(|reply| reply.status == 200)
    })
    .await;
}

#[tokio::test]
async fn a_connection_at_rest_is_closed_after_its_time() {
    let mock = Mock::version("v").await;
    let setup = Setup::new(models(&mock.url())).listener("client: {idle_timeout: 300ms}");
    let site = Site::with(setup).await;
    let fresh = Raw::connect(site.address).await;
    let mut used = Raw::connect(site.address).await;
    used.write("GET /headers HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut http2 = Raw::connect(site.address).await;
    http2.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    for (name, mut raw) in [("fresh", fresh), ("used", used), ("HTTP/2", http2)] {
        let closed = tokio::time::timeout(Duration::from_secs(6), raw.read_to_end()).await;
        assert!(closed.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn malformed_answers_of_a_replica_are_502_not_relayed() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ] {
        let upstream = Upstream::answering(answer).await;
        let site = Site::start(models(&upstream.url())).await;
        let reply = send(site.address, Request::get("/p")).await;
        assert!(reply.as_ref().map_or(true, |reply| reply.status == 502), "{answer:?}: {reply:?}");
    }
}

#[tokio::test]
async fn what_a_replica_sends_beyond_its_answer_is_not_the_next_answer() {
    let upstream = Upstream::start(|mut talk| async move {
        while talk.request().await.is_some() {
            talk.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
                .await;
        }
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for _ in 0..6 {
        let reply = client.send(Request::get("/p")).await.unwrap();
        assert_eq!(reply.text(), "ok");
    }
}

#[tokio::test]
async fn a_deep_pipeline_is_answered_one_by_one() {
    let upstream = Upstream::answering(OK).await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    let many = "GET /p HTTP/1.1\r\nHost: x\r\n\r\n".repeat(199);
    raw.write(many + "GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (answers, _) = raw.read_to_end().await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 200);
    assert_eq!(upstream.seen().len(), 200);
}

#[tokio::test]
async fn an_http_1_0_client_may_keep_its_connection() {
    let upstream = Upstream::answering(OK).await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    for _ in 0..3 {
        raw.write("GET /p HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = raw.read_until("ok").await;
        assert!(answer.to_lowercase().contains("connection: keep-alive"), "{answer}");
    }
}

/// The timers of Evener's connections with this port at the given end of them (`/proc/net/tcp`).
fn timers(site: &Site, end: usize, port: u16) -> Vec<String> {
    const ESTABLISHED: &str = "01";
    let text = std::fs::read_to_string(site.proc().join("net/tcp")).unwrap();
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let at = format!(":{port:04X}");
    let ours = lines.filter(|words| words[3] == ESTABLISHED && words[end].ends_with(&at));
    ours.map(|words| words[5][..2].to_owned()).collect()
}

#[tokio::test]
async fn a_peer_that_vanishes_without_a_word_is_noticed_on_both_sides() {
    const LOCAL: usize = 1;
    const REMOTE: usize = 2;
    const KEEPALIVE: &str = "02";
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.wait_for_close().await;
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    site.in_flight(1).await;
    let port = site.address.port();
    until("the client is watched", || timers(&site, LOCAL, port) == [KEEPALIVE]).await;
    let port = upstream.address.port();
    until("the replica is watched", || timers(&site, REMOTE, port) == [KEEPALIVE]).await;
}
