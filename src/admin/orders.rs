//! What may be ordered, and the new state as the answer.
use super::answer::{Answered, Fault, good};
use super::office::Office;
use super::status;
use crate::canary::Command;
use crate::control::{self, Act, Answer, CanaryVerb, Order, Question, Reload, Target};
use crate::stats::Clock as _;
use crate::table::{Shares, Table, shares_of_percents};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

type Shared = State<Arc<Office>>;
pub(super) type Body = Result<Bytes, BytesRejection>;

/// An order that its path says all of.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainOrder {
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopOrder {
    drain: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaOrder {
    model: String,
    version: String,
    replica: Option<String>,
    #[serde(rename = "for")]
    lasts: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitOrder {
    /// Percents by version.
    shares: Option<Shares>,
    #[serde(default)]
    reset: bool,
    #[serde(rename = "for")]
    lasts: Option<String>,
    reason: Option<String>,
}

pub(super) async fn reload(State(office): Shared, body: Body) -> Answered {
    let PlainOrder { reason } = optional(body)?;
    match give(&office, Order::Reload { always: true }, reason).await? {
        Some(Reload::Rejected { text, diagnostics }) => Err(Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "rejected",
            "the file has errors; the running configuration keeps serving",
        )
        .with(json!({
            "result": "rejected",
            "generation": office.current.load().generation,
            "changes": [],
            "diagnostics": diagnostics,
            "text": text,
        }))),
        Some(Reload::Applied { generation, changes }) => {
            Ok(good(&json!({"result": "applied", "generation": generation, "changes": changes})))
        }
        Some(Reload::Unchanged) | None => {
            let generation = office.current.load().generation;
            Ok(good(&json!({"result": "unchanged", "generation": generation, "changes": []})))
        }
    }
}

/// No order: a question that is too long for a path.
pub(super) async fn explain(State(office): Shared, body: Body) -> Answered {
    let question: Question = required(body)?;
    let found = control::explain(&office.current.load(), &question, office.clock.now());
    found.map(|found| good(&found)).map_err(|why| {
        let message = format!("the request goes nowhere: {why}");
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "unroutable", message)
    })
}

pub(super) async fn stop(State(office): Shared, body: Body) -> Answered {
    let StopOrder { drain, reason } = optional(body)?;
    let drain =
        drain.map(|text| duration("drain", &text)).transpose().map_err(Fault::bad_request)?;
    give(&office, Order::Stop { drain }, reason).await?;
    Ok((StatusCode::ACCEPTED, good(&json!({"draining": true}))).into_response())
}

pub(super) async fn drain(State(office): Shared, body: Body) -> Answered {
    act(&office, body, Act::Drain).await
}

pub(super) async fn undrain(State(office): Shared, body: Body) -> Answered {
    act(&office, body, Act::Undrain).await
}

pub(super) async fn canary(
    State(office): Shared,
    Path((model, verb)): Path<(String, String)>,
    body: Body,
) -> Answered {
    let PlainOrder { reason } = optional(body)?;
    let verb = match verb.as_str() {
        "start" => CanaryVerb::Start,
        "pause" => CanaryVerb::Say(Command::Pause),
        "resume" => CanaryVerb::Say(Command::Resume),
        "promote" => CanaryVerb::Say(Command::Promote),
        "abort" => CanaryVerb::Say(Command::Abort),
        other => {
            let message =
                format!("a canary knows no `{other}`; say start, pause, resume, promote or abort");
            return Err(Fault::new(StatusCode::NOT_FOUND, "unknown_verb", message));
        }
    };
    give(&office, Order::Canary { model: model.clone(), verb }, reason).await?;
    let table = office.current.load();
    let name = table.model(&model).map_or(&*model, |model| &*model.name);
    Ok(good(&json!({"model": name, "canary": status::canary(&office, name)})))
}

pub(super) async fn eject(State(office): Shared, body: Body) -> Answered {
    act(&office, body, Act::Eject).await
}

pub(super) async fn restore(State(office): Shared, body: Body) -> Answered {
    act(&office, body, Act::Restore).await
}

pub(super) async fn probe(State(office): Shared, body: Body) -> Answered {
    act(&office, body, Act::Probe).await
}

