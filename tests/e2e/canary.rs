//! Canaries on real traffic: the share climbs or falls by itself, says why, and survives kill -9.
use crate::client::{Client, Request};
use crate::site::{Process, Site, eventually};
use crate::upstream::Mock;
use evener::mock::Knobs;
use serde_json::Value;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const ASK: &str = "/v1/completions";
pub(crate) const BODY: &str = r#"{"model":"m","prompt":"x"}"#;

pub(crate) async fn version(name: &str, error: &str) -> Mock {
    let error = error.parse().unwrap();
    Mock::start(Knobs { version: name.to_owned(), error, ..Knobs::default() }).await
}

pub(crate) fn models(v1: &Mock, v2: &Mock, canary: &str) -> String {
    format!(
        "telemetry: {{access_log: null}}\nmodels:\n  m:\n    versions: {{v1: [\"{}\"], v2: [\"{}\"]}}\n    \
         split: {{v1: 100, v2: 0}}\n    retries: false\n    canary: {{candidate: v2, warmup: 0s, {canary}}}\n",
        v1.url(),
        v2.url()
    )
}

pub(crate) async fn canary(site: &Site) -> Value {
    site.ask(Request::get("/api/v1/models/m")).await.json()["canary"].clone()
}

pub(crate) async fn say(site: &Site, verb: &str) -> (u16, Value) {
    let request = Request::post(&format!("/api/v1/models/m/canary/{verb}"), r#"{"reason":"test"}"#);
    let reply = site.ask(request).await;
    (reply.status, reply.json())
}

/// The check of this name.
pub(crate) fn check<'a>(canary: &'a Value, metric: &str) -> &'a Value {
    let mut checks = canary["checks"].as_array().unwrap().iter();
    checks.find(|check| check["metric"] == metric).unwrap_or(&Value::Null)
}

pub(crate) async fn until_state(site: &Site, state: &str) -> Value {
    eventually(&format!("the canary is {state}"), async || {
        let canary = canary(site).await;
        (canary["state"] == state).then_some(canary)
    })
    .await
}

/// Requests that begin from now on are judged. Looks are by the second, and the first comes after the start.
pub(crate) async fn until_it_judges(site: &Site) {
    eventually("the canary judges", async || {
        let sentence = canary(site).await["sentence"].as_str().unwrap().to_owned();
        let waits = ["from now on", "no usable replica"].iter().any(|why| sentence.contains(why));
        (!waits).then_some(())
    })
    .await;
}

/// Clients in a closed loop, until it is dropped.
#[derive(Debug)]
pub(crate) struct Traffic(Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
        self.1.iter().for_each(JoinHandle::abort);
    }
}

impl Traffic {
    /// One client.
    pub(crate) fn of(client: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Arc::default(), vec![tokio::spawn(client)])
    }
}

pub(crate) fn traffic(site: &Site) -> Traffic {
    asking(site, ASK, BODY)
}

/// Asks this again and again.
pub(crate) fn asking(site: &Site, path: &'static str, body: &'static str) -> Traffic {
    waiting(site, path, body, Duration::from_mins(1))
}

