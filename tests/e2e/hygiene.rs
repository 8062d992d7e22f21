//! Malformed and hostile requests end at the proxy: no replica ever sees them.
use crate::client::{Raw, exchange, status_of};
use crate::site::{Setup, Site};
use crate::upstream::Upstream;

/// A strict client's limits, and a replica that notes whatever reaches it.
async fn strict() -> (Site, Upstream) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let rest =
        format!("models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n", upstream.url());
    let limits = "client: {header_timeout: 500ms, body_timeout: 500ms, max_body: 64KiB}";
    (Site::with(Setup::new(rest).listener(limits)).await, upstream)
}

const POST: &str = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of requests")]
async fn malformed_requests_are_refused_and_reach_no_replica() {
    let (site, upstream) = strict().await;
    let (many, hordes) = ("x-h: 1\r\n".repeat(101), "x-h: 1\r\n".repeat(400));
    let large = format!("x-large: {}\r\n", "a".repeat(70_000));
    let cases: &[(&str, String, u16)] = &[
        (
            "CL and TE",
            format!("{POST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "TE and CL",
            format!("{POST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("a list of lengths", format!("{POST}Content-Length: 2, 2\r\n\r\nhi"), 400),
        ("two lengths", format!("{POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"), 400),
        (
            "two unequal lengths",
            format!("{POST}Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"),
            400,
        ),
        ("a signed length", format!("{POST}Content-Length: +2\r\n\r\nhi"), 400),
        ("a negative length", format!("{POST}Content-Length: -2\r\n\r\nhi"), 400),
        ("a hexadecimal length", format!("{POST}Content-Length: 0x2\r\n\r\nhi"), 400),
        ("an empty length", format!("{POST}Content-Length:\r\n\r\nhi"), 400),
        ("TE of a list", format!("{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501),
        ("TE of another coding", format!("{POST}Transfer-Encoding: identity\r\n\r\n"), 501),
        (
            "TE twice",
            format!(
                "{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            501,
        ),
        (
            "TE with a vertical tab",
            format!("{POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "TE in HTTP/1.0",
            "POST /p HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            400,
        ),
        ("no host", "GET /p HTTP/1.1\r\n\r\n".into(), 400),
        ("two hosts", "GET /p HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), 400),
        ("TRACE", "TRACE /p HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405),
        ("CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".into(), 405),
        ("space before the colon", "GET /p HTTP/1.1\r\nHost: x\r\nx-a : 1\r\n\r\n".into(), 400),
        ("space before a length's colon", format!("{POST}Content-Length : 2\r\n\r\nhi"), 400),
        ("a folded line", "GET /p HTTP/1.1\r\nHost: x\r\nx-a: 1\r\n 2\r\n\r\n".into(), 400),
        ("a NUL in a value", "GET /p HTTP/1.1\r\nHost: x\r\nx-a: a\0b\r\n\r\n".into(), 400),
        ("bare LF between fields", "GET /p HTTP/1.1\r\nHost: x\nx-a: 1\r\n\r\n".into(), 400),
        ("bare LF everywhere", "GET /p HTTP/1.1\nHost: x\n\n".into(), 400),
        ("no version", "GET /p\r\nHost: x\r\n\r\n".into(), 400),
        ("an unknown version", "GET /p HTTP/3.7\r\nHost: x\r\n\r\n".into(), 400),
        ("a target without a slash", "GET p HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("a target of another scheme", "GET ftp://x/p HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        (
            "an absolute target of another host",
            "GET http://a/p HTTP/1.1\r\nHost: b\r\n\r\n".into(),
            400,
        ),
        ("not HTTP", "\x00\x03\x01\x02\r\n\r\n".into(), 400),
        ("101 fields", format!("GET /p HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431),
        ("400 fields", format!("GET /p HTTP/1.1\r\nHost: x\r\n{hordes}\r\n"), 431),
        ("a head of 70 KB", format!("GET /p HTTP/1.1\r\nHost: x\r\n{large}\r\n"), 431),
        (
            "a climbing path",
            "GET /v2/models/../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(),
            400,
        ),
        ("a body beyond the limit", format!("{POST}Content-Length: 70000\r\n\r\n"), 413),
        (
            "a bad chunk size",
            format!("{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n"),
            400,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, request, status) in cases {
        let answer = exchange(site.address, request).await;
        if status_of(&answer) != *status {
            wrong.push(format!("{name}: {status} is due, answered {answer:?}"));
        }
        if *status == 400 && !answer.contains("x-evener-error: bad_request") {
            wrong.push(format!("{name}: no code in {answer:?}"));
        }
        if !upstream.seen().is_empty() {
            wrong.push(format!("{name}: the replica saw {:?}", upstream.seen()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let due = |status: u16| cases.iter().filter(|case| case.2 == status).count() as u64;
    for (code, status) in [
        ("bad_request", 400),
        ("method_not_allowed", 405),
        ("body_too_large", 413),
        ("head_too_large", 431),
        ("unsupported_transfer_encoding", 501),
    ] {
        assert_eq!(site.refused(code).await, due(status), "{code} is counted");
    }
}

#[tokio::test]
async fn what_follows_a_refused_request_is_never_read_as_another() {
    let (site, upstream) = strict().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for first in [
        format!("{POST}Content-Length: 2, 2\r\n\r\nhi"),
        format!("{POST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
        format!("{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        "TRACE /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345".to_owned(),
    ] {
        let answer = exchange(site.address, first + smuggled).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_slow_head_is_408_within_its_time() {
    let (site, upstream) = strict().await;
    for begun in ["G", "GET /p HT", "GET /p HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n"] {
        let answer = exchange(site.address, begun).await;
        assert!(answer.is_empty() || status_of(&answer) == 408, "{begun:?}: {answer}");
    }
    assert_eq!(status_of(&exchange(site.address, "GET /p HTTP/1.1\r\nHost: x\r\n").await), 408);
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(site.refused("request_timeout").await, 5);
}

#[tokio::test]
async fn a_head_that_trickles_ends_within_its_time() {
    let (site, _upstream) = strict().await;
    let mut raw = Raw::connect(site.address).await;
    let (mut read, mut write) = raw.0.split();
    let trickle = async {
        use tokio::io::AsyncWriteExt as _;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if write.write_all(b"a").await.is_err() {
                return;
            }
        }
    };
    let closed = async {
        use tokio::io::AsyncReadExt as _;
        let mut answer = Vec::new();
        read.read_to_end(&mut answer).await.ok();
    };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(4), async {
        tokio::select! { () = trickle => {}, () = closed => {} }
    });
    assert!(ended.await.is_ok(), "a slowloris holds its connection");
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let (site, upstream) = strict().await;
    for kind in ["application/json", "text/plain"] {
        let head = format!("POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n");
        let sized = exchange(site.address, format!("{head}Content-Length: 10\r\n\r\n{{")).await;
        assert_eq!(status_of(&sized), 408, "{kind} sized: {sized}");
        let chunked =
            exchange(site.address, format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n"));
        let chunked = chunked.await;
        assert_eq!(status_of(&chunked), 408, "{kind} chunked: {chunked}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn very_short_requests_are_answered_at_once() {
    let (site, upstream) = strict().await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(status_of(&raw.read_until("\r\n\r\nok").await), 200);
    let mut raw = Raw::connect(site.address).await;
    raw.write("OPTIONS * HTTP/1.1\r\nHost:x\r\n\r\n").await;
    assert_eq!(status_of(&raw.read_until("\r\n\r\nok").await), 200);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn an_empty_line_before_a_request_is_forgiven() {
    let (site, _upstream) = strict().await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("\r\nGET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status_of(&raw.read_until("\r\n\r\nok").await), 200);
}

#[tokio::test]
async fn an_absolute_target_names_the_host_and_arrives_as_a_path() {
    let (site, upstream) = strict().await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(
        "GET http://inner.test/p?q=1 HTTP/1.1\r\nHost: inner.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    let answer = raw.read_until("\r\n\r\nok").await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    let seen = upstream.only();
    assert_eq!((seen.line(), seen.header("host")), ("GET /p?q=1 HTTP/1.1", "inner.test"));
}
