//! What clients meet of replicas that are ill in ways of their own: hung, with a hiccup, on one path alone, for one client
//! alone.
use crate::client::{Client, Request, send};
use crate::site::{Site, eventually};
use crate::upstream::{Mock, Upstream};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

async fn site(urls: &[String], options: &str) -> Site {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    Site::start(format!(
        "models: {{m: {{versions: {{v: [{}]}}, slow_start: 0s, {options}}}}}\n",
        urls.join(", ")
    ))
    .await
}

async fn replicas(site: &Site) -> Vec<Value> {
    let model = site.ask(Request::get("/api/v1/models/m")).await.json();
    model["versions"][0]["replicas"].as_array().unwrap().clone()
}

async fn turn(mock: &Mock, knobs: &str) {
    let reply = send(mock.address, Request::post("/mock", knobs.to_owned())).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn mocks() -> ([Mock; 3], Vec<String>) {
    let mocks = [Mock::version("a").await, Mock::version("b").await, Mock::version("c").await];
    let urls = mocks.iter().map(Mock::url).collect();
    (mocks, urls)
}

fn completion() -> Request {
    Request::post("/v1/chat/completions", r#"{"model":"m"}"#)
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILURE: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

/// Replicas that fail whatever `fails` says, by their place.
async fn pool<F>(n: usize, fails: F) -> Vec<Upstream>
where
    F: Fn(usize, &crate::upstream::Seen) -> bool + Clone + Send + Sync + 'static,
{
    let mut pool = Vec::new();
    for place in 0..n {
        let fails = fails.clone();
        let script = move |mut talk: crate::upstream::Talk| {
            let fails = fails.clone();
            async move {
                while let Some(seen) = talk.request().await {
                    talk.write(if fails(place, &seen) { FAILURE } else { ANSWER }).await;
                }
            }
        };
        pool.push(Upstream::start(script).await);
    }
    pool
}

fn urls(pool: &[Upstream]) -> Vec<String> {
    pool.iter().map(Upstream::url).collect()
}

/// One of these users, or the one whose requests always fail.
fn from(user: &str) -> Request {
    completion().header("x-user", user)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_whose_requests_always_fail_ejects_nobody_where_his_key_binds_him() {
    let down = Arc::new(AtomicBool::new(false));
    let dead = Arc::clone(&down);
    let pool = pool(4, move |place, seen| {
        seen.header("x-user") == "poison" || (place == 2 && dead.load(Relaxed))
    })
    .await;
    let options = "balance: hash, hash_on: [\"header:x-user\"], health: false, retries: false";
    let site = site(&urls(&pool), options).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut failed = 0;
    for i in 0..1_600 {
        let user = if i % 8 == 0 { "poison".to_owned() } else { format!("u{}", i * 7 % 200) };
        failed += usize::from(client.send(from(&user)).await.unwrap().status != 200);
    }
    assert_eq!(failed, 200, "his alone");
    assert_eq!(site.count_said("is ejected for"), 0);
    // Where all users of a replica fail, it is out at once.
    down.store(true, Relaxed);
    let (mut others, mut asked) = (0, 0);
    eventually("the dead one is out", async || {
        for _ in 0..20 {
            // All of them in turn: of twenty it may have hardly one.
            let user = format!("u{}", asked * 7 % 200);
            asked += 1;
            others += usize::from(client.send(from(&user)).await.unwrap().status != 200);
        }
        (site.count_said("is ejected for") == 1).then_some(())
    })
    .await;
    assert!(others <= 12, "{others}");
    let out: Vec<_> = replicas(&site).await.iter().map(|r| r["ejection"].is_object()).collect();
    assert_eq!(out, [false, false, true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_one_timeout_a_hung_replica_is_avoided() {
    let (mocks, urls) = mocks().await;
    turn(&mocks[1], r#"{"hang": "100%"}"#).await;
    let options = "balance: random, health: false, timeouts: {first_byte: 300ms}";
    let site = site(&urls, options).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut late = 0;
    for _ in 0..200 {
        late += usize::from(client.send(completion()).await.unwrap().status == 504);
    }
    // Chosen at random it would have had sixty. It has a turn after ten seconds.
    assert!((1..=3).contains(&late), "{late}");
    let replica = replicas(&site).await.swap_remove(1);
    assert_eq!(replica["state"], "healthy");
    assert_eq!(replica["reason"], "its last request timed out: others are asked first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_timeout_asks_the_health_check_at_once() {
    let (mocks, urls) = mocks().await;
    let checks =
        "health: {path: /health, every: 10m, timeout: 5s, fall: 3}, timeouts: {first_byte: 300ms}";
    let site = site(&urls, checks).await;
    eventually("all are probed", async || {
        replicas(&site).await.iter().all(|r| r["state"] == "healthy").then_some(())
    })
    .await;
    turn(&mocks[1], r#"{"hang": "100%", "healthy": false}"#).await;
    let mut late = 0;
    eventually("it is found", async || {
        let reply = site.send(completion()).await;
        late += usize::from(reply.status == 504);
        (replicas(&site).await[1]["state"] == "unhealthy").then_some(())
    })
    .await;
    assert!(late <= 2, "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hiccup_costs_a_second_and_not_ten() {
    let (mocks, urls) = mocks().await;
    let site = site(&urls, "balance: round_robin, health: false").await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    turn(&mocks[0], r#"{"error": "100%"}"#).await;
    eventually("it is out", async || {
        client.send(completion()).await.unwrap();
        (site.count_said("is ejected for") > 0).then_some(())
    })
    .await;
    turn(&mocks[0], r#"{"error": "0%"}"#).await;
    let left = replicas(&site).await[0]["ejection"]["seconds_left"].as_f64().unwrap();
    assert!(left <= 1.2, "{left}");
    eventually("it serves again", async || {
        client.send(completion()).await.unwrap();
        (replicas(&site).await[0]["state"] == "healthy").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receipt_names_the_only_path_that_fails() {
    let pool = pool(3, |place, seen| place == 1 && seen.line().contains("/v1/embeddings")).await;
    let site = site(&urls(&pool), "balance: round_robin, health: false").await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut i = 0;
    eventually("it is out", async || {
        i += 1;
        // Two of one kind, two of the other: each replica meets both.
        let path = if i / 2 % 2 == 0 { "/v1/embeddings" } else { "/v1/chat/completions" };
        client.send(Request::post(path, r#"{"model":"m","input":"x"}"#)).await.unwrap();
        (site.count_said("is ejected for") > 0).then_some(())
    })
    .await;
    let reason = replicas(&site).await[1]["reason"].as_str().unwrap().to_owned();
    assert!(reason.ends_with(", only on /v1/embeddings"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replica_that_must_stay_gets_next_to_nothing() {
    let (mocks, urls) = mocks().await;
    let site = site(&urls, "balance: round_robin, health: false, ejection: {for: 1m}").await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for mock in &mocks[1..] {
        turn(mock, r#"{"error": "100%"}"#).await;
    }
    eventually("one is out, one must stay", async || {
        for _ in 0..10 {
            client.send(completion()).await.unwrap();
        }
        let replicas = replicas(&site).await;
        let refused = replicas.iter().any(|r| r["ejection"]["refused"].is_string());
        (refused && site.count_said("is ejected for") == 1).then_some(())
    })
    .await;
    let mut failed = 0;
    for _ in 0..300 {
        failed += usize::from(client.send(completion()).await.unwrap().status != 200);
    }
    assert!(failed <= 3, "{failed}");
    for mock in &mocks[1..] {
        turn(mock, r#"{"error": "0%"}"#).await;
    }
    eventually("it proves itself in its turns", async || {
        client.send(completion()).await.unwrap();
        let replicas = replicas(&site).await;
        replicas.iter().all(|r| r["ejection"]["refused"].is_null()).then_some(())
    })
    .await;
}
