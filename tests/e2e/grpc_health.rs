//! Health over gRPC, asked of Evener and by Evener, and the mock that answers.
use crate::client::{Request, send};
use crate::grpc_client::{CHECK, Calls, INFER, STREAM, failing, naming, next, said};
use crate::h2c::H2c;
use crate::keys::entry;
use crate::site::{Site, eventually};
use crate::upstream::Mock;
use evener::dialect::grpc::{frame, put_bytes};
use evener::mock::Knobs;
use http::{HeaderMap, HeaderValue, Response};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[tokio::test]
async fn health_and_server_are_answered_by_evener() {
    let mock = Mock::version("v").await;
    let h2c = mock.url().replace("http:", "h2c:");
    let site = Site::start(format!(
        "models: {{m: {{aliases: [alias], versions: {{v: [\"{h2c}\"]}}, health: {{grpc: \"\", every: 1s, timeout: 900ms, fall: 1, rise: 1}}, fail_open: false}}}}\n"
    ))
    .await;
    let calls = Calls::connect(site.address).await;
    let about = |name: &str| {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, name.as_bytes());
        message
    };
    for name in ["", "m", "alias"] {
        let answer = calls.call(CHECK, &about(name)).await;
        assert_eq!(answer.status(), "0", "{name}");
        assert_eq!(answer.messages, [&b"\x08\x01"[..]], "{name}");
    }
    assert_eq!(calls.call(CHECK, &about("unknown")).await.status(), "5");
    for method in ["ServerLive", "ServerReady"] {
        let answer = calls.call(&format!("/inference.GRPCInferenceService/{method}"), b"").await;
        assert_eq!(answer.messages, [&b"\x08\x01"[..]], "{method}");
    }
    let metadata = calls.call("/inference.GRPCInferenceService/ServerMetadata", b"").await;
    assert!(metadata.messages[0].windows(6).any(|name| name == b"evener"));
    // A watch is told what changes.
    let (response, mut up) = calls.open("/grpc.health.v1.Health/Watch", &[]).await;
    up.send_data(frame(&about("m")).into(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(next(&mut body).await, &b"\x08\x01"[..]);
    send(mock.address, Request::post("/mock", r#"{"healthy": false}"#)).await.unwrap();
    assert_eq!(next(&mut body).await, &b"\x08\x02"[..]);
    let answer = calls.call(INFER, &naming("m", b"")).await;
    assert_eq!((answer.status(), answer.error()), ("14", "no_replicas"));
    assert!(answer.message().contains("failing its health check"), "{answer:?}");
    send(mock.address, Request::post("/mock", r#"{"healthy": true}"#)).await.unwrap();
    assert_eq!(next(&mut body).await, &b"\x08\x01"[..]);
}

#[tokio::test]
async fn a_server_without_the_health_service_is_asked_as_kserve_has_it() {
    // One says UNIMPLEMENTED to everything.
    let (bare, kserve) = (failing("12").await, kserve().await);
    let urls = [bare.url(), kserve.url()];
    let models: Vec<String> = urls
        .iter()
        .zip(["bare", "kserve"])
        .map(|(url, name)| {
            format!("{name}: {{versions: {{v: [\"{url}\"]}}, health: {{grpc: {name}}}}}")
        })
        .collect();
    let site = Site::start(format!("models: {{{}}}\n", models.join(", "))).await;
    let mut reasons = HashMap::new();
    eventually("both are probed", async || {
        let status = site.ask(Request::get("/api/v1/status")).await.json();
        for model in status["models"].as_array().unwrap() {
            let replica = &model["versions"][0]["replicas"][0];
            let (state, reason) = (replica["state"].to_string(), replica["reason"].to_string());
            reasons.insert(model["name"].to_string(), (state, reason));
        }
        let stands = |name, state| reasons[name].0 == state;
        let done = stands("\"bare\"", "\"unhealthy\"") && stands("\"kserve\"", "\"healthy\"");
        done.then_some(())
    })
    .await;
    assert!(reasons["\"bare\""].1.contains("neither"), "{reasons:?}");
    let asked = |path: &str| kserve.seen().iter().any(|head| head.uri.path() == path);
    assert!(asked("/inference.GRPCInferenceService/ModelReady"));
}

/// Lacks the standard service, which is asked first, and is ready by KServe's.
async fn kserve() -> H2c {
    let asked = Arc::<AtomicUsize>::default();
    H2c::start(move |body, mut respond| {
        let first = asked.fetch_add(1, SeqCst).is_multiple_of(2);
        async move {
            crate::h2c::read(body).await;
            let head = Response::builder().header("content-type", "application/grpc");
            if first {
                let head = head.header("grpc-status", "12").body(()).unwrap();
                respond.send_response(head, true).unwrap();
                return;
            }
            let mut out = respond.send_response(head.body(()).unwrap(), false).unwrap();
            out.send_data(frame(b"\x08\x01").into(), false).ok();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            out.send_trailers(trailers).ok();
        }
    })
    .await
}

#[tokio::test]
async fn the_mock_answers_and_fails_as_it_is_told() {
    let mock = Mock::start(Knobs { version: "v7".to_owned(), ..Knobs::default() }).await;
    let calls = Calls::connect(mock.address).await;
    let mut asked = naming("m", b"raw");
    let mut input = Vec::new();
    put_bytes(&mut input, 1, b"x");
    put_bytes(&mut input, 2, b"BYTES");
    put_bytes(&mut asked, 5, &input);
    let answer = calls.call(INFER, &asked).await;
    let mut expected = Vec::new();
    put_bytes(&mut expected, 1, b"m");
    put_bytes(&mut expected, 2, b"v7");
    put_bytes(&mut expected, 5, &input);
    put_bytes(&mut expected, 6, b"raw");
    assert_eq!(answer.messages, [expected]);
    assert_eq!(calls.call("/pkg.Own/Do", b"").await.status(), "12");
    send(mock.address, Request::post("/mock", r#"{"error": 100}"#)).await.unwrap();
    for path in [INFER, STREAM] {
        assert_eq!(calls.call(path, &asked).await.status(), "14", "{path}");
    }
}

#[tokio::test]
async fn keys_and_their_limits_are_told_as_statuses() {
    let (secret, other) = ("sk-evener-one", "sk-evener-two");
    let replica = crate::grpc_client::echo().await;
    let url = replica.url();
    let limits = ", limits: {requests_per_minute: 1}, models: [m]";
    let keys = entry("one", secret, limits) + &entry("two", other, ", models: [n]");
    let model = format!("{{versions: {{v: [\"{url}\"]}}, health: false}}");
    let site = Site::start(format!("models: {{m: {model}, n: {model}}}\nkeys:\n{keys}")).await;
    let calls = Calls::connect(site.address).await;
    let bearer = |secret: &str| format!("Bearer {secret}");
    let infer = async |headers: &[(&'static str, &str)]| {
        calls.with(INFER, &naming("m", b""), headers).await
    };
    let stranger = infer(&[]).await;
    assert_eq!((stranger.status(), stranger.error()), ("16", "invalid_api_key"));
    let wrong = infer(&[("authorization", &bearer(other))]).await;
    assert_eq!((wrong.status(), wrong.error()), ("7", "model_not_allowed"));
    assert_eq!(infer(&[("authorization", &bearer(secret))]).await.status(), "0");
    let over = infer(&[("authorization", &bearer(secret))]).await;
    assert_eq!((over.status(), over.error()), ("8", "rate_limited"));
    let number = |name: &str| said(&over.head, name).parse::<u64>().unwrap();
    let (wait, pushback) = (number("retry-after"), number("grpc-retry-pushback-ms"));
    assert!(pushback <= wait * 1000 && pushback > (wait - 1) * 1000, "{over:?}");
    assert_eq!(said(&over.head, "x-ratelimit-remaining-requests"), "0");
    assert_eq!(replica.seen().len(), 1);
    assert!(!replica.seen()[0].headers.contains_key("authorization"));
    // A stream may not turn to another model either.
    let (response, mut up) = calls.open(STREAM, &[("authorization", &bearer(other))]).await;
    up.send_data(frame(&naming("n", b"")).into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    next(&mut body).await;
    up.send_data(frame(&naming("m", b"")).into(), false).unwrap();
    assert!(body.data().await.is_none());
    assert_eq!(said(&body.trailers().await.unwrap().unwrap(), "grpc-status"), "3");
    // Health of the whole is open, of a model it is not.
    assert_eq!(calls.call(CHECK, b"").await.status(), "0");
    assert_eq!(calls.call(CHECK, b"\x0a\x01m").await.status(), "16");
    let about = async |name: &[u8]| {
        calls.with(CHECK, name, &[("authorization", &bearer(other))]).await.status().to_owned()
    };
    assert_eq!((about(b"\x0a\x01n").await, about(b"\x0a\x01m").await), ("0".into(), "5".into()));
}
