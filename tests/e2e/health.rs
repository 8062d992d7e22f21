//! Health checks: who gets no requests, what serves instead, and what clients are told.
use crate::client::{Client, Reply, Request, Wire, send};
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const CHECKS: &str = "health: {path: /health, every: 100ms, timeout: 90ms, fall: 2, rise: 2}";

async fn turn(mock: &Mock, knobs: &str) {
    let reply = send(mock.address, Request::post("/mock", knobs.to_owned())).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// The versions that serve now.
async fn serving(site: &Site) -> BTreeSet<String> {
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let reply = client.send(Request::get("/headers")).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        seen.insert(reply.version().to_owned());
    }
    seen
}

async fn until_serving(site: &Site, wanted: &[&str]) {
    let wanted: BTreeSet<_> = wanted.iter().map(|&version| version.to_owned()).collect();
    eventually(&format!("{wanted:?} serve"), async || {
        (serving(site).await == wanted).then_some(())
    })
    .await;
}

async fn pair() -> [Mock; 2] {
    [Mock::version("a").await, Mock::version("b").await]
}

#[tokio::test]
async fn a_replica_that_fails_its_check_gets_nothing_until_it_passes_again() {
    let mocks = pair().await;
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\", \"{}\"]}}, slow_start: 0s, {CHECKS}}}}}\n",
        mocks[0].url(),
        mocks[1].url()
    ))
    .await;
    until_serving(&site, &["a", "b"]).await;
    turn(&mocks[0], r#"{"healthy": false}"#).await;
    until_serving(&site, &["b"]).await;
    eventually("it is said once", async || {
        (site.count_said("fails its health check") == 1).then_some(())
    })
    .await;
    turn(&mocks[0], r#"{"healthy": true}"#).await;
    until_serving(&site, &["a", "b"]).await;
    eventually("it is said once", async || {
        (site.count_said("passes its health check again") == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_check_over_h2c_and_by_post_works_too() {
    let mocks = pair().await;
    let post = "health: {post: /v1/chat/completions, body: '{\"model\":\"m\"}', every: 100ms, timeout: 90ms, fall: 2}";
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"h2c://{}\", \"h2c://{}\"]}}, slow_start: 0s, {post}}}}}\n",
        mocks[0].address, mocks[1].address
    ))
    .await;
    until_serving(&site, &["a", "b"]).await;
    turn(&mocks[1], r#"{"error": "100%"}"#).await;
    until_serving(&site, &["a"]).await;
}

#[tokio::test]
async fn a_dead_port_fails_its_tcp_check() {
    let mocks = pair().await;
    let [a, b] = mocks;
    let tcp = "health: {tcp: true, every: 100ms, timeout: 90ms, fall: 2, rise: 2}";
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\", \"{}\"]}}, slow_start: 0s, {tcp}}}}}\n",
        a.url(),
        b.url()
    ))
    .await;
    until_serving(&site, &["a", "b"]).await;
    let address = b.address;
    drop(b);
    until("it is noticed", || site.count_said("fails its health check") == 1).await;
    until_serving(&site, &["a"]).await;
    let knobs = Knobs { version: "b".to_owned(), ..Knobs::default() };
    let _back = Mock::at(address, knobs).await;
    until_serving(&site, &["a", "b"]).await;
}

/// Waits for an answer of this kind.
async fn until_answered(site: &Site, what: &str, fits: impl Fn(&Reply) -> bool) -> Reply {
    eventually(what, async || {
        let reply = site.send(Request::post("/v1/chat/completions", r#"{"model":"m"}"#)).await;
        fits(&reply).then_some(reply)
    })
    .await
}

#[tokio::test]
async fn when_nothing_is_usable_all_serve_and_say_so() {
    let mock = Mock::start(Knobs { healthy: false, ..Knobs::default() }).await;
    let models = format!("models: {{m: {{versions: {{v: [\"{}\"]}}, {CHECKS}}}}}\n", mock.url());
    let site = Site::with(Setup::new(models).listener("debug_headers: true")).await;
    let reply = until_answered(&site, "fail open", |reply| {
        assert_eq!(reply.status, 200);
        reply.header("x-evener-fail-open") == "1"
    })
    .await;
    assert_eq!(reply.version(), "mock");
    site.logged("it is logged", |line| line["fail_open"] == true).await;
}

#[tokio::test]
async fn without_fail_open_nothing_usable_is_503_with_counts() {
    let unwell = Knobs { healthy: false, ..Knobs::default() };
    let mocks = [Mock::start(unwell.clone()).await, Mock::start(unwell).await];
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\", \"{}\"]}}, fail_open: false, {CHECKS}}}}}\n",
        mocks[0].url(),
        mocks[1].url()
    ))
    .await;
    let reply = until_answered(&site, "refused", |reply| {
        reply.status == 503 && reply.text().contains("2 failing")
    })
    .await;
    assert_eq!(reply.header("x-evener-error"), "no_replicas");
    assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
    assert!(reply.text().contains("2 replicas: 2 failing"), "{}", reply.text());
    let h2 = site.send(Request::post("/v2/models/m/infer", "{}").wire(Wire::H2c)).await;
    assert_eq!((h2.status, h2.header("x-evener-error")), (503, "no_replicas"));
    for mock in &mocks {
        turn(mock, r#"{"healthy": true}"#).await;
    }
    until_answered(&site, "served again", |reply| reply.status == 200).await;
}

#[tokio::test]
async fn a_version_with_nothing_usable_leaves_its_share_to_the_others() {
    let mocks = [
        Mock::start(Knobs { version: "v1".to_owned(), healthy: false, ..Knobs::default() }).await,
        Mock::version("v2").await,
        Mock::version("v3").await,
    ];
    let site = Site::start(format!(
        "models:\n  m:\n    versions: {{v1: [\"{}\"], v2: [\"{}\"], v3: [\"{}\"]}}\n    split: {{v1: 90, v2: 10, v3: 0}}\n    {CHECKS}\n",
        mocks[0].url(),
        mocks[1].url(),
        mocks[2].url()
    ))
    .await;
    until_serving(&site, &["v2"]).await;
    turn(&mocks[0], r#"{"healthy": true}"#).await;
    until_serving(&site, &["v1", "v2"]).await;
}

#[tokio::test]
async fn a_new_replica_waits_for_its_first_check() {
    let old = Mock::version("old").await;
    let slow = Upstream::start(|mut talk| async move {
        // Its check never ends: it must not get a request.
        while let Some(seen) = talk.request().await {
            if seen.line().contains("/health") {
                talk.wait_for_close().await;
            } else {
                talk.write(
                    "HTTP/1.1 200 OK\r\nx-mock-version: unready\r\ncontent-length: 0\r\n\r\n",
                )
                .await;
            }
        }
    })
    .await;
    let checks = "health: {path: /health, every: 30s, timeout: 20s}, slow_start: 0s";
    let models = |urls: &str| {
        Setup::new(format!("models: {{m: {{versions: {{v: [{urls}]}}, {checks}}}}}\n"))
    };
    let site = Site::with(models(&format!("\"{}\"", old.url()))).await;
    site.reload(&models(&format!("\"{}\", \"{}\"", old.url(), slow.url()))).await;
    until("it is probed", || !slow.seen().is_empty()).await;
    assert_eq!(serving(&site).await, BTreeSet::from(["old".to_owned()]));
    let ready = Mock::version("new").await;
    site.reload(&models(&format!("\"{}\", \"{}\"", old.url(), ready.url()))).await;
    until_serving(&site, &["new", "old"]).await;
}

/// Answers its checks with these bytes and then, again and again, with those: for ever. Everything else it answers well.
async fn endless(head: &'static str, then: &'static [u8], pause: Duration) -> Upstream {
    Upstream::start(move |mut talk| async move {
        while let Some(seen) = talk.request().await {
            if seen.line().contains("/health") {
                talk.write(head).await;
                return talk.pour(then, pause).await;
            }
            talk.answer("ok").await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_whose_answers_never_end_fill_no_memory_and_keep_no_other_waiting() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 99999999999\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    static MUCH: [u8; 64 << 10] = [b'x'; 64 << 10];
    let at_once = Duration::ZERO;
    let all = [
        endless(OK, &MUCH, at_once).await,
        endless(BUSY, &MUCH, at_once).await,
        endless(CHUNKED, b"1\r\nx\r\n", Duration::from_millis(20)).await,
        endless("HTTP/1.1 200 OK\r\n", b"x-more: and more, and more, and more\r\n", at_once).await,
        endless("HTTP/1.1 200 O", &MUCH, at_once).await,
        endless("", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", at_once).await,
    ];
    let well = Mock::version("well").await;
    // More than are probed at once.
    let mut slow = Vec::new();
    for _ in 0..80 {
        slow.push(endless(OK, b"x", Duration::from_millis(100)).await);
    }
    let urls = |all: &[Upstream]| {
        let urls: Vec<_> = all.iter().map(|one| format!("\"{}\"", one.url())).collect();
        urls.join(", ")
    };
    let checks = "health: {path: /health, every: 500ms, timeout: 400ms, fall: 2, rise: 2}";
    let site = Site::start(format!(
        "models:\n  m: {{versions: {{v: [{}, \"{}\"]}}, {checks}}}\n  slow: {{versions: {{v: [{}]}}, {checks}}}\n",
        urls(&all),
        well.url(),
        urls(&slow)
    ))
    .await;
    let state_of = async |url: String| {
        let model = site.ask(Request::get("/api/v1/models/m")).await.json();
        let replicas = model["versions"][0]["replicas"].as_array().unwrap().clone();
        let found = replicas.into_iter().find(|replica| replica["url"] == url);
        found.unwrap_or_else(|| panic!("{model}"))
    };
    let until_is = async |url: String, state: &str, why: &str| {
        eventually(&format!("{url} is {state}"), async || {
            let replica: Value = state_of(url.clone()).await;
            (replica["state"] == state && replica.to_string().contains(why)).then_some(())
        })
        .await;
    };
    let before = site.peak_memory();
    until_is(all[0].url(), "healthy", "").await;
    until_is(all[1].url(), "unhealthy", "GET /health answered 503").await;
    until_is(all[2].url(), "unhealthy", "no answer within 400ms").await;
    for without_head in &all[3..] {
        until_is(without_head.url(), "unhealthy", "").await;
    }
    until_is(well.url(), "healthy", "").await;
    for knobs in [r#"{"healthy": false}"#, r#"{"healthy": true}"#] {
        turn(&well, knobs).await;
        until_is(well.url(), if knobs.contains("true") { "healthy" } else { "unhealthy" }, "")
            .await;
    }
    for one in &all {
        one.until_closed(5).await;
    }
    let grown = site.peak_memory() - before;
    assert!(grown < 24 << 20, "{} MiB more", grown >> 20);
    let reply = site.send(Request::post("/v1/chat/completions", r#"{"model":"m"}"#)).await;
    assert_eq!(reply.status, 200);
}
