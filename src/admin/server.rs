//! The admin socket: every request passes the guard, every answer carries the same strict headers.
use super::answer::Fault;
use super::guard::{Knock, judge};
use super::office::Office;
use super::patient::Patient;
use super::seats::{Busy, Place, Seat, Seats, Work};
use super::{decisions, feed, live, orders, page, read, test_request};
use crate::observe::{Repeats, Task};
use crate::stats::Clock as _;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// For the head of a request, and as long may a connection be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For the body of an order.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a head.
const LONGEST_HEAD: usize = 32 << 10;
/// The pause after the process ran out of descriptors: some come back as connections end.
const OUT_OF_FILES: Duration = Duration::from_millis(50);
/// Between two log lines about connections that cannot be accepted.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Answers that run at the end may take so long.
const PARTING: Duration = Duration::from_secs(1);
/// Whoever has only just connected when the end comes may still ask for so long.
const LAST_GREETING: Duration = Duration::from_millis(200);
const LONGEST_BODY: usize = 1 << 20;

const HEALTH: &str = "/healthz";
const READY: &str = "/readyz";
const METRICS: &str = "/metrics";

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

/// Serves until `stop`; answers that run then are finished, streams are cut. Looks at everything before it returns: so
/// whoever is told that Evener serves finds all that comes of it.
pub fn serve(
    listener: TcpListener,
    office: Arc<Office>,
    stop: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    live::look(&office);
    serve_all(listener, office, stop)
}

async fn serve_all(listener: TcpListener, office: Arc<Office>, stop: impl Future<Output = ()>) {
    let router = router(&office);
    let (end, ended) = watch::channel(());
    let (seats, mut connections) = (Arc::<Seats>::default(), JoinSet::new());
    let mut unaccepted = Repeats::new(BETWEEN_LINES);
    let mut stop = std::pin::pin!(stop);
    let mut watching = std::pin::pin!(Task::Admin.keep_running(|| live::watch(&office)));
    loop {
        tokio::select! { biased;
            () = &mut stop => break,
            () = &mut watching => {}
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    let (office, router, seat) = (Arc::clone(&office), router.clone(), seats.take());
                    let id = seat.id;
                    let talk = converse(tcp, peer, office, router, seat, ended.clone());
                    seats.bind(id, connections.spawn(Task::Admin.name_of(talk)));
                }
                Err(error) => {
                    if let Some(unlogged) = unaccepted.note((), office.clock.now()) {
                        tracing::warn!(%error, unlogged, "cannot accept admin connections; trying again");
                    }
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
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
        .route(HEALTH, get(read::health))
        .route(READY, get(read::ready))
        .route(METRICS, get(read::metrics))
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
    seat: Seat,
    mut ended: watch::Receiver<()>,
) {
    tcp.set_nodelay(true).ok();
    let Ok(local) = tcp.local_addr() else { return };
    let router = TowerToHyperService::new(router);
    let asked = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        asked.notify_one();
        let path = request.uri().path();
        let busy = seat.begin(if path == METRICS { Work::Scrape } else { Work::Short });
        let reserved = seat.place == Place::Reserved && !is_for_all_places(path);
        let knock = knock(&office, &request, peer.ip(), local.ip());
        let router = &router;
        async move {
            let answer = match knock {
                Err(fault) => Err(fault),
                Ok(()) if reserved => Err(no_place("connections are busy; close some pages")),
                Ok(()) => match whole(request).await {
                    Ok(request) => Ok(router.call(request).await),
                    Err(fault) => Err(fault),
                },
            };
            let mut response: Response<Body> = match answer {
                Ok(answer) => answer.unwrap_or_else(|never: Infallible| match never {}),
                Err(fault) => fault.into_response(),
            };
            if is_stream(&response) && !busy.streams() {
                response =
                    no_place("pages or commands follow what happens; close some").into_response();
            }
            response.headers_mut().extend(STRICT);
            Ok::<_, Infallible>(response.map(|body| Answer { body, _busy: busy }))
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(LONGEST_HEAD);
    let connection = http.serve_connection(TokioIo::new(Patient::new(tcp)), service);
    let mut connection = std::pin::pin!(connection);
    // Errors here are the client's.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.changed() => {}
    }
    // The socket goes on to a process that takes over: a client that met this one instead must not pay for that.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = asked.notified() => {}
        () = tokio::time::sleep(LAST_GREETING) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}

fn is_for_all_places(path: &str) -> bool {
    [HEALTH, READY, METRICS].contains(&path)
}

fn no_place(why: &str) -> Fault {
    Fault::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", format!("too many {why}"))
}

fn is_stream(response: &Response<Body>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind == feed::EVENT_STREAM)
}

/// The request with the whole of its body, which only orders have.
async fn whole(request: Request<Incoming>) -> Result<Request<Body>, Fault> {
    let (head, body) = request.into_parts();
    if head.method.is_safe() {
        return Ok(Request::from_parts(head, Body::empty()));
    }
    let reading = Limited::new(body, LONGEST_BODY).collect();
    let read = tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(|_| {
        let message = format!("the body was not here within {BODY_TIMEOUT:?}");
        Fault::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    })?;
    let bytes = read.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = "an order fits in 1 MiB";
            Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        } else {
            Fault::bad_request("the body could not be read")
        }
    })?;
    Ok(Request::from_parts(head, Body::from(bytes.to_bytes())))
}

/// A body that keeps its connection busy until it is sent.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
