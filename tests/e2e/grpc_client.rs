//! A client of gRPC, down to its frames, and replicas that speak it.
use crate::h2c::H2c;
use bytes::{Bytes, BytesMut};
use evener::dialect::grpc::{Frame, frame, next_frame, put_bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
pub(crate) const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection for any number of calls.
#[derive(Clone)]
pub(crate) struct Calls(SendRequest<Bytes>);

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) head: HeaderMap,
    pub(crate) messages: Vec<Bytes>,
    /// What came last: trailers, or the head of a call that had nothing else.
    pub(crate) last: HeaderMap,
    /// It ended with its head.
    pub(crate) at_once: bool,
}

impl Ended {
    pub(crate) fn status(&self) -> &str {
        said(&self.last, "grpc-status")
    }

    pub(crate) fn message(&self) -> &str {
        said(&self.last, "grpc-message")
    }

    pub(crate) fn error(&self) -> &str {
        said(&self.last, "x-evener-error")
    }
}

pub(crate) fn said<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// A message that names a model in field 1, with a payload.
pub(crate) fn naming(model: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, model.as_bytes());
    put_bytes(&mut message, 7, payload);
    message
}

impl Calls {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut builder = h2::client::Builder::new();
        // Before the server has said how many it takes; without, this library takes any number for granted.
        builder.initial_max_send_streams(100);
        // Hundreds of small answers may wait to be read.
        let (send, connection) = builder.data_frame_budget(4 << 20).handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Begins a call whose messages are still to be sent.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://evener.test{path}")).body(()).unwrap();
        let all = [("content-type", "application/grpc"), ("te", "trailers")];
        for (name, value) in all.iter().chain(headers) {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let mut send = self.0.clone().ready().await.unwrap();
        send.send_request(request, false).unwrap()
    }

    /// Sends one message, and reads the answer to its end.
    pub(crate) async fn call(&self, path: &str, message: &[u8]) -> Ended {
        self.with(path, message, &[]).await
    }

    pub(crate) async fn with(
        &self,
        path: &str,
        message: &[u8],
        headers: &[(&'static str, &str)],
    ) -> Ended {
        let (response, mut up) = self.open(path, headers).await;
        // The answer may have come before.
        up.send_data(frame(message).into(), true).ok();
        ended(response).await
    }
}

/// Reads an answer to its end.
pub(crate) async fn ended(response: ResponseFuture) -> Ended {
    let reading = async {
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let (head, mut body) = response.into_parts();
        let mut read = BytesMut::new();
        let at_once = body.is_end_stream();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.unwrap();
            body.flow_control().release_capacity(chunk.len()).unwrap();
            read.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.unwrap();
        let last = trailers.unwrap_or_else(|| head.headers.clone());
        Ended { head: head.headers, messages: messages(&read), last, at_once }
    };
    timeout(PATIENCE, reading).await.unwrap()
}

/// The next message of an answer, when it comes.
pub(crate) async fn next(body: &mut RecvStream) -> Bytes {
    let mut read = BytesMut::new();
    loop {
        let chunk = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        read.extend_from_slice(&chunk);
        if let [message] = &*messages(&read) {
            return message.clone();
        }
    }
}

fn messages(mut body: &[u8]) -> Vec<Bytes> {
    let mut all = Vec::new();
    while let Ok((Frame::Message { message, .. }, rest)) = next_frame(body) {
        all.push(Bytes::copy_from_slice(message));
        body = rest;
    }
    all
}

fn grpc_head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn trailers(status: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_str(status).unwrap());
    trailers.insert("x-cost", HeaderValue::from_static("7"));
    trailers
}

/// A replica that answers each message of a call by itself as it comes, then ends well.
pub(crate) async fn echo() -> H2c {
    H2c::start(|mut body, mut respond| async move {
        let Ok(mut out) = respond.send_response(grpc_head(), false) else { return };
        while let Some(Ok(chunk)) = body.data().await {
            body.flow_control().release_capacity(chunk.len()).ok();
            out.send_data(chunk, false).ok();
        }
        out.send_trailers(trailers("0")).ok();
    })
    .await
}

/// A replica that ends each call so, with its head.
pub(crate) async fn failing(status: &'static str) -> H2c {
    H2c::start(move |body, respond| async move {
        crate::h2c::read(body).await;
        fail(respond, status);
    })
    .await
}

fn fail(mut respond: SendResponse<Bytes>, status: &str) {
    let mut head = grpc_head();
    head.headers_mut().extend(trailers(status));
    respond.send_response(head, true).ok();
}

/// A replica that ends each call so in trailers, after this much of an answer.
pub(crate) async fn failing_late(status: &'static str, answer: &'static [u8]) -> H2c {
    H2c::start(move |body, mut respond| async move {
        crate::h2c::read(body).await;
        let Ok(mut out) = respond.send_response(grpc_head(), false) else { return };
        if !answer.is_empty() {
            out.send_data(frame(answer).into(), false).ok();
        }
        out.send_trailers(trailers(status)).ok();
    })
    .await
}

/// A replica that answers the first message, and then breaks.
pub(crate) async fn breaking() -> H2c {
    H2c::start(|mut body, mut respond| async move {
        let Ok(mut out) = respond.send_response(grpc_head(), false) else { return };
        if let Some(Ok(chunk)) = body.data().await {
            out.send_data(chunk, false).ok();
        }
        // Once the client has it.
        body.data().await;
        out.send_reset(h2::Reason::INTERNAL_ERROR);
    })
    .await
}

/// A replica that never answers.
pub(crate) async fn silent() -> H2c {
    H2c::start(|body, respond| async move {
        std::future::pending::<()>().await;
        drop((body, respond));
    })
    .await
}
