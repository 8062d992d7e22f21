//! A request that an operator sends to try a model: it passes the data path, and counts for nobody.
use crate::client::{Reply, Request};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Mock, Upstream};
use serde_json::{Value, json};

async fn test(site: &Site, order: &Value) -> Reply {
    site.ask(Request::post("/api/v1/test", order.to_string())).await
}

fn one(url: &str, more: &str) -> Setup {
    Setup::new(format!("models: {{m: {{versions: {{v: [\"{url}\"]}}{more}}}}}\n"))
}

async fn two(v1: &Mock, v2: &Mock) -> Site {
    let [a, b] = [v1.url(), v2.url()];
    let versions = format!("{{v1: [\"{a}\"], v2: [\"{b}\"]}}");
    let canary = "canary: {candidate: v2, steps: [50, 100], warmup: 0s}";
    Site::start(format!(
        "models: {{m: {{versions: {versions}, split: {{v1: 50, v2: 50}}, health: false, {canary}}}}}\n"
    ))
    .await
}

#[tokio::test]
async fn it_tells_what_served_how_long_it_took_and_what_came_back() {
    let [v1, v2] = [Mock::version("v1").await, Mock::version("v2").await];
    let site = two(&v1, &v2).await;
    let order = json!({"model": "m", "version": "v2", "reason": "a look"});
    let told = test(&site, &order).await.json();
    assert_eq!((&told["status"], &told["attempts"]), (&json!(200), &json!(1)), "{told}");
    assert_eq!((&told["version"], &told["replica"]), (&json!("v2"), &json!(v2.url())));
    assert!(told["duration_ms"].as_f64() >= told["first_byte_ms"].as_f64(), "{told}");
    let answer: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
    assert!(answer["choices"][0]["message"]["content"].is_string(), "{answer}");
    assert_eq!(told["request"]["path"], "/v1/chat/completions");
    let logged = site.logged("the test", |line| line["listener"] == "test").await;
    assert_eq!((&logged["version"], &logged["request_id"]), (&json!("v2"), &told["request_id"]));
    let events = site.ask(Request::get("/api/v1/events")).await.json();
    let event = events["events"].as_array().unwrap().iter().find(|event| event["kind"] == "test");
    assert_eq!(event.unwrap()["reason"], "a look", "{events}");
}

#[tokio::test]
async fn it_reaches_the_replica_that_it_names_and_counts_for_nobody() {
    let [v1, v2] = [Mock::version("v1").await, Mock::version("v2").await];
    let site = two(&v1, &v2).await;
    let drain = json!({"model": "m", "version": "v1"}).to_string();
    site.ask(Request::post("/api/v1/replicas/drain", drain)).await;
    for _ in 0..20 {
        let order = json!({"model": "m", "replica": v1.url()});
        let told = test(&site, &order).await.json();
        assert_eq!((&told["status"], &told["replica"]), (&json!(200), &json!(v1.url())), "{told}");
    }
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    let model = &status["models"][0];
    for version in model["versions"].as_array().unwrap() {
        assert_eq!(version["requests_total"], 0, "{version}");
        assert_eq!(version["replicas"][0]["requests_total"], 0, "{version}");
    }
    let sent = site.send(Request::post("/v1/chat/completions", r#"{"model":"m"}"#)).await;
    assert_eq!(sent.status, 200);
    // What a canary saw is taken down once a second: the one request after the tests, and none of them.
    let check = eventually("the canary sees the client's request", async || {
        let status = site.ask(Request::get("/api/v1/status")).await.json();
        let check = status["models"][0]["canary"]["checks"][0].clone();
        let seen = ["candidate_requests", "stable_requests"].map(|side| check[side].as_u64());
        (seen != [Some(0); 2]).then_some(seen)
    })
    .await;
    assert_eq!(check.iter().flatten().sum::<u64>(), 1, "{check:?}");
}

#[tokio::test]
async fn a_failing_replica_is_shown_as_it_is_and_not_ejected_for_it() {
    let broken = Upstream::start(|mut talk| async move {
        if talk.request().await.is_some() {
            talk.reset();
        }
    })
    .await;
    let good = Mock::version("good").await;
    let urls =
        format!("versions: {{v: [\"{}\", \"{}\"]}}, health: false", broken.url(), good.url());
    let site = Site::start(format!("models: {{m: {{{urls}}}}}\n")).await;
    for _ in 0..30 {
        let told = test(&site, &json!({"model": "m", "replica": broken.url()})).await.json();
        assert_eq!((&told["status"], &told["attempts"]), (&json!(502), &json!(1)), "{told}");
        assert_eq!(
            (&told["error"], &told["replica"]),
            (&json!("upstream_failed"), &json!(broken.url()))
        );
    }
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    let replica = &status["models"][0]["versions"][0]["replicas"][0];
    assert_eq!(replica["last_outcomes"].as_str().unwrap_or_default(), "", "{replica}");
    let unknown = test(&site, &json!({"model": "m", "replica": "http://nobody:1"})).await.json();
    assert_eq!((&unknown["status"], &unknown["error"]), (&json!(503), &json!("no_replicas")));
}

#[tokio::test]
async fn four_run_at_once_and_each_ends_in_time() {
    let upstream = Upstream::hanging_where_asked().await;
    let site = Site::with(one(&upstream.url(), "")).await;
    let hanging = json!({"path": "/hang", "timeout": "10m"}).to_string();
    let admin = site.admin;
    let asked = || Request::post("/api/v1/test", hanging.clone()).header("host", "localhost");
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(crate::client::send(
                admin,
                asked().header("content-type", "application/json"),
            ))
        })
        .collect();
    site.in_flight(4).await;
    let fifth = test(&site, &json!({"path": "/p"})).await;
    assert_eq!((fifth.status, &fifth.json()["error"]["code"]), (429, &json!("too_many_tests")));
    // Whoever goes makes room.
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    site.in_flight(0).await;
    let late = eventually("there is room", async || {
        let late = test(&site, &json!({"path": "/hang", "timeout": "200ms"})).await;
        (late.status != 429).then_some(late)
    })
    .await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (504, &json!("no_answer")));
    upstream.until_closed(5).await;
}

