//! HTTP/2 by prior knowledge on both sides: streams side by side, resets, limits.
use crate::client::{Client, Request, Wire, send};
use crate::site::{Setup, Site, until};
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::TcpStream;

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n")
}

type Streams = h2::client::SendRequest<Bytes>;

async fn connect(site: &Site) -> Streams {
    let tcp = TcpStream::connect(site.address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    // A test reads its answers late: the library must not take their small frames for an attack.
    let mut builder = h2::client::Builder::new();
    let greeted = builder.data_frame_budget(1 << 26).handshake(tcp).await;
    let (streams, connection) = greeted.unwrap();
    tokio::spawn(connection);
    streams.ready().await.unwrap()
}

fn request(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(format!("http://evener.test{path}"))
}

#[tokio::test]
async fn two_hundred_streams_on_one_connection_are_all_answered() {
    for scheme in ["http", "h2c"] {
        let mock = Mock::version("v").await;
        let site = Site::start(models(&format!("{scheme}://{}", mock.address))).await;
        let streams = connect(&site).await;
        let mut answers = Vec::new();
        for i in 0..200 {
            let mut streams = streams.clone().ready().await.unwrap();
            let post = request("POST", "/echo").header("content-type", "application/json");
            let (answer, mut out) = streams.send_request(post.body(()).unwrap(), false).unwrap();
            let body = format!(r#"{{"model":"m","n":{i}}}"#);
            out.send_data(Bytes::from(body.clone()), true).unwrap();
            answers.push(tokio::spawn(async move {
                let answer = answer.await.unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.into_body().data().await.unwrap().unwrap(), body);
            }));
        }
        for answer in answers {
            answer.await.unwrap();
        }
    }
}

/// A replica that answers with thousands of tiny events, each in a frame of its own.
async fn tiny_events(tcp: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let head = http::Response::builder().header("content-type", "text/event-stream");
            let mut out = respond.send_response(head.body(()).unwrap(), false).unwrap();
            for i in 0..12_000 {
                let event = if i < 11_999 { "data: 1\n\n" } else { "data: [DONE]\n\n" };
                if out.send_data(Bytes::from_static(event.as_bytes()), i == 11_999).is_err() {
                    return;
                }
                if i % 20 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_harms_no_other_on_the_same_replica() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(tiny_events(tcp));
        }
    });
    let site = Site::start(models(&format!("h2c://{address}"))).await;
    // Its window is the protocol's 64 KiB: the proxy cannot pass on all that comes.
    let mut idle = connect(&site).await;
    let get = request("GET", "/unread").body(()).unwrap();
    let (unread, _) = idle.send_request(get, true).unwrap();
    let _unread = unread.await.unwrap();
    for i in 0..3 {
        let reply = send(site.address, Request::get("/p").wire(Wire::H2c)).await;
        let text = reply.unwrap_or_else(|error| panic!("{i}: {error}")).text();
        assert!(text.ends_with("[DONE]\n\n"), "{i}: {}", &text[text.len().saturating_sub(300)..]);
    }
    let failed =
        site.log().into_iter().find(|line| line["path"] == "/p" && line["outcome"] != "success");
    assert_eq!(failed, None);
}

