//! What a mock tells of itself: its knobs, health, metrics, and the requests it received.
use super::knobs::Patch;
use super::work::{Mock, refuse};
use crate::dialect::Dialect;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// `GET /mock`: knobs and counters.
pub(super) async fn show(State(mock): State<Arc<Mock>>) -> Response {
    let mut panel = serde_json::to_value(mock.knobs()).expect("knobs are JSON");
    panel["requests_total"] = json!(mock.requests_total());
    panel["in_flight"] = json!(mock.in_flight());
    Json(panel).into_response()
}

/// `POST /mock`: turns the knobs that the body names.
pub(super) async fn turn(State(mock): State<Arc<Mock>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Patch>(&body) {
        Ok(patch) => mock.turn(patch),
        Err(error) => return refuse(Dialect::Plain, 400, &error.to_string()),
    }
    show(State(mock)).await
}

pub(super) async fn health(State(mock): State<Arc<Mock>>) -> Response {
    ready(&mock)
}

pub(super) async fn live() -> Response {
    Json(json!({"live": true})).into_response()
}

pub(super) fn ready(mock: &Mock) -> Response {
    let healthy = mock.knobs().healthy;
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": healthy}))).into_response()
}

pub(super) async fn server(State(mock): State<Arc<Mock>>) -> Response {
    let version = mock.knobs().version;
    Json(json!({"name": "evener-mock", "version": version, "extensions": []})).into_response()
}

/// `GET /metrics`, with vLLM's names.
pub(super) async fn metrics(State(mock): State<Arc<Mock>>) -> Response {
    let (running, waiting) = mock.counts();
    let slots = mock.knobs().slots.unwrap_or(256).max(1);
    let usage = (f64::from(running) / f64::from(slots)).min(1.0);
    let gauges = [
        ("num_requests_running", "requests that run", f64::from(running)),
        ("num_requests_waiting", "requests that wait for a slot", waiting as f64),
        ("kv_cache_usage_perc", "share of the slots in use, from 0 to 1", usage),
    ];
    let text = gauges.map(|(name, says, value)| {
        let name = format!("vllm:{name}");
        let label = r#"{model_name="mock"}"#;
        format!("# HELP {name} {says}\n# TYPE {name} gauge\n{name}{label} {value}\n")
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.concat())
        .into_response()
}

/// `POST /echo`: the body, as it came.
pub(super) async fn echo(headers: HeaderMap, body: Bytes) -> Response {
    let mut response = body.into_response();
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

/// `/headers`, with any method: the head that arrived, as JSON. A repeated header is joined by commas.
pub(super) async fn headers(request: Request) -> Response {
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        headers.insert(name.to_string(), Value::from(values.join(", ")));
    }
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    Json(json!({
        "method": request.method().as_str(), "path": path, "headers": headers,
        "http": format!("{:?}", request.version()),
    }))
    .into_response()
}
