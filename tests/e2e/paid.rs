//! What takes tokens, however it is sent: other methods, paths of any model, streams that are cut, work in the background.
use crate::client::{Client, Request};
use crate::keys::WithKey as _;
use crate::limits::{SECRET, limited, take, tokens_left};
use crate::site::{Site, eventually};
use crate::spending::answering;
use crate::upstream::Upstream;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::time::Duration;

const TOLD: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":500,"total_tokens":510}}"#;

async fn site(upstream: &Upstream) -> Site {
    Site::with(limited(&upstream.url(), "tokens_per_minute: 1000000")).await
}

fn post(path: &str, body: &Value) -> Request {
    Request::post(path, body.to_string()).key(SECRET)
}

fn chat() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000})
}

#[tokio::test]
async fn a_chat_takes_tokens_by_every_method_and_on_every_path() {
    let upstream = answering("application/json", TOLD).await;
    let site = site(&upstream).await;
    for path in [
        "/v1/chat/completions",
        "/generate",
        "/invocations",
        "/endpoints/m/invocations",
        "/endpoints/m/invocations-response-stream",
        "/models/m/invoke",
        "/predictions/m",
        "/v1/models/m:rawPredict",
    ] {
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            let body = chat().to_string().into();
            let request =
                Request::new(method, path, body).header("content-type", "application/json");
            let request = request.key(SECRET);
            take(&site, 510, &[request]).await;
        }
    }
    let wrapped = json!({"instances": [{"prompt": "a", "max_tokens": 9}]});
    take(&site, 510, &[post("/v1/models/m:predict", &wrapped)]).await;
    let tgi = json!({"inputs": "a", "parameters": {"max_new_tokens": 9}});
    take(&site, 510, &[post("/endpoints/m/invocations", &tgi)]).await;
    // What Python reads and others do not is no way around.
    let odd = r#"{"model":"m","messages":[],"temperature":NaN}"#;
    let reply = site.send(Request::post("/invocations", odd).key(SECRET)).await;
    assert_eq!(reply.status, 400);
    // A prediction takes none.
    let tensors = json!({"model": "m", "inputs": [[1.0, 2.0]]});
    take(&site, 0, &[post("/invocations", &tensors)]).await;
    let csv = Request::new(Method::POST, "/endpoints/m/invocations", "1,2,3".into());
    take(&site, 0, &[csv.header("content-type", "text/csv").key(SECRET)]).await;
}

/// The beginning of an Anthropic stream, then an event each few milliseconds.
async fn talkative() -> Upstream {
    let piece = |event: &str| format!("{:x}\r\n{event}\r\n", event.len());
    let begun = piece(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n",
    );
    let more = piece(
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n",
    );
    Upstream::start(move |mut talk| {
        let (begun, more) = (begun.clone(), more.clone());
        async move {
            while talk.request().await.is_some() {
                talk.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
                talk.write(&begun).await;
                for _ in 0..200 {
                    talk.write(&more).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                talk.write("0\r\n\r\n").await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_that_is_cut_takes_the_events_that_were_seen() {
    let upstream = talkative().await;
    let site = site(&upstream).await;
    let before = tokens_left(&site).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut asked = chat();
    asked["stream"] = true.into();
    let mut body = client.begin(post("/v1/messages", &asked)).await.unwrap().into_body();
    let mut seen = 0;
    while seen < 40 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        seen += String::from_utf8_lossy(&frame).matches("\ndata: ").count() as u64;
    }
    drop((body, client));
    let took = eventually("it is settled", async || {
        let took = before - tokens_left(&site).await;
        (took > 0 && took < 900).then_some(took)
    })
    .await;
    assert!((seen + 9..=211).contains(&took), "{took} for {seen} events");
}

#[tokio::test]
async fn work_in_the_background_keeps_what_was_reserved() {
    let ask = json!({"model": "m", "input": "hi", "background": true, "max_output_tokens": 1000});
    for status in ["queued", "in_progress"] {
        let answer = json!({"id": "resp_1", "status": status, "usage": null, "output": []});
        let upstream = answering("application/json", answer.to_string()).await;
        let site = site(&upstream).await;
        take(&site, 1001, &[post("/v1/responses", &ask)]).await;
    }
}

#[tokio::test]
async fn an_estimate_is_no_more_than_the_request_bounds() {
    let long = json!({"choices": [{"text": "x", "logprobs": vec![1000; 8000]}]}).to_string();
    let upstream = answering("application/json", long).await;
    let site = site(&upstream).await;
    let ask = |more: Value| {
        let mut body = json!({"model": "m", "prompt": "a"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post("/v1/completions", &body)
    };
    take(&site, 1001, &[ask(json!({"max_tokens": 1000}))]).await;
    take(&site, 3001, &[ask(json!({"max_tokens": 1000, "n": 3}))]).await;
    // Without a bound nothing else is known: some 40 000 bytes.
    let before = tokens_left(&site).await;
    assert_eq!(site.send(ask(json!({"options": {"num_predict": -1}}))).await.status, 200);
    eventually("it is settled", async || {
        let took = before - tokens_left(&site).await;
        (9_000..11_000).contains(&took).then_some(())
    })
    .await;
}
