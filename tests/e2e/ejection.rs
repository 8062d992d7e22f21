//! Ejection and drains on the real binary: who is taken out, what operators see of it, and how all come back.
use crate::client::{Client, Request, send};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use evener::stats::{Clock as _, MonotonicClock};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tokio::sync::Notify;

/// A model `m` with a version `v` of these replicas.
fn models(mocks: &[Mock], options: &str) -> Setup {
    let urls: Vec<_> = mocks.iter().map(|mock| format!("\"{}\"", mock.url())).collect();
    Setup::new(format!(
        "models: {{m: {{versions: {{v: [{}]}}, slow_start: 0s{options}}}}}\n",
        urls.join(", ")
    ))
}

async fn mocks(n: usize) -> Vec<Mock> {
    let mut mocks = Vec::new();
    for i in 0..n {
        mocks.push(Mock::version(&format!("r{i}")).await);
    }
    mocks
}

async fn turn(mock: &Mock, knobs: &str) {
    let reply = send(mock.address, Request::post("/mock", knobs.to_owned())).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn replicas(site: &Site) -> Vec<Value> {
    let model = site.ask(Request::get("/api/v1/models/m")).await.json();
    model["versions"][0]["replicas"].as_array().unwrap().clone()
}

async fn states(site: &Site) -> Vec<String> {
    let replicas = replicas(site).await;
    replicas.iter().map(|replica| replica["state"].as_str().unwrap().to_owned()).collect()
}

fn completion() -> Request {
    Request::post("/v1/chat/completions", r#"{"model":"m"}"#)
}

/// The statuses of so many requests, one after the other.
async fn statuses(site: &Site, n: usize) -> Vec<u16> {
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..n {
        seen.push(client.send(completion()).await.unwrap().status);
    }
    seen
}

/// Sends requests until this replica stands so.
async fn until_state(site: &Site, i: usize, state: &str) -> Value {
    eventually(&format!("replica {i} is {state}"), async || {
        statuses(site, 5).await;
        let replica = replicas(site).await.swap_remove(i);
        (replica["state"] == state).then_some(replica)
    })
    .await
}

fn evener(site: &Site, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evener"));
    command.args(words).args(["--admin", &format!("http://{}", site.admin)]).output().unwrap()
}

/// A command that must succeed. Returns what it printed.
fn told(site: &Site, words: &[&str]) -> String {
    let output = tokio::task::block_in_place(|| evener(site, words));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_that_always_fails_costs_few_answers_and_its_ejection_is_explained() {
    let mocks = mocks(4).await;
    // One that a busy machine made look slow would be asked nothing, and one request at a time overtakes nobody.
    let options = ", balance: least_request, ejection: {for: 10s}";
    let site = Site::with(models(&mocks, options)).await;
    assert!(statuses(&site, 40).await.iter().all(|status| *status == 200));
    turn(&mocks[1], r#"{"error": "100%"}"#).await;
    let errors = statuses(&site, 400).await.iter().filter(|status| **status != 200).count();
    assert!((1..=14).contains(&errors), "{errors}");
    assert_eq!(states(&site).await, ["healthy", "ejected", "healthy", "healthy"]);
    let replica = replicas(&site).await.swap_remove(1);
    let (reason, ejection) = (replica["reason"].as_str().unwrap(), &replica["ejection"]);
    assert!(reason.starts_with("failed ") && reason.contains(": server_error ×"), "{reason}");
    assert_eq!((&ejection["cause"], &ejection["count"]), (&json!("server_error"), &json!(1)));
    let evidence = &ejection["evidence"];
    assert!((5..=8).contains(&evidence["failures"].as_u64().unwrap()), "{evidence}");
    assert_eq!(evidence["peers_failures"], 0);
    assert!(evidence["peers_requests"].as_u64().unwrap() > 0, "{evidence}");
    assert_eq!(evidence["last"].as_array().unwrap().last().unwrap(), "server_error");
    let left = ejection["seconds_left"].as_f64().unwrap();
    assert!((1.0..=12.0).contains(&left), "{left}");
    let text = told(&site, &["status", "m"]);
    assert!(text.contains(" s left; failed "), "{text}");
    let events = site.ask(Request::get("/api/v1/events")).await.text();
    assert!(events.contains("is ejected for ") && events.contains(reason), "{events}");
    site.said_times("is ejected for ", 1).await;
    let metrics = site.ask(Request::get("/metrics")).await.text();
    let url = mocks[1].url();
    let labels = format!("model=\"m\",version=\"v\",replica=\"{url}\"");
    assert!(
        metrics.contains(&format!("evener_ejections_total{{{labels},cause=\"server_error\"}} 1"))
    );
    assert!(metrics.contains(&format!("evener_replica_state{{{labels},state=\"ejected\"}} 1")));
}

#[tokio::test]
async fn one_of_five_that_fails_three_times_in_ten_is_out_within_eight_seconds() {
    let mocks = mocks(5).await;
    let site = Site::with(models(&mocks, "")).await;
    turn(&mocks[2], r#"{"error": "30%"}"#).await;
    let clock = MonotonicClock::new();
    // A hundred a second.
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(10));
    let mut client = Client::connect(site.address, false).await.unwrap();
    while site.count_said("is ejected for ") == 0 {
        pace.tick().await;
        client.send(completion()).await.unwrap();
        assert!(clock.now().as_secs_f64() < 8.0, "{:?}", replicas(&site).await);
    }
    assert_eq!(states(&site).await[2], "ejected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_blame_the_client_or_say_full_eject_nobody() {
    let mocks = mocks(3).await;
    let site = Site::with(models(&mocks, "")).await;
    turn(&mocks[0], r#"{"error": "100%", "error_status": 400}"#).await;
    statuses(&site, 400).await;
    turn(&mocks[0], r#"{"error": "100%", "error_status": 429}"#).await;
    statuses(&site, 200).await;
    turn(&mocks[0], r#"{"error": "100%", "error_status": 501}"#).await;
    statuses(&site, 200).await;
    assert_eq!(states(&site).await, ["healthy"; 3]);
    let replica = replicas(&site).await.swap_remove(0);
    assert_eq!(replica["ejection"], Value::Null);
    assert_eq!(replica["last_outcomes"].as_array().unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_three_of_four_failing_two_are_ejected_and_all_come_back() {
    let mocks = mocks(4).await;
    let site = Site::with(models(&mocks, ", ejection: {for: 1s}")).await;
    assert!(statuses(&site, 40).await.iter().all(|status| *status == 200));
    for mock in &mocks[1..] {
        turn(mock, r#"{"error": "100%"}"#).await;
    }
    eventually("two are ejected, a third is refused", async || {
        statuses(&site, 20).await;
        let replicas = replicas(&site).await;
        let out = replicas.iter().filter(|r| r["state"] == "ejected").count();
        assert!(out <= 2, "{out}");
        let refused = replicas.iter().any(|r| r["ejection"]["refused"].is_string());
        (out == 2 && refused).then_some(())
    })
    .await;
    let metrics = site.ask(Request::get("/metrics")).await.text();
    let refused = "\nevener_ejections_refused_total{model=\"m\",version=\"v\"} ";
    assert!(metrics.contains(refused) && !metrics.contains(&format!("{refused}0")), "{metrics}");
    for mock in &mocks[1..] {
        turn(mock, r#"{"error": "0%"}"#).await;
    }
    eventually("all are healthy", async || {
        statuses(&site, 20).await;
        (states(&site).await == ["healthy"; 4]).then_some(())
    })
    .await;
    assert!(statuses(&site, 40).await.iter().all(|status| *status == 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ejected_replica_waits_for_its_health_check_and_then_proves_itself() {
    let mocks = mocks(3).await;
    let checks = ", ejection: {for: 1s}, health: {path: /health, every: 30s, timeout: 5s, fall: 3}";
    let site = Site::with(models(&mocks, checks)).await;
    eventually("all are probed", async || (states(&site).await == ["healthy"; 3]).then_some(()))
        .await;
    turn(&mocks[0], r#"{"error": "100%", "healthy": false}"#).await;
    until_state(&site, 0, "ejected").await;
    eventually("its time is over, and it stays out", async || {
        statuses(&site, 5).await;
        (replicas(&site).await[0]["ejection"]["seconds_left"] == 0.0).then_some(())
    })
    .await;
    assert_eq!(states(&site).await[0], "ejected");
    turn(&mocks[0], r#"{"error": "0%", "healthy": true}"#).await;
    // The next ordinary probe is half a minute away: one that is asked for comes at once.
    let order = json!({"model": "m", "version": "v", "replica": mocks[0].url()}).to_string();
    let reply = site.ask(Request::post("/api/v1/replicas/probe", order)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    until_state(&site, 0, "healthy").await;
    site.said_times("is on probation", 1).await;
    site.said_times("passed its probation and serves again", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_eject_and_restore_by_hand_over_a_restart() {
    let mocks = mocks(2).await;
    let mut site = Site::with(models(&mocks, "")).await;
    let one = format!("m/v/{}", mocks[0].url());
    let said = told(&site, &["eject", &one, "--reason", "strange answers", "--wait"]);
    assert!(said.contains("ejected"), "{said}");
    let only_the_other = async |site: &Site| {
        for _ in 0..30 {
            assert_eq!(site.send(Request::get("/headers")).await.version(), "r1");
        }
    };
    only_the_other(&site).await;
    site.restart().await;
    only_the_other(&site).await;
    let replica = replicas(&site).await.swap_remove(0);
    assert_eq!(replica["reason"], "ejected by an operator: strange answers");
    assert_eq!(
        (&replica["ejection"]["cause"], &replica["ejection"]["until"]),
        (&json!("operator"), &Value::Null)
    );
    told(&site, &["restore", &one, "--wait"]);
    assert_eq!(states(&site).await, ["healthy"; 2]);
    let events = site.ask(Request::get("/api/v1/events")).await.text();
    assert!(events.contains("is restored and serves again"), "{events}");
    assert_eq!(evener(&site, &["eject", "m/v9"]).status.code(), Some(1));
    assert_eq!(evener(&site, &["eject", "m/v", "--for", "soon"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_out_for_a_while_comes_back_by_itself() {
    let mocks = mocks(3).await;
    let site = Site::with(models(&mocks, "")).await;
    let of = |i: usize| format!("m/v/{}", mocks[i].url());
    told(&site, &["eject", &of(0), "--for", "1s"]);
    told(&site, &["drain", &of(1), "--for", "1s", "--reason", "upgrade"]);
    let replica = replicas(&site).await.swap_remove(1);
    assert_eq!(replica["reason"], "drained by an operator: upgrade");
    until_state(&site, 0, "healthy").await;
    until_state(&site, 1, "healthy").await;
    site.said_times("is on probation", 1).await;
    site.said_times("serves again: its drain is over", 1).await;
    // Neither comes back at a restart.
    let kept = std::fs::read_to_string(site.path().join("state/state.json")).unwrap();
    assert!(kept.contains(r#""drained":[],"ejected":[]"#), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_what_runs_and_lets_it_finish() {
    let finish = Arc::new(Notify::new());
    let slow = Upstream::halting(Arc::clone(&finish)).await;
    let url = slow.url();
    let models = format!("models: {{m: {{aliases: [also], versions: {{v: [\"{url}\"]}}}}}}\n");
    let site = Site::start(models).await;
    let address = site.address;
    let running = tokio::spawn(async move { send(address, Request::get("/x")).await.unwrap() });
    eventually("it runs", async || (replicas(&site).await[0]["in_flight"] == 1).then_some(()))
        .await;
    let admin = format!("http://{}", site.admin);
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_evener"))
        // Another name of the model, and of the replica.
        .args(["drain", &format!("also/v/{url}/"), "--wait", "--admin", &admin])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it drains", async || (states(&site).await == ["draining"]).then_some(())).await;
    assert!(waiting.try_wait().unwrap().is_none(), "one request still runs");
    finish.notify_one();
    eventually("the command ends", async || waiting.try_wait().unwrap()).await;
    let said = std::io::read_to_string(waiting.stdout.take().unwrap()).unwrap();
    assert!(said.contains("draining  0 in flight"), "{said}");
    assert_eq!(running.await.unwrap().text(), "half");
    let said = told(&site, &["undrain", &format!("also/v/{url}/")]);
    assert!(said.contains(&format!("{url}  healthy")), "{said}");
}

#[tokio::test]
async fn switched_off_nobody_is_ejected() {
    let mocks = mocks(2).await;
    let site = Site::with(models(&mocks, ", ejection: false")).await;
    turn(&mocks[0], r#"{"error": "100%"}"#).await;
    statuses(&site, 200).await;
    assert_eq!(states(&site).await, ["healthy"; 2]);
}

#[tokio::test]
async fn switching_it_off_pardons_those_who_are_out() {
    let failing = Knobs { error: "100%".parse().unwrap(), ..Knobs::default() };
    let mocks =
        [Mock::version("good").await, Mock::start(failing).await, Mock::version("good").await];
    let site = Site::with(models(&mocks, "")).await;
    until_state(&site, 1, "ejected").await;
    site.reload(&models(&mocks, ", ejection: false")).await;
    until_state(&site, 1, "healthy").await;
}
