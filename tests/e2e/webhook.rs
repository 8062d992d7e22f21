//! Webhooks of canaries: in order, signed, told again, and never elsewhere.
use crate::client::Request;
use crate::site::{Setup, Site, eventually, until};
use crate::upstream::{Seen, Upstream};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use rustix::process::Signal;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

const SECRET: &str = "not to be known";

fn models(webhook: &str) -> String {
    format!(
        "models:\n  m:\n    versions: {{v1: [http://127.0.0.1:1], v2: [http://127.0.0.1:1]}}\n    \
         split: {{v1: 100, v2: 0}}\n    health: false\n    canary: {{candidate: v2, steps: [7, 100], \
         notify: {{webhook: \"{webhook}\", secret: \"{SECRET}\"}}}}\n"
    )
}

async fn say(site: &Site, verb: &str) {
    let request =
        Request::post(&format!("/api/v1/models/m/canary/{verb}"), r#"{"reason":"a test"}"#);
    assert_eq!(site.ask(request).await.status, 200);
}

async fn page(site: &Site, path: &str) -> String {
    site.ask(Request::get(path)).await.text()
}

fn is_signed(seen: &Seen) -> bool {
    let body = String::from_utf8_lossy(&seen.body);
    let signed =
        format!("{}.{}.{body}", seen.header("webhook-id"), seen.header("webhook-timestamp"));
    let tag = seen.header("webhook-signature").strip_prefix("v1,").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, signed.as_bytes(), &BASE64_STANDARD.decode(tag).unwrap()).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_told_in_order_signed_and_again_when_it_fails() {
    let asked = Arc::new(AtomicUsize::new(0));
    let receiver = Upstream::start(move |mut talk| {
        let asked = Arc::clone(&asked);
        async move {
            while talk.request().await.is_some() {
                let status =
                    if asked.fetch_add(1, SeqCst) == 0 { "503 Busy" } else { "204 Thanks" };
                talk.write(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
            }
        }
    })
    .await;
    let site = Site::start(models(&format!("{}/t0p/s3cret", receiver.url()))).await;
    say(&site, "pause").await;
    say(&site, "resume").await;
    until("all are told", || receiver.seen().len() == 4).await;
    let seen = receiver.seen();
    assert!(seen.iter().all(is_signed));
    let ids: Vec<&str> = seen.iter().map(|seen| seen.header("webhook-id")).collect();
    assert!(ids[0] == ids[1] && ids[1] != ids[2] && ids[2] != ids[3], "{ids:?}");
    let bodies: Vec<Value> =
        seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    let events: Vec<&str> =
        bodies[1..].iter().map(|body| body["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["canary_began", "canary_paused", "canary_resumed"]);
    let paused = &bodies[2];
    assert_eq!((&paused["model"], &paused["candidate"]), (&"m".into(), &"v2".into()));
    assert_eq!((&paused["who"], &paused["reason"]), (&"api".into(), &"a test".into()));
    let text = paused["text"].as_str().unwrap();
    assert!(text.starts_with("m: ") && text.ends_with(paused["sentence"].as_str().unwrap()));
    let told = r#"evener_webhooks_total{model="m",result="delivered"} 3"#;
    eventually("they are counted", async || {
        page(&site, "/metrics").await.contains(told).then_some(())
    })
    .await;
    let config = page(&site, "/api/v1/config").await;
    assert!(config.contains("webhook") && !config.contains("s3cret") && !config.contains(SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed_and_the_operator_hears_of_it() {
    let elsewhere = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let target = elsewhere.url();
    let receiver = Upstream::start(move |mut talk| {
        let target = target.clone();
        async move {
            while talk.request().await.is_some() {
                let moved = "HTTP/1.1 307 Moved\r\ncontent-length: 0\r\nlocation: ";
                talk.write(format!("{moved}{target}\r\n\r\n")).await;
            }
        }
    })
    .await;
    let site = Site::start(models(&receiver.url())).await;
    let event = eventually("an event tells of it", async || {
        let events = page(&site, "/api/v1/events").await;
        events.contains("the webhook was not told of `m: canary_began`").then_some(events)
    })
    .await;
    assert!(event.contains("it answered 307, and redirects are not followed"), "{event}");
    assert!(
        page(&site, "/metrics")
            .await
            .contains(r#"evener_webhooks_total{model="m",result="failed"} 1"#)
    );
    assert_eq!((elsewhere.accepted(), receiver.seen().len()), (0, 1));
}

/// Answers as long as it lives what `status` says.
async fn receiver(status: &'static str) -> Upstream {
    Upstream::start(move |mut talk| async move {
        while talk.request().await.is_some() {
            talk.write(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_away_keeps_nothing_from_the_others() {
    let (dead, alive) = (receiver("503 Away").await, receiver("204 Thanks").await);
    let other = models(&alive.url()).replace("models:\n", "").replace("  m:\n", "  n:\n");
    let site = Site::start(models(&dead.url()) + &other).await;
    until("the other is told", || alive.seen().len() == 1).await;
    for _ in 0..130 {
        say(&site, "pause").await;
        say(&site, "resume").await;
    }
    let events = page(&site, "/api/v1/events").await;
    assert!(events.contains("64 later messages wait for its receiver"), "{events}");
    let waits = "for the webhook 127.0.0.1, which fails (it answered 503)";
    eventually("who fails is named", async || {
        let (_, check, _) = site.evener(&["status", "--check"]).await;
        check.contains(waits).then_some(())
    })
    .await;
    let request = Request::post("/api/v1/models/n/canary/pause", r#"{"reason":"a test"}"#);
    assert_eq!(site.ask(request).await.status, 200);
    until("the other is told at once", || alive.seen().len() == 2).await;
    let metrics = page(&site, "/metrics").await;
    let failed = |model: &str| {
        let name = format!(r#"evener_webhooks_total{{model="{model}",result="failed"}} "#);
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        count.parse::<u32>().unwrap()
    };
    assert_eq!((failed("m"), failed("n")), (261 - 64, 0));
}

/// Answers 503 until it is back.
async fn receiver_away(back: &Arc<AtomicBool>) -> Upstream {
    let back = Arc::clone(back);
    Upstream::start(move |mut talk| {
        let back = Arc::clone(&back);
        async move {
            while talk.request().await.is_some() {
                let status = if back.load(SeqCst) { "204 Thanks" } else { "503 Away" };
                talk.write(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
            }
        }
    })
    .await
}

fn state_of(site: &Site) -> String {
    std::fs::read_to_string(site.path().join("state/state.json")).unwrap()
}

/// What the receiver got, each message once: id and event.
fn messages(receiver: &Upstream) -> Vec<(String, String)> {
    let of = |seen: &Seen| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        (seen.header("webhook-id").to_owned(), body["event"].as_str().unwrap().to_owned())
    };
    let mut messages: Vec<_> = receiver.seen().iter().map(of).collect();
    messages.dedup();
    messages
}

/// The second process tells what the first could not, under the same ids and in order, and the third tells nothing.
async fn is_told_by_the_next(end: Signal) {
    let back = Arc::default();
    let receiver = receiver_away(&back).await;
    let mut site = Site::start(models(&format!("{}/t0p/s3cret", receiver.url()))).await;
    say(&site, "pause").await;
    until("it was tried", || !receiver.seen().is_empty()).await;
    let first = messages(&receiver);
    site.signal(end);
    site.ended().await;
    if end == Signal::TERM {
        until("they are named", || site.count_said("m: canary_began, m: canary_paused") == 1).await;
    }
    let state = state_of(&site);
    assert!(state.contains("canary_paused"), "{state}");
    assert!(!state.contains("s3cret") && !state.contains(SECRET), "addresses are secrets");
    back.store(true, SeqCst);
    site.restart().await;
    until("both are told", || messages(&receiver).len() == 2).await;
    let all = messages(&receiver);
    assert_eq!((&all[0], all[1].1.as_str()), (&first[0], "canary_paused"));
    assert!(receiver.seen().iter().all(is_signed));
    until("they wait no longer", || !state_of(&site).contains("canary_paused")).await;
    let told = receiver.seen().len();
    site.restart().await;
    say(&site, "resume").await;
    until("the third tells what is new", || receiver.seen().len() > told).await;
    assert_eq!(messages(&receiver)[2].1, "canary_resumed");
    assert_eq!(receiver.seen().len(), told + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_told_is_told_by_the_next_process() {
    tokio::join!(is_told_by_the_next(Signal::TERM), is_told_by_the_next(Signal::KILL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_told_goes_to_the_process_that_takes_over() {
    let back = Arc::default();
    let receiver = receiver_away(&back).await;
    let mut site = Site::start(models(&receiver.url())).await;
    until("it was tried", || !receiver.seen().is_empty()).await;
    let mut old = site.take_over().await;
    assert!(old.ended().await.success());
    back.store(true, SeqCst);
    let told = r#"evener_webhooks_total{model="m",result="delivered"} 1"#;
    eventually("the new one tells it", async || {
        page(&site, "/metrics").await.contains(told).then_some(())
    })
    .await;
    assert_eq!(messages(&receiver).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_be_told_any_more_is_given_up_by_name() {
    let receiver = receiver("503 Away").await;
    let mut site = Site::start(models(&receiver.url())).await;
    until("it waits", || state_of(&site).contains("canary_began")).await;
    site.signal(Signal::KILL);
    site.ended().await;
    let text = models(&receiver.url());
    let (before, _) = text.split_once(", notify").unwrap();
    site.write(&Setup::new(format!("{before}}}\n")));
    site.restart().await;
    until("an event tells of it", || {
        site.count_said("not told of `m: canary_began`: the file names no receiver any more") == 1
    })
    .await;
    let failed = r#"evener_webhooks_total{model="m",result="failed"} 1"#;
    assert!(page(&site, "/metrics").await.contains(failed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_neither_be_told_nor_kept_is_named() {
    let receiver = receiver("503 Away").await;
    let mut site = Site::start(models(&receiver.url())).await;
    let in_the_way = site.path().join("state/state.json.new");
    // What is written at the moment comes first.
    until("nothing is written", || std::fs::create_dir(&in_the_way).is_ok()).await;
    let abort = Request::post("/api/v1/models/m/canary/abort", r#"{"reason":"a test"}"#);
    assert_eq!(site.ask(abort).await.status, 409);
    site.signal(Signal::TERM);
    assert!(site.ended().await.success());
    let named = r#"untold="m: canary_began, m: canary_rolled_back""#;
    until("they are named", || site.count_said(named) == 1).await;
}
