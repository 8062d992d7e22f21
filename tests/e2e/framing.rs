//! Answers of replicas that could be read in two ways: they leave in one form, or not at all.
use crate::client::{Client, Raw, Request, Wire, send, status_of};
use crate::grpc_client::{Calls, INFER, naming};
use crate::h2c::{H2c, read};
use crate::site::Site;
use crate::upstream::Upstream;
use bytes::Bytes;
use http::{Method, Response};

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false, retries: false}}}}\n")
}

/// A replica that answers `/odd` with these bytes, and all else with `next`.
async fn odd(bytes: &'static str) -> (Site, Upstream) {
    let upstream = Upstream::start(move |mut talk| async move {
        while let Some(seen) = talk.request().await {
            if seen.line().contains("/odd") {
                talk.write(bytes).await;
            } else {
                talk.answer("next").await;
            }
        }
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    (site, upstream)
}

/// The answer to a request for `/odd`, and that to another one behind it on the same connection.
async fn two(site: &Site, method: &str, end: &str) -> (String, String) {
    let mut raw = Raw::connect(site.address).await;
    raw.write(format!("{method} /odd HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let first = raw.read_until(end).await;
    raw.write("GET /next HTTP/1.1\r\nHost: x\r\n\r\n").await;
    (first.to_lowercase(), raw.read_until("next").await)
}

/// The values of a header in an answer as bytes.
fn values<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(known, _)| *known == name).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn a_length_that_is_said_twice_leaves_once() {
    for fields in ["content-length: 5\r\ncontent-length: 5\r\n", "content-length: 5, 5\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello").leak();
        let (site, _upstream) = odd(answer).await;
        let (first, next) = two(&site, "GET", "hello").await;
        assert_eq!(values(&first, "content-length"), ["5"], "{first}");
        assert!(next.ends_with("\r\n\r\nnext"), "{next}");
        let h2c = site.send(Request::get("/odd").wire(Wire::H2c)).await;
        let lengths: Vec<_> =
            h2c.headers.get_all("content-length").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!((lengths, h2c.text()), (vec!["5"], "hello".to_owned()));
    }
}

#[tokio::test]
async fn answers_of_two_meanings_are_the_replicas_fault() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    for (name, answer) in [
        ("two lengths", format!("{OK}content-length: 2\r\ncontent-length: 5\r\n\r\nhello")),
        ("a list of two", format!("{OK}content-length: 5, 6\r\n\r\nhello")),
        ("a signed length", format!("{OK}content-length: +5\r\n\r\nhello")),
        ("gzip, chunked", format!("{OK}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("chunked, identity", format!("{OK}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("identity", format!("{OK}transfer-encoding: identity\r\n\r\nhello")),
        (
            "a length and chunks",
            format!("{OK}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("a folded line", format!("{OK}x-a: 1\r\n 2\r\ncontent-length: 5\r\n\r\nhello")),
        ("a space before a colon", format!("{OK}content-length : 5\r\n\r\nhello")),
        ("LF alone", "HTTP/1.1 200 OK\ncontent-length: 5\n\nhello".to_owned()),
        (
            "a smuggled field",
            format!("{OK}x-a: 1\nset-cookie: a=b\r\ncontent-length: 5\r\n\r\nhello"),
        ),
        ("an empty line first", format!("\r\n{OK}content-length: 5\r\n\r\nhello")),
    ] {
        let (site, _upstream) = odd(answer.leak()).await;
        let (first, next) = two(&site, "GET", "malformed answer").await;
        assert_eq!(status_of(&first), 502, "{name}: {first}");
        assert_eq!(values(&first, "x-evener-error"), ["upstream_failed"], "{name}");
        assert!(next.ends_with("\r\n\r\nnext"), "{name}: {next}");
        let line = site.logged("it is logged", |line| line["path"] == "/odd").await;
        assert_eq!(line["outcome"], "reset", "{name}: {line}");
    }
}

#[tokio::test]
async fn a_malformed_answer_is_asked_for_elsewhere() {
    let bad = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nhello").await;
    let good = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let rest = format!(
        "models: {{m: {{versions: {{v: [\"{}\", \"{}\"]}}, health: false, balance: round_robin, ejection: false}}}}\n",
        bad.url(),
        good.url()
    );
    let site = Site::start(rest).await;
    for _ in 0..4 {
        let reply = site.send(Request::post("/v1/completions", r#"{"model":"m"}"#)).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    }
    assert!(!bad.seen().is_empty());
}

#[tokio::test]
async fn answers_without_a_body_leave_without_its_framing() {
    const NONE: &[&str] = &[];
    for (method, answer, length) in [
        ("DELETE", "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", NONE),
        ("DELETE", "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nbody", NONE),
        ("DELETE", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", NONE),
        ("DELETE", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", NONE),
        (
            "DELETE",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n",
            NONE,
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", &["9"]),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nbody", &["4"]),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            NONE,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9, 9\r\n\r\n", &["9"]),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            NONE,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody", &["4"]),
    ] {
        let (site, _upstream) = odd(answer).await;
        for _ in 0..2 {
            let (first, next) = two(&site, method, "\r\n\r\n").await;
            assert_eq!(values(&first, "content-length"), length, "{method} {answer:?}: {first}");
            assert!(values(&first, "transfer-encoding").is_empty(), "{first}");
            assert!(first.ends_with("\r\n\r\n"), "a body of {answer:?} left: {first}");
            assert!(next.ends_with("\r\n\r\nnext"), "{method} {answer:?}: {next}");
        }
        let mut client = Client::connect(site.address, true).await.unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = Request::new(method, "/odd", Bytes::new()).wire(Wire::H2c);
        let reply = client.send(request).await.unwrap();
        assert_eq!(reply.body.len(), 0, "{answer:?}");
        assert_eq!(client.send(Request::get("/n").wire(Wire::H2c)).await.unwrap().text(), "next");
    }
}

#[tokio::test]
async fn a_connection_on_which_a_body_may_follow_is_not_kept() {
    let (site, upstream) =
        odd("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for times in 1..=3 {
        assert_eq!(site.send(Request::get("/odd")).await.status, 204);
        assert_eq!(upstream.accepted(), times);
    }
    let (site, upstream) = odd("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").await;
    // The next request may come before a connection is put back.
    for _ in 0..10 {
        assert_eq!(site.send(Request::get("/odd")).await.status, 204);
    }
    assert!(upstream.accepted() < 10, "connections are kept");
}

#[tokio::test]
async fn a_length_that_a_replica_of_http2_does_not_keep_is_seen() {
    for (length, body) in [("9", "short"), ("3", "too long")] {
        let replica = H2c::start(move |up, mut respond| async move {
            read(up).await;
            let head = Response::builder().header("content-length", length).body(()).unwrap();
            let Ok(mut out) = respond.send_response(head, false) else { return };
            out.send_data(Bytes::from_static(body.as_bytes()), true).ok();
        })
        .await;
        let site = Site::start(models(&replica.url())).await;
        for wire in [Wire::Sized, Wire::H2c] {
            let reply = send(site.address, Request::get("/p").wire(wire)).await;
            let refused = reply.as_ref().is_ok_and(|reply| reply.status == 502);
            assert!(reply.is_err() || refused, "{body} passes as whole: {reply:?}");
        }
        let whole = site.log().iter().filter(|line| line["outcome"] == "success").count();
        assert_eq!(whole, 0);
    }
}

#[tokio::test]
async fn a_body_where_none_may_be_is_dropped_from_http2_too() {
    let replica = H2c::start(|up, mut respond| async move {
        read(up).await;
        let head = Response::builder().status(204).body(()).unwrap();
        let Ok(mut out) = respond.send_response(head, false) else { return };
        out.send_data(Bytes::from_static(b"body"), true).ok();
    })
    .await;
    let site = Site::start(models(&replica.url())).await;
    for wire in [Wire::Sized, Wire::H2c] {
        let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
        for _ in 0..3 {
            let reply = client.send(Request::get("/p").wire(wire)).await.unwrap();
            assert_eq!((reply.status, reply.body.len()), (204, 0), "{wire:?}");
        }
    }
    site.in_flight(0).await;
}

#[tokio::test]
async fn a_call_that_is_answered_in_html_is_no_success() {
    for (status, code, outcome) in [
        (200, "grpc-2", "server_error"),
        (404, "grpc-12", "client_error"),
        (503, "grpc-14", "server_error"),
    ] {
        let replica = H2c::start(move |up, mut respond| async move {
            read(up).await;
            let head = Response::builder().status(status).header("content-type", "text/html");
            let head = head.header("grpc-status", "0").body(()).unwrap();
            let Ok(mut out) = respond.send_response(head, false) else { return };
            out.send_data(Bytes::from_static(b"<html>"), true).ok();
        })
        .await;
        let site = Site::start(models(&replica.url())).await;
        let calls = Calls::connect(site.address).await;
        let (response, mut up) = calls.open(INFER, &[]).await;
        up.send_data(evener::dialect::grpc::frame(&naming("m", b"")).into(), true).ok();
        // It passes as it is: clients know what to make of it.
        let response = response.await.unwrap();
        assert_eq!(response.status(), status);
        drop(response);
        let word = format!("code=\"{code}\",outcome=\"{outcome}\"");
        crate::site::eventually("it is counted", async || {
            (site.metric("evener_requests_total", &word).await > 0.5).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_grpc_status_in_a_plain_answer_means_nothing() {
    let replica = H2c::start(|up, mut respond| async move {
        read(up).await;
        let head = Response::builder().header("grpc-status", "14").body(()).unwrap();
        let Ok(mut out) = respond.send_response(head, false) else { return };
        out.send_data(Bytes::from_static(b"ok"), false).ok();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "13".parse().unwrap());
        out.send_trailers(trailers).ok();
    })
    .await;
    let plain =
        Upstream::answering("HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-length: 2\r\n\r\nok")
            .await;
    for url in [replica.url(), plain.url()] {
        let site = Site::start(models(&url)).await;
        for wire in [Wire::Sized, Wire::H2c] {
            let reply = site.send(Request::post("/v1/completions", r#"{"model":"m"}"#).wire(wire));
            assert_eq!(reply.await.text(), "ok");
        }
        crate::site::until("both are logged", || site.log().len() == 2).await;
        for line in site.log() {
            assert_eq!((&line["outcome"], &line["status"]), (&"success".into(), &200.into()));
        }
    }
}

#[tokio::test]
async fn a_malformed_answer_ends_a_hedged_attempt_too() {
    let bad = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nhello").await;
    let rest = models(&bad.url()).replace("retries: false", "retries: false, hedge: {after: 1s}");
    let site = Site::start(rest).await;
    let reply = site.send(Request::get("/odd")).await;
    assert_eq!((reply.status, reply.header("x-evener-error")), (502, "upstream_failed"));
}
