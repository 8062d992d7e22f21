//! What fails unseen is asked again elsewhere, within a budget, and never where it could do harm.
use crate::client::{Client, Raw, Reply, Request};
use crate::site::{Site, Stopwatch, eventually, until};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::TcpListener;

const ASK: &str = "/v1/completions";
const BODY: &str = r#"{"model":"m","prompt":"x"}"#;

/// One model with these replicas; no health check tells who is dead.
fn models(urls: &[String], more: &str) -> String {
    format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false, slow_start: 0s{more}}}}}\n",
        urls.join("\", \"")
    )
}

async fn metric(site: &Site, line: &str) -> f64 {
    let page = site.ask(Request::get("/metrics")).await.text();
    let found = page.lines().find_map(|known| known.strip_prefix(line));
    found.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// Reads each request, and resets the connection instead of an answer.
async fn resetting() -> Upstream {
    Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.reset();
    })
    .await
}

/// A port where nothing listens.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_costs_no_request_that_had_no_answer_yet() {
    let mut replicas = Upstream::pool(4, |_| Some(Duration::from_millis(5))).await;
    let urls: Vec<String> = replicas.iter().map(Upstream::url).collect();
    let site = Arc::new(Site::start(models(&urls, "")).await);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (site, stop, served) = (Arc::clone(&site), Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                let mut client = Client::connect(site.address, false).await.unwrap();
                let mut failed = Vec::new();
                while !stop.load(SeqCst) {
                    let reply = client.send(Request::post(ASK, BODY)).await.unwrap();
                    if reply.status != 200 {
                        failed.push(reply.text());
                    }
                    served.fetch_add(1, SeqCst);
                }
                failed
            })
        })
        .collect();
    let more = async |n: usize| {
        let goal = served.load(SeqCst) + n;
        eventually("requests are served", async || (served.load(SeqCst) >= goal).then_some(()))
            .await;
    };
    more(100).await;
    drop(replicas.pop());
    more(400).await;
    stop.store(true, SeqCst);
    for client in clients {
        assert_eq!(client.await.unwrap(), Vec::<String>::new());
    }
    let line = site.logged("a retry", |line| line["attempts"] == 2).await;
    let attempts = line["attempt_log"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{line}");
    assert_ne!(attempts[0]["replica"], attempts[1]["replica"]);
    assert!(["reset", "connect_failure"].contains(&attempts[0]["outcome"].as_str().unwrap()));
    assert_eq!((&attempts[1]["outcome"], &line["outcome"]), (&"success".into(), &"success".into()));
    assert!(attempts[1]["began_ms"].as_f64() >= attempts[0]["began_ms"].as_f64());
}

#[tokio::test]
async fn a_503_is_asked_again_elsewhere_and_the_client_never_sees_it() {
    let bad = Mock::start(Knobs {
        version: "bad".to_owned(),
        error: "100%".parse().unwrap(),
        error_status: 503,
        ..Knobs::default()
    })
    .await;
    let good = Mock::version("good").await;
    let site = Site::start(models(&[bad.url(), good.url()], "")).await;
    for _ in 0..40 {
        let reply = site.send(Request::post(ASK, BODY)).await;
        assert_eq!((reply.status, reply.version()), (200, "good"));
    }
    assert!(metric(&site, r#"evener_retries_total{model="m",reason="503"}"#).await > 0.0);
}

#[tokio::test]
async fn when_all_answer_503_the_budget_bounds_what_they_are_asked_and_the_503_passes() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let asked = Arc::clone(&asked);
        replicas.push(
            Upstream::start(move |mut talk| {
                let asked = Arc::clone(&asked);
                async move {
                    while talk.request().await.is_some() {
                        asked.fetch_add(1, SeqCst);
                        talk.write("HTTP/1.1 503 Service Unavailable\r\nx-own: yes\r\ncontent-length: 4\r\n\r\nfull")
                            .await;
                    }
                }
            })
            .await,
        );
    }
    let urls: Vec<String> = replicas.iter().map(Upstream::url).collect();
    let began = Stopwatch::start();
    let site = Site::start(models(&urls, ", retries: {max: 3}")).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for _ in 0..500 {
        let reply = client.send(Request::post(ASK, BODY)).await.unwrap();
        assert_eq!(
            (reply.status, reply.header("x-own"), reply.text().as_str()),
            (503, "yes", "full")
        );
    }
    let most = 1.2 * 500.0 + 3.0 * (began.elapsed().as_secs_f64() + 1.0);
    let asked = asked.load(SeqCst);
    assert!(asked > 550 && asked as f64 <= most, "{asked} of at most {most}");
    let spent = r#"evener_retry_budget_exhausted_total{model="m"}"#;
    assert!(metric(&site, spent).await > 0.0);
    let log = site.logged("the last line", |line| line["attempts"] == 4).await;
    let tried: Vec<&Value> =
        log["attempt_log"].as_array().unwrap().iter().map(|attempt| &attempt["replica"]).collect();
    assert!(tried[0] != tried[1] && tried[1] != tried[2] && tried[0] != tried[2], "{log}");
}

