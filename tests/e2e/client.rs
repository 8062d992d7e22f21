//! Clients: hyper for ordinary requests, bare sockets for odd ones.
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// HTTP/1.1 with Content-Length.
    Sized,
    /// HTTP/1.1 in chunks.
    Chunked,
    /// HTTP/2 by prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    wire: Wire,
    host: String,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    /// A POST of JSON.
    pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path, body.into()).header("content-type", "application/json")
    }

    pub(crate) fn new(method: Method, path: &str, body: Bytes) -> Self {
        let headers = HeaderMap::new();
        let (path, host) = (path.to_owned(), "evener.test".to_owned());
        Self { method, path, headers, body, wire: Wire::Sized, host }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// One more header of this name.
    pub(crate) fn and_header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// Of this host.
    pub(crate) fn at(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    pub(crate) fn wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// To be sent over TLS and HTTP/2.
    pub(crate) fn secure(self, http2: bool) -> Self {
        Self { wire: if http2 { Wire::H2 } else { Wire::Sized }, ..self }
    }

    fn into_hyper(self) -> hyper::Request<BoxBody<Bytes, Infallible>> {
        let body = match self.wire {
            Wire::Sized | Wire::H2c | Wire::H2 => Full::new(self.body).boxed(),
            Wire::Chunked => BodyExt::boxed(Parts(self.body)),
        };
        let uri = match self.wire {
            Wire::H2c => format!("http://{}{}", self.host, self.path),
            Wire::H2 => format!("https://{}{}", self.host, self.path),
            Wire::Sized | Wire::Chunked => self.path,
        };
        let mut request =
            hyper::Request::builder().method(self.method).uri(uri).body(body).unwrap();
        *request.headers_mut() = self.headers;
        if ![Wire::H2c, Wire::H2].contains(&self.wire) {
            let host = HeaderValue::from_str(&self.host).unwrap();
            request.headers_mut().entry("host").or_insert(host);
        }
        request
    }
}

/// A body whose length is not told before it ends.
struct Parts(Bytes);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let n = self.0.len().min(8191);
        let part = self.0.split_to(n);
        Poll::Ready((n > 0).then_some(Ok(Frame::data(part))))
    }
}

/// What a client was answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The version of the mock that answered.
    pub(crate) fn version(&self) -> &str {
        self.header("x-mock-version")
    }
}

enum Sender {
    Http1(http1::SendRequest<BoxBody<Bytes, Infallible>>),
    Http2(http2::SendRequest<BoxBody<Bytes, Infallible>>),
}

/// One kept connection.
pub(crate) struct Client(Sender);

impl Client {
    pub(crate) async fn connect(address: SocketAddr, http2: bool) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Self::over(tcp, http2).await
    }

    /// On a connection that stands already.
    pub(crate) async fn over<I>(io: I, http2: bool) -> std::io::Result<Self>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(io);
        Ok(Self(if http2 {
            let greeted = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = greeted.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let greeted = http1::handshake(io).await.map_err(std::io::Error::other)?;
            tokio::spawn(greeted.1);
            Sender::Http1(greeted.0)
        }))
    }

    /// Sends, and returns with the head of the answer.
    pub(crate) async fn begin(
        &mut self,
        request: Request,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        let request = request.into_hyper();
        match &mut self.0 {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        }
    }

    pub(crate) async fn send(&mut self, request: Request) -> hyper::Result<Reply> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// Sends on a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request) -> Result<Reply, String> {
    let mut client = Client::connect(address, request.wire == Wire::H2c)
        .await
        .map_err(|error| error.to_string())?;
    let reply = timeout(Duration::from_secs(30), client.send(request)).await;
    reply.map_err(|_| "no answer in 30 s".to_owned())?.map_err(|error| format!("{error:?}"))
}

/// A bare connection.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self(tcp)
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until `end` was seen; what came so far if the connection ends before.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&seen).contains(end) {
                let mut byte = [0; 4096];
                match self.0.read(&mut byte).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => seen.extend_from_slice(&byte[..n]),
                }
            }
        };
        let read = timeout(Duration::from_secs(10), reading).await;
        let text = String::from_utf8_lossy(&seen).into_owned();
        assert!(read.is_ok(), "`{end}` did not come; so far: {text}");
        text
    }

    /// Reads to the end of the connection: what came, and whether it ended by a reset.
    pub(crate) async fn read_to_end(&mut self) -> (String, bool) {
        let mut seen = Vec::new();
        let read = timeout(Duration::from_secs(10), self.0.read_to_end(&mut seen)).await;
        let text = String::from_utf8_lossy(&seen).into_owned();
        let read = read.unwrap_or_else(|_| panic!("the connection stays open; so far: {text}"));
        (text, read.is_err())
    }
}

/// Writes these bytes on a connection of their own and reads until it is closed.
pub(crate) async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address).await;
    raw.0.write_all(bytes.as_ref()).await.ok();
    raw.read_to_end().await.0
}

/// The status of a raw answer; 0 when there was none.
pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}
