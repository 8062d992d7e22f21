//! An operator's own request: sent through the data path as a client would, and what came back of it.
use super::answer::{Answered, Fault, good};
use super::office::Office;
use super::orders::{Body, duration, required};
use crate::config::is_secret_name;
use crate::stats::Clock as _;
use crate::table::{Kind, Table};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

type Shared = State<Arc<Office>>;

/// Tests at once.
const AT_ONCE: usize = 4;
static RUNNING: Semaphore = Semaphore::const_new(AT_ONCE);
/// How much of an answer is shown.
const SHOWN: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(10);
/// Stands where a secret was.
const MASK: &str = "***";
/// These frame the message, which is Evener's to do.
const FRAMING: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestOrder {
    /// What a test of this model sends by default is sent, where `path` does not say otherwise.
    model: Option<String>,
    version: Option<String>,
    replica: Option<String>,
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text as it stands, anything else as JSON.
    body: Option<Value>,
    timeout: Option<String>,
    reason: Option<String>,
}

/// A request that a model of some kind can be expected to answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Usual {
    name: &'static str,
    method: &'static str,
    path: String,
    body: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    model: String,
}

/// What may be sent to a model, the default first.
pub(super) async fn usual(
    State(office): Shared,
    about: Result<Query<About>, QueryRejection>,
) -> Answered {
    let Query(About { model }) =
        about.map_err(|_| Fault::bad_request("ask for `/api/v1/test?model=NAME`"))?;
    let usual = usual_of(&office.current.load(), &model)?;
    Ok(good(&json!({"requests": usual})))
}

fn usual_of(table: &Table, name: &str) -> Result<Vec<Usual>, Fault> {
    let model = super::read::known(table, name)?;
    Ok(usual_requests(name, model.plan.kind))
}

