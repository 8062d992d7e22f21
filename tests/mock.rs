//! The mock model server over real sockets: what it answers, how it streams, how it fails.
#![expect(clippy::unwrap_used, reason = "what starts and asks a mock is test code too")]

use bytes::Bytes;
use evener::mock::{Knobs, serve};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

async fn start(knobs: Knobs) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, knobs, std::future::pending()));
    address
}

fn request(method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Request::builder().method(method).uri(path).header("host", "mock").body(body).unwrap()
}

async fn send(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<hyper::body::Incoming>> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// Status, head and body of an answer.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, String, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = send(address, request(method, path, &body)).await.unwrap();
    let status = response.status().as_u16();
    let version = response.headers()["x-mock-version"].to_str().unwrap().to_owned();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, version, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn ask_json(address: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, text) = ask(address, method, path, body).await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_chat_is_answered_with_the_model_that_arrived() {
    let address = start(Knobs { version: "v7".to_owned(), tokens: 3, ..Knobs::default() }).await;
    let chat = json!({"model": "meta/llama", "messages": [{"role": "user", "content": "hi"}]});
    let (status, version, text) = ask(address, "POST", "/v1/chat/completions", &chat).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, version.as_str()), (200, "v7"));
    assert_eq!(answer["model"], "meta/llama");
    assert_eq!(answer["system_fingerprint"], "v7");
    assert_eq!(answer["choices"][0]["message"]["content"], "the quick brown");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn a_stream_has_a_chunk_for_each_token_then_usage_then_done() {
    let address = start(Knobs { tokens: 5, ..Knobs::default() }).await;
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let body = json!({"model": "m", "stream": true, "max_tokens": 4,
            "stream_options": {"include_usage": true}});
        let (status, _, text) = ask(address, "POST", path, &body).await;
        let events: Vec<&str> = text.split_terminator("\n\n").collect();
        let data = |i: usize| events[i].strip_prefix("data: ").unwrap();
        assert_eq!((status, events.len(), data(6)), (200, 7, "[DONE]"));
        let finish: Value = serde_json::from_str(data(4)).unwrap();
        assert_eq!(finish["choices"][0]["finish_reason"], "length");
        let usage: Value = serde_json::from_str(data(5)).unwrap();
        assert_eq!(
            (&usage["choices"], &usage["usage"]["completion_tokens"]),
            (&json!([]), &json!(4))
        );
    }
}

