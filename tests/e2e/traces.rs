//! Traces: what a collector gets of a request, what replicas are told, and that no collector is ever waited for.
use crate::client::Request;
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Mock, Seen, Upstream};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CHAT: &str = "/v1/chat/completions";

async fn collector() -> Upstream {
    Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await
}

/// What a collector has got.
fn spans(collector: &Upstream) -> Vec<Value> {
    let mut all = Vec::new();
    for seen in collector.seen() {
        assert_eq!(seen.line(), "POST /v1/traces HTTP/1.1");
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        all.extend(spans.as_array().unwrap().clone());
    }
    all
}

/// Waits for so many spans, and no others.
async fn exactly(collector: &Upstream, count: usize) -> Vec<Value> {
    until("the spans are there", || spans(collector).len() >= count).await;
    let spans = spans(collector);
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let found = spans.iter().find(|span| span["name"] == name);
    found.unwrap_or_else(|| panic!("no span `{name}` in {spans:#?}"))
}

/// An attribute, as text.
fn told(span: &Value, key: &str) -> Option<String> {
    let all = span["attributes"].as_array().unwrap();
    let value = &all.iter().find(|attribute| attribute["key"] == key)?["value"];
    let value = value.as_object().unwrap().values().next().unwrap();
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn nanos(span: &Value, key: &str) -> u64 {
    span[key].as_str().unwrap().parse().unwrap()
}

/// The span that a `traceparent` names.
fn parent_of(traceparent: &str) -> &str {
    traceparent.split('-').nth(2).unwrap()
}

fn config(endpoint: &str, more: &str, model: &str) -> String {
    format!("telemetry: {{otlp: {{endpoint: \"{endpoint}\"{more}}}}}\nmodels:\n  m: {model}\n")
}

fn one(replica: &Upstream) -> String {
    format!("{{health: false, versions: {{v1: [\"{}\"]}}}}", replica.url())
}

fn chat() -> Request {
    Request::post(CHAT, r#"{"model":"m"}"#)
}

fn client_of(flags: &str) -> Request {
    chat().header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-{flags}"))
}

async fn replica() -> Upstream {
    Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_told_to_the_collector_span_by_span() {
    let (collector, replica) = (collector().await, replica().await);
    let more = ", headers: {x-team: hush-hush}, resource: {service.name: edge}";
    let site = Site::start(config(&collector.url(), more, &one(&replica))).await;
    assert_eq!(site.send(chat()).await.status, 200);
    let spans = exactly(&collector, 4).await;
    let [server, route, attempt, relay] =
        ["POST m", "route", "POST m/v1", "relay"].map(|name| named(&spans, name));
    assert_eq!((&server["kind"], &server["parentSpanId"]), (&2.into(), &Value::Null));
    for below in [route, attempt] {
        assert_eq!(below["parentSpanId"], server["spanId"]);
    }
    assert_eq!(relay["parentSpanId"], attempt["spanId"]);
    let ids: BTreeSet<&str> = spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    let traces: BTreeSet<&str> =
        spans.iter().map(|span| span["traceId"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), traces.len()), (4, 1));
    // The replica continues the attempt's span.
    let seen = replica.only();
    let parent = seen.header("traceparent");
    assert_eq!(parent_of(parent), attempt["spanId"]);
    assert!(parent.contains(server["traceId"].as_str().unwrap()) && parent.ends_with("-03"));
    let (from, to) = ("startTimeUnixNano", "endTimeUnixNano");
    assert!(nanos(route, to) == nanos(attempt, from) && nanos(route, from) == nanos(server, from));
    assert!(nanos(attempt, from) <= nanos(relay, from) && nanos(relay, to) == nanos(server, to));
    let now = u64::try_from(evener::observe::stamp().as_nanosecond()).unwrap();
    assert!((now - nanos(server, to)) < 60_000_000_000);
    let request_id = seen.header("x-request-id");
    assert_eq!(told(server, "evener.request_id").as_deref(), Some(request_id));
    assert_eq!(told(attempt, "evener.replica"), Some(replica.url()));
    let sent = &collector.seen()[0];
    assert_eq!(
        (sent.header("x-team"), sent.header("content-type")),
        ("hush-hush", "application/json")
    );
    assert!(
        String::from_utf8_lossy(&sent.body)
            .contains(r#"{"key":"service.name","value":{"stringValue":"edge"}}"#)
    );
    let config = site.ask(Request::get("/api/v1/config")).await.text();
    assert!(config.contains("x-team") && !config.contains("hush"));
    let page = site.ask(Request::get("/metrics")).await.text();
    assert!(page.contains(r#"evener_spans_total{result="exported"} 4"#), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_trace_goes_on_and_its_word_on_sampling_holds() {
    let (collector, replica) = (collector().await, replica().await);
    let site = Site::start(config(&collector.url(), ", sample: 0", &one(&replica))).await;
    // Of these, none is sent: one the client does not sample, and one that begins here.
    let state = "congo=t61rcWkgMzE";
    assert_eq!(site.send(client_of("00").header("tracestate", state)).await.status, 200);
    assert_eq!(site.send(chat()).await.status, 200);
    assert_eq!(site.send(client_of("01").header("tracestate", state)).await.status, 200);
    let spans = exactly(&collector, 4).await;
    assert!(spans.iter().all(|span| span["traceId"] == TRACE && span["traceState"] == state));
    assert_eq!(named(&spans, "POST m")["parentSpanId"], "00f067aa0ba902b7");
    let seen = replica.seen();
    let told = |i: usize| (seen[i].header("traceparent"), seen[i].header("tracestate"));
    let (unsampled, kept) = told(0);
    assert!(unsampled.starts_with(&format!("00-{TRACE}-")) && unsampled.ends_with("-00"));
    assert_ne!(parent_of(unsampled), "00f067aa0ba902b7");
    assert_eq!((kept, told(2).1), (state, state));
    assert!(told(1).0.ends_with("-02"), "a new trace that is not sampled: {}", told(1).0);
    assert_eq!(parent_of(told(2).0), named(&spans, "POST m/v1")["spanId"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traceparent_that_says_nothing_begins_a_new_trace() {
    let (collector, replica) = (collector().await, replica().await);
    let site = Site::start(config(&collector.url(), "", &one(&replica))).await;
    let broken = chat().header("traceparent", &format!("00-{TRACE}-0000000000000000-01"));
    assert_eq!(site.send(broken.header("tracestate", "congo=1")).await.status, 200);
    let spans = exactly(&collector, 4).await;
    assert!(spans.iter().all(|span| span["traceId"] != TRACE && span["traceState"].is_null()));
    let seen = replica.only();
    assert!(!seen.has("tracestate") && !seen.header("traceparent").contains(TRACE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_traces_both_headers_pass_as_they_came() {
    let replica = replica().await;
    let site = Site::start(format!("models:\n  m: {}\n", one(&replica))).await;
    let odd = chat().header("traceparent", "not one").header("tracestate", "congo=1");
    assert_eq!(site.send(odd).await.status, 200);
    let seen = replica.only();
    assert_eq!((seen.header("traceparent"), seen.header("tracestate")), ("not one", "congo=1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attempt_has_a_span_that_its_replica_continues() {
    let collector = collector().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let replica = Upstream::start(move |mut talk| {
        let asked = Arc::clone(&asked);
        async move {
            while talk.request().await.is_some() {
                let first = asked.fetch_add(1, SeqCst) == 0;
                let status = if first { "503 Busy" } else { "200 OK" };
                talk.write(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok")).await;
            }
        }
    })
    .await;
    let site = Site::start(config(&collector.url(), "", &one(&replica))).await;
    assert_eq!(site.send(chat()).await.status, 200);
    let spans = exactly(&collector, 5).await;
    let mut attempts: Vec<&Value> = spans.iter().filter(|span| span["kind"] == 3).collect();
    attempts.sort_by_key(|span| nanos(span, "startTimeUnixNano"));
    let [failed, good] = attempts[..] else { panic!("{attempts:#?}") };
    assert_eq!(told(failed, "error.type").as_deref(), Some("503"));
    assert_eq!(failed["status"]["code"], 2);
    assert_eq!(told(good, "http.request.resend_count").as_deref(), Some("1"));
    let parents: Vec<String> = replica
        .seen()
        .iter()
        .map(|seen| parent_of(seen.header("traceparent")).to_owned())
        .collect();
    assert_eq!(parents, [failed, good].map(|span| span["spanId"].as_str().unwrap().to_owned()));
    assert_eq!(named(&spans, "relay")["parentSpanId"], good["spanId"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hedge_is_told_from_the_attempt_that_it_outran() {
    let collector = collector().await;
    let pool =
        Upstream::pool(2, |place| Some(Duration::from_millis(if place == 0 { 400 } else { 0 })));
    let pool = pool.await;
    let model = format!(
        "{{health: false, balance: round_robin, hedge: {{after: 50ms, budget: 100%}}, \
         versions: {{v1: [\"{}\", \"{}\"]}}}}",
        pool[0].url(),
        pool[1].url()
    );
    let site = Site::start(config(&collector.url(), "", &model)).await;
    let (hedge, outrun) = eventually("a hedge wins", async || {
        assert_eq!(site.send(chat()).await.status, 200);
        let spans = spans(&collector);
        let mut hedges = spans.iter().filter(|span| told(span, "evener.hedge").is_some());
        let won = |span: &&Value| told(span, "evener.outcome").as_deref() == Some("success");
        let hedge = hedges.find(won)?;
        let beside = |span: &&Value| span["traceId"] == hedge["traceId"] && span["kind"] == 3;
        let outrun = spans.iter().filter(beside).find(|span| span["spanId"] != hedge["spanId"])?;
        Some((hedge.clone(), outrun.clone()))
    })
    .await;
    assert_eq!(told(&outrun, "evener.outcome").as_deref(), Some("cancelled"));
    for (span, replica) in [(outrun, &pool[0]), (hedge, &pool[1])] {
        assert_eq!(told(&span, "evener.replica"), Some(replica.url()));
        let continues = |seen: &Seen| parent_of(seen.header("traceparent")) == span["spanId"];
        assert_eq!(replica.seen().iter().filter(|seen| continues(seen)).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_has_a_span_of_its_own() {
    let (collector, replica, shadow) = (collector().await, replica().await, replica().await);
    let model = format!(
        "{{health: false, versions: {{v1: [\"{}\"], v2: [\"{}\"]}}, split: {{v1: 100, v2: 0}}, \
         mirror: {{to: v2, percent: 100}}}}",
        replica.url(),
        shadow.url()
    );
    let site = Site::start(config(&collector.url(), "", &model)).await;
    assert_eq!(site.send(chat()).await.status, 200);
    let spans = exactly(&collector, 5).await;
    let (attempt, copy) = (named(&spans, "POST m/v1"), named(&spans, "POST m/v2"));
    assert_eq!(told(copy, "evener.mirror").as_deref(), Some("true"));
    assert_eq!(copy["parentSpanId"], named(&spans, "POST m")["spanId"]);
    assert_eq!(parent_of(replica.only().header("traceparent")), attempt["spanId"]);
    assert_eq!(parent_of(shadow.only().header("traceparent")), copy["spanId"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_traced_and_health_checks_are_not() {
    let (collector, replica) = (collector().await, replica().await);
    let site = Site::start(config(&collector.url(), "", &one(&replica))).await;
    assert_eq!(site.send(Request::get("/healthz")).await.status, 200);
    let nobody = Request::post(CHAT, r#"{"model":"nobody"}"#);
    assert_eq!(site.send(nobody).await.status, 404);
    let spans = exactly(&collector, 1).await;
    assert_eq!(told(&spans[0], "evener.error").as_deref(), Some("model_not_found"));
    assert_eq!(spans[0]["name"], "POST");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_holds_nobody_up_and_what_is_lost_is_counted() {
    let hanging = Upstream::start(|mut talk| async move {
        while talk.request().await.is_some() {
            talk.wait_for_close().await;
        }
    })
    .await;
    let replica = Mock::version("v1").await;
    let model = format!("{{health: false, versions: {{v1: [\"http://{}\"]}}}}", replica.address);
    let mut site = Site::start(config(&hanging.url(), "", &model)).await;
    site.send(chat()).await;
    until("the collector hangs", || !hanging.seen().is_empty()).await;
    // As many as wait for it, and more: all are answered.
    let mut asking = tokio::task::JoinSet::new();
    let address = site.address;
    for _ in 0..8 {
        asking.spawn(async move {
            for _ in 0..300 {
                let reply = crate::client::send(address, chat()).await.unwrap();
                assert_eq!(reply.status, 200);
            }
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
    let lost = |page: &str| {
        let line =
            page.lines().find_map(|l| l.strip_prefix("evener_spans_total{result=\"queue_full\"} "));
        line.unwrap().parse::<f64>().unwrap()
    };
    eventually("what found no room is counted", async || {
        (lost(&site.ask(Request::get("/metrics")).await.text()) > 0.0).then_some(())
    })
    .await;
    // Nor does it hold up the end for longer than a moment.
    let stopping = crate::site::Stopwatch::start();
    site.signal(Signal::TERM);
    assert!(site.ended().await.success());
    assert!(stopping.elapsed().as_secs() < 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_busy_is_asked_again_when_it_says() {
    let asked = Arc::new(AtomicUsize::new(0));
    let busy = Upstream::start(move |mut talk| {
        let asked = Arc::clone(&asked);
        async move {
            while talk.request().await.is_some() {
                let first = asked.fetch_add(1, SeqCst) == 0;
                let head = if first { "503 Busy\r\nretry-after: 1" } else { "200 OK" };
                talk.write(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n")).await;
            }
        }
    })
    .await;
    let replica = replica().await;
    let site = Site::start(config(&busy.url(), "", &one(&replica))).await;
    site.send(chat()).await;
    until("the same is sent again", || busy.seen().len() == 2).await;
    let seen = busy.seen();
    assert_eq!(seen[0].body, seen[1].body);
    until("the log says so", || site.count_said("the collector takes spans again") == 1).await;
    assert_eq!(site.count_said("the collector takes no spans; they are sent again"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_moves_traces_and_the_end_sends_the_last() {
    let (before, after, replica) = (collector().await, collector().await, replica().await);
    let setup = |collector: &Upstream| Setup::new(config(&collector.url(), "", &one(&replica)));
    let mut site = Site::with(setup(&before)).await;
    site.send(chat()).await;
    site.reload(&setup(&after)).await;
    site.send(chat()).await;
    site.signal(Signal::TERM);
    assert!(site.ended().await.success());
    assert_eq!((spans(&before).len(), spans(&after).len()), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collectors_key_is_in_no_message() {
    let replica = replica().await;
    let site = Site::start(format!("models:\n  m: {}\n", one(&replica))).await;
    let mut text = config("ftp://a", ", headers: {x-team: hush-hush}", &one(&replica));
    write!(text, "listeners: [{{address: \"127.0.0.1:0\"}}]").unwrap();
    let said = site.reload_rejected(&text).await;
    assert!(said.contains("is not an http or https URL") && !said.contains("hush"), "{said}");
}
