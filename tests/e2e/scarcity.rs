//! Evener itself has too few descriptors: clients are told so, and no replica is blamed.
use crate::client::{Raw, Request, send};
use crate::process::Launch;
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::Upstream;
use serde_json::Value;

const FILES: u32 = 128;
const HEALTH: &str = "health: {tcp: true, every: 100ms, timeout: 50ms, fall: 1, rise: 1}";

fn few() -> Launch {
    Launch { files: Some(FILES), ..Launch::default() }
}

async fn site(replicas: [&Upstream; 2]) -> Site {
    let [a, b] = replicas.map(Upstream::url);
    let rest = format!("models: {{m: {{versions: {{v: [\"{a}\", \"{b}\"]}}, {HEALTH}}}}}\n");
    Site::launched(Setup::new(rest), few()).await
}

async fn states(site: &Site) -> Vec<String> {
    let model: Value = site.ask(Request::get("/api/v1/models/m")).await.json();
    let replicas = model["versions"][0]["replicas"].as_array().unwrap();
    replicas.iter().map(|replica| replica["state"].as_str().unwrap().to_owned()).collect()
}

async fn until_exhausted(site: &Site, during: &str) {
    let during = format!("resource=\"descriptors\",during=\"{during}\"");
    eventually(&format!("there are none: {during}"), async || {
        (site.metric("evener_resource_exhausted_total", &during).await > 0.0).then_some(())
    })
    .await;
}

/// So many clients who say nothing yet, of whom some are turned away.
async fn crowd(site: &Site, clients: u32) -> Vec<Raw> {
    let mut held = Vec::new();
    for _ in 0..clients {
        held.push(Raw::connect(site.address).await);
    }
    until_exhausted(site, "accept").await;
    held
}

#[tokio::test]
async fn requests_that_find_no_descriptor_are_503_and_speak_against_nobody() {
    let (a, b) = (Upstream::hanging_where_asked().await, Upstream::hanging_where_asked().await);
    let site = site([&a, &b]).await;
    // Clients first, as many as there is room for: those that asked one after the other would find out how many fit.
    let held = crowd(&site, FILES).await;
    for raw in &held {
        raw.0.try_write(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n").ok();
    }
    until_exhausted(&site, "connect").await;
    // The admin API is answered all the while.
    assert_eq!(states(&site).await, ["healthy", "healthy"]);
    let page = site.ask(Request::get("/metrics")).await.text();
    assert!(page.contains(r#"evener_refusals_total{model="m",code="out_of_resources"}"#), "{page}");
    let refused = site.logged("it is logged", |line| line["error"] == "out_of_resources").await;
    assert_eq!((&refused["status"], &refused["outcome"]), (&503.into(), &"refused".into()));
    assert_eq!(refused["attempts"], 1, "another replica would lack the same");
    for class in ["connect_failure", "server_error", "refused"] {
        let with = format!("class=\"{class}\"");
        assert!(site.metric("evener_replica_requests_total", &with).await < 0.5, "{class}");
    }
    drop(held);
    eventually("all is served again", async || {
        let reply = send(site.address, Request::get("/fine")).await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(states(&site).await, ["healthy", "healthy"]);
    let events = site.ask(Request::get("/api/v1/events")).await.text();
    for blame in ["fails its health check", "ejected"] {
        assert!(!events.contains(blame), "{events}");
    }
    let lines = site.count_said("Evener has no file descriptors left");
    assert!((1..=6).contains(&lines), "{lines} lines");
    assert_eq!(site.count_said("cannot accept admin connections"), 0);
}

#[tokio::test]
async fn idle_clients_leave_descriptors_for_others_and_for_the_api() {
    let (a, b) = (Upstream::hanging_where_asked().await, Upstream::hanging_where_asked().await);
    let site = site([&a, &b]).await;
    let mut held = crowd(&site, 2 * FILES).await;
    // Those that are connected are served: the last descriptors are kept for the replicas' side.
    let mut first = held.remove(0);
    first.write("GET /fine HTTP/1.1\r\nHost: x\r\n\r\n").await;
    first.read_until("200 OK").await;
    assert_eq!(site.ask(Request::get("/healthz")).await.status, 200);
    drop((first, held));
    until("the log says it once", || site.count_said("during=\"accept\"") == 1).await;
}

#[tokio::test]
async fn a_limit_that_cannot_hold_the_clients_is_told() {
    let (a, b) = (Upstream::hanging_where_asked().await, Upstream::hanging_where_asked().await);
    let site = site([&a, &b]).await;
    until("at the start", || site.count_said("warning[few-descriptors]") == 1).await;
    assert_eq!(site.count_said("may open 128 files"), 1);
    let (code, out, _) = site.evener(&["status"]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("it may open 128 files"), "{out}");
    let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
    assert_eq!(status["descriptors"]["limit"], 128);
    assert_eq!(status["descriptors"]["needed"], 40_352);
}