fn usual_requests(model: &str, kind: Kind) -> Vec<Usual> {
    let post = |name, path: &str, body| Usual {
        name,
        method: "POST",
        path: path.to_owned(),
        body: Some(body),
    };
    let get = |name, path| Usual { name, method: "GET", path, body: None };
    let talk = [
        post(
            "OpenAI chat completion",
            "/v1/chat/completions",
            json!({"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}),
        ),
        post(
            "OpenAI completion",
            "/v1/completions",
            json!({"model": model, "prompt": "Hello", "max_tokens": 16}),
        ),
    ];
    let state = [
        get("KServe V2 readiness", format!("/v2/models/{model}/ready")),
        get("KServe V2 metadata", format!("/v2/models/{model}")),
        get("KServe V1 status", format!("/v1/models/{model}")),
    ];
    let in_path = |b: u8| b.is_ascii_alphanumeric() || b"-._~:@".contains(&b);
    let state = state.into_iter().filter(|_| model.bytes().all(in_path));
    match kind {
        Kind::Llm => talk.into(),
        Kind::Auto => talk.into_iter().chain(state).collect(),
        Kind::Predict => state.collect(),
        Kind::Raw => vec![get("plain", "/".to_owned())],
    }
}

/// What is sent.
#[derive(Debug)]
struct Sent {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

/// Sends a request through the data path, and tells what came of it.
pub(super) async fn send(State(office): Shared, body: Body) -> Answered {
    let order: TestOrder = required(body)?;
    let limit = match &order.timeout {
        Some(text) => duration("timeout", text).map_err(Fault::bad_request)?,
        None => TIMEOUT,
    };
    if limit.is_zero() || limit > LONGEST {
        return Err(Fault::bad_request("`timeout` is more than 0 and at most 10m"));
    }
    let reason = order.reason.clone();
    let sent = compose(&office.current.load(), order)?;
    let Ok(_turn) = RUNNING.try_acquire() else {
        let message = format!("{AT_ONCE} tests run already; wait for one to end");
        return Err(Fault::new(StatusCode::TOO_MANY_REQUESTS, "too_many_tests", message));
    };
    let shown = sent.shown();
    let what = format!("{} {}", sent.method, sent.path.split('?').next().unwrap_or_default());
    let told = exchange(&office, sent, limit).await;
    let became = told.as_ref().map_or_else(|_| "was not answered".to_owned(), in_words);
    office.events.announce("test", format!("a test, {what}, {became}"), "api", reason.as_deref());
    let mut told = told?;
    told["request"] = shown;
    Ok(good(&told))
}

/// What came of it, for the timeline.
fn in_words(told: &Value) -> String {
    let by = match (told["version"].as_str(), told["replica"].as_str()) {
        (Some(version), Some(replica)) => format!(" by {version}, {replica},"),
        (Some(version), None) => format!(" for {version}"),
        (None, _) => String::new(),
    };
    let millis = told["duration_ms"].as_f64().unwrap_or_default();
    format!("was answered {}{by} in {millis:.0} ms", told["status"])
}

fn compose(table: &Table, order: TestOrder) -> Result<Sent, Fault> {
    let TestOrder { model, version, replica, method, path, headers, body, .. } = order;
    let usual = match (&model, &path) {
        (Some(model), None) => {
            let first = usual_of(table, model)?.into_iter().next();
            first.ok_or_else(|| {
                Fault::bad_request(
                    "this model's name does not fit into a path; say which `path` to ask",
                )
            })?
        }
        (_, Some(path)) => {
            let method = if body.is_some() { "POST" } else { "GET" };
            Usual { name: "", method, path: path.clone(), body: None }
        }
        (None, None) => return Err(Fault::bad_request("say `model`, `path` or both")),
    };
    if !usual.path.starts_with('/') {
        let message = format!("`path` is {:?}, which does not begin with `/`", usual.path);
        return Err(Fault::bad_request(message));
    }
    let method = method.as_deref().unwrap_or(usual.method);
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
        .map_err(|_| Fault::bad_request(format!("`method` is {method:?}, which is none")))?;
    let body = match body.or(usual.body) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
    };
    let mut head = HeaderMap::new();
    for (name, value) in headers {
        let named = HeaderName::try_from(&name).ok().filter(|name| !FRAMING.contains(name));
        let named = named.ok_or_else(|| {
            Fault::bad_request(format!("`{name}` is no header that a test may have"))
        })?;
        let value = value
            .parse()
            .map_err(|_| Fault::bad_request(format!("the value of `{name}` is none of HTTP")))?;
        head.insert(named, value);
    }
    let pins = [("x-evener-version", version), ("x-evener-replica", replica)];
    for (name, value) in pins.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let value = value.trim_end_matches('/').parse();
        let value = value.map_err(|_| {
            Fault::bad_request(format!("`{}` has a name that is none", &name["x-evener-".len()..]))
        })?;
        head.insert(name, value);
    }
    head.entry(header::HOST).or_insert(header::HeaderValue::from_static("localhost"));
    if !body.is_empty() {
        let json = header::HeaderValue::from_static("application/json");
        head.entry(header::CONTENT_TYPE).or_insert(json);
    }
    Ok(Sent { method, path: usual.path, headers: head, body })
}

impl Sent {
    /// As the answer repeats it.
    fn shown(&self) -> Value {
        json!({
            "method": self.method.as_str(),
            "path": self.path,
            "headers": shown(&self.headers, |_| true),
            "body": self.body,
        })
    }
}

/// Headers as pairs, secrets masked.
fn shown(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let wanted = headers.iter().filter(|(name, _)| wanted(name.as_str()));
    let text = |name: &HeaderName, value: &header::HeaderValue| {
        let masked = is_secret_name(name.as_str());
        if masked {
            MASK.to_owned()
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        }
    };
    wanted.map(|(name, value)| (name.to_string(), text(name, value))).collect()
}

async fn exchange(office: &Office, sent: Sent, limit: Duration) -> Result<Value, Fault> {
    let began = office.clock.now();
    let took = || office.clock.now().since(began);
    let millis = || (took().as_secs_f64() * 1e6).round() / 1e3;
    let nothing = |why: String| Fault::new(StatusCode::BAD_GATEWAY, "no_answer", why);
    let stream = (office.connect)()
        .map_err(|error| nothing(format!("the data path cannot be reached: {error}")))?;
    let Sent { method, path, headers, body } = sent;
    let mut request = Request::builder().method(method).uri(&path);
    if let Some(head) = request.headers_mut() {
        *head = headers;
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| Fault::bad_request(format!("`path` is {path:?}, which is none")))?;
    // Dropped with it: whoever waits no longer closes the connection.
    let mut connections = JoinSet::new();
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        connections.spawn(connection);
        sender.send_request(request).await
    };
    let answer = timeout(limit, answer).await;
    let answer = answer.map_err(|_| {
        let message = format!("no answer within {limit:?}");
        Fault::new(StatusCode::GATEWAY_TIMEOUT, "no_answer", message)
    })?;
    let answer = answer.map_err(|error| nothing(format!("no answer: {error}")))?;
    let (head, mut body) = answer.into_parts();
    let mut kept = Vec::new();
    let (mut first, mut length) = (None, 0_usize);
    let reading = read(&mut body, |bytes| {
        first.get_or_insert_with(millis);
        length += bytes.len();
        let room = SHOWN - kept.len();
        kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
    });
    let broke = match timeout(limit.saturating_sub(took()), reading).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some("the answer broke off".to_owned()),
        Err(_) => Some(format!("it was not done within {limit:?}")),
    };
    let said = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    Ok(json!({
        "status": head.status.as_u16(),
        "error": said("x-evener-error"),
        "model": said("x-evener-model"),
        "version": said("x-evener-version"),
        "replica": said("x-evener-replica"),
        "attempts": said("x-evener-attempts").and_then(|n| n.parse::<u32>().ok()),
        "fail_open": said("x-evener-fail-open").is_some(),
        "request_id": said("x-request-id"),
        "duration_ms": millis(),
        "first_byte_ms": first,
        "headers": shown(&head.headers, |name| !name.starts_with("x-evener-")),
        "body": as_text(&kept, length > kept.len()),
        "bytes": length,
        "cut": length > kept.len(),
        "incomplete": broke,
    }))
}

async fn read(body: &mut Incoming, mut take: impl FnMut(&[u8])) -> hyper::Result<()> {
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            take(bytes);
        }
    }
    Ok(())
}

/// `None`: it is no text. One that was cut may end within a character.
fn as_text(bytes: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_asked_what_its_kind_answers() {
        let first = |kind| usual_requests("m", kind)[0].path.clone();
        assert_eq!(first(Kind::Auto), "/v1/chat/completions");
        assert_eq!(first(Kind::Llm), "/v1/chat/completions");
        assert_eq!(first(Kind::Predict), "/v2/models/m/ready");
        assert_eq!(first(Kind::Raw), "/");
        assert_eq!(usual_requests("a/b", Kind::Predict), [], "no path can name it");
    }

    #[test]
    fn only_a_cut_text_may_end_within_a_character() {
        let half = &"é".as_bytes()[..1];
        assert_eq!((as_text(half, true), as_text(half, false)), (Some(""), None));
        assert_eq!(as_text(b"\xff", true), None);
    }

    #[test]
    fn secrets_among_headers_are_masked() {
        let mut headers = HeaderMap::new();
        headers.insert("set-cookie", "session=s3cret".parse().unwrap());
        headers.insert("x-team", "a".parse().unwrap());
        let pairs = [("set-cookie", MASK), ("x-team", "a")];
        assert_eq!(shown(&headers, |_| true), pairs.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}
