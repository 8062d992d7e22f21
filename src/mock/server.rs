//! The sockets of a mock: HTTP/1 and, by prior knowledge, HTTP/2; connections that can be reset.
use super::knobs::Knobs;
use super::work::{Mock, ResetMark, refuse};
use super::{grpc, kserve, openai, panel};
use crate::dialect::Dialect;
use crate::dialect::grpc::is_grpc;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Response, Uri};
use axum::routing::{any, get, post};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Serves until `stop`; connections still open then are closed as they are, like a server that dies.
pub async fn serve(listener: TcpListener, knobs: Knobs, stop: impl Future<Output = ()>) {
    let mock = Mock::new(knobs);
    let router = router(&mock);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    connections.spawn(converse(tcp, Arc::clone(&mock), router.clone()));
                }
                // Out of descriptors: some come back as connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

fn router(mock: &Arc<Mock>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*rest}", any(kserve::models))
        .route("/v2/models/{*rest}", any(kserve::models))
        .route("/v2", get(panel::server))
        .route("/v2/health/live", get(panel::live))
        .route("/v2/health/ready", get(panel::health))
        .route("/health", get(panel::health))
        .route("/metrics", get(panel::metrics))
        .route("/mock", get(panel::show).post(panel::turn))
        .route("/echo", post(panel::echo))
        .route("/headers", any(panel::headers))
        .route("/inference.GRPCInferenceService/{method}", post(grpc::inference))
        .route("/grpc.health.v1.Health/{method}", post(grpc::health))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(256 << 20))
        .with_state(Arc::clone(mock))
}

async fn nowhere(State(_): State<Arc<Mock>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    if headers.get(CONTENT_TYPE).is_some_and(|kind| is_grpc(kind.as_bytes())) {
        return grpc::unknown(uri.path());
    }
    refuse(Dialect::Plain, 404, "this mock has no such path")
}

async fn converse(tcp: TcpStream, mock: Arc<Mock>, router: Router) {
    drop(tcp.set_nodelay(true));
    let resets = Arc::new(AtomicBool::new(false));
    let io = Connection { tcp, resets: Arc::clone(&resets) };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let answer = router.call(request);
        let (mock, resets) = (Arc::clone(&mock), Arc::clone(&resets));
        async move {
            let Ok(mut response): Result<Response<Body>, _> = answer.await;
            if response.extensions().get::<ResetMark>().is_some() {
                resets.store(true, Relaxed);
                // hyper sends nothing after an error: HTTP/1 ends the connection, HTTP/2 the stream.
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            if let Ok(version) = HeaderValue::try_from(mock.knobs().version) {
                response.headers_mut().insert("x-mock-version", version);
            }
            Ok(response)
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    // Errors here are the client's, or wanted.
    drop(server.serve_connection(TokioIo::new(io), service).await);
}

/// A connection that, once `resets` is set, ends with RST instead of FIN.
struct Connection {
    tcp: TcpStream,
    resets: Arc<AtomicBool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.resets.load(Relaxed) {
            drop(SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)));
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.resets.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
