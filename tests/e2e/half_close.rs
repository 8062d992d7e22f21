//! Clients that end their sending before they have their answer: they have left, or are answered where the listener
//! says so. Tunnels pass an end on.
use crate::client::{Raw, status_of};
use crate::secure::{Authority, Drawer};
use crate::site::{Setup, Site, until};
use crate::upstream::Upstream;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const GET: &str = "GET /p HTTP/1.1\r\nHost: x\r\n\r\n";
const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

fn models(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false{more}}}}}\n")
}

fn answering(setup: Setup) -> Setup {
    setup.listener("client: {half_close: true}")
}

/// A replica that thinks for a while, and goes on when the other side left: the answers that come of it are counted by
/// the tests.
async fn thinking() -> Upstream {
    Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let path = seen.line().split(' ').nth(1).unwrap_or_default().to_owned();
            talk.answer(&format!("<{path}>")).await;
        }
    })
    .await
}

/// What a client reads that ends its sending after these bytes.
async fn half_closed(site: &Site, bytes: &str) -> String {
    let mut raw = Raw::connect(site.address).await;
    raw.write(bytes).await;
    raw.0.shutdown().await.unwrap();
    raw.read_to_end().await.0
}

#[tokio::test]
async fn a_client_that_ends_its_sending_has_left() {
    for more in ["", ", hedge: {after: 10s}"] {
        let upstream = thinking().await;
        let site = Site::start(models(&upstream.url(), more)).await;
        for _ in 0..20 {
            assert_eq!(half_closed(&site, GET).await, "", "{more}");
        }
        until("all are logged", || site.log().len() == 20).await;
        for line in site.log() {
            assert_eq!((&line["status"], &line["outcome"]), (&499.into(), &"cancelled".into()));
        }
        site.in_flight(0).await;
    }
}

#[tokio::test]
async fn what_was_sent_ahead_of_the_end_is_no_reason_to_answer() {
    let upstream = thinking().await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let three = GET.repeat(3);
    assert_eq!(half_closed(&site, &three).await, "");
    site.in_flight(0).await;
    // The same in pieces, so that the rest is read while the first is worked on.
    let upstream = thinking().await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(GET).await;
    until("it is asked", || upstream.seen().len() == 1).await;
    raw.write(GET).await;
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.read_to_end().await.0, "");
    site.in_flight(0).await;
}

#[tokio::test]
async fn a_listener_with_half_close_answers_them_all() {
    for more in ["", ", hedge: {after: 10s}"] {
        let upstream = thinking().await;
        let site = Site::with(answering(Setup::new(models(&upstream.url(), more)))).await;
        for _ in 0..20 {
            let answer = half_closed(&site, GET).await;
            assert_eq!(status_of(&answer), 200, "{answer}");
            assert!(answer.ends_with("</p>"), "{answer}");
        }
        until("all are logged", || site.log().len() == 20).await;
        assert!(site.log().iter().all(|line| line["outcome"] == "success"));
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_before_the_connection_closes() {
    let upstream = thinking().await;
    let site = Site::with(answering(Setup::new(models(&upstream.url(), "")))).await;
    let post =
        "POST /two HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let three = format!("{GET}{post}GET /three HTTP/1.0\r\n\r\n");
    let answers = half_closed(&site, &three).await;
    let places: Vec<_> = ["</p>", "</two>", "</three>"].map(|word| answers.find(word)).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{answers}");
    // In pieces, so that they are read ahead while the first is worked on.
    let mut raw = Raw::connect(site.address).await;
    raw.write(GET).await;
    until("it is asked", || upstream.seen().len() == 4).await;
    raw.write(&post[..60]).await;
    raw.write(&post[60..]).await;
    raw.0.shutdown().await.unwrap();
    let (answers, reset) = raw.read_to_end().await;
    assert!(answers.contains("</p>") && answers.ends_with("</two>") && !reset, "{answers}");
    assert_eq!(upstream.seen().pop().unwrap().body, b"hi");
}

#[tokio::test]
async fn chunks_read_ahead_are_checked_as_others_are() {
    let upstream = thinking().await;
    let site = Site::with(answering(Setup::new(models(&upstream.url(), "")))).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(GET).await;
    until("it is asked", || upstream.seen().len() == 1).await;
    let smuggled =
        "POST /q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n";
    raw.write(format!("{smuggled}{GET}")).await;
    let (answers, _) = raw.read_to_end().await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    assert!(answers.contains("HTTP/1.1 400 "), "{answers}");
}

#[tokio::test]
async fn a_stream_goes_on_for_a_client_that_ended_its_sending() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..5 {
            talk.write("9\r\ndata: 0\n\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        talk.write("0\r\n\r\n").await;
    })
    .await;
    let site = Site::with(answering(Setup::new(models(&upstream.url(), "")))).await;
    let answer = half_closed(&site, GET).await;
    assert_eq!(answer.matches("data: 0").count(), 5, "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn more_than_the_sockets_hold_reaches_a_client_that_ended_its_sending() {
    let body = "x".repeat(8_000_000);
    let length = body.len();
    let upstream = Upstream::start(move |mut talk| {
        let body = body.clone();
        async move {
            talk.request().await;
            talk.answer(&body).await;
        }
    })
    .await;
    let site = Site::with(answering(Setup::new(models(&upstream.url(), "")))).await;
    for sent in [
        GET.to_owned(),
        // A streamed upload moves bytes both ways at once.
        "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
            .to_owned(),
    ] {
        let answer = half_closed(&site, &sent).await;
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), length);
    }
}