/// Asks this again and again, on a new connection after each answer that did not come within its `patience`.
pub(crate) fn waiting(
    site: &Site,
    path: &'static str,
    body: &'static str,
    patience: Duration,
) -> Traffic {
    let stop = Arc::new(AtomicBool::new(false));
    let address = site.address;
    let clients = (0..4).map(|_| {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            while !stop.load(SeqCst) {
                let Ok(mut client) = Client::connect(address, false).await else { return };
                let mut asked = Ok(Ok(()));
                while !stop.load(SeqCst) && matches!(asked, Ok(Ok(()))) {
                    let asking = client.send(Request::post(path, body));
                    asked = timeout(patience, asking).await.map(|reply| reply.map(drop));
                }
            }
        })
    });
    let clients = clients.collect();
    Traffic(stop, clients)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_candidate_climbs_to_everything_and_the_others_get_nothing_more() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let checks = "checks: [{metric: errors}], steps: [20, 100], hold: 1s";
    let site = Site::start(models(&v1, &v2, checks)).await;
    assert_eq!(canary(&site).await["share"], 20.0);
    let running = traffic(&site);
    // As a deploy job would: one that runs goes on as it was, and the verdict is waited for.
    let mut job = Command::new(env!("CARGO_BIN_EXE_evener"));
    let admin = format!("http://{}", site.admin);
    job.args(["canary", "start", "m", "--wait", "--timeout", "1m", "--admin", &admin]);
    let mut job = Process::begin(job, site.path());
    assert!(job.ended().await.success());
    assert!(job.said("  v2 was promoted").is_some());
    let done = until_state(&site, "promoted").await;
    assert_eq!((&done["share"], &done["step"]), (&100.0.into(), &1.into()));
    drop(running);
    for _ in 0..200 {
        assert_eq!(site.send(Request::post(ASK, BODY)).await.version(), "v2");
    }
    let (status, answer) = say(&site, "pause").await;
    assert_eq!(status, 409, "{answer}");
    site.said_times("canary_promoted", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_candidate_is_rolled_back_with_a_sentence_that_has_both_counts() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "5%").await);
    let checks = "checks: [{metric: errors}], steps: [50, 100], confirm: false";
    let site = Site::start(models(&v1, &v2, checks)).await;
    let running = traffic(&site);
    let done = until_state(&site, "rolled_back").await;
    drop(running);
    let sentence = done["sentence"].as_str().unwrap();
    assert!(sentence.contains("v2") && sentence.contains("v1"), "{sentence}");
    let check = &done["checks"][0];
    assert!(check["candidate_hits"].as_u64() >= Some(3), "{done}");
    assert_eq!(check["stable_hits"], 0);
    for _ in 0..100 {
        assert_eq!(site.send(Request::post(ASK, BODY)).await.version(), "v1");
    }
    // Judged is judged: only an operator begins anew.
    let (status, answer) = say(&site, "start").await;
    assert_eq!((status, &answer["canary"]["state"]), (200, &"collecting".into()), "{answer}");
    let (status, answer) = say(&site, "abort").await;
    assert_eq!((status, &answer["canary"]["state"]), (200, &"rolled_back".into()), "{answer}");
    let (status, _) = say(&site, "dance").await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_hangs_for_longer_than_clients_wait_is_rolled_back() {
    let v1 = version("v1", "0%").await;
    let hang = "100%".parse().unwrap();
    let v2 = Knobs { version: "v2".to_owned(), hang, ..Knobs::default() };
    let v2 = Mock::start(v2).await;
    // No timeout of Evener's ends any of these requests, and the checks are those of a file that names none.
    let site = Site::start(models(&v1, &v2, "steps: [50, 100], confirm: false")).await;
    let _running = waiting(&site, ASK, BODY, Duration::from_millis(300));
    let done = until_state(&site, "rolled_back").await;
    let sentence = done["sentence"].as_str().unwrap();
    assert!(sentence.contains("rolled back: errors in "), "{sentence}");
    assert!(sentence.contains(" of them waits until the client left, v1 in 0 of "), "{sentence}");
    assert!(sentence.contains(", v1 in 0 of "), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_bad_on_both_sides_is_not_the_candidates_fault() {
    let (v1, v2) = (version("v1", "8%").await, version("v2", "8%").await);
    let checks = "checks: [{metric: errors}], steps: [50, 100], hold: 1h, confirm: false";
    let site = Site::start(models(&v1, &v2, checks)).await;
    let running = traffic(&site);
    let seen = eventually("a thousand requests are judged", async || {
        let canary = canary(&site).await;
        let n = canary["checks"][0]["candidate_requests"].as_u64().unwrap();
        (n > 500).then_some(canary)
    })
    .await;
    drop(running);
    assert!(["collecting", "passing"].contains(&seen["state"].as_str().unwrap()), "{seen}");
    assert_eq!(seen["share"], 50.0);
}

#[tokio::test]
async fn without_traffic_nothing_is_decided_and_a_pause_outlives_a_crash() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let checks = "checks: [{metric: errors}], steps: [10, 50, 100], hold: 1s";
    let mut site = Site::start(models(&v1, &v2, checks)).await;
    until_it_judges(&site).await;
    assert_eq!(canary(&site).await["state"], "collecting");
    let (status, answer) = say(&site, "pause").await;
    assert_eq!((status, &answer["canary"]["state"]), (200, &"paused".into()));
    site.restart().await;
    let canary_now = until_state(&site, "paused").await;
    assert_eq!((&canary_now["share"], &canary_now["step"]), (&10.0.into(), &0.into()));
    assert!(canary_now["sentence"].as_str().unwrap().contains("test"), "{canary_now}");
    let (status, answer) = say(&site, "resume").await;
    assert_eq!((status, &answer["canary"]["state"]), (200, &"collecting".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_may_pause_instead_at_the_first_step() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "50%").await);
    let checks = "checks: [{metric: errors}], steps: [50, 100], confirm: false, on_failure: pause";
    let site = Site::start(models(&v1, &v2, checks)).await;
    let running = traffic(&site);
    let held = until_state(&site, "paused").await;
    drop(running);
    assert_eq!(held["share"], 50.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_the_split_begins_it_anew() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let checks = "checks: [{metric: errors}], steps: [10, 50, 100], hold: 1h";
    let text = models(&v1, &v2, checks);
    let site = Site::start(text.clone()).await;
    let (status, _) = say(&site, "promote").await;
    assert_eq!(status, 200);
    until_state(&site, "promoted").await;
    // Another key changes nothing of it.
    let other = text.replace("retries: false", "retries: {max: 1}");
    site.reload(&crate::site::Setup::new(other.clone())).await;
    until_state(&site, "promoted").await;
    let edited = other.replace("v1: 100, v2: 0", "v1: 60, v2: 40");
    site.reload(&crate::site::Setup::new(edited)).await;
    let anew = until_state(&site, "collecting").await;
    assert_eq!((&anew["share"], &anew["step"]), (&50.0.into(), &1.into()));
    // Other versions under another name: nothing of the old shares is left.
    let renamed = text.replace("v2: [", "v3: [").replace("v2: 0", "v3: 0");
    let renamed = renamed.replace("candidate: v2", "candidate: v3");
    site.reload(&crate::site::Setup::new(renamed)).await;
    let other = eventually("the other candidate is judged", async || {
        let canary = canary(&site).await;
        (canary["candidate"] == "v3").then_some(canary)
    })
    .await;
    assert_eq!((&other["state"], &other["share"]), (&"collecting".into(), &10.0.into()));
    for _ in 0..50 {
        assert_eq!(site.send(Request::post(ASK, BODY)).await.status, 200);
    }
}
