//! Why requests went where they went: the log, the last of them, `evener tap` and `evener explain --id`.
use crate::client::{Client, Request};
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use serde_json::Value;
use std::collections::BTreeMap;

const PATH: &str = "/v1/completions";
const BODY: &str = r#"{"model":"m","prompt":"x"}"#;
const LOGGED: &str = "telemetry: {decision_log: {file: decisions.jsonl}}\n";

fn models(v1: &str, v2: &str, more: &str) -> String {
    format!(
        "models:\n  m:\n    versions: {{v1: [{v1}], v2: [{v2}]}}\n    split: {{v1: 60, v2: 40}}\n    \
         hash_on: [header:x-user]\n    kind: predict\n    health: false\n{more}"
    )
}

fn quoted(urls: &[&str]) -> String {
    urls.iter().map(|url| format!("\"{url}\"")).collect::<Vec<_>>().join(", ")
}

/// The lines of the decision log, by request.
fn decided(site: &Site) -> BTreeMap<String, Value> {
    let text =
        std::fs::read_to_string(site.path().join("conf/decisions.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| (line["request_id"].as_str().unwrap().to_owned(), line)).collect()
}

async fn recent(site: &Site, query: &str) -> Vec<Value> {
    let reply = site.ask(Request::get(&format!("/api/v1/decisions{query}"))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["decisions"].as_array().unwrap().clone()
}

/// Does a line bear out its own decision?
fn replays(line: &Value) {
    let assignment = &line["assignment"];
    let [point, from, to] =
        [&assignment["point"], &assignment["segment"][0], &assignment["segment"][1]]
            .map(|number| number.as_f64().unwrap());
    assert!(from <= point && point < to, "{line:#}");
    assert_eq!(assignment["owner"], if point < 0.6 { "v1" } else { "v2" }, "{line:#}");
    for attempt in line["attempt_log"].as_array().unwrap() {
        let candidates = attempt["candidates"].as_array().unwrap();
        let score = |candidate: &Value| candidate["score"].as_f64();
        let least = candidates.iter().filter_map(score).fold(f64::MAX, f64::min);
        let picked = candidates.iter().find(|c| c["url"] == attempt["replica"]).unwrap();
        // Another request may be counted between the choice and the note of it.
        assert!(score(picked).unwrap() <= least + 1.01, "{line:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_logged_decision_bears_itself_out_and_is_explained() {
    let [a, b, c] =
        [Mock::version("v1").await, Mock::version("v1").await, Mock::version("v2").await];
    let broken = Mock::start(Knobs {
        version: "v1".to_owned(),
        reset: "50%".parse().unwrap(),
        ..Knobs::default()
    })
    .await;
    let (a, b, c, broken) = (a.url(), b.url(), c.url(), broken.url());
    let text = models(&quoted(&[&a, &b, &broken]), &quoted(&[&c]), "    ejection: false\n");
    let site = Site::with(Setup::new(text + LOGGED)).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for n in 0..300 {
        let mut post = Request::post(PATH, BODY);
        if n % 2 == 0 {
            post = post.header("x-user", &format!("user-{n}"));
        }
        client.send(post).await.unwrap();
    }
    until("all are logged", || decided(&site).len() == 300).await;
    let decided = decided(&site);
    let mut again = 0;
    for line in site.log() {
        let found = &decided[line["request_id"].as_str().unwrap()];
        for key in ["version", "replica", "status", "outcome", "attempts", "duration_ms"] {
            assert_eq!(found[key], line[key], "{key}: {found:#}");
        }
        replays(found);
        again += usize::from(found["attempt_log"].as_array().unwrap().len() > 1);
    }
    assert!(again > 0, "nobody was asked twice");
    let sticky = decided.values().filter(|line| line["assignment"]["key"] == "header:x-user");
    assert_eq!(sticky.count(), 150);
    // The oldest is long gone from those that Evener keeps.
    let log = site.path().join("conf/decisions.jsonl");
    for (id, line) in decided.iter().take(3) {
        let from = ["--log", log.to_str().unwrap()];
        let asked = [&["explain", "--id", id, "--format", "json"][..], &from].concat();
        let (code, told, why) = site.evener(&asked).await;
        assert_eq!(code, Some(0), "{why}");
        assert_eq!(&serde_json::from_str::<Value>(&told).unwrap(), line);
        let (_, told, _) =
            site.evener(&["explain", "--id", id, "--log", log.to_str().unwrap()]).await;
        let (version, replica) =
            (line["version"].as_str().unwrap(), line["replica"].as_str().unwrap());
        assert!(
            told.contains(&format!("  version  {version}: the point is in its part\n")),
            "{told}"
        );
        assert!(told.contains(&format!("  {version}/{replica}  ")), "{told}");
        assert!(told.contains(&format!("  > {replica}  ")), "{told}");
    }
    let (code, _, why) =
        site.evener(&["explain", "--id", "nobody", "--log", log.to_str().unwrap()]).await;
    assert_eq!(code, Some(1));
    assert!(why.contains("no request `nobody` is in "), "{why}");
}

#[tokio::test]
async fn the_last_are_told_by_the_api_and_chosen_among() {
    let (v1, v2) = (Mock::version("v1").await, Mock::version("v2").await);
    let text = models(&quoted(&[&v1.url()]), &quoted(&[&v2.url()]), "");
    let site = Site::with(Setup::new(text)).await;
    for _ in 0..20 {
        site.send(Request::post(PATH, BODY)).await;
    }
    let lost = site.send(Request::post(PATH, r#"{"model":"mm"}"#)).await;
    assert_eq!(lost.status, 404);
    let all = eventually("all are there", async || {
        Some(recent(&site, "").await).filter(|all| all.len() == 21)
    })
    .await;
    let ids = |of: &[Value]| of.iter().map(|one| one["request_id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&recent(&site, "?limit=3").await), ids(&all[18..]));
    assert_eq!(ids(&recent(&site, "?errors=true").await), ids(&all[20..]));
    assert_eq!(
        (&all[20]["error"], &all[20]["assignment"]),
        (&"model_not_found".into(), &Value::Null)
    );
    assert_eq!(recent(&site, "?model=m").await.len(), 20);
    assert_eq!(recent(&site, "?slower_than=1h").await.len(), 0);
    let id = all[7]["request_id"].as_str().unwrap();
    assert_eq!(recent(&site, &format!("?id={id}")).await, [all[7].clone()]);
    let (code, told, why) = site.evener(&["explain", "--id", id]).await;
    assert_eq!(code, Some(0), "{why}");
    assert!(told.contains("no sticky key: the next of the sequence"), "{told}");
    let id = all[20]["request_id"].as_str().unwrap();
    let (code, told, why) = site.evener(&["explain", "--id", id]).await;
    assert_eq!(code, Some(0), "{why}");
    assert!(
        told.ends_with('\n') && told.contains("  outcome  404 refused (model_not_found) after "),
        "{told}"
    );
    for bad in ["?errors=yes", "?slower_than=soon", "?x=1"] {
        let reply = site.ask(Request::get(&format!("/api/v1/decisions{bad}"))).await;
        assert_eq!(reply.status, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tap_shows_requests_as_they_are_decided() {
    let (v1, v2) = (Mock::version("v1").await, Mock::version("v2").await);
    let text = models(&quoted(&[&v1.url()]), &quoted(&[&v2.url()]), "");
    let site = std::sync::Arc::new(Site::with(Setup::new(text)).await);
    let traffic = std::sync::Arc::clone(&site);
    let traffic = tokio::spawn(async move {
        loop {
            traffic.send(Request::post(PATH, BODY)).await;
            traffic.send(Request::post(PATH, r#"{"model":"mm"}"#)).await;
        }
    });
    let (code, told, why) = site.evener(&["tap", "--model", "m", "-n", "5"]).await;
    assert_eq!(code, Some(0), "{why}");
    assert_eq!(told.lines().count(), 5);
    for line in told.lines() {
        assert!(line.contains("  200 success  POST /v1/completions  m/v"), "{line}");
    }
    let (_, told, _) = site.evener(&["tap", "--errors", "-n", "2", "--format", "json"]).await;
    for line in told.lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["error"], "model_not_found");
    }
    assert_eq!(told.lines().count(), 2);
    let (_, told, _) = site.evener(&["tap", "--errors", "-n", "1"]).await;
    assert!(told.contains("  404 model_not_found  POST /v1/completions  "), "{told}");
    let (code, _, why) = site.evener(&["tap", "--slower-than", "soon"]).await;
    assert_eq!(code, Some(2), "{why}");
    assert!(why.contains("which is not a duration"), "{why}");
    traffic.abort();
}

#[tokio::test]
async fn the_log_follows_the_file_and_a_bad_path_is_rejected() {
    let (v1, v2) = (Mock::version("v1").await, Mock::version("v2").await);
    let text = models(&quoted(&[&v1.url()]), &quoted(&[&v2.url()]), "");
    let site = Site::with(Setup::new(text.clone())).await;
    site.send(Request::post(PATH, BODY)).await;
    site.reload(&Setup::new(text.clone() + LOGGED)).await;
    site.send(Request::post(PATH, BODY)).await;
    until("it is logged", || decided(&site).len() == 1).await;
    let bad = "telemetry: {decision_log: {file: ./no/such/folder/d.jsonl}}\n";
    let why = site.reload_rejected(&crate::site::text_of(&Setup::new(text.clone() + bad))).await;
    assert!(why.contains("cannot open the decision log ./no/such/folder/d.jsonl"), "{why}");
    site.send(Request::post(PATH, BODY)).await;
    until("it is logged on", || decided(&site).len() == 2).await;
    site.reload(&Setup::new(text)).await;
    let reply = site.send(Request::post(PATH, BODY)).await;
    let id = reply.header("x-request-id").to_owned();
    let line = site.logged("it ended", |line| line["request_id"] == *id).await;
    assert_eq!((line["status"].as_u64(), decided(&site).len()), (Some(200), 2));
}

#[tokio::test]
async fn a_debugging_client_is_told_in_a_header() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let text = models(&quoted(&[&upstream.url()]), &quoted(&[&upstream.url()]), "");
    let site = Site::with(Setup::new(text).listener("debug_headers: true")).await;
    for n in 0..150 {
        let user = format!("user-{n}");
        let reply = site.send(Request::post(PATH, BODY).header("x-user", &user)).await;
        let told = reply.header("x-evener-decision");
        let owner = reply.header("x-evener-version");
        let wanted = format!(" key=header:x-user owner={owner} least_load=");
        assert!(told.starts_with("point=0.") && told.contains(&wanted), "{told}");
        assert!(told.ends_with(" of=1"), "{told}");
    }
}
