//! A model or a replica that gives nobody a good answer is named, though nothing fails.
use crate::client::{Raw, Request};
use crate::site::{Site, eventually};
use crate::upstream::Upstream;
use serde_json::{Value, json};
use std::time::Duration;

/// Clients that leave after 250 ms count.
const PATIENCE: Duration = Duration::from_millis(300);

async fn answering(status: &'static str) -> Upstream {
    Upstream::start(move |mut talk| async move {
        while talk.request().await.is_some() {
            talk.write(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}")).await;
        }
    })
    .await
}

fn chat(model: &str) -> Request {
    Request::post("/v1/chat/completions", json!({"model": model, "messages": []}).to_string())
}

async fn named(site: &Site, subject: &str) -> Value {
    eventually(&format!("{subject} is named"), async || {
        let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
        let problems = status["problems"].as_array().unwrap().clone();
        let is = |each: &Value| each["code"] == "no_good_answer" && each["subject"] == subject;
        problems.into_iter().find(is)
    })
    .await
}

#[tokio::test]
async fn answers_that_help_nobody_are_named_though_no_replica_fails() {
    let cases = [
        ("m301", "301 Moved Permanently", "with a redirect (3xx)"),
        ("m400", "400 Bad Request", "400"),
        ("m401", "401 Unauthorized", "401"),
        ("m403", "403 Forbidden", "403"),
        ("m404", "404 Not Found", "404"),
        ("m405", "405 Method Not Allowed", "405"),
    ];
    let mut upstreams = Vec::new();
    let mut models = "defaults: {health: false}\nmodels:\n".to_owned();
    for (name, status, _) in cases {
        let upstream = answering(status).await;
        let replicas = format!("replicas: [\"{}\"]", upstream.url());
        let headers =
            if name == "m401" { ", headers: {set: {authorization: Bearer x}}" } else { "" };
        models.extend([format!("  {name}: {{versions: {{v1: {{{replicas}{headers}}}}}}}\n")]);
        upstreams.push(upstream);
    }
    let site = Site::start(models).await;
    for (name, ..) in cases {
        for _ in 0..20 {
            site.send(chat(name)).await;
        }
    }
    for (name, _, words) in cases {
        let problem = named(&site, name).await;
        let sentence = problem["sentence"].as_str().unwrap();
        let told = format!(
            "All of the last 20 requests for {name} were answered {words} by its replicas, all from one client"
        );
        assert_eq!(sentence, told);
        let severity = if name == "m401" { "critical" } else { "warning" };
        assert_eq!(problem["severity"], severity, "{name}");
    }
    let (exit, text, _) = site.evener(&["status", "--check"]).await;
    assert!(exit == Some(1) && text.contains("requests for m401"), "{text}");
    let (exit, text, _) = site.evener(&["status", "--check", "m401"]).await;
    assert!(exit == Some(1) && text.contains("`headers.set`"), "{text}");
}

#[tokio::test]
async fn a_replica_that_lets_every_client_leave_is_named() {
    let upstream = Upstream::hanging_where_asked().await;
    let url = upstream.url();
    let site =
        Site::start(format!("models: {{m: {{versions: {{v1: [\"{url}\"]}}, health: false}}}}\n"))
            .await;
    let body = r#"{"model":"m"}"#;
    let request = format!(
        "POST /v1/completions/hang HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let ask = || async {
        let mut raw = Raw::connect(site.address).await;
        raw.write(&request).await;
        raw
    };
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(ask().await);
    }
    eventually("all are at the replica", async || (upstream.seen().len() == 20).then_some(()))
        .await;
    // So long they wait for an answer.
    tokio::time::sleep(PATIENCE).await;
    drop(clients);
    let problem = named(&site, "m").await;
    let sentence = problem["sentence"].as_str().unwrap();
    assert!(sentence.contains("ended with clients that left before an answer began"), "{sentence}");
    let answered = Request::post("/v1/chat/completions", body);
    assert_eq!(site.send(answered).await.status, 200);
    eventually("it is over", async || {
        let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
        status["problems"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

/// A head of a stream, and behind it nothing that says anything.
#[tokio::test]
async fn streams_of_which_only_the_head_comes_are_named() {
    for (begun, timeouts, words) in [
        ("", "first_byte: 300ms", "most by timeout"),
        ("", "total: 300ms", "most by timeout"),
        ("8\r\n: ping\n\n\r\n", "total: 300ms", "most by timeout"),
        ("", "total: 1m", "left before an answer began"),
        ("8\r\n: ping\n\n\r\n", "total: 1m", "left before an answer began"),
    ] {
        let upstream = Upstream::start(move |mut talk| async move {
            if talk.request().await.is_some() {
                talk.write(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{begun}")).await;
                talk.wait_for_close().await;
            }
        })
        .await;
        let url = upstream.url();
        let site = Site::start(format!(
            "models: {{m: {{versions: {{v1: [\"{url}\"]}}, health: false, retries: false, timeouts: {{{timeouts}}}}}}}\n"
        ))
        .await;
        let body = r#"{"model":"m","stream":true}"#;
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut raw = Raw::connect(site.address).await;
            raw.write(&request).await;
            clients.push(raw);
        }
        eventually("all are at the replica", async || (upstream.seen().len() == 20).then_some(()))
            .await;
        // So long they wait for an answer.
        tokio::time::sleep(PATIENCE).await;
        if words.contains("left") {
            drop(clients);
        } else {
            for client in &mut clients {
                client.read_to_end().await;
            }
        }
        eventually(&format!("{begun:?} {timeouts}: a problem {words}"), async || {
            let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
            let problems = status["problems"].as_array().unwrap().clone();
            let says = |each: &Value| each["sentence"].as_str().unwrap().contains(words);
            problems.iter().any(says).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn one_replica_one_version_and_one_mirror_that_know_nothing_are_named() {
    let (good, bad) = (answering("200 OK").await, answering("404 Not Found").await);
    let (good, bad) = (good.url(), bad.url());
    let site = Site::start(format!(
        "defaults: {{health: false}}\nmodels:\n\
         \x20 replica: {{versions: {{v1: [\"{good}\", \"{bad}\"]}}}}\n\
         \x20 version: {{versions: {{v1: [\"{good}\"], v2: [\"{bad}\"]}}, split: {{v1: 50, v2: 50}}}}\n\
         \x20 mirrored: {{versions: {{v1: [\"{good}\"], v2: [\"{bad}\"]}}, split: {{v1: 100, v2: 0}}, mirror: {{to: v2, percent: 100}}}}\n"
    ))
    .await;
    for _ in 0..50 {
        for model in ["replica", "version", "mirrored"] {
            site.send(chat(model)).await;
        }
    }
    let sentence = |problem: Value| problem["sentence"].as_str().unwrap().to_owned();
    let told = sentence(named(&site, &format!("replica/v1/{bad}")).await);
    assert!(told.ends_with("of replica/v1 were answered 404, while its peers do well"), "{told}");
    let told = sentence(named(&site, "version/v2").await);
    assert!(told.ends_with("404 by its replicas, while other versions do well"), "{told}");
    eventually("the mirror is named", async || {
        let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
        let mut problems = status["problems"].as_array().unwrap().clone().into_iter();
        problems.find(|each| each["code"] == "mirror_fails" && each["subject"] == "mirrored")
    })
    .await;
    let (exit, ..) = site.evener(&["status", "--check"]).await;
    assert_eq!(exit, Some(1));
}