#[tokio::test]
async fn v2_echoes_its_input_tensors() {
    let address = start(Knobs { version: "3".to_owned(), ..Knobs::default() }).await;
    let input = json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.5]});
    let body = json!({"id": "42", "inputs": [input], "outputs": [{"name": "y"}]});
    let (status, answer) =
        ask_json(address, "POST", "/v2/models/fraud%201/versions/9/infer", &body).await;
    let output = json!({"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.5]});
    let want =
        json!({"model_name": "fraud 1", "model_version": "3", "id": "42", "outputs": [output]});
    assert_eq!((status, answer), (200, want));
}

#[tokio::test]
async fn v1_predicts_the_sum_of_each_instance() {
    let address = start(Knobs::default()).await;
    let body = json!({"instances": [[1, 2.5], {"a": 4}]});
    let (status, answer) = ask_json(address, "POST", "/v1/models/m:predict", &body).await;
    assert_eq!((status, answer), (200, json!({"predictions": [3.5, 4.0]})));
}

#[tokio::test]
async fn generate_embeddings_metadata_and_echo_are_served() {
    let address = start(Knobs { tokens: 2, ..Knobs::default() }).await;
    let body = json!({"text_input": "x"});
    let (_, answer) = ask_json(address, "POST", "/v2/models/m/generate", &body).await;
    assert_eq!(answer["text_output"], "the quick");
    let (_, _, text) = ask(address, "POST", "/v2/models/m/generate_stream", &body).await;
    assert_eq!(text.matches("data: ").count(), 2);
    let body = json!({"model": "e", "input": ["a", "b"]});
    let (_, answer) = ask_json(address, "POST", "/v1/embeddings", &body).await;
    assert_eq!((answer["data"].as_array().unwrap().len(), &answer["model"]), (2, &json!("e")));
    let (_, answer) = ask_json(address, "GET", "/v2/models/m", &Value::Null).await;
    assert_eq!(answer["name"], "m");
    let (_, answer) = ask_json(address, "POST", "/echo", &body).await;
    assert_eq!(answer, body);
    let (_, answer) = ask_json(address, "GET", "/headers?x=1", &Value::Null).await;
    assert_eq!(
        (&answer["path"], &answer["headers"]["host"]),
        (&json!("/headers?x=1"), &json!("mock"))
    );
    assert_eq!(ask(address, "GET", "/v2/models/m/ready", &Value::Null).await.0, 200);
    assert_eq!(ask(address, "GET", "/nowhere", &Value::Null).await.0, 404);
}

#[tokio::test]
async fn knobs_are_turned_while_it_runs() {
    let address = start(Knobs::default()).await;
    let chat = json!({"model": "m"});
    assert_eq!(ask(address, "POST", "/v1/chat/completions", &chat).await.0, 200);
    let patch = json!({"error": "100%", "error_status": 503, "version": "v2", "healthy": false});
    let (status, panel) = ask_json(address, "POST", "/mock", &patch).await;
    assert_eq!(
        (status, &panel["error"], &panel["requests_total"]),
        (200, &json!("100%"), &json!(1))
    );
    let (status, answer) = ask_json(address, "POST", "/v1/chat/completions", &chat).await;
    assert_eq!((status, &answer["error"]["type"]), (503, &json!("server_error")));
    let infer = json!({"inputs": []});
    let (status, answer) = ask_json(address, "POST", "/v2/models/m/infer", &infer).await;
    assert_eq!((status, answer["error"].is_string()), (503, true));
    assert_eq!(ask(address, "GET", "/health", &Value::Null).await.0, 503);
    let (status, panel) = ask_json(address, "GET", "/mock", &Value::Null).await;
    assert_eq!(
        (status, &panel["requests_total"], &panel["in_flight"]),
        (200, &json!(3), &json!(0))
    );
    assert_eq!(ask(address, "POST", "/mock", &json!({"latencies": "1s"})).await.0, 400);
}

#[tokio::test]
async fn requests_beyond_the_slots_wait_and_leave_when_their_client_goes() {
    let address = start(Knobs { slots: Some(1), ..Knobs::default() }).await;
    ask(address, "POST", "/mock", &json!({"hang": 100})).await;
    let chat = || tokio::spawn(send(address, request("POST", "/v1/chat/completions", "{}")));
    let (first, second) = (chat(), chat());
    metric(address, "vllm:num_requests_running{model_name=\"mock\"} 1\n").await;
    metric(address, "vllm:num_requests_waiting{model_name=\"mock\"} 1\n").await;
    metric(address, "vllm:kv_cache_usage_perc{model_name=\"mock\"} 1\n").await;
    first.abort();
    second.abort();
    metric(address, "vllm:num_requests_running{model_name=\"mock\"} 0\n").await;
    metric(address, "vllm:num_requests_waiting{model_name=\"mock\"} 0\n").await;
}

/// Waits until `/metrics` has this line.
async fn metric(address: SocketAddr, line: &str) {
    let seen = async {
        while !ask(address, "GET", "/metrics", &Value::Null).await.2.contains(line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), seen).await.expect(line);
}

#[tokio::test]
async fn a_reset_comes_before_any_head() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = start(Knobs { reset: "100%".parse().unwrap(), ..Knobs::default() }).await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: 2\r\n\r\n{}";
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let error = tcp.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!((error.kind(), answer.len()), (std::io::ErrorKind::ConnectionReset, 0));
}

#[tokio::test]
async fn a_cut_stream_ends_without_its_last_chunk() {
    let address = start(Knobs { cut: "100%".parse().unwrap(), ..Knobs::default() }).await;
    let chat = request("POST", "/v1/chat/completions", r#"{"stream":true}"#);
    let response = send(address, chat).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn h2_is_spoken_by_prior_knowledge() {
    let address = start(Knobs::default()).await;
    let tcp = TcpStream::connect(address).await.unwrap();
    let executor = TokioExecutor::new();
    let (mut sender, connection) = http2::handshake(executor, TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let get = Request::get("http://mock/headers").body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(get).await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(answer["http"], "HTTP/2.0");
}
