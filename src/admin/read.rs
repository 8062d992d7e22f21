//! What may be asked without changing anything.
use super::answer::{Answered, Fault, good};
use super::office::{Office, Readiness};
use super::{feed, live, mirror, status};
use crate::config::effective_yaml;
use crate::control::{Loaded, OnDisk, Running};
use crate::table::{Model, Table};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

type Shared = State<Arc<Office>>;

pub(super) async fn health() -> Response {
    good(&json!({"status": "ok"}))
}

/// Says nothing of replicas: one of them failing is no reason to take Evener out.
pub(super) async fn ready(State(office): Shared) -> Answered {
    match (office.readiness)() {
        Readiness::Serving => Ok(good(&json!({"ready": true}))),
        phase @ (Readiness::Notice | Readiness::Draining) => Err(Fault::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting_down",
            format!("on the way out ({})", phase.name()),
        )
        .with(json!({"ready": false}))),
    }
}

pub(super) async fn metrics(State(office): Shared) -> Response {
    let text = crate::observe::expose(&office.current.load(), &office.meters);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

pub(super) async fn status(State(office): Shared) -> Response {
    good(&status::status(&office, &office.current.load()))
}

pub(super) async fn model(
    State(office): Shared,
    name: Result<Path<String>, PathRejection>,
) -> Answered {
    let table = office.current.load();
    Ok(good(&status::model_alone(&office, named(&table, name)?)))
}

pub(super) async fn mirror(
    State(office): Shared,
    name: Result<Path<String>, PathRejection>,
) -> Answered {
    let table = office.current.load();
    let model = named(&table, name)?;
    mirror::report(&office, model).map(|report| good(&report)).ok_or_else(|| {
        let message = format!(
            "nothing of model `{}` is mirrored; write `mirror: {{to: VERSION}}`",
            model.name
        );
        Fault::new(StatusCode::NOT_FOUND, "no_mirror", message)
    })
}

fn named(table: &Table, name: Result<Path<String>, PathRejection>) -> Result<&Model, Fault> {
    let Path(name) = name.map_err(|_| Fault::bad_request("the model's name is not UTF-8"))?;
    known(table, &name)
}

pub(super) fn known<'a>(table: &'a Table, name: &str) -> Result<&'a Model, Fault> {
    table.model(name).map(|model| &**model).ok_or_else(|| {
        let names: Vec<&str> = table.models.iter().map(|model| &*model.name).collect();
        let message = format!("there is no model `{name}`; there are: {}", names.join(", "));
        Fault::new(StatusCode::NOT_FOUND, "model_not_found", message)
    })
}

pub(super) async fn config(State(office): Shared) -> Response {
    let table = office.current.load();
    let status = status::config(&office);
    let history: Vec<Value> = office.desk.history().iter().map(|loaded| attempt(loaded)).collect();
    good(&json!({
        "file": status.file,
        "hash": status.hash,
        "generation": table.generation,
        "loaded_at": status.loaded_at,
        "last_reload": status.last_reload,
        "yaml": effective_yaml(&table.plan),
        "running": Running::of(&table, &office.meters.canaries.load()),
        "history": history,
        "on_disk": match office.desk.on_disk() {
            OnDisk::Same => json!({"same": true}),
            OnDisk::Differs(diff) => json!({"same": false, "diff": diff}),
            OnDisk::Nothing => json!({"same": false, "diff": null}),
        },
        // As `evener check` prints it, with the lines.
        "rejected": office.desk.last().rejected.as_ref().map(|rejected| rejected.text.clone()),
    }))
}

fn attempt(loaded: &Loaded) -> Value {
    let diagnostics = loaded.rejected.as_ref().map(|rejected| rejected.diagnostics.clone());
    json!({
        "at": loaded.at,
        "result": loaded.result.name(),
        "generation": loaded.generation,
        "hash": loaded.hash,
        "who": loaded.who,
        "changes": loaded.changes,
        "diagnostics": diagnostics.unwrap_or_else(|| json!([])),
    })
}

/// `?model=NAME`: with the replicas of that one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Look {
    model: Option<String>,
}

pub(super) async fn live(
    State(office): Shared,
    look: Result<Query<Look>, QueryRejection>,
) -> Answered {
    let Query(Look { model }) = look
        .map_err(|_| Fault::bad_request("ask for `/api/v1/live` or `/api/v1/live?model=NAME`"))?;
    let table = office.current.load();
    let model = model.map(|name| own_name(&table, name));
    Ok(live::follow(Arc::clone(&office), model))
}

/// The name of the model itself, whichever it was asked for by.
pub(super) fn own_name(table: &Table, asked: String) -> String {
    table.model(&asked).map_or(asked, |model| model.name.to_string())
}

pub(super) async fn events(State(office): Shared, headers: HeaderMap) -> Response {
    if feed::is_wanted(&headers) {
        let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
        return feed::follow(Arc::clone(&office.events), seen);
    }
    good(&json!({"events": office.events.recent()}))
}