pub(super) async fn split(
    State(office): Shared,
    Path(model): Path<String>,
    body: Body,
) -> Answered {
    let SplitOrder { shares, reset, lasts, reason } = required(body)?;
    let lasts = lasts.map(|text| duration("for", &text)).transpose().map_err(Fault::bad_request)?;
    let shares = match (shares, reset) {
        (Some(shares), false) => Some(shares_of_percents(&shares).map_err(Fault::bad_request)?),
        (None, true) if lasts.is_none() => None,
        (None, true) => return Err(Fault::bad_request("`for` does not go with `reset`")),
        (Some(_), true) | (None, false) => {
            let message =
                r#"say either `shares`, such as {"v1": 90, "v2": 10}, or `"reset": true`"#;
            return Err(Fault::bad_request(message));
        }
    };
    give(&office, Order::Split { model: model.clone(), shares, lasts }, reason).await?;
    let table = office.current.load();
    Ok(good(&table.model(&model).map(|model| status::model(&office, model))))
}

async fn act(office: &Office, body: Body, act: Act) -> Answered {
    let ReplicaOrder { model, version, replica, lasts, reason } = required(body)?;
    let lasts = lasts.map(|text| duration("for", &text)).transpose().map_err(Fault::bad_request)?;
    if lasts.is_some() && !act.may_end() {
        let message = format!("`for` does not go with `{}`: it happens once", act.name());
        return Err(Fault::bad_request(message));
    }
    let target = Target { model, version, replica };
    give(office, Order::Replicas { target: target.clone(), act, lasts }, reason).await?;
    Ok(good(&state_of(office, &office.current.load(), &target)))
}

/// The target's replicas as they stand now.
fn state_of(office: &Office, table: &Table, target: &Target) -> Value {
    let model = table.model(&target.model);
    let version =
        model.and_then(|model| model.versions.iter().find(|v| *v.name == *target.version));
    let members = version.map(|version| &*version.members).unwrap_or_default();
    let named = target.replica.as_deref().map(|url| url.trim_end_matches('/'));
    let wanted = |url: &str| named.is_none_or(|named| named == url);
    let replicas: Vec<_> = members
        .iter()
        .filter(|member| wanted(&member.replica.id.url))
        .map(|member| status::replica(office, member))
        .collect();
    json!({"model": target.model, "version": target.version, "replicas": replicas})
}

/// Hands an order in. `Some` is how a reload ended.
async fn give(
    office: &Office,
    order: Order,
    reason: Option<String>,
) -> Result<Option<Reload>, Fault> {
    match office.orders.give(order, "api", reason).await {
        Answer::Done => Ok(None),
        Answer::Reloaded(reload) => Ok(Some(reload)),
        Answer::Unknown(why) => Err(Fault::new(StatusCode::NOT_FOUND, "unknown_target", why)),
        Answer::Failed(why) => Err(Fault::new(StatusCode::CONFLICT, "failed", why)),
    }
}

/// `10m`, `1h30m`, `0`.
pub(super) fn duration(key: &str, text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let parsed = text.parse::<jiff::SignedDuration>().ok();
    parsed.and_then(|duration| Duration::try_from(duration).ok()).ok_or_else(|| {
        format!("`{key}` is {text:?}, which is not a duration such as `30s` or `10m`")
    })
}

fn optional<T: DeserializeOwned + Default>(body: Body) -> Result<T, Fault> {
    let bytes = whole(body)?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(&bytes) }
}

pub(super) fn required<T: DeserializeOwned>(body: Body) -> Result<T, Fault> {
    parse(&whole(body)?)
}

fn whole(body: Body) -> Result<Bytes, Fault> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "an order fits in 1 MiB")
        }
        _ => Fault::bad_request("the body could not be read"),
    })
}

fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Fault> {
    serde_json::from_slice(bytes)
        .map_err(|error| Fault::bad_request(format!("in the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_file() {
        assert_eq!(duration("for", "10m"), Ok(Duration::from_mins(10)));
        assert_eq!(duration("for", "1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("for", "250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("for", "0"), Ok(Duration::ZERO));
        for bad in ["", "10", "-5m", "soon", "5x"] {
            assert!(duration("for", bad).is_err(), "{bad}");
        }
    }
}
