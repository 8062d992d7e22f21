//! What copies must not do: hold up clients, stops and takeovers, or speak against replicas that serve.
use crate::client::{Client, Request, send};
use crate::mirror::{
    PREDICT, ask, at_rest, echo, is_copy, json_answer, numbers, report, settled, setup, site, sum,
};
use crate::site::{Site, Stopwatch, eventually, until};
use crate::upstream::Upstream;
use bytes::Bytes;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Thinks for ever over copies, and answers everybody else.
async fn hung() -> Upstream {
    Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            if is_copy(&seen) {
                return talk.wait_for_close().await;
            }
            talk.answer("ok").await;
        }
    })
    .await
}

/// Answers at once, but thinks for ever where it is asked to.
async fn patient() -> Upstream {
    Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            if seen.body.windows(4).any(|w| w == b"hang") {
                return talk.wait_for_close().await;
            }
            json_answer(&mut talk, &json!({})).await;
        }
    })
    .await
}

fn hang() -> Request {
    Request::post(PREDICT, r#"{"instances":["hang"]}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_candidate_costs_clients_nothing_and_holds_up_no_stop() {
    let (v1, v2) = (patient().await, hung().await);
    let idle = setup(&v1.url(), &v2.url(), "false");
    let mut site = Site::with(idle).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let median = async |client: &mut Client| {
        let mut took = Vec::new();
        for n in 0..200 {
            let watch = Stopwatch::start();
            assert_eq!(client.send(ask(n)).await.unwrap().status, 200);
            took.push(watch.elapsed());
        }
        took.sort();
        took[100]
    };
    median(&mut client).await;
    let without = median(&mut client).await;
    let mirror = "{to: v2, percent: 100, concurrency: 3, timeout: 10m}";
    site.reload(&setup(&v1.url(), &v2.url(), mirror)).await;
    let with = median(&mut client).await;
    assert!(with < without * 2 + Duration::from_millis(2), "{with:?} instead of {without:?}");
    // No further one is made than may run.
    let found = report(&site).await;
    assert_eq!((&found["running"], &found["results"]["skipped"]), (&3.into(), &197.into()));
    assert_eq!(found["agreement"], Value::Null);
    site.in_flight(3).await;
    until("they are at work", || v2.seen().len() == 3).await;
    // A drain ends them at once, and waits for what clients wait for.
    let address = site.address;
    let waits = tokio::spawn(async move { send(address, hang()).await });
    site.in_flight(4).await;
    drop(client);
    site.signal(Signal::TERM);
    v2.until_closed(3).await;
    assert!(site.runs());
    let watch = Stopwatch::start();
    waits.abort();
    assert!(site.ended().await.success());
    assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_candidate_takes_no_space_that_requests_need() {
    let (v1, v2) = (patient().await, hung().await);
    let text = setup(&v1.url(), &v2.url(), "{to: v2, percent: 100, concurrency: 1000}").rest;
    let site = Site::start(format!("buffers: 1MiB\n{text}")).await;
    let long = json!({"instances": ["x".repeat(60_000)]}).to_string();
    for _ in 0..40 {
        assert_eq!(site.send(Request::post(PREDICT, long.clone())).await.status, 200);
    }
    let found = report(&site).await;
    let running = found["running"].as_u64().unwrap();
    assert!((2..=8).contains(&running), "{found}");
    assert_eq!(found["results"]["skipped"], 40 - running);
    // Four that are twice as long still fit beside them.
    let longer = Bytes::from(json!({"instances": ["x".repeat(120_000), "hang"]}).to_string());
    let mut waits = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (address, longer) = (site.address, longer.clone());
        waits.spawn(async move { send(address, Request::post(PREDICT, longer)).await });
    }
    until("all are at work", || {
        v1.seen().iter().filter(|seen| seen.body.len() > 100_000).count() == 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_drops_copies_and_a_timeout_ends_them() {
    let (v1, v2) = (echo().await, hung().await);
    let mut site = site(&v1, &v2, "{to: v2, percent: 100, timeout: 10m}").await;
    assert_eq!(site.send(ask(1)).await.status, 200);
    site.in_flight(1).await;
    let mut old = site.take_over().await;
    assert!(old.ended().await.success());
    v2.until_closed(1).await;
    site.reload(&setup(&v1.url(), &v2.url(), "{to: v2, percent: 100, timeout: 50ms}")).await;
    assert_eq!(site.send(ask(1)).await.status, 200);
    assert_eq!(settled(&site, 1).await["results"]["timeout"], 1);
    v2.until_closed(2).await;
    at_rest(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_copies_speak_against_no_replica_that_serves() {
    let v1 = echo().await;
    let broken = async || {
        Upstream::start(|mut talk| async move {
            while let Some(seen) = talk.request().await {
                if is_copy(&seen) {
                    return talk.reset();
                }
                talk.answer("ok").await;
            }
        })
        .await
    };
    let (one, two, three) = (broken().await, broken().await, broken().await);
    let urls = [&one, &two, &three].map(|one| format!("\"{}\"", one.url())).join(", ");
    let mirror = "{to: v2, percent: 100, concurrency: 1000}";
    let text = setup(&v1.url(), &urls, mirror).rest;
    let site = Site::start(text + "    allow_pin: true\n").await;
    for n in 0..150 {
        assert_eq!(site.send(ask(n)).await.status, 200);
    }
    let found = settled(&site, 150).await;
    assert_eq!(found["results"]["failed"], 150, "{found}");
    assert_eq!(found["compared"], 0);
    let copies = || [&one, &two, &three].map(|one| one.seen().len());
    assert!(copies().iter().all(|n| *n > 10), "the policy spreads them: {:?}", copies());
    let status = site.ask(Request::get("/api/v1/models/m")).await.json();
    for replica in status["versions"][1]["replicas"].as_array().unwrap() {
        assert_eq!((&replica["state"], &replica["failures_total"]), (&"healthy".into(), &0.into()));
    }
    // Requests that are served by it are none to copy to it.
    for n in 0..20 {
        let reply = site.send(ask(n).header("x-evener-version", "v2")).await;
        assert_eq!((reply.status, &*reply.text()), (200, "ok"));
    }
    assert_eq!(sum(&report(&site).await), 150);
    at_rest(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_copied_and_a_client_that_leaves_is_not_waited_for() {
    let v1 = patient().await;
    let v2 = numbers(|_| json!({})).await;
    let site = site(&v1, &v2, "{to: v2, percent: 20, concurrency: 1000}").await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for n in 0..500 {
        assert_eq!(client.send(ask(n)).await.unwrap().status, 200);
    }
    // Further than five standard deviations would be no chance.
    until("some are copied", || v2.seen().len() > 50).await;
    let found = settled(&site, 51).await;
    assert!((51..=149).contains(&found["compared"].as_u64().unwrap()), "{found}");
    site.reload(&setup(&v1.url(), &v2.url(), "{to: v2, percent: 100}")).await;
    let before = v2.seen().len();
    let left = tokio::time::timeout(Duration::from_millis(100), site.send(hang()));
    assert!(left.await.is_err());
    v1.until_closed(1).await;
    eventually("it is abandoned", async || {
        (report(&site).await["results"]["abandoned"] == 1).then_some(())
    })
    .await;
    assert_eq!(v2.seen().len(), before);
    at_rest(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_are_compared_few_at_a_time() {
    // A number of one digit takes sixteen times its length when it is read.
    let body = format!("{{\"predictions\":[1{}]}}", ",1".repeat(100_000));
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let answer: &'static str = format!("{head}content-length: {length}\r\n\r\n{body}").leak();
    let (v1, v2) = (Upstream::answering(answer).await, Upstream::answering(answer).await);
    let site = Arc::new(site(&v1, &v2, "{to: v2, percent: 100, concurrency: 1000}").await);
    let before = site.peak_memory();
    let clients = (0..30).map(|n| {
        let site = Arc::clone(&site);
        tokio::spawn(async move { assert_eq!(site.send(ask(n)).await.body.len(), length) })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(settled(&site, 30).await["results"]["agreed"], 30);
    // All the bodies are 12 MB; all of them read at once would be 200 MB.
    let grown = site.peak_memory() - before;
    assert!(grown < 130 << 20, "{} KiB", grown >> 10);
}
