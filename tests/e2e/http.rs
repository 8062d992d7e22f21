//! The corners of HTTP that clients and replicas use: upgrades, interim answers, trailers, kept connections.
use crate::client::{Client, Raw, Request, Wire, status_of};
use crate::site::Site;
use crate::upstream::Upstream;
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use std::net::SocketAddr;
use tokio::net::TcpListener;

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n")
}

#[tokio::test]
async fn a_websocket_passes_bytes_both_ways_after_its_101() {
    let upstream = Upstream::start(|mut talk| async move {
        let seen = talk.request().await.unwrap();
        assert_eq!(seen.header("upgrade"), "websocket");
        talk.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst")
            .await;
        talk.echo().await;
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let head = raw.read_until("first").await;
    assert_eq!(status_of(&head), 101, "{head}");
    assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
    for i in 0..20 {
        let line = format!("line {i}\n");
        raw.write(&line).await;
        assert_eq!(raw.read_until("\n").await, line);
    }
    let large = vec![b'z'; 3_000_000];
    let (mut read, mut write) = raw.0.into_split();
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &large).await.unwrap();
        write
    });
    let mut back = vec![0; 3_000_000];
    tokio::io::AsyncReadExt::read_exact(&mut read, &mut back).await.unwrap();
    assert!(back.iter().all(|byte| *byte == b'z'));
    drop((sending.await.unwrap(), read));
    site.logged("the tunnel ends", |line| line["status"] == 101).await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_ordinary_answer() {
    let upstream =
        Upstream::answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    for _ in 0..2 {
        raw.write(
            "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
        assert_eq!(status_of(&raw.read_until("\r\n\r\nno").await), 403);
    }
}

#[tokio::test]
async fn early_hints_are_relayed_before_the_answer() {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = raw.read_until("\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 103 ") && answer.contains("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.to_lowercase().contains("link: </a>"), "{answer}");
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_continue() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(models(&upstream.url())).await;
    for kind in ["application/json", "application/octet-stream"] {
        let mut raw = Raw::connect(site.address).await;
        raw.write(format!(
            "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
        assert_eq!(status_of(&raw.read_until("\r\n\r\n").await), 100, "{kind}");
        raw.write("{}").await;
        let answer = raw.read_until("\r\n\r\nok").await;
        assert_eq!(status_of(&answer), 200, "{kind}: {answer}");
    }
    for seen in upstream.seen() {
        assert_eq!((seen.body.as_slice(), seen.has("expect")), (&b"{}"[..], false));
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let upstream = Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            let word = seen.line().split(' ').nth(1).unwrap_or_default().to_owned();
            match (seen.line().starts_with("HEAD"), word.as_str()) {
                (true, _) => talk.write("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n").await,
                (_, "/204") => talk.write("HTTP/1.1 204 No Content\r\n\r\n").await,
                (_, "/304") => {
                    talk.write("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\netag: x\r\n\r\n")
                        .await;
                }
                _ => talk.answer("body").await,
            }
        }
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    for wire in [Wire::Sized, Wire::H2c] {
        let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
        for _ in 0..2 {
            let head = Request::new(Method::HEAD, "/p", Bytes::new()).wire(wire);
            let reply = client.send(head).await.unwrap();
            assert_eq!((reply.status, reply.header("content-length")), (200, "1234"));
            for (path, status, body) in [("/204", 204, ""), ("/304", 304, ""), ("/x", 200, "body")]
            {
                let reply = client.send(Request::get(path).wire(wire)).await.unwrap();
                assert_eq!((reply.status, reply.text().as_str()), (status, body), "{wire:?}");
            }
        }
    }
    assert_eq!(upstream.accepted(), 1, "every answer left its connection fit for the next");
}

#[tokio::test]
async fn two_pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            talk.answer(&format!("<{}>", String::from_utf8_lossy(&seen.body))).await;
        }
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    let mut raw = Raw::connect(site.address).await;
    let post = |body: &str| {
        let length = body.len();
        format!("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    raw.write(post("one") + &post("two") + "GET /3 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answers = raw.read_until("<>").await;
    let (one, two) = (answers.find("<one>"), answers.find("<two>"));
    assert!(one.is_some() && one < two, "{answers}");
    raw.write(post("four")).await;
    raw.read_until("<four>").await;
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(models(&upstream.url())).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for _ in 0..20 {
        assert_eq!(client.send(Request::post("/p", "{}")).await.unwrap().status, 200);
    }
    assert_eq!((upstream.accepted(), upstream.seen().len()), (1, 20));
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (answer, reset) = raw.read_to_end().await;
    assert!(answer.ends_with("ok") && !reset, "{answer}");
}

#[tokio::test]
async fn an_early_413_of_the_replica_reaches_a_client_that_still_sends() {
    let upstream = Upstream::start(|mut talk| async move {
        talk.head().await;
        talk.write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large")
            .await;
        talk.wait_for_close().await;
    })
    .await;
    let site = Site::start(models(&upstream.url())).await;
    for _ in 0..3 {
        let raw = Raw::connect(site.address).await;
        let (read, mut write) = raw.0.into_split();
        let sending = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let head = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 5000000\r\n\r\n";
            write.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..500 {
                if write.write_all(&[7; 10_000]).await.is_err() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        });
        let mut read = tokio::io::BufReader::new(read);
        let mut answer = String::new();
        while !answer.ends_with("too large") {
            let mut buf = [0; 1024];
            let n = tokio::io::AsyncReadExt::read(&mut read, &mut buf).await.unwrap();
            assert!(n > 0, "cut: {answer}");
            answer.push_str(&String::from_utf8_lossy(&buf[..n]));
        }
        assert_eq!(status_of(&answer), 413);
        sending.abort();
    }
}

/// A replica of `h2`, which answers every request with data and trailers.
async fn with_trailers() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let path = request.uri().path().to_owned();
                        let mut body = request.into_body();
                        while let Some(Ok(data)) = body.data().await {
                            body.flow_control().release_capacity(data.len()).unwrap();
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "14".parse().unwrap());
                        if path == "/bare" {
                            let mut head = Response::new(());
                            *head.headers_mut() = trailers;
                            respond.send_response(head, true).unwrap();
                            return;
                        }
                        let mut out = respond.send_response(Response::new(()), false).unwrap();
                        out.send_data(Bytes::from_static(b"data"), false).unwrap();
                        out.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn trailers_pass_from_h2c_to_h2c() {
    use http_body_util::BodyExt as _;
    let address = with_trailers().await;
    let site = Site::start(models(&format!("h2c://{address}"))).await;
    let mut client = Client::connect(site.address, true).await.unwrap();
    for _ in 0..3 {
        let request = Request::post("/p", "{}").header("te", "trailers").wire(Wire::H2c);
        let body = client.begin(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "14");
        assert_eq!(body.to_bytes(), "data");
        let bare = client.send(Request::post("/bare", "{}").wire(Wire::H2c)).await.unwrap();
        assert_eq!((bare.header("grpc-status"), bare.body.len()), ("14", 0));
    }
    let reply = site.send(Request::post("/p", "{}")).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "data"));
}

#[tokio::test]
async fn a_replica_that_closed_a_kept_connection_is_asked_again_unseen() {
    // Closes after each answer without saying so; the next request meets a dead connection.
    let closes = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.answer("ok").await;
    })
    .await;
    // Takes the second request and closes without an answer.
    let drops = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.answer("ok").await;
        talk.request().await;
    })
    .await;
    // The same, with a reset.
    let resets = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.answer("ok").await;
        talk.head().await;
        talk.reset();
    })
    .await;
    let body = format!(r#"{{"model":"m","pad":"{}"}}"#, "x".repeat(300_000));
    for upstream in [&closes, &drops, &resets] {
        let site = Site::start(models(&upstream.url())).await;
        let mut client = Client::connect(site.address, false).await.unwrap();
        for i in 0..6 {
            let request = Request::post("/v1/completions", body.clone());
            let reply = client.send(request).await.unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "ok"), "request {i}");
        }
        assert!(upstream.seen().iter().all(|seen| seen.body == body.as_bytes()));
        assert!(site.log().iter().all(|line| line["attempts"] == 1), "{:?}", site.log());
    }
}
