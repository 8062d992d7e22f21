//! KServe's V2 over gRPC, and `grpc.health.v1`, as Triton serves them: each output is the input at its place.
use super::events::{Pieces, Sender};
use super::work::{Fault, Mock, Tokens, Work};
use crate::dialect::grpc::{
    Fields, Frame as Message, GrpcStatus, Value, escape_message, frame, grpc_status_of_http,
    next_frame, put_bytes, put_varint,
};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The longest message it takes.
const LONGEST: usize = 256 << 20;

/// Why a call fails.
enum Failure {
    Says(GrpcStatus, String),
    /// It just breaks.
    Breaks(Fault),
}

/// `/inference.GRPCInferenceService/…`
pub(super) async fn inference(
    State(mock): State<Arc<Mock>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let stream = Stream { body: request.into_body(), held: BytesMut::new() };
    if method == "ModelStreamInfer" {
        return converse(mock, stream);
    }
    match unary(&mock, &method, stream).await {
        Ok((answer, _work)) => whole(&answer),
        Err(failure) => failure.response(),
    }
}

/// `/grpc.health.v1.Health/…`: every service is as healthy as the mock.
pub(super) async fn health(State(mock): State<Arc<Mock>>, Path(method): Path<String>) -> Response {
    match &*method {
        "Check" => whole(&number(if mock.knobs().healthy { 1 } else { 2 })),
        _ => unknown(&method),
    }
}

/// What is no method here.
pub(super) fn unknown(method: &str) -> Response {
    Failure::unknown(method).response()
}

impl Failure {
    /// A head that ends the call.
    fn response(self) -> Response {
        match self {
            Self::Breaks(fault) => fault.response(crate::dialect::Dialect::Grpc),
            Self::Says(status, message) => {
                let mut response = head().into_response();
                response.headers_mut().extend(ending(status, &message));
                response
            }
        }
    }
}

async fn unary(
    mock: &Arc<Mock>,
    method: &str,
    mut stream: Stream,
) -> Result<(Vec<u8>, Option<Work>), Failure> {
    let malformed = || {
        let status = grpc_status_of_http(400);
        Failure::Says(status, "a call has one message, uncompressed".to_owned())
    };
    let message = stream.next().await.map_err(|()| malformed())?.ok_or_else(malformed)?;
    let answer = match method {
        "ModelInfer" => {
            let work = mock.work(Tokens::None).await.map_err(Failure::of)?;
            return Ok((infer(&message, &work.knobs.version), Some(work)));
        }
        "ServerLive" => number(1),
        "ServerReady" | "ModelReady" => number(u64::from(mock.knobs().healthy)),
        "ServerMetadata" => texts(&[(1, b"evener-mock"), (2, mock.knobs().version.as_bytes())]),
        "ModelMetadata" => {
            let name = field(&message, 1);
            texts(&[(1, name), (2, mock.knobs().version.as_bytes()), (3, b"evener-mock")])
        }
        _ => return Err(Failure::unknown(method)),
    };
    Ok((answer, None))
}

/// Answers each message when it comes.
fn converse(mock: Arc<Mock>, stream: Stream) -> Response {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let ended = tokio::select! {
            () = sender.closed() => return,
            ended = answer_each(&mock, stream, &sender) => ended,
        };
        let last = match ended {
            Ok(()) => Ok(Frame::trailers(ending(GrpcStatus::OK, ""))),
            Err(Failure::Says(status, message)) => Ok(Frame::trailers(ending(status, &message))),
            Err(Failure::Breaks(_)) => Err(io::ErrorKind::ConnectionReset.into()),
        };
        drop(sender.send(last).await);
    });
    (head(), Body::new(Pieces(receiver))).into_response()
}

async fn answer_each(mock: &Arc<Mock>, mut stream: Stream, sender: &Sender) -> Result<(), Failure> {
    while let Ok(Some(message)) = stream.next().await {
        let work = mock.work(Tokens::None).await.map_err(Failure::of)?;
        if work.cut {
            return Err(Failure::Breaks(Fault::Reset));
        }
        let mut answer = Vec::new();
        put_bytes(&mut answer, 2, &infer(&message, &work.knobs.version));
        drop(sender.send(Ok(Frame::data(frame(&answer).into()))).await);
    }
    Ok(())
}