#[tokio::test]
async fn a_long_answer_is_cut_and_secrets_are_masked() {
    let upstream = Upstream::start(|mut talk| async move {
        while talk.request().await.is_some() {
            let length = 100_000;
            talk.write(format!(
                "HTTP/1.1 200 OK\r\nset-cookie: id=s3cret\r\ncontent-length: {length}\r\n\r\n"
            ))
            .await;
            talk.write("x".repeat(length)).await;
        }
    })
    .await;
    let site = Site::with(one(&upstream.url(), "")).await;
    let order = json!({"path": "/p", "headers": {"authorization": "Bearer s3cret"}});
    let reply = test(&site, &order).await;
    let told = reply.json();
    assert_eq!((&told["bytes"], &told["cut"]), (&json!(100_000), &json!(true)));
    assert_eq!(told["body"].as_str().unwrap().len(), 64 << 10);
    assert!(!reply.text().contains("s3cret"), "{}", told["headers"]);
    assert_eq!(upstream.only().header("authorization"), "Bearer s3cret");
}

#[tokio::test]
async fn what_cannot_be_sent_is_told() {
    let mock = Mock::version("v").await;
    let site = Site::with(one(&mock.url(), ", kind: predict")).await;
    let usual = site.ask(Request::get("/api/v1/test?model=m")).await.json();
    assert_eq!(usual["requests"][0]["path"], "/v2/models/m/ready", "{usual}");
    assert_eq!(test(&site, &json!({"model": "m"})).await.json()["status"], 200);
    for (order, word) in [
        (json!({}), "`model`, `path` or both"),
        (json!({"path": "p"}), "begin with `/`"),
        (json!({"path": "/p", "timeout": "1h"}), "at most 10m"),
        (json!({"path": "/p", "headers": {"content-length": "3"}}), "`content-length`"),
        (json!({"path": "/p", "boddy": 1}), "boddy"),
    ] {
        let refused = test(&site, &order).await;
        assert_eq!(refused.status, 400, "{order}");
        assert!(refused.text().contains(word), "{order}: {}", refused.text());
    }
    assert_eq!(test(&site, &json!({"model": "nobody"})).await.status, 404);
    let nowhere = test(&site, &json!({"path": "/v2/models/nobody/ready"})).await.json();
    assert_eq!((&nowhere["status"], &nowhere["error"]), (&json!(404), &json!("model_not_found")));
    let foreign =
        Request::post("/api/v1/test", r#"{"model":"m"}"#).header("origin", "http://evil.example");
    assert_eq!(site.ask(foreign).await.status, 403);
}
