//! Stragglers: a second attempt beside a slow first one, and a replica that hangs.
use crate::client::{Client, Raw, Request};
use crate::site::{Site, Stopwatch, until};
use crate::upstream::Upstream;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const ASK: &str = "/v1/completions";
const BODY: &str = r#"{"model":"m","prompt":"x"}"#;

fn models(replicas: &[Upstream], more: &str) -> String {
    let urls: Vec<String> = replicas.iter().map(Upstream::url).collect();
    format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false, slow_start: 0s{more}}}}}\n",
        urls.join("\", \"")
    )
}

/// `clients` in a closed loop, `each` requests each: the latencies.
async fn latencies(site: &Arc<Site>, clients: usize, each: usize) -> Vec<Duration> {
    let loops: Vec<_> = (0..clients)
        .map(|_| {
            let site = Arc::clone(site);
            tokio::spawn(async move {
                let mut client = Client::connect(site.address, false).await.unwrap();
                let mut took = Vec::new();
                for _ in 0..each {
                    let began = Stopwatch::start();
                    let reply = client.send(Request::post(ASK, BODY)).await.unwrap();
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    took.push(began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut all = Vec::new();
    for one in loops {
        all.extend(one.await.unwrap());
    }
    all
}

/// The part of requests that a straggler answered. Counted, not timed: a busy machine stretches every quantile.
fn slow_part(took: &[Duration]) -> f64 {
    let slow = took.iter().filter(|took| **took >= Duration::from_millis(190)).count();
    slow as f64 / took.len() as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hedging_halves_the_tail_for_few_more_requests() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let replicas = Upstream::pool(4, move |_| {
        // Three of a hundred are ten times slower.
        let slow = [13, 47, 81].contains(&(count.fetch_add(1, SeqCst) % 100));
        Some(Duration::from_millis(if slow { 200 } else { 20 }))
    })
    .await;
    let plain = Arc::new(Site::start(models(&replicas, "")).await);
    let hedged =
        Arc::new(Site::start(models(&replicas, ", hedge: {after: p95, budget: 5%}")).await);
    let without = slow_part(&latencies(&plain, 4, 150).await);
    // It learns first: the quantile is known after a hundred requests, at the next second.
    latencies(&hedged, 4, 100).await;
    let before = asked.load(SeqCst);
    let with = slow_part(&latencies(&hedged, 4, 200).await);
    let extra = (asked.load(SeqCst) - before) as f64 / 800.0 - 1.0;
    assert!(with < without / 2.0, "{with} with, {without} without");
    assert!(extra <= 0.055, "{extra}");
    let line = hedged.logged("a hedge that won", |line| line["attempts"] == 2).await;
    let attempts = line["attempt_log"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{line}");
    assert_ne!(attempts[0]["replica"], attempts[1]["replica"], "{line}");
    assert!(attempts.iter().any(|attempt| attempt["outcome"] == "cancelled"), "{line}");
    hedged.in_flight(0).await;
}

#[tokio::test]
async fn the_attempt_that_lost_is_cancelled_at_once() {
    let replicas = Upstream::pool(2, |place| (place == 1).then_some(Duration::ZERO)).await;
    let more = ", balance: round_robin, hedge: {after: 50ms, budget: 100%}";
    let site = Site::start(models(&replicas, more)).await;
    for _ in 0..6 {
        let began = Stopwatch::start();
        let reply = site.send(Request::post(ASK, BODY)).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    let hung = replicas[0].seen().len();
    assert!(hung > 0);
    replicas[0].until_closed(hung).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_requests_wait_for_a_replica_that_hangs() {
    let (hangs, waits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (hung, waiting) = (Arc::clone(&hangs), Arc::clone(&waits));
    let replicas = Upstream::pool(8, move |place| {
        if place == 0 && hung.load(SeqCst) {
            waiting.fetch_add(1, SeqCst);
            return None;
        }
        Some(Duration::from_millis(10))
    })
    .await;
    let more = ", timeouts: {first_byte: 2s}";
    let site = Arc::new(Site::start(models(&replicas, more)).await);
    latencies(&site, 8, 100).await;
    hangs.store(true, SeqCst);
    let served = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (site, stop, served) = (Arc::clone(&site), Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                let mut client = Client::connect(site.address, false).await.unwrap();
                let mut took = Vec::new();
                while !stop.load(SeqCst) {
                    let began = Stopwatch::start();
                    let reply = client.send(Request::post(ASK, BODY)).await.unwrap();
                    served.fetch_add(1, SeqCst);
                    took.push((reply.status, began.elapsed()));
                }
                took
            })
        })
        .collect();
    until("a thousand are served beside it", || served.load(SeqCst) > 1000).await;
    stop.store(true, SeqCst);
    for client in clients {
        for (status, took) in client.await.unwrap() {
            match status {
                200 => {}
                504 => {
                    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4));
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(waits.load(SeqCst) <= 3, "{} waited", waits.load(SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_ten_times_slower_is_avoided() {
    let (slow, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (slowed, count) = (Arc::clone(&slow), Arc::clone(&asked));
    let replicas = Upstream::pool(8, move |place| {
        if place == 0 && slowed.load(SeqCst) {
            count.fetch_add(1, SeqCst);
            return Some(Duration::from_millis(100));
        }
        Some(Duration::from_millis(10))
    })
    .await;
    let site = Arc::new(Site::start(models(&replicas, "")).await);
    latencies(&site, 8, 200).await;
    slow.store(true, SeqCst);
    latencies(&site, 8, 400).await;
    // Its fair share is 400 of 3 200.
    assert!(asked.load(SeqCst) <= 20, "{} of 400", asked.load(SeqCst));
}

#[tokio::test]
async fn an_upload_that_takes_its_time_does_not_starve_its_replica() {
    let replicas = Upstream::pool(2, |_| Some(Duration::ZERO)).await;
    let site = Arc::new(Site::start(models(&replicas, "")).await);
    // The usual first byte is known after a hundred, at the next second.
    latencies(&site, 4, 60).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 9\r\n\r\nabc")
        .await;
    until("the upload began", || replicas.iter().map(Upstream::accepted).sum::<usize>() > 0).await;
    let before: Vec<usize> = replicas.iter().map(|r| r.seen().len()).collect();
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_millis(1500) {
        latencies(&site, 4, 30).await;
    }
    for (replica, before) in replicas.iter().zip(before) {
        assert!(replica.seen().len() > before + 60, "{} more", replica.seen().len() - before);
    }
}

#[tokio::test]
async fn of_two_that_race_both_may_fail_and_neither_is_asked_again() {
    let slow = |status: &'static str, think: u64| {
        Upstream::start(move |mut talk| async move {
            while talk.request().await.is_some() {
                tokio::time::sleep(Duration::from_millis(think)).await;
                talk.write(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
            }
        })
    };
    let replicas = [slow("503 No", 150).await, slow("503 No", 300).await, slow("200 OK", 0).await];
    let more = ", balance: round_robin, ejection: false, hedge: {after: 50ms, budget: 100%}, \
                retries: {budget: 100%}";
    let site = Site::start(models(&replicas, more)).await;
    for _ in 0..9 {
        assert_eq!(site.send(Request::post(ASK, BODY)).await.status, 200);
    }
    // Two failed side by side, a third was asked after them.
    let line = site.logged("a race that nobody won", |line| line["attempts"] == 3).await;
    let attempts = line["attempt_log"].as_array().unwrap();
    let of = |key: &str| attempts.iter().map(|a| a[key].clone()).collect::<Vec<Value>>();
    let urls = of("replica");
    assert!(replicas.iter().all(|r| urls.contains(&r.url().into())), "each was asked: {line}");
    assert_eq!(of("status"), [503, 503, 200], "{line}");
    assert_eq!(of("outcome"), ["server_error", "server_error", "success"], "{line}");
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    for bad in 0..2 {
        let failures = &status["models"][0]["versions"][0]["replicas"][bad]["failures_total"];
        assert!(failures.as_u64().unwrap() > 0, "a race hides nothing: {status}");
    }
}

#[tokio::test]
async fn a_request_that_may_be_hedged_is_sent_once_when_its_head_was_answered() {
    let replica = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.answer("ok").await;
        talk.request().await;
        talk.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
    })
    .await;
    let more = ", hedge: {after: 9s, budget: 100%}, retries: {max: 0}";
    let site = Site::start(models(std::slice::from_ref(&replica), more)).await;
    assert_eq!(site.send(Request::post(ASK, BODY)).await.status, 200);
    assert_eq!(site.send(Request::post(ASK, BODY)).await.status, 502);
    assert_eq!(replica.seen().len(), 2);
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_ends_a_hedged_request_too() {
    let replica = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n").await;
        talk.wait_for_close().await;
    })
    .await;
    let more = ", hedge: {after: 9s, budget: 100%}, retries: {max: 0}";
    let site = Site::start(models(std::slice::from_ref(&replica), more)).await;
    let began = Stopwatch::start();
    assert_eq!(site.send(Request::post(ASK, BODY)).await.status, 502);
    assert!(began.elapsed() < Duration::from_secs(8));
}

/// A replica that sends hints, waits, and answers with its name.
async fn hinting(name: &'static str, wait: Duration) -> Upstream {
    Upstream::start(move |mut talk| async move {
        while talk.request().await.is_some() {
            for n in 1..=2 {
                talk.write(format!("HTTP/1.1 103 Early Hints\r\nlink: </{name}{n}>\r\n\r\n")).await;
            }
            tokio::time::sleep(wait).await;
            talk.answer(name).await;
        }
    })
    .await
}

#[tokio::test]
async fn hints_pass_of_the_attempt_that_wins() {
    let slow = hinting("slow", Duration::from_mins(1)).await;
    let fast = hinting("fast", Duration::from_millis(20)).await;
    let more = ", balance: round_robin, hedge: {after: 50ms, budget: 100%}";
    let replicas = [slow, fast];
    let site = Site::start(models(&replicas, more)).await;
    let post = format!(
        "POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut raw = Raw::connect(site.address).await;
    let mut hedged = 0;
    for _ in 0..6 {
        raw.write(&post).await;
        let answer = raw.read_until("\r\n\r\nfast").await;
        let hints: Vec<_> = answer.lines().filter(|line| line.starts_with("link: ")).collect();
        assert_eq!(hints, ["link: </fast1>", "link: </fast2>"], "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 103 ").count(), 2, "{answer}");
        let of_old = raw_of_old(&site, &post).await;
        assert!(of_old.starts_with("HTTP/1.1 200 ") && !of_old.contains("link"), "{of_old}");
        hedged = site.log().iter().filter(|line| line["attempts"] == 2).count();
    }
    assert!(hedged > 0);
    site.in_flight(0).await;
}

/// The answer to a client of HTTP/1.0, which knows no hints.
async fn raw_of_old(site: &Site, post: &str) -> String {
    let mut raw = Raw::connect(site.address).await;
    raw.write(post.replace("HTTP/1.1", "HTTP/1.0")).await;
    raw.read_to_end().await.0
}

#[tokio::test]
async fn hints_of_an_answer_that_is_asked_for_elsewhere_do_not_pass() {
    let failing = Upstream::start(|mut talk| async move {
        while talk.request().await.is_some() {
            talk.write("HTTP/1.1 103 Early Hints\r\nlink: </failing>\r\n\r\n").await;
            talk.write("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let good = hinting("good", Duration::ZERO).await;
    let more = ", balance: round_robin, ejection: false, hedge: {after: 10s}";
    let replicas = [failing, good];
    let site = Site::start(models(&replicas, more)).await;
    for _ in 0..4 {
        let mut raw = Raw::connect(site.address).await;
        raw.write(format!(
            "POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        ))
        .await;
        let answer = raw.read_until("\r\n\r\ngood").await;
        assert!(!answer.contains("failing") && answer.contains("link: </good1>"), "{answer}");
    }
}

#[tokio::test]
async fn a_refused_answer_of_a_hedged_request_leaves_its_connection_open() {
    let failing = Upstream::start(|mut talk| async move {
        while talk.request().await.is_some() {
            talk.write("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull").await;
        }
    })
    .await;
    let good = hinting("good", Duration::ZERO).await;
    let more =
        ", balance: round_robin, ejection: false, retries: {budget: 100%}, hedge: {after: 10s}";
    let replicas = [failing, good];
    let site = Site::start(models(&replicas, more)).await;
    for _ in 0..20 {
        assert_eq!(site.send(Request::post(ASK, BODY)).await.text(), "good");
    }
    let [failing, _] = replicas;
    assert!(failing.seen().len() >= 10, "{}", failing.seen().len());
    // The next request may come before a connection is put back.
    assert!(failing.accepted() < 5, "connections are kept: {}", failing.accepted());
}
