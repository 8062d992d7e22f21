//! The admin listener over a real socket, with an office built by hand.
#![expect(clippy::unwrap_used, reason = "what starts and asks it is test code too")]

mod commands;

use arc_swap::ArcSwap;
use bytes::Bytes;
use evener::admin::{Live, Office, Readiness, Status, TurnedAway, serve};
use evener::config::parse_text;
use evener::control::{Act, Answer, Desk, Loaded, Order, Orders, Rejected, Reload};
use evener::fleet::Fleet;
use evener::observe::{Events, Logs, Meters, ReloadResult, stamp};
use evener::stats::{Moment, MonotonicClock};
use evener::table::{Current, Member, Overrides, Table};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TWO: &str = "
listeners: [{address: '127.0.0.1:0'}]
models:
  chat:
    aliases: [gpt]
    versions: {v1: ['http://a:1', {url: 'http://b:1', slots: 4}], v2: ['http://c:1']}
    split: {v1: 95, v2: 5}
";

struct Site {
    address: SocketAddr,
    current: Current,
    events: Arc<Events>,
    ending: Arc<AtomicBool>,
    token: Option<&'static str>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// Obeys as the writer would, as far as these tests look.
fn obey(current: &Current, order: &Order) -> Answer {
    match order {
        Order::Replicas { target, act, .. } => {
            let table = current.load();
            let model = table.models.iter().find(|m| *m.name == *target.model);
            let version =
                model.and_then(|m| m.versions.iter().find(|v| *v.name == *target.version));
            let Some(version) = version else {
                return Answer::Unknown(format!("there is no `{target}`"));
            };
            for Member { replica, .. } in &version.members {
                if target.replica.as_deref().is_none_or(|url| url == &*replica.id.url) {
                    replica.drain(*act == Act::Drain, Some("by an operator"), Moment::ZERO);
                }
            }
            Answer::Done
        }
        Order::Reload { .. } => Answer::Reloaded(Reload::Rejected {
            text: "error[unknown-key]: no\n".to_owned(),
            diagnostics: json!([{"severity": "error", "code": "unknown-key"}]),
        }),
        Order::Stop { .. } | Order::Canary { .. } | Order::Split { .. } | Order::ReopenLogs => {
            Answer::Done
        }
    }
}

async fn start(text: &str, token: Option<&'static str>) -> Site {
    let plan = Arc::new(parse_text(text.to_owned(), "test.yaml", &|_| None).unwrap().plan);
    let (over, fleet) = (Overrides::default(), Fleet::default());
    let table = Table::build(1, &plan, &over, &fleet, None, &mut || 0, Moment::ZERO);
    let current: Current = Arc::new(ArcSwap::from_pointee(table));
    let first = Loaded {
        at: stamp(),
        result: ReloadResult::Rejected,
        generation: 1,
        hash: "abc".to_owned(),
        who: "file".to_owned(),
        changes: Vec::new(),
        rejected: Some(Rejected {
            text: String::new(),
            diagnostics: json!([{"severity": "error", "code": "unknown-key", "message": "no"}]),
        }),
    };
    let (events, ending) = (Arc::new(Events::default()), Arc::new(AtomicBool::default()));
    let (writer, end) = (Arc::clone(&current), Arc::clone(&ending));
    let meters = Arc::new(Meters::default());
    let logs = Logs::open(&current.load().plan, &meters).unwrap();
    let office = Arc::new(Office {
        current: Arc::clone(&current),
        meters,
        logs: Arc::new(logs),
        events: Arc::clone(&events),
        desk: Arc::new(Desk::new("test.yaml".into(), first, String::new())),
        orders: Orders::answered(move |order, _| obey(&writer, order)),
        live: Live::default(),
        turned_away: TurnedAway::default(),
        descriptor_limit: 1024,
        started: stamp(),
        clock: MonotonicClock::new(),
        listeners: Box::new(|| vec![("public".to_owned(), "127.0.0.1:8080".to_owned())]),
        connect: Box::new(|| Err(std::io::ErrorKind::Unsupported.into())),
        has_predecessor: Box::new(|| false),
        readiness: Box::new(move || {
            if end.load(Relaxed) { Readiness::Draining } else { Readiness::Serving }
        }),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let stopped = async { drop(stopped.await) };
    let served = tokio::spawn(serve(listener, office, stopped));
    Site { address, current, events, ending, token, stop, served }
}

impl Site {
    async fn send(
        &self,
        method: &str,
        path: &str,
        head: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !head.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        sender.send_request(request.body(body).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        text(self.send("GET", path, &[], "").await).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let head = [("content-type", "application/json")];
        let (status, text) = text(self.send("POST", path, &head, &body.to_string()).await).await;
        (status, serde_json::from_str(&text).unwrap())
    }
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn code_of(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    value["error"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_status_has_the_promised_shape() {
    let site = start(TWO, None).await;
    let table = site.current.load();
    table.models[0].versions[0].state.served.fetch_add(3, Relaxed);
    table.models[0].versions[1].state.served.fetch_add(1, Relaxed);
    let (status, text) = site.get("/api/v1/status").await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!((&value["ready"], &value["draining"]), (&json!(true), &json!(false)));
    let listener = json!({"name": "public", "address": "127.0.0.1:8080", "scheme": "http"});
    assert_eq!(value["listeners"], json!([listener]));
    assert_eq!(value["config"]["file"], "test.yaml");
    assert_eq!(value["config"]["last_reload"]["result"], "rejected");
    assert_eq!(value["config"]["last_reload"]["diagnostics"][0]["code"], "unknown-key");
    let model = &value["models"][0];
    assert_eq!((&model["name"], &model["aliases"]), (&json!("chat"), &json!(["gpt"])));
    assert_eq!(model["canary"], Value::Null);
    let version = &model["versions"][0];
    assert_eq!(version["share"], json!(95.0));
    assert_eq!(version["configured_share"], json!(95.0));
    assert_eq!(version["observed_share"], json!(75.0));
    let replica = &version["replicas"][1];
    assert_eq!((&replica["url"], &replica["state"]), (&json!("http://b:1"), &json!("starting")));
    assert_eq!((&replica["reason"], &replica["slots"]), (&Value::Null, &json!(4)));
    assert_eq!((&replica["weight"], &replica["slowness"]), (&json!(1.0), &json!(1.0)));
    let typed: Status = serde_json::from_str(&text).unwrap();
    assert_eq!(typed.models[0].versions[1].replicas.len(), 1);
}

#[tokio::test]
async fn one_model_is_shown_by_name_or_alias() {
    let site = start(TWO, None).await;
    let (status, text) = site.get("/api/v1/models/gpt").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#""name":"chat""#), "{text}");
    let (status, text) = site.get("/api/v1/models/nope").await;
    assert_eq!((status, code_of(&text).as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn readiness_fails_on_the_way_out_and_health_does_not() {
    let site = start(TWO, None).await;
    assert_eq!(site.get("/readyz").await.0, 200);
    site.ending.store(true, Relaxed);
    assert_eq!(site.get("/readyz").await.0, 503);
    assert_eq!(site.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn a_drain_answers_with_the_new_state_of_its_targets() {
    let site = start(TWO, None).await;
    let one = json!({"model": "chat", "version": "v1", "replica": "http://b:1"});
    let (status, answer) = site.post("/api/v1/replicas/drain", &one).await;
    assert_eq!((status, answer["replicas"].as_array().unwrap().len()), (200, 1));
    assert_eq!(answer["replicas"][0]["state"], "draining");
    let (_, answer) = site.post("/api/v1/replicas/undrain", &one).await;
    assert_eq!(answer["replicas"][0]["state"], "starting");
    let (status, answer) =
        site.post("/api/v1/replicas/drain", &json!({"model": "chat", "version": "v9"})).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("unknown_target")));
    let (status, _) = site.post("/api/v1/replicas/drain", &json!({"model": "chat"})).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_rejected_reload_is_422_with_its_diagnostics() {
    let site = start(TWO, None).await;
    let (status, answer) = site.post("/api/v1/reload", &json!({"reason": "try"})).await;
    assert_eq!((status, &answer["result"]), (422, &json!("rejected")));
    assert_eq!(answer["diagnostics"][0]["code"], "unknown-key");
    assert_eq!(answer["error"]["code"], "rejected");
}

#[tokio::test]
async fn a_stop_takes_a_duration_and_nothing_unknown() {
    let site = start(TWO, None).await;
    let (status, answer) = site.post("/api/v1/stop", &json!({"drain": "10m"})).await;
    assert_eq!((status, answer), (202, json!({"draining": true})));
    assert_eq!(site.post("/api/v1/stop", &json!({"drain": "soon"})).await.0, 400);
    assert_eq!(site.post("/api/v1/stop", &json!({"dain": "10m"})).await.0, 400);
}

#[tokio::test]
async fn unknown_paths_methods_and_long_bodies_are_errors_in_json() {
    let site = start(TWO, None).await;
    let (status, text) = site.get("/nope").await;
    assert_eq!((status, code_of(&text).as_str()), (404, "not_found"));
    let (status, answer) = site.post("/api/v1/status", &json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (405, &json!("method_not_allowed")));
    let long = json!({"reason": "x".repeat(2 << 20)});
    let (status, answer) = site.post("/api/v1/reload", &long).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("body_too_large")));
}

#[tokio::test]
async fn a_foreign_host_and_a_form_are_turned_away() {
    let site = start(TWO, None).await;
    let rebound = [("host", "evil.example")];
    assert_eq!(site.send("GET", "/api/v1/status", &rebound, "").await.status(), 403);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(site.send("POST", "/api/v1/stop", &form, "a=b").await.status(), 415);
}

#[tokio::test]
async fn with_a_token_the_page_opens_and_its_data_does_not() {
    let text = format!(
        "{TWO}\nadmin: {{address: '127.0.0.1:0', token: s3cret-of-the-house, open: [health]}}\n"
    );
    let mut site = start(&text, None).await;
    assert_eq!(site.get("/").await.0, 200);
    assert_eq!(site.get("/readyz").await.0, 200);
    assert_eq!(site.get("/metrics").await.0, 401);
    let (status, answer) = site.get("/api/v1/config").await;
    assert_eq!((status, code_of(&answer).as_str()), (401, "token_required"));
    site.token = Some("s3cret-of-the-house");
    let (status, config) = site.get("/api/v1/config").await;
    assert_eq!(status, 200);
    assert!(!config.contains("s3cret") && config.contains("yaml"), "{config}");
    assert_eq!(site.get("/metrics").await.0, 200);
}

#[tokio::test]
async fn every_answer_carries_the_strict_headers() {
    let site = start(TWO, None).await;
    for path in ["/", "/ui/app.js", "/nope", "/metrics"] {
        let response = site.send("GET", path, &[], "").await;
        let head = |name| response.headers()[name].to_str().unwrap().to_owned();
        assert!(head("content-security-policy").starts_with("default-src 'none'; "), "{path}");
        assert_eq!(head("x-frame-options"), "DENY", "{path}");
        assert_eq!(head("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(head("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn events_are_listed_and_followed_from_the_last_one_seen() {
    let site = start(TWO, None).await;
    site.events.announce("reload", "generation 2 serves".to_owned(), "file", None);
    site.events.announce("drain", "chat/v1 drains".to_owned(), "api", Some("upgrade"));
    let (_, list) = site.get("/api/v1/events").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["events"][1]["reason"], "upgrade");
    let head = [("accept", "text/event-stream"), ("last-event-id", "1")];
    let mut stream = site.send("GET", "/api/v1/events", &head, "").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    site.events.announce("drain", "chat/v1 is back".to_owned(), "api", None);
    let mut text = String::new();
    while !text.contains("id: 3\n") {
        let frame = stream.body_mut().frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    assert!(
        text.starts_with(": following\n\n") && text.contains("id: 2\nevent: drain\n"),
        "{text}"
    );
    assert!(!text.contains("id: 1\n"), "{text}");
}

#[tokio::test]
async fn the_end_does_not_wait_for_who_follows_events() {
    let site = start(TWO, None).await;
    let head = [("accept", "text/event-stream")];
    let mut stream = site.send("GET", "/api/v1/events", &head, "").await;
    stream.body_mut().frame().await.unwrap().unwrap();
    site.stop.send(()).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), site.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(site.address).await.is_err());
}

#[tokio::test]
async fn whoever_has_just_connected_at_the_end_is_answered() {
    let site = start(TWO, None).await;
    let mut early = TcpStream::connect(site.address).await.unwrap();
    // Connections are accepted in their order: once a later one has its answer, this one was.
    assert_eq!(site.get("/healthz").await.0, 200);
    site.stop.send(()).unwrap();
    while TcpStream::connect(site.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    early.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    early.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    site.served.await.unwrap();
}