#[tokio::test]
async fn a_reset_is_leaving_also_after_the_end() {
    let hangs = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.wait_for_close().await;
    })
    .await;
    let site = Site::with(answering(Setup::new(models(&hangs.url(), "")))).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(GET).await;
    raw.0.shutdown().await.unwrap();
    until("it is asked", || hangs.seen().len() == 1).await;
    socket2::SockRef::from(&raw.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(raw);
    hangs.until_closed(1).await;
    site.logged("it left", |line| line["status"] == 499).await;
    site.in_flight(0).await;
}

#[tokio::test]
async fn an_end_inside_a_request_is_no_request() {
    let upstream = thinking().await;
    let site = Site::with(answering(Setup::new(models(&upstream.url(), "")))).await;
    for cut in [
        "GET /p HTTP/1.1\r\nHost: x\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let answer = half_closed(&site, cut).await;
        assert!(!answer.contains(" 200 "), "{cut}: {answer}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_tunnel_goes_on_after_the_client_ended_its_sending() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(SWITCHED).await;
        let heard = talk.rest().await;
        let words = format!("{} bytes; {}", heard.len(), "x".repeat(1_000_000));
        talk.write(words + " last words").await;
    })
    .await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(UPGRADE).await;
    raw.read_until("\r\n\r\n").await;
    // Its last bytes reach the replica before its end does.
    raw.write("y".repeat(1_000_000)).await;
    raw.0.shutdown().await.unwrap();
    let (answer, reset) = raw.read_to_end().await;
    assert!(answer.starts_with("1000000 bytes; ") && answer.ends_with("last words") && !reset);
    let line = site.logged("it ends", |line| line["status"] == 101).await;
    assert_eq!(line["outcome"], "success", "{line}");
    site.in_flight(0).await;
}

#[tokio::test]
async fn a_tunnel_goes_on_after_the_replica_ended_its_sending() {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut talk| {
        let heard = heard.clone();
        async move {
            talk.request().await;
            talk.write(format!("{SWITCHED}bye")).await;
            talk.finish().await;
            heard.send(talk.rest().await.len()).unwrap();
        }
    })
    .await;
    let site = Site::start(models(&upstream.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(UPGRADE).await;
    let (answer, _) = raw.read_to_end().await;
    assert!(answer.ends_with("bye"), "{answer}");
    raw.write("z".repeat(3_000_000)).await;
    raw.0.shutdown().await.unwrap();
    assert_eq!(hears.recv().await, Some(3_000_000));
    site.logged("it ends", |line| line["status"] == 101 && line["outcome"] == "success").await;
    site.in_flight(0).await;
}

#[tokio::test]
async fn a_tunnel_of_which_one_side_is_closed_ends_when_it_is_idle() {
    let silent = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(SWITCHED).await;
        talk.rest().await;
        std::future::pending::<()>().await;
    })
    .await;
    let site = Site::start(models(&silent.url(), ", timeouts: {tunnel: 300ms}")).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(UPGRADE).await;
    raw.read_until("\r\n\r\n").await;
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.read_to_end().await.0, "");
    site.in_flight(0).await;
}

#[tokio::test]
async fn a_tunnel_whose_client_is_gone_ends_when_the_replica_speaks() {
    let talks = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write(SWITCHED).await;
        talk.rest().await;
        for _ in 0..1000 {
            talk.write("on and on").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let site = Site::start(models(&talks.url(), "")).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write(UPGRADE).await;
    raw.read_until("\r\n\r\n").await;
    drop(raw);
    let line = site.logged("it ends", |line| line["status"] == 101).await;
    assert_eq!(line["outcome"], "success", "{line}");
    site.in_flight(0).await;
}

#[tokio::test]
async fn goodbye_in_tls_is_an_end_of_sending() {
    let upstream = Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            if seen.has("upgrade") {
                talk.write(SWITCHED).await;
                talk.rest().await;
                talk.write("last words").await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            talk.answer("answer").await;
        }
    })
    .await;
    let (authority, drawer) = (Authority::new("ca"), Drawer::new());
    authority.issue(&["evener.test"]).write(drawer.path(), "a");
    for (half_close, sent, end) in
        [(true, GET, "answer"), (false, GET, ""), (false, UPGRADE, "last words")]
    {
        let setup = Setup::new(models(&upstream.url(), ""))
            .listener(&format!("tls: {}", drawer.named("a")))
            .listener(&format!("client: {{half_close: {half_close}}}"));
        let site = Site::with(setup).await;
        let mut tls = authority.client().connect(site.address, "evener.test").await.unwrap();
        tls.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        if sent == UPGRADE {
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(tls.read_u8().await.unwrap());
            }
        }
        tls.shutdown().await.unwrap();
        tls.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.ends_with(end) && (end.is_empty() == answer.is_empty()), "{answer}");
        site.in_flight(0).await;
    }
}
