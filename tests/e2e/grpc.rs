//! gRPC on the real binary: which model a call reaches, how it ends, and what Evener answers itself.
use crate::client::Request;
use crate::grpc_client::{
    Calls, INFER, STREAM, breaking, echo, ended, failing, failing_late, naming, next, said, silent,
};
use crate::h2c::H2c;
use crate::site::{Setup, Site, eventually};
use crate::upstream::Mock;
use evener::dialect::grpc::{frame, put_bytes};

/// A model `m` with one version of these replicas.
fn models(urls: &[&str], options: &str) -> String {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!(
        "models: {{m: {{versions: {{v: {{replicas: [{}]}}}}, health: false, slow_start: 0s{options}}}}}\n",
        urls.join(", ")
    )
}

async fn site_of(replicas: &[&H2c], options: &str) -> (Site, Calls) {
    let urls: Vec<_> = replicas.iter().map(|replica| replica.url()).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let site = Site::start(models(&urls, options)).await;
    let calls = Calls::connect(site.address).await;
    (site, calls)
}

async fn metric(site: &Site, line: &str) -> u64 {
    let page = site.ask(Request::get("/metrics")).await.text();
    let found = page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0, |n| n.parse().unwrap())
}

#[tokio::test]
async fn a_call_passes_with_its_trailers_and_counts_as_how_it_ended() {
    let replica = echo().await;
    let (site, calls) = site_of(&[&replica], "").await;
    let asked = naming("m", b"tensor");
    let answer = calls.with(INFER, &asked, &[("x-own", "1")]).await;
    assert_eq!((answer.status(), said(&answer.last, "x-cost")), ("0", "7"));
    assert_eq!(answer.messages, [asked]);
    assert_eq!(said(&answer.head, "content-type"), "application/grpc");
    assert_ne!(said(&answer.head, "x-request-id"), "");
    let seen = replica.seen().pop().unwrap();
    assert_eq!((said(&seen.headers, "te"), said(&seen.headers, "x-own")), ("trailers", "1"));
    let line = site.logged("the call", |line| line["path"] == INFER).await;
    assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &0.into()));
    let counted = r#"evener_requests_total{model="m",version="v",code="grpc-0",outcome="success"}"#;
    assert_eq!(metric(&site, counted).await, 1);
}

