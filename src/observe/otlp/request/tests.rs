//! The spans of requests that went well, were asked again, hedged, refused or left.
use super::*;
use crate::observe::otlp::span::Value;

fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

fn tried(class: Class, status: u16, from: u64, to: u64) -> Tried<'static> {
    let (began, ended) = (at(from), at(to));
    Tried { version: "v1", replica: "http://10.0.0.1:8000", status, class, began, ended }
}

fn settled(attempts: Vec<Tried<'static>>) -> Settled<'static> {
    Settled {
        trace: TraceId::new(7),
        parent: None,
        span: SpanId::new(9),
        random: true,
        trace_state: "",
        method: "POST",
        path: "/v1/chat/completions",
        query: Some("key=***"),
        protocol: "HTTP/1.1",
        secure: false,
        host: "api.example.com:8443",
        client: [192, 0, 2, 1].into(),
        route: None,
        model: Some("chat"),
        version: Some("v1"),
        request_id: "r-1",
        status: 200,
        class: Class::Success,
        error: None,
        streaming: false,
        fail_open: false,
        began: at(100),
        ended: at(180),
        usage: Usage { prompt: Some(12), completion: None },
        first_byte: Some(at(150)),
        attempts,
    }
}

fn spans(seen: &Settled<'_>) -> Vec<Span> {
    request_spans(seen, |moment| 1_000_000_000 + moment.as_nanos())
}

fn told(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match &found.value {
        Value::Text(text) => text.clone(),
        Value::Whole(n) => n.to_string(),
        Value::Flag(flag) => flag.to_string(),
    })
}

fn times(span: &Span) -> (u64, u64) {
    let ms = |nanos: u64| (nanos - 1_000_000_000) / 1_000_000;
    (ms(span.start_time_unix_nano), ms(span.end_time_unix_nano))
}

#[test]
fn a_request_has_a_span_with_routing_an_attempt_and_its_relay_below() {
    let spans = spans(&settled(vec![tried(Class::Success, 200, 104, 180)]));
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["POST chat", "route", "POST chat/v1", "relay"]);
    let each: Vec<_> = spans.iter().map(times).collect();
    assert_eq!(each, [(100, 180), (100, 104), (104, 180), (150, 180)]);
    let parents: Vec<_> = spans.iter().map(|span| span.parent_span_id).collect();
    let (own, attempt) = (Some(spans[0].id), Some(spans[2].id));
    assert_eq!(parents, [None, own, own, attempt]);
    assert!(spans.iter().all(|span| span.flags == PARENT_IS_LOCAL | 3));
    assert!(spans.iter().all(|span| span.trace_id == TraceId::new(7) && span.status.0.is_none()));
}

#[test]
fn attributes_have_the_names_of_the_conventions() {
    let spans = spans(&settled(vec![tried(Class::Success, 200, 104, 180)]));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/v1/chat/completions"),
        ("url.query", "key=***"),
        ("http.response.status_code", "200"),
        ("server.address", "api.example.com"),
        ("server.port", "8443"),
        ("client.address", "192.0.2.1"),
        ("network.protocol.version", "1.1"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "chat"),
        ("gen_ai.usage.input_tokens", "12"),
        ("evener.outcome", "success"),
    ] {
        assert_eq!(told(&spans[0], key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(told(&spans[0], "error.type"), None);
    assert_eq!(told(&spans[0], "gen_ai.usage.output_tokens"), None);
    assert_eq!(told(&spans[2], "server.port").as_deref(), Some("8000"));
    assert_eq!(told(&spans[2], "http.request.resend_count"), None);
    assert!(!format!("{spans:?}").contains("hush"), "a query may hold a key");
}

#[test]
fn a_retry_is_counted_and_what_failed_before_it_says_why() {
    let spans = spans(&settled(vec![
        tried(Class::ConnectFailure, 502, 101, 102),
        tried(Class::Success, 200, 110, 180),
    ]));
    let (failed, good) = (&spans[2], &spans[3]);
    assert_eq!(failed.status.0.as_deref(), Some("connect_failure"));
    // The 502 is what Evener would have answered.
    assert_eq!(told(failed, "http.response.status_code"), None);
    assert_eq!(told(good, "http.request.resend_count").as_deref(), Some("1"));
    assert_eq!(told(good, "evener.hedge"), None);
    assert_eq!(spans[4].parent_span_id, Some(good.id));
}

#[test]
fn a_hedge_is_what_began_beside_another() {
    // The loser is noted when the race is over; here it is the second, which was to help.
    let outrun = tried(Class::Cancelled, 499, 130, 150);
    let spans = spans(&settled(vec![outrun, tried(Class::Success, 200, 101, 180)]));
    let (first, hedge) = (&spans[2], &spans[3]);
    assert_eq!((told(first, "evener.hedge"), times(first)), (None, (101, 180)));
    assert_eq!(told(hedge, "evener.hedge").as_deref(), Some("true"));
    assert_eq!((&hedge.status.0, told(hedge, "error.type")), (&None, None));
    assert_eq!(spans[4].parent_span_id, Some(first.id), "the winner is relayed");
}

#[test]
fn errors_of_ours_are_errors_and_those_of_clients_are_not() {
    let refused = |status, error| Settled {
        status,
        class: Class::Refused,
        error: Some(error),
        usage: Usage::default(),
        first_byte: None,
        ..settled(Vec::new())
    };
    let none = spans(&refused(503, "no_replicas"));
    assert_eq!((none.len(), none[0].status.0.as_deref()), (1, Some("no_replicas")));
    let unknown = &spans(&refused(404, "model_not_found"))[0];
    assert_eq!((&unknown.status.0, told(unknown, "error.type")), (&None, None));
    let left = Settled { status: 499, class: Class::Cancelled, ..settled(Vec::new()) };
    let left = &spans(&left)[0];
    assert_eq!((&left.status.0, told(left, "http.response.status_code")), (&None, None));
    let broken = Settled {
        class: Class::Reset,
        error: Some("upstream_failed"),
        ..settled(vec![tried(Class::Reset, 502, 101, 180)])
    };
    assert_eq!(spans(&broken)[0].status.0.as_deref(), Some("upstream_failed"));
}

#[test]
fn a_client_invents_no_names_and_no_megabytes() {
    let path = format!("/{}", "ü".repeat(4000));
    let odd = Settled { method: "BREW", path: &path, model: None, ..settled(Vec::new()) };
    let span = &spans(&odd)[0];
    assert_eq!(span.name, "HTTP");
    assert_eq!(told(span, "http.request.method").as_deref(), Some("_OTHER"));
    assert!(told(span, "url.path").unwrap().len() <= LONGEST);
}

#[test]
fn addresses_are_told_apart_from_ports() {
    for (authority, host, port) in [
        ("a:1", "a", Some("1")),
        ("a", "a", None),
        ("[::1]:80", "::1", Some("80")),
        ("[::1]", "::1", None),
        ("unix:/run/a.sock", "unix:/run/a.sock", None),
    ] {
        let mut span = spans(&settled(Vec::new())).remove(0);
        span.attributes = address(authority).collect();
        assert_eq!(told(&span, "server.address").as_deref(), Some(host));
        assert_eq!(told(&span, "server.port").as_deref(), port);
    }
}
