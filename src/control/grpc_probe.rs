//! Health checks over gRPC: the standard service, and KServe V2's own where a server lacks it.
use super::ask::{EndsOnDrop, NotAnswered, dial, http2_client};
use crate::dialect::grpc::{Fields, Frame, GrpcStatus, Value, frame, next_frame, put_bytes};
use crate::fleet::Replica;
use crate::observe::Task;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use std::time::Duration;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const SERVER_READY: &str = "/inference.GRPCInferenceService/ServerReady";
const MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";
/// An answer is a number.
const ANSWER: usize = 4 << 10;

/// How a call ended.
enum Said {
    /// The number of its field 1.
    Number(u64),
    Failed(GrpcStatus, String),
}

/// Asks whether `name` is served, or, when it is empty, whether the server is there.
pub(super) async fn ask_grpc(
    replica: &Replica,
    limit: Duration,
    name: &str,
) -> Result<(), NotAnswered> {
    let upstream = &replica.upstream;
    let conn = dial(replica, limit).await?;
    if !conn.is_http2() {
        return Err("it does not speak HTTP/2, which gRPC needs".to_owned().into());
    }
    let greeted = http2_client().handshake(TokioIo::new(conn)).await;
    let (mut sender, connection) = greeted.map_err(|error| error.to_string())?;
    let _driver = EndsOnDrop(Task::Probe.spawn(connection).abort_handle());
    let server = format!("{}://{}", upstream.scheme(), upstream.authority());
    match call(&mut sender, &server, CHECK, name).await? {
        Said::Number(1) => return Ok(()),
        Said::Number(status) => {
            let word = match status {
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            return Err(format!("{CHECK} of `{name}` answered {word}").into());
        }
        Said::Failed(GrpcStatus::UNIMPLEMENTED, _) => {}
        Said::Failed(status, message) => return Err(failed(CHECK, status, &message).into()),
    }
    let path = if name.is_empty() { SERVER_READY } else { MODEL_READY };
    match call(&mut sender, &server, path, name).await? {
        Said::Number(0) => Err(format!("{path} answered that it is not ready").into()),
        Said::Number(_) => Ok(()),
        Said::Failed(GrpcStatus::UNIMPLEMENTED, _) => {
            let why =
                format!("it has neither {CHECK} nor {path}: `health: {{tcp: true}}` only connects");
            Err(why.into())
        }
        Said::Failed(status, message) => Err(failed(path, status, &message).into()),
    }
}

fn failed(path: &str, status: GrpcStatus, message: &str) -> String {
    format!("{path} ended with grpc-{} {message}", status.number())
}

async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    server: &str,
    path: &str,
    name: &str,
) -> Result<Said, String> {
    let mut message = Vec::new();
    if !name.is_empty() {
        put_bytes(&mut message, 1, name.as_bytes());
    }
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{server}{path}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("evener/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .body(Full::new(Bytes::from(frame(&message))))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let (head, body) = answer.into_parts();
    if head.status == StatusCode::NOT_FOUND {
        return Ok(Said::Failed(GrpcStatus::UNIMPLEMENTED, String::new()));
    }
    if head.status != StatusCode::OK {
        return Err(format!("{path} answered {}", head.status));
    }
    if let Some(failed) = failure(&head.headers) {
        return Ok(failed);
    }
    let read = Limited::new(body, ANSWER).collect().await;
    let read = read.map_err(|error| error.to_string())?;
    if let Some(failed) = read.trailers().and_then(failure) {
        return Ok(failed);
    }
    let body = read.to_bytes();
    match next_frame(&body) {
        Ok((Frame::Message { compressed: false, message }, _)) => Ok(Said::Number(number(message))),
        Ok(_) | Err(_) => Err(format!("{path} answered no gRPC message")),
    }
}

/// How a call failed, where these headers or trailers say that it did.
fn failure(headers: &HeaderMap) -> Option<Said> {
    let status = GrpcStatus::read(headers.get("grpc-status")?.as_bytes());
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok());
    let message = message.unwrap_or_default().chars().take(200).collect();
    (status != GrpcStatus::OK).then_some(Said::Failed(status, message))
}

/// Field 1 of a message; what is 0 is not written.
fn number(message: &[u8]) -> u64 {
    let fields = Fields::of(message).map_while(Result::ok);
    let numbers = fields.filter_map(|field| match field.value {
        Value::Varint(value) if field.number == 1 => Some(value),
        Value::Varint(_) | Value::Fixed | Value::Bytes(_) => None,
    });
    numbers.last().unwrap_or(0)
}
