//! KServe's V1 and V2 as model servers speak them: predict, infer, generate, metadata, readiness.
use super::events;
use super::openai::word;
use super::panel::ready;
use super::work::{Mock, Tokens, refuse};
use crate::dialect::{Dialect, PathFacts, read_path};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// Everything under `/v1/models/` and `/v2/models/`.
pub(super) async fn models(
    State(mock): State<Arc<Mock>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let facts = match read_path(uri.path()) {
        Ok(facts) => facts,
        Err(problem) => return refuse(Dialect::KServeV2, 400, &problem.to_string()),
    };
    let dialect = facts.dialect();
    let PathFacts { model: Some(named), .. } = facts else {
        return refuse(Dialect::KServeV2, 404, "no model is named in the path");
    };
    if method == Method::GET {
        let is_ready = uri.path().trim_end_matches('/').ends_with("/ready");
        return if is_ready {
            ready(&mock)
        } else {
            Json(metadata(&mock, &named.name)).into_response()
        };
    }
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(dialect, 400, &format!("the body is not JSON: {error}")),
    };
    let task = uri.path().rsplit(['/', ':']).next().unwrap_or_default();
    match task {
        "predict" | "classify" | "regress" | "explain" => predict(&mock, dialect, &request).await,
        "infer" => infer(&mock, &named.name, &request).await,
        "generate" => generate(&mock, &named.name, false).await,
        "generate_stream" => generate(&mock, &named.name, true).await,
        _ => refuse(dialect, 404, &format!("this mock has no `{task}`")),
    }
}

fn metadata(mock: &Mock, model: &str) -> Value {
    json!({
        "name": model, "ready": mock.knobs().healthy, "platform": "evener-mock",
        "versions": [mock.knobs().version], "inputs": [], "outputs": [],
        "id": model, "object": "model", "owned_by": "evener",
    })
}

/// V1: as many predictions as instances, each the sum of its numbers.
async fn predict(mock: &Arc<Mock>, dialect: Dialect, request: &Value) -> Response {
    let Some(instances) = request["instances"].as_array().or_else(|| request["inputs"].as_array())
    else {
        return refuse(dialect, 400, "`instances` is missing or not an array");
    };
    match mock.work(Tokens::None).await {
        Ok(_) => {
            let predictions: Vec<f64> = instances.iter().map(sum).collect();
            Json(json!({"predictions": predictions})).into_response()
        }
        Err(fault) => fault.response(dialect),
    }
}

fn sum(value: &Value) -> f64 {
    match value {
        Value::Array(items) => items.iter().map(sum).sum(),
        Value::Object(fields) => fields.values().map(sum).sum(),
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::String(_) => 0.0,
    }
}

/// V2: each output is the input at its place, under the name that was asked for.
async fn infer(mock: &Arc<Mock>, model: &str, request: &Value) -> Response {
    let Some(inputs) = request["inputs"].as_array() else {
        return refuse(Dialect::KServeV2, 400, "`inputs` is missing or not an array");
    };
    let work = match mock.work(Tokens::None).await {
        Ok(work) => work,
        Err(fault) => return fault.response(Dialect::KServeV2),
    };
    let output = |(i, input): (usize, &Value)| {
        let asked = &request["outputs"][i]["name"];
        json!({
            "name": if asked.is_null() { &input["name"] } else { asked },
            "shape": input["shape"], "datatype": input["datatype"], "data": input["data"],
        })
    };
    let outputs: Vec<Value> = inputs.iter().enumerate().map(output).collect();
    let version = &work.knobs.version;
    let mut answer = json!({"model_name": model, "model_version": version, "outputs": outputs});
    if let Some(id) = request.get("id") {
        answer["id"] = id.clone();
    }
    Json(answer).into_response()
}

/// Triton's generate extension.
async fn generate(mock: &Arc<Mock>, model: &str, streams: bool) -> Response {
    let at_most = None;
    let tokens = if streams { Tokens::Stream { at_most } } else { Tokens::Whole { at_most } };
    let work = match mock.work(tokens).await {
        Ok(work) => work,
        Err(fault) => return fault.response(Dialect::KServeV2),
    };
    let (model, version) = (model.to_owned(), work.knobs.version.clone());
    let answer = move |text: String| json!({"model_name": model, "model_version": version, "text_output": text});
    if streams {
        return events::stream(work, move |i| answer(word(i)).to_string(), Vec::new());
    }
    Json(answer((0..work.tokens).map(word).collect())).into_response()
}
