//! The admin socket: every request passes the guard, every answer carries the same strict headers.
use super::answer::Fault;
use super::guard::{Knock, judge};
use super::office::Office;
use super::{decisions, live, orders, page, read, test_request};
use crate::stats::Clock as _;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// From the first byte to the end of the head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that run at the end may take so long.
const PARTING: Duration = Duration::from_secs(1);
const LONGEST_BODY: usize = 1 << 20;

const STRICT: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Serves until `stop`; answers that run then are finished, streams are cut.
pub async fn serve(listener: TcpListener, office: Arc<Office>, stop: impl Future<Output = ()>) {
    let router = router(&office);
    let (end, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut watching = std::pin::pin!(live::watch(&office));
    loop {
        // The first look comes before the first who asks.
        tokio::select! { biased;
            () = &mut stop => break,
            () = &mut watching => {}
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((tcp, peer)) => {
                    let (office, router) = (Arc::clone(&office), router.clone());
                    connections.spawn(converse(tcp, peer, office, router, ended.clone()));
                }
                // Out of descriptors: some come back as connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    drop((listener, end));
    let last = async { while connections.join_next().await.is_some() {} };
    // What is left after that is dropped, and with it cut.
    tokio::time::timeout(PARTING, last).await.ok();
}

fn router(office: &Arc<Office>) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(read::health))
        .route("/readyz", get(read::ready))
        .route("/metrics", get(read::metrics))
        .route("/api/v1/status", get(read::status))
        .route("/api/v1/models/{model}", get(read::model))
        .route("/api/v1/models/{model}/mirror", get(read::mirror))
        .route("/api/v1/config", get(read::config))
        .route("/api/v1/events", get(read::events))
        .route("/api/v1/decisions", get(decisions::decisions))
        .route("/api/v1/live", get(read::live))
        .route("/api/v1/explain", post(orders::explain))
        .route("/api/v1/test", get(test_request::usual).post(test_request::send))
        .route("/api/v1/reload", post(orders::reload))
        .route("/api/v1/models/{model}/canary/{verb}", post(orders::canary))
        .route("/api/v1/models/{model}/split", post(orders::split))
        .route("/api/v1/stop", post(orders::stop))
        .route("/api/v1/replicas/drain", post(orders::drain))
        .route("/api/v1/replicas/undrain", post(orders::undrain))
        .route("/api/v1/replicas/eject", post(orders::eject))
        .route("/api/v1/replicas/restore", post(orders::restore))
        .route("/api/v1/replicas/probe", post(orders::probe));
    for path in page::paths() {
        router = router.route(path, get(page::show));
    }
    router
        .fallback(async || Fault::new(StatusCode::NOT_FOUND, "not_found", "there is no such path"))
        .method_not_allowed_fallback(async || {
            let message = "this path takes another method";
            Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(Arc::clone(office))
}

async fn converse(
    tcp: TcpStream,
    peer: SocketAddr,
    office: Arc<Office>,
    router: Router,
    mut ended: watch::Receiver<()>,
) {
    tcp.set_nodelay(true).ok();
    let Ok(local) = tcp.local_addr() else { return };
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = knock(&office, &request, peer.ip(), local.ip()).map(|()| router.call(request));
        async {
            let mut response: Response<Body> = match answer {
                Ok(answer) => answer.await.unwrap_or_else(|never: Infallible| match never {}),
                Err(fault) => fault.into_response(),
            };
            response.headers_mut().extend(STRICT);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = http.serve_connection(TokioIo::new(tcp), service);
    let mut connection = std::pin::pin!(connection);
    // Errors here are the client's.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}

/// The plan is read anew each time: a reload may have changed the token.
fn knock(
    office: &Office,
    request: &Request<Incoming>,
    peer: IpAddr,
    local: IpAddr,
) -> Result<(), Fault> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let plan = &office.current.load().plan;
    let knock = Knock { method, uri, headers, peer, local };
    judge(&plan.admin, &knock).map_err(|denied| {
        office.turned_away.note(&knock, denied, office.clock.now());
        Fault::new(denied.status(), denied.code(), denied.message())
    })
}
