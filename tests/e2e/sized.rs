//! Bodies with a length pass as they come, as those in chunks do: each piece before the next is sent.
use crate::client::{Client, Raw, Request, Wire};
use crate::h2c::{H2c, read};
use crate::site::Site;
use crate::upstream::Upstream;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::Notify;

const PIECES: [&str; 3] = ["first piece, ", "second piece, ", "third piece"];

fn models(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false{more}}}}}\n")
}

fn length() -> usize {
    PIECES.concat().len()
}

/// A client that lets the next piece be sent once it has read one.
async fn each_piece_arrives(site: &Site, next: &Notify, wire: Wire) {
    let mut client = Client::connect(site.address, wire == Wire::H2c).await.unwrap();
    let mut body = client.begin(Request::get("/p").wire(wire)).await.unwrap().into_body();
    let mut got = Vec::new();
    for end in 1..=PIECES.len() {
        let due = PIECES[..end].concat();
        while got.len() < due.len() {
            let frame = body.frame().await.unwrap().unwrap();
            got.extend_from_slice(frame.data_ref().unwrap());
        }
        assert_eq!(got, due.as_bytes(), "{wire:?}");
        next.notify_one();
    }
}

#[tokio::test]
async fn an_answer_with_a_length_passes_piece_by_piece() {
    let next = Arc::new(Notify::new());
    let (of_http1, of_http2) = (Arc::clone(&next), Arc::clone(&next));
    let http1 = Upstream::start(move |mut talk| {
        let next = Arc::clone(&of_http1);
        async move {
            while talk.request().await.is_some() {
                talk.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", length()))
                    .await;
                for piece in PIECES {
                    talk.write(piece).await;
                    next.notified().await;
                }
            }
        }
    })
    .await;
    let http2 = H2c::start(move |up, mut respond| {
        let next = Arc::clone(&of_http2);
        async move {
            read(up).await;
            let head = Response::builder().header("content-length", length()).body(()).unwrap();
            let Ok(mut out) = respond.send_response(head, false) else { return };
            for (n, piece) in PIECES.into_iter().enumerate() {
                out.send_data(Bytes::from_static(piece.as_bytes()), n + 1 == PIECES.len()).ok();
                next.notified().await;
            }
        }
    })
    .await;
    for url in [http1.url(), http2.url()] {
        for more in ["", ", hedge: {after: 10s}"] {
            let site = Site::start(models(&url, more)).await;
            for wire in [Wire::Sized, Wire::H2c] {
                each_piece_arrives(&site, &next, wire).await;
            }
        }
    }
}

#[tokio::test]
async fn an_upload_with_a_length_passes_piece_by_piece() {
    let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
    let of_http2 = seen.clone();
    let http1 = Upstream::start(move |mut talk| {
        let seen = seen.clone();
        async move {
            while talk.head().await.is_some() {
                for end in 1..=PIECES.len() {
                    let due = PIECES[..end].concat();
                    if talk.begins(due.len()).await != due {
                        return;
                    }
                    seen.send(end).ok();
                }
                talk.skip(length());
                talk.answer("ok").await;
            }
        }
    })
    .await;
    let http2 = H2c::start(move |mut up, mut respond| {
        let seen = of_http2.clone();
        async move {
            let mut got = Vec::new();
            for end in 1..=PIECES.len() {
                while got.len() < PIECES[..end].concat().len() {
                    let Some(Ok(piece)) = up.data().await else { return };
                    up.flow_control().release_capacity(piece.len()).ok();
                    got.extend_from_slice(&piece);
                }
                seen.send(end).ok();
            }
            if let Ok(mut out) = respond.send_response(Response::new(()), false) {
                out.send_data(Bytes::from_static(b"ok"), true).ok();
            }
        }
    })
    .await;
    for url in [http1.url(), http2.url()] {
        let site = Site::start(models(&url, "")).await;
        let mut raw = Raw::connect(site.address).await;
        raw.write(format!(
            "POST /up HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            length()
        ))
        .await;
        for (n, piece) in PIECES.into_iter().enumerate() {
            raw.write(piece).await;
            assert_eq!(sees.recv().await, Some(n + 1), "{url}");
        }
        assert!(raw.read_until("ok").await.contains(" 200 "));

        let tcp = TcpStream::connect(site.address).await.unwrap();
        let (mut streams, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("http://x/up").header("content-type", "text/plain");
        let request = request.header("content-length", length()).body(()).unwrap();
        let (answer, mut out) = streams.send_request(request, false).unwrap();
        for (n, piece) in PIECES.into_iter().enumerate() {
            let last = n + 1 == PIECES.len();
            out.send_data(Bytes::from_static(piece.as_bytes()), last).unwrap();
            assert_eq!(sees.recv().await, Some(n + 1), "{url} from HTTP/2");
        }
        assert_eq!(answer.await.unwrap().status(), 200);
    }
}