#[tokio::test]
async fn a_connection_lasts_for_hundreds_of_streamed_answers() {
    let stream = r#"{"model":"m","stream":true,"max_tokens":3}"#;
    for scheme in ["http", "h2c"] {
        let mock = Mock::version("v").await;
        let site = Site::start(models(&format!("{scheme}://{}", mock.address))).await;
        let mut client = Client::connect(site.address, true).await.unwrap();
        for i in 0..300 {
            let ask = Request::post("/v1/chat/completions", stream).wire(Wire::H2c);
            let reply = client.send(ask).await.unwrap_or_else(|e| panic!("{scheme} {i}: {e:?}"));
            assert!(reply.text().ends_with("[DONE]\n\n"), "{scheme} {i}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_stream_reset_by_its_client_ends_at_the_replica_and_leaves_the_others_be() {
    let upstream = Upstream::hanging_where_asked().await;
    let site = Site::start(models(&upstream.url())).await;
    let mut streams = connect(&site).await;
    for i in 0..10 {
        let get = request("GET", "/hang").body(()).unwrap();
        let (answer, mut out) = streams.send_request(get, true).unwrap();
        let answer = tokio::spawn(answer);
        until("it hangs", || upstream.seen().len() > i * 2).await;
        out.send_reset(h2::Reason::CANCEL);
        upstream.until_closed(i + 1).await;
        assert!(answer.await.unwrap().is_err());
        let get = request("GET", "/p").body(()).unwrap();
        streams = streams.ready().await.unwrap();
        let (answer, _) = streams.send_request(get, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    until("all are logged", || {
        site.log().iter().filter(|line| line["status"] == 499).count() == 10
    })
    .await;
}

#[tokio::test]
async fn an_upload_abandoned_by_its_client_ends_at_the_replica() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.head().await;
        talk.wait_for_close().await;
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut streams = connect(&site).await;
    let post = request("POST", "/p").body(()).unwrap();
    let (_answer, mut out) = streams.send_request(post, false).unwrap();
    out.send_data(Bytes::from_static(b"begun"), false).unwrap();
    until("it reaches the replica", || upstream.accepted() == 1).await;
    out.send_reset(h2::Reason::CANCEL);
    upstream.until_closed(1).await;
    site.logged("it is logged", |line| line["outcome"] == "cancelled").await;
}

#[tokio::test]
async fn a_stream_whose_body_never_ends_is_408() {
    let mock = Mock::version("v").await;
    let setup = Setup::new(models(&mock.url())).listener("client: {body_timeout: 300ms}");
    let site = Site::with(setup).await;
    for kind in ["application/json", "application/octet-stream"] {
        let mut streams = connect(&site).await;
        let post = request("POST", "/echo").header("content-type", kind).body(()).unwrap();
        let (answer, mut out) = streams.send_request(post, false).unwrap();
        out.send_data(Bytes::from_static(b"{"), false).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
        assert_eq!(answer.expect("in time").unwrap().status(), 408, "{kind}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_no_request() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(models(&upstream.url())).await;
    for (kind, said, sent) in [
        ("application/json", "2", "{\"a\":1}"),
        ("application/json", "20", "{\"a\":1}"),
        ("text/plain", "2", "longer"),
        ("text/plain", "20", "shorter"),
    ] {
        let mut streams = connect(&site).await;
        let post =
            request("POST", "/p").header("content-type", kind).header("content-length", said);
        let (answer, mut out) = streams.send_request(post.body(()).unwrap(), false).unwrap();
        out.send_data(Bytes::from_static(sent.as_bytes()), true).unwrap();
        let refused = answer.await.map_or(true, |answer| answer.status().is_client_error());
        assert!(refused, "{kind} {said} {sent}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn headers_of_http_1_connections_do_not_pass_from_h2() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(models(&upstream.url())).await;
    let reply = site
        .send(
            Request::get("/p")
                .wire(Wire::H2c)
                .header("x-forwarded-for", "1.2.3.4")
                .header("cookie", "a=b"),
        )
        .await;
    assert_eq!(reply.status, 200);
    let seen = upstream.only();
    assert_eq!((seen.line(), seen.header("host")), ("GET /p HTTP/1.1", "evener.test"));
    assert_eq!((seen.header("x-forwarded-for"), seen.header("cookie")), ("127.0.0.1", "a=b"));
    let line = site.logged("it is logged", |_| true).await;
    assert_eq!(line["protocol"], "HTTP/2");
}

#[tokio::test]
async fn a_replica_over_h2c_that_goes_away_is_reached_anew() {
    let mock = Mock::version("first").await;
    let address = mock.address;
    let site = Site::start(models(&format!("h2c://{address}"))).await;
    let mut client = Client::connect(site.address, true).await.unwrap();
    let ask = || Request::post("/v1/chat/completions", r#"{"model":"m"}"#).wire(Wire::H2c);
    assert_eq!(client.send(ask()).await.unwrap().version(), "first");
    drop(mock);
    tokio::task::yield_now().await;
    let knobs = evener::mock::Knobs { version: "second".to_owned(), ..Default::default() };
    let _back = Mock::at(address, knobs).await;
    let reply = client.send(ask()).await.unwrap();
    assert_eq!((reply.status, reply.version()), (200, "second"));
}

#[tokio::test]
async fn a_large_upload_to_h2c_streams_through_from_every_client() {
    let mock = Mock::version("v").await;
    let site = Site::start(models(&format!("h2c://{}", mock.address))).await;
    let body: Bytes = (0..12_000_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    for wire in [Wire::Sized, Wire::Chunked, Wire::H2c] {
        let upload = Request::new(Method::POST, "/echo", body.clone())
            .header("content-type", "application/octet-stream")
            .wire(wire);
        let reply = send(site.address, upload).await.unwrap();
        assert_eq!(reply.status, 200, "{wire:?}");
        assert!(reply.body == body, "{wire:?}: {} of {}", reply.body.len(), body.len());
    }
}

#[tokio::test]
async fn frames_that_mean_nothing_or_come_late_end_no_connection() {
    for scheme in ["http", "h2c"] {
        let mock = Mock::version("v").await;
        let site = Site::start(models(&format!("{scheme}://{}", mock.address))).await;
        let streams = connect(&site).await;
        // The library takes more than 100 empty ones in a connection's life for an attack, ours or the replica's.
        for _ in 0..250 {
            let mut streams = streams.clone().ready().await.unwrap();
            let post = request("POST", "/echo").header("content-type", "application/json");
            let (answer, mut out) = streams.send_request(post.body(()).unwrap(), false).unwrap();
            out.send_data(Bytes::new(), false).unwrap();
            out.send_data(Bytes::from(r#"{"model":"m"}"#), false).unwrap();
            out.send_data(Bytes::new(), false).unwrap();
            out.send_data(Bytes::new(), true).unwrap();
            assert_eq!(answer.await.unwrap().status(), 200);
        }
        // Each small one takes room that only large ones give back: 2 MiB in all.
        for _ in 0..1600 {
            let mut streams = streams.clone().ready().await.unwrap();
            let post = request("POST", "/nowhere").body(()).unwrap();
            let (answer, mut out) = streams.send_request(post, false).unwrap();
            for _ in 0..4 {
                if out.send_data(Bytes::from_static(b"x"), false).is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(answer.await.unwrap().status(), 404);
        }
    }
}

/// A replica that streams answers of three small frames with an empty one before their end, for ever where `?endless`.
/// Returns its address and how many connections it took.
async fn relay() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let builder = h2::server::Builder::new();
                let Ok(mut connection) = builder.handshake::<_, Bytes>(tcp).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let head =
                            http::Response::builder().header("content-type", "text/event-stream");
                        let mut out = respond.send_response(head.body(()).unwrap(), false)?;
                        loop {
                            for _ in 0..3 {
                                out.send_data(Bytes::from_static(b"data: 1\n\n"), false)?;
                            }
                            if request.uri().query() != Some("endless") {
                                break;
                            }
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        out.send_data(Bytes::new(), false)?;
                        out.send_data(Bytes::from_static(b"data: [DONE]\n\n"), true)
                    });
                }
            });
        }
    });
    (address, taken)
}

#[tokio::test]
async fn empty_frames_of_a_replica_end_no_connection() {
    let (address, taken) = relay().await;
    let site = Site::start(models(&format!("h2c://{address}"))).await;
    let mut client = Client::connect(site.address, true).await.unwrap();
    for _ in 0..250 {
        let answer = client.send(Request::get("/stream")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 41));
    }
    assert_eq!(taken.load(SeqCst), 1);
}

#[tokio::test]
async fn clients_that_leave_wear_out_a_connection_and_cut_no_stream() {
    let (address, taken) = relay().await;
    let site = Site::start(models(&format!("h2c://{address}"))).await;
    let streams = connect(&site).await;
    let ask = async || {
        let mut streams = streams.clone().ready().await.unwrap();
        let get = request("GET", "/stream?endless").body(()).unwrap();
        let (answer, out) = streams.send_request(get, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let first = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(first.len()).unwrap();
        (body, out)
    };
    let (mut stays, _out) = ask().await;
    let (more, mut read) = tokio::sync::watch::channel(0_usize);
    let reader = tokio::spawn(async move {
        while let Some(data) = stays.data().await {
            let n = data.map_err(|error| error.to_string())?.len();
            stays.flow_control().release_capacity(n).ok();
            more.send_modify(|sum| *sum += n);
        }
        Ok::<(), String>(())
    });
    for _ in 0..1050 {
        let (_, mut out) = ask().await;
        out.send_reset(h2::Reason::CANCEL);
    }
    assert_eq!(taken.load(SeqCst), 2);
    let before = *read.borrow_and_update();
    read.wait_for(|more| *more > before + 1000).await.expect("it still streams");
    reader.abort();
}

#[tokio::test]
async fn trailers_of_a_replica_that_speaks_http_1_reach_a_client_of_http_2() {
    let says = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                x-cost: 7\r\ncontent-length: 9\r\nx-evener-version: other\r\n\r\n";
    let replica = Upstream::answering(says).await;
    let site = Site::start(models(&replica.url())).await;
    let mut streams = connect(&site).await;
    let (answer, _) = streams.send_request(request("GET", "/p").body(()).unwrap(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut read = Vec::new();
    while let Some(bytes) = body.data().await {
        read.extend_from_slice(&bytes.unwrap());
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!((&read[..], &trailers["x-cost"]), (&b"ok"[..], &"7".parse().unwrap()));
    assert_eq!(
        trailers.len(),
        1,
        "what frames a message or claims to be ours stays behind: {trailers:?}"
    );
}