#[tokio::test]
async fn a_retry_sends_the_whole_body_again_under_the_other_versions_own_name() {
    let (bad, good) = (resetting().await, Upstream::answering(OK).await);
    let site = Site::start(format!(
        "models:\n  m:\n    versions:\n      v1: {{replicas: [\"{}\"], upstream_model: a-rather-long-name}}\n      \
         v2: {{replicas: [\"{}\"], upstream_model: b}}\n    split: {{v1: 99, v2: 1}}\n    health: false\n    retries: {{budget: 100%}}\n",
        bad.url(),
        good.url()
    ))
    .await;
    let pad = "y".repeat(200_000);
    let body = |name: &str| format!(r#"{{"prompt":"{pad}","model":"{name}"}}"#);
    let mut crossed = 0;
    for _ in 0..5 {
        let before = bad.seen().len();
        let reply = site.send(Request::post(ASK, body("m"))).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        crossed += bad.seen().len() - before;
    }
    assert!(crossed >= 4);
    assert!(bad.seen().iter().all(|seen| seen.body == body("a-rather-long-name").as_bytes()));
    assert!(good.seen().iter().all(|seen| seen.body == body("b").as_bytes()));
    assert!(
        good.seen().iter().all(|seen| seen.header("content-length") == seen.body.len().to_string())
    );
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn what_may_have_an_effect_is_repeated_only_when_nobody_saw_it() {
    for (path, key, status) in [("/p", None, 502), ("/p", Some("k1"), 200), (ASK, None, 200)] {
        let (bad, good) = (resetting().await, Upstream::answering(OK).await);
        let more = ", balance: round_robin";
        let site = Site::start(models(&[bad.url(), good.url()], more)).await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let mut request = Request::post(path, BODY);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            statuses.push(site.send(request).await.status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, status], "{path} {key:?}");
        assert_eq!(bad.seen().len(), 1, "{path} {key:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_no_harm_and_asked_again_elsewhere_even_for_a_plain_post() {
    let good = Upstream::answering(OK).await;
    let site = Site::start(models(&[refusing().await, good.url()], "")).await;
    for _ in 0..10 {
        assert_eq!(site.send(Request::post("/p", BODY)).await.status, 200);
    }
    // Nor is a body lost that is streamed: none of it was sent.
    let long = bytes::Bytes::from("z".repeat(3 << 20));
    for _ in 0..10 {
        let request = Request::new(http::Method::POST, "/p", long.clone());
        assert_eq!(site.send(request.header("content-type", "audio/wav")).await.status, 200);
    }
    assert!(good.seen().iter().rev().take(10).all(|seen| seen.body.len() == 3 << 20));
}

#[tokio::test]
async fn a_dead_version_costs_nothing_even_beyond_the_budget() {
    let good = Mock::version("good").await;
    let site = Site::start(format!(
        "models:\n  m:\n    versions: {{dead: [\"{}\"], good: [\"{}\"]}}\n    split: {{dead: 90, good: 10}}\n    health: false\n",
        refusing().await,
        good.url()
    ))
    .await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for _ in 0..100 {
        assert_eq!(client.send(Request::post(ASK, BODY)).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn without_retries_the_failure_is_the_answer() {
    let (bad, good) = (resetting().await, Upstream::answering(OK).await);
    let more = ", balance: round_robin, retries: false";
    let site = Site::start(models(&[bad.url(), good.url()], more)).await;
    let replies: Vec<Reply> =
        [site.send(Request::post(ASK, BODY)).await, site.send(Request::post(ASK, BODY)).await]
            .into();
    let failed = replies.iter().find(|reply| reply.status == 502).unwrap();
    assert_eq!(failed.header("x-evener-error"), "upstream_failed");
}

#[tokio::test]
async fn a_client_that_leaves_during_a_pause_is_not_served_in_vain() {
    let bad = resetting().await;
    let site = Site::start(models(&[bad.url()], ", retries: {max: 10, budget: 100%}")).await;
    let reply = site.send(Request::post(ASK, BODY)).await;
    assert_eq!((reply.status, reply.header("x-evener-error")), (502, "upstream_failed"));
    assert!(reply.text().contains("attempts)"), "{}", reply.text());
    // A lone replica is asked again itself.
    assert!(bad.seen().len() > 1);
}

#[tokio::test]
async fn a_client_that_leaves_between_two_attempts_is_one_line_and_no_retry() {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let replica = Upstream::start(move |mut talk| {
        let count = Arc::clone(&count);
        async move {
            while let Some(seen) = talk.request().await {
                if seen.line().starts_with("GET") {
                    talk.answer("ok").await;
                    continue;
                }
                talk.write("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
                count.fetch_add(1, SeqCst);
            }
        }
    })
    .await;
    let more = ", retries: {max: 10, budget: 100%}";
    let site = Site::start(models(&[replica.url()], more)).await;
    let request =
        format!("POST {ASK} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    // Each puts a token into the budget.
    let mut client = Client::connect(site.address, false).await.unwrap();
    for _ in 0..100 {
        assert_eq!(client.send(Request::get("/fine")).await.unwrap().status, 200);
    }
    for _ in 0..12 {
        let before = answered.load(SeqCst);
        let mut raw = Raw::connect(site.address).await;
        raw.write(&request).await;
        // The pause after the fourth is a tenth of a second in the mean.
        until("four attempts failed", || answered.load(SeqCst) >= before + 4).await;
        drop(raw);
    }
    let left = || site.log().into_iter().filter(|line| line["method"] == "POST");
    until("all are logged", || left().count() == 12).await;
    let mut retries = 0;
    for line in left() {
        let attempts = line["attempt_log"].as_array().unwrap();
        assert_eq!(line["attempts"], attempts.len(), "{line}");
        assert_eq!(
            (&line["status"], &line["outcome"]),
            (&499.into(), &"cancelled".into()),
            "{line}"
        );
        retries += attempts.len() - 1;
    }
    let counted = metric(&site, r#"evener_retries_total{model="m",reason="503"}"#).await;
    assert_eq!(counted as usize, retries);
}