/// A `ModelInferResponse`: inputs (5) and their raw contents (7) come back as outputs (5 and 6), under the names of the
/// outputs that were asked for (6).
fn infer(request: &[u8], version: &str) -> Vec<u8> {
    let fields = || Fields::of(request).map_while(Result::ok);
    let of = |number| {
        fields().filter_map(move |field| match field.value {
            Value::Bytes(bytes) if field.number == number => Some(bytes),
            Value::Bytes(_) | Value::Varint(_) | Value::Fixed => None,
        })
    };
    let (name, id) = (field(request, 1), field(request, 3));
    let mut answer = texts(&[(1, name), (2, version.as_bytes()), (3, id)]);
    let mut wanted = of(6).map(|output| field(output, 1));
    for input in of(5) {
        let name = wanted.next().unwrap_or_else(|| field(input, 1));
        let mut output = texts(&[(1, name)]);
        for field in Fields::of(input).map_while(Result::ok).filter(|field| field.number != 1) {
            output.extend_from_slice(&input[field.range]);
        }
        put_bytes(&mut answer, 5, &output);
    }
    for raw in of(7) {
        put_bytes(&mut answer, 6, raw);
    }
    answer
}

/// The last text of this number.
fn field(message: &[u8], number: u64) -> &[u8] {
    let fields = Fields::of(message).map_while(Result::ok);
    let texts = fields.filter_map(|field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        Value::Bytes(_) | Value::Varint(_) | Value::Fixed => None,
    });
    texts.last().unwrap_or_default()
}

fn texts(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, text) in fields.iter().filter(|(_, text)| !text.is_empty()) {
        put_bytes(&mut message, *number, text);
    }
    message
}

fn number(value: u64) -> Vec<u8> {
    let mut message = Vec::new();
    put_varint(&mut message, 1 << 3);
    put_varint(&mut message, value);
    message
}

fn head() -> [(header::HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, "application/grpc")]
}

fn ending(status: GrpcStatus, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status.number()));
    if let Ok(message) = HeaderValue::try_from(escape_message(message)) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// An answer and the end of its call.
fn whole(answer: &[u8]) -> Response {
    let (sender, receiver) = mpsc::channel(2);
    let frames = [Frame::data(frame(answer).into()), Frame::trailers(ending(GrpcStatus::OK, ""))];
    for frame in frames {
        drop(sender.try_send(Ok(frame)));
    }
    (head(), Body::new(Pieces(receiver))).into_response()
}

impl Failure {
    fn unknown(method: &str) -> Self {
        Self::Says(GrpcStatus::UNIMPLEMENTED, format!("this mock has no `{method}`"))
    }

    /// A call that was told to fail is UNAVAILABLE, where it is the server's fault.
    fn of(fault: Fault) -> Self {
        match fault {
            Fault::Reset => Self::Breaks(fault),
            Fault::Error { status, version } => {
                let status = if status < 500 { status } else { 503 };
                let message = format!("mock {version} fails as it was told to");
                Self::Says(grpc_status_of_http(status), message)
            }
        }
    }
}

/// The messages that a client sends.
struct Stream {
    body: Body,
    held: BytesMut,
}

impl Stream {
    /// The next one; `Err`: what came is none.
    async fn next(&mut self) -> Result<Option<Bytes>, ()> {
        loop {
            match next_frame(&self.held) {
                Ok((Message::Message { compressed: false, message }, rest)) => {
                    let message = Bytes::copy_from_slice(message);
                    let used = self.held.len() - rest.len();
                    self.held.advance(used);
                    return Ok(Some(message));
                }
                Ok((Message::Open | Message::Partial { .. }, _)) if self.held.len() < LONGEST => {}
                Ok(_) | Err(_) => return Err(()),
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    self.held.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
                }
                None if self.held.is_empty() => return Ok(None),
                None | Some(Err(_)) => return Err(()),
            }
        }
    }
}
