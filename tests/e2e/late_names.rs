//! Models that stand late: behind a file, at the end of a long body, in the query of a WebSocket.
use crate::client::{Raw, Request, Wire};
use crate::site::Site;
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use http::Method;

const FORM: &str = "multipart/form-data; boundary=xYx";

/// A form with a file of this size in front of its model.
fn form(size: usize, model: &str) -> Bytes {
    let part = |head: &str| format!("--xYx\r\nContent-Disposition: form-data; name={head}\r\n\r\n");
    let file = part("\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav");
    let model = part("\"model\"") + model + "\r\n--xYx--\r\n";
    [file.as_bytes(), &vec![0; size], b"\r\n", model.as_bytes()].concat().into()
}

fn transcription(size: usize, model: &str) -> Request {
    let body = form(size, model);
    Request::new(Method::POST, "/v1/audio/transcriptions", body).header("content-type", FORM)
}

/// Two models on a replica each that answers `ok` to all; 256 KiB are kept of a body.
async fn two_models(more: &str) -> (Site, [Upstream; 2]) {
    let ok = || Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let replicas = [ok().await, ok().await];
    let site = Site::start(format!(
        "defaults: {{max_buffered_body: 256KiB, health: false}}\nmodels:\n  \
         chat: {{versions: {{v: [\"{}\"]}}}}\n  whisper: {{versions: {{v: {{replicas: [\"{}\"], upstream_model: large}}}}}}\n{more}",
        replicas[0].url(),
        replicas[1].url()
    ))
    .await;
    (site, replicas)
}

#[tokio::test]
async fn a_file_may_stand_before_the_model_in_a_form() {
    let (site, [chat, whisper]) = two_models("default_model: chat\n").await;
    for wire in [Wire::Sized, Wire::Chunked, Wire::H2c] {
        for size in [100, 60_000, 70_000, 200_000] {
            let reply = site.send(transcription(size, "whisper").wire(wire)).await;
            assert_eq!(reply.status, 200, "{wire:?} {size}: {}", reply.text());
            let seen = whisper.seen().pop().unwrap();
            assert!(seen.body == form(size, "large"), "{wire:?} {size}: the name is the server's");
        }
    }
    assert_eq!((chat.seen().len(), whisper.seen().len()), (0, 12));
}

#[tokio::test]
async fn a_name_beyond_what_is_kept_is_413_with_the_key_to_raise() {
    let (site, [chat, whisper]) = two_models("default_model: chat\n").await;
    let long = format!(r#"{{"messages":"{}","model":"whisper"}}"#, "x".repeat(600_000));
    for wire in [Wire::Sized, Wire::Chunked, Wire::H2c] {
        for request in [
            transcription(600_000, "whisper"),
            Request::post("/v1/chat/completions", long.clone()),
            Request::post("/anything", long.clone()),
        ] {
            let asked = format!("{wire:?} {request:?}").chars().take(200).collect::<String>();
            let reply = site.send(request.wire(wire)).await;
            let said = (reply.status, reply.header("x-evener-error"));
            assert_eq!(said, (413, "body_too_large"), "{asked}");
            assert!(reply.text().contains("max_buffered_body"), "{}", reply.text());
        }
    }
    assert_eq!((chat.seen().len(), whisper.seen().len()), (0, 0), "nobody is asked in silence");
}

#[tokio::test]
async fn of_a_longer_body_as_much_is_read_as_names_the_model() {
    let (site, [chat, _whisper]) = two_models("").await;
    let body = |before: usize| {
        let (before, after) = ("x".repeat(before), "y".repeat(600_000));
        format!(r#"{{"a":"{before}","model":"chat","b":"{after}"}}"#)
    };
    for before in [10, 100_000, 200_000] {
        let reply = site.send(Request::post("/v1/embeddings", body(before))).await;
        assert_eq!(reply.status, 200, "{before}: {}", reply.text());
        assert!(chat.seen().pop().unwrap().body == body(before).as_bytes(), "{before}");
    }
}

#[tokio::test]
async fn with_one_model_there_is_no_other_to_wait_for() {
    let mock = Mock::version("v").await;
    let text = |upstream: &str| {
        format!(
            "defaults: {{max_buffered_body: 64KiB}}\nmodels: {{m: {{versions: {{v: {{replicas: [\"{}\"]{upstream}}}}}}}}}\n",
            mock.url()
        )
    };
    let long = format!(r#"{{"messages":"{}","model":"m"}}"#, "x".repeat(300_000));
    let site = Site::start(text("")).await;
    let reply = site.send(Request::post("/v1/chat/completions", long.clone())).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    // Here the replica has another name for it, which could not be written.
    let site = Site::start(text(", upstream_model: llama")).await;
    let reply = site.send(Request::post("/v1/chat/completions", long)).await;
    assert_eq!(reply.status, 413, "{}", reply.text());
}

#[tokio::test]
async fn a_websocket_names_its_model_in_the_query() {
    let accept =
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    let talk = move |mut talk: crate::upstream::Talk| async move {
        if talk.request().await.is_some() {
            talk.write(accept).await;
            talk.echo().await;
        }
    };
    let replicas = [Upstream::start(talk).await, Upstream::start(talk).await];
    let site = Site::start(format!(
        "default_model: chat\ndefaults: {{health: false}}\nmodels:\n  chat: {{versions: {{v: [\"{}\"]}}}}\n  \
         rt: {{versions: {{v: {{replicas: [\"{}\"], upstream_model: \"org/rt 2\"}}}}}}\n",
        replicas[0].url(),
        replicas[1].url()
    ))
    .await;
    let ask = async |target: &str| {
        let mut raw = Raw::connect(site.address).await;
        let head = format!(
            "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        raw.write(head).await;
        raw.read_until("\r\n\r\n").await
    };
    let last = |replica: &Upstream| replica.seen().pop().unwrap().line().to_owned();
    assert!(ask("/v1/realtime?intent=x&model=rt").await.starts_with("HTTP/1.1 101"));
    assert_eq!(last(&replicas[1]), "GET /v1/realtime?intent=x&model=org%2Frt%202 HTTP/1.1");
    assert!(ask("/openai/realtime?api-version=1&deployment=rt").await.starts_with("HTTP/1.1 101"));
    assert!(last(&replicas[1]).contains("deployment=org%2Frt%202"));
    // Elsewhere a parameter counts where it is the name of a model.
    assert!(ask("/ws?model=rt").await.starts_with("HTTP/1.1 101"));
    assert!(ask("/ws?model=large").await.starts_with("HTTP/1.1 101"));
    assert_eq!((replicas[0].seen().len(), replicas[1].seen().len()), (1, 3));
    assert!(ask("/v1/realtime?model=nobody").await.starts_with("HTTP/1.1 404"));
    assert!(ask("/v1/realtime?model=rt&model=chat").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_byte_order_mark_is_passed_over_and_passed_on() {
    let (site, [_chat, whisper]) = two_models("").await;
    let body = "\u{feff}{\"model\": \"whisper\"}";
    let reply = site.send(Request::post("/v1/embeddings", body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(whisper.only().body, "\u{feff}{\"model\": \"large\"}".as_bytes());
}