#[tokio::test]
async fn each_message_gets_the_name_that_its_version_has_for_the_model() {
    let replica = echo().await;
    let url = replica.url();
    let yaml = format!(
        "models: {{m: {{versions: {{v: {{replicas: [\"{url}\"], upstream_model: a-much-longer-name}}}}, health: false}}}}\n"
    );
    let site = Site::start(yaml).await;
    let calls = Calls::connect(site.address).await;
    let answer = calls.call(INFER, &naming("m", b"x")).await;
    assert_eq!(answer.messages, [naming("a-much-longer-name", b"x")]);
    // TF-Serving's name lies one level deeper.
    let within = |name: &str| {
        let (mut spec, mut message) = (Vec::new(), Vec::new());
        put_bytes(&mut spec, 1, name.as_bytes());
        put_bytes(&mut spec, 3, b"signature");
        put_bytes(&mut message, 1, &spec);
        put_bytes(&mut message, 2, &[7; 300]);
        message
    };
    let answer = calls.call("/tensorflow.serving.PredictionService/Predict", &within("m")).await;
    assert_eq!(answer.messages, [within("a-much-longer-name")]);
    // Of a stream each, however it is cut.
    let (response, mut up) = calls.open(STREAM, &[]).await;
    let stream = [frame(&naming("m", b"1")), frame(&naming("m", b"22"))].concat();
    let (first, second) = stream.split_at(stream.len() - 4);
    up.send_data(first.to_vec().into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(next(&mut body).await, naming("a-much-longer-name", b"1"));
    up.send_data(second.to_vec().into(), false).unwrap();
    assert_eq!(next(&mut body).await, naming("a-much-longer-name", b"22"));
}

#[tokio::test]
async fn both_sides_of_a_stream_talk_while_it_lasts() {
    let replica = echo().await;
    let (site, calls) = site_of(&[&replica], "").await;
    let (response, mut up) = calls.open(STREAM, &[]).await;
    up.send_data(frame(&naming("m", b"0")).into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    for i in 0..5 {
        // Each answer comes before the next question.
        assert_eq!(next(&mut body).await, naming("m", i.to_string().as_bytes()));
        site.in_flight(1).await;
        let question = naming("m", (i + 1).to_string().as_bytes());
        up.send_data(frame(&question).into(), false).unwrap();
    }
    next(&mut body).await;
    up.send_data(bytes::Bytes::new(), true).unwrap();
    assert!(body.data().await.is_none());
    assert_eq!(said(&body.trailers().await.unwrap().unwrap(), "grpc-status"), "0");
    site.in_flight(0).await;
}

#[tokio::test]
async fn a_stream_is_for_one_model() {
    let replica = echo().await;
    let (_site, calls) = site_of(&[&replica], "").await;
    let (response, mut up) = calls.open(STREAM, &[]).await;
    up.send_data(frame(&naming("m", b"0")).into(), false).unwrap();
    let response = response.await.unwrap();
    let mut body = response.into_body();
    next(&mut body).await;
    up.send_data(frame(&naming("other", b"1")).into(), false).unwrap();
    while let Some(Ok(chunk)) = body.data().await {
        assert!(!chunk.windows(5).any(|five| five == b"other"), "no replica sees it");
    }
    let last = body.trailers().await.unwrap().unwrap();
    assert_eq!((said(&last, "grpc-status"), said(&last, "x-evener-error")), ("3", "bad_request"));
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_a_status() {
    let replica = breaking().await;
    let (site, calls) = site_of(&[&replica], "").await;
    let (response, mut up) = calls.open(STREAM, &[]).await;
    up.send_data(frame(&naming("m", b"0")).into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    next(&mut body).await;
    up.send_data(frame(&naming("m", b"1")).into(), false).unwrap();
    assert!(body.data().await.is_none());
    let last = body.trailers().await.unwrap().unwrap();
    assert_eq!(
        (said(&last, "grpc-status"), said(&last, "x-evener-error")),
        ("14", "upstream_failed")
    );
    site.logged("how it ended", |line| line["grpc_status"] == 14 && line["outcome"] == "reset")
        .await;
}

#[tokio::test]
async fn refusals_are_statuses_without_a_body() {
    let yaml = "default_model: null\nmodels:\n  resnet: {versions: {v: [\"h2c://127.0.0.1:1\"]}, health: false, max_buffered_body: 1KiB}\n  rest: {versions: {v: [\"http://127.0.0.1:1\"]}, health: false, max_buffered_body: 1KiB}\n";
    let site = Site::start(yaml).await;
    let calls = Calls::connect(site.address).await;
    for (path, message, status, error, says) in [
        (INFER, naming("resnt", b""), "5", "model_not_found", "did you mean `resnet`"),
        (INFER, naming("resnet", b""), "14", "upstream_failed", "could not be reached"),
        (INFER, naming("rest", b""), "14", "no_replicas", "`h2c://HOST:PORT`"),
        (INFER, naming("", b""), "3", "model_required", "names no model"),
        (INFER, b"\xff\xff".to_vec(), "3", "bad_request", "no gRPC message"),
        (
            INFER,
            [naming("rest", b""), naming("resnet", b"")].concat(),
            "3",
            "bad_request",
            "two models",
        ),
        (INFER, naming("resnet", &vec![0; 40_000]), "8", "body_too_large", "`max_buffered_body`"),
        (STREAM, naming("resnet", &vec![0; 40_000]), "8", "body_too_large", "`max_buffered_body`"),
        ("/pkg.Own/Do", Vec::new(), "3", "model_required", "names no model"),
        ("/a/../b", Vec::new(), "3", "bad_request", "segment"),
    ] {
        let answer = calls.call(path, &message).await;
        assert_eq!((answer.status(), answer.error()), (status, error), "{path} {answer:?}");
        assert!(answer.message().replace("%60", "`").contains(says), "{answer:?}");
        assert!(answer.at_once, "{answer:?}");
        assert_ne!(said(&answer.head, "x-request-id"), "");
        let waits = error == "no_replicas";
        assert_eq!(said(&answer.head, "grpc-retry-pushback-ms"), if waits { "1000" } else { "" });
    }
    let line = r#"evener_requests_total{model="",version="",code="grpc-5",outcome="refused"}"#;
    assert_eq!(metric(&site, line).await, 1);
}

#[tokio::test]
async fn a_compressed_message_goes_where_a_header_says_or_nowhere() {
    let replica = echo().await;
    let url = replica.url();
    let yaml = format!(
        "routes: [{{model_from: [\"header:x-model\", body]}}]\nmodels: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}, n: {{versions: {{v: [\"h2c://127.0.0.1:1\"]}}, health: false}}}}\n"
    );
    let site = Site::start(yaml).await;
    let calls = Calls::connect(site.address).await;
    let sealed = bytes::Bytes::from_static(b"\x01\0\0\0\x03abc");
    for (headers, status, error) in
        [(&[][..], "3", "model_unreadable"), (&[("x-model", "m")], "0", "")]
    {
        let (response, mut up) = calls.open(INFER, headers).await;
        up.send_data(sealed.clone(), true).unwrap();
        let answer = ended(response).await;
        assert_eq!((answer.status(), answer.error()), (status, error), "{answer:?}");
    }
}

#[tokio::test]
async fn other_services_and_reflection_go_to_a_replica_that_speaks_grpc() {
    let (replica, rest) = (echo().await, Mock::version("rest").await);
    let (url, rest) = (replica.url(), rest.url());
    let two = format!(
        "models: {{a: {{versions: {{v: [\"{rest}\"]}}, health: false}}, b: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n"
    );
    let site = Site::start(two.clone()).await;
    let calls = Calls::connect(site.address).await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(calls.call(reflection, b"\x3a\0").await.status(), "0");
    assert_eq!(calls.call("/pkg.Own/Do", b"x").await.error(), "model_required");
    site.reload(&Setup::new(format!("default_model: b\n{two}"))).await;
    assert_eq!(calls.call("/pkg.Own/Do", b"x").await.messages, [&b"x"[..]]);
}

#[tokio::test]
async fn a_version_with_both_ports_of_a_server_sends_each_its_own() {
    let (grpc, rest) = (echo().await, Mock::version("rest").await);
    let site = Site::start(models(&[&rest.url(), &grpc.url()], "")).await;
    let calls = Calls::connect(site.address).await;
    for _ in 0..20 {
        assert_eq!(calls.call(INFER, &naming("m", b"")).await.status(), "0");
        let json = Request::post("/v2/models/m/infer", r#"{"inputs": []}"#);
        assert_eq!(site.send(json).await.version(), "rest");
    }
    assert_eq!(grpc.seen().len(), 20);
}

#[tokio::test]
async fn what_is_unavailable_is_asked_again_elsewhere_before_the_first_byte() {
    let (good, at_once, late) = (echo().await, failing("14").await, failing_late("14", b"").await);
    for bad in [&at_once, &late] {
        let (site, calls) =
            site_of(&[bad, &good], ", ejection: false, retries: {budget: 100%}").await;
        eventually("it was asked", async || {
            assert_eq!(calls.call(INFER, &naming("m", b"")).await.status(), "0");
            (bad.seen().len() >= 2).then_some(())
        })
        .await;
        let retries = metric(&site, r#"evener_retries_total{model="m",reason="503"}"#).await;
        assert_eq!(retries, bad.seen().len() as u64);
    }
    // Not after it, and not what is the client's fault.
    for (status, bad) in [("14", failing_late("14", b"1").await), ("12", failing("12").await)] {
        let (_site, calls) = site_of(&[&bad], "").await;
        assert_eq!(calls.call(INFER, &naming("m", b"")).await.status(), status);
        assert_eq!(bad.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_is_told_to_the_replica() {
    let replica = silent().await;
    let (site, calls) = site_of(&[&replica], "").await;
    for path in [INFER, STREAM] {
        let (response, mut up) = calls.open(path, &[("grpc-timeout", "300m")]).await;
        up.send_data(frame(&naming("m", b"")).into(), path == INFER).unwrap();
        let answer = ended(response).await;
        assert_eq!((answer.status(), answer.error()), ("4", "total_timeout"), "{path}");
        let told = replica.seen().pop().unwrap();
        assert!(said(&told.headers, "grpc-timeout").ends_with('u'), "{told:?}");
    }
    site.in_flight(0).await;
}

#[tokio::test]
async fn a_replica_that_is_unavailable_is_ejected() {
    let (one, two, bad) = (echo().await, echo().await, failing("14").await);
    let (site, calls) = site_of(&[&one, &two, &bad], ", retries: false, ejection: {for: 1m}").await;
    eventually("it is ejected", async || {
        calls.call(INFER, &naming("m", b"")).await;
        let model = site.ask(Request::get("/api/v1/models/m")).await.json();
        (model["versions"][0]["replicas"][2]["state"] == "ejected").then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(calls.call(INFER, &naming("m", b"")).await.status(), "0");
    }
}

#[tokio::test]
async fn the_calls_of_one_connection_are_spread_over_the_replicas() {
    for (balance, most_apart) in [("least_load", 30), ("round_robin", 1)] {
        let replicas = [echo().await, echo().await, echo().await];
        let all: Vec<_> = replicas.iter().collect();
        let (_site, calls) = site_of(&all, &format!(", balance: {balance}")).await;
        let running: Vec<_> = (0..300)
            .map(|_| {
                let calls = calls.clone();
                tokio::spawn(async move { calls.call(INFER, &naming("m", b"x")).await })
            })
            .collect();
        for call in running {
            assert_eq!(call.await.unwrap().status(), "0");
        }
        for replica in &replicas {
            let n = replica.seen().len();
            assert!(n.abs_diff(100) <= most_apart, "{balance}: {n}");
        }
    }
}

#[tokio::test]
async fn copies_of_calls_are_compared_by_their_status() {
    let (serves, candidate) = (echo().await, failing("13").await);
    let (url, other) = (serves.url(), candidate.url());
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v1: [\"{url}\"], v2: [\"{other}\"]}}, split: {{v1: 100, v2: 0}}, mirror: {{to: v2, percent: 100}}, health: false}}}}\n"
    ))
    .await;
    let calls = Calls::connect(site.address).await;
    assert_eq!(calls.call(INFER, &naming("m", b"x")).await.status(), "0");
    let report = eventually("a pair was compared", async || {
        let report = site.ask(Request::get("/api/v1/models/m/mirror")).await.json();
        (report["compared"] == 1).then_some(report)
    })
    .await;
    assert_eq!(report["by"]["status"]["agreed"], 0, "{report}");
    assert_eq!(candidate.seen().pop().unwrap().headers["x-evener-mirror"], "1");
}
