//! A disk that hangs in the middle of a write: what takes a share from a candidate waits for no disk, what gives one does.
use crate::canary::{ASK, BODY, canary, models, say, traffic, until_state, version};
use crate::client::{Request, send};
use crate::held_back::turn;
use crate::process::Launch;
use crate::site::{Setup, Site, eventually, until};
use rustix::fs::OFlags;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

const HANGS: &str = "hangs";

async fn launched(models: String) -> Site {
    Site::launched(Setup::new(models), Launch { hangs_while: Some(HANGS), ..Launch::default() })
        .await
}

/// Lets the disk hang, and waits for a write that does.
async fn hang(site: &Site) {
    fs::write(site.path().join("conf").join(HANGS), "").unwrap();
    let fresh = site.path().join("state/state.json.new");
    until("a write hangs", || fresh.exists()).await;
}

fn go_on(site: &Site) {
    fs::remove_file(site.path().join("conf").join(HANGS)).unwrap();
}

fn share_of(canary: &serde_json::Value) -> f64 {
    canary["share"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_is_rolled_back_while_the_disk_hangs_and_orders_are_answered() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let checks = "checks: [{metric: errors}], steps: [50, 100], hold: 1h, confirm: false";
    let mut site = launched(models(&v1, &v2, checks)).await;
    let running = traffic(&site);
    until_state(&site, "collecting").await;
    hang(&site).await;
    turn(&v2, r#"{"error": "50%"}"#).await;
    let done = until_state(&site, "rolled_back").await;
    assert!(share_of(&done) < 1e-9, "{done}");
    drop(running);
    // Whoever reads the state finds it so.
    for _ in 0..100 {
        assert_eq!(site.send(Request::post(ASK, BODY)).await.version(), "v1");
    }
    site.said_times("canary_rolled_back", 1).await;
    assert!(site.path().join("state/state.json.new").exists(), "the disk hung all the while");
    // An order is carried out, and whoever gave it hears what it is worth.
    let (status, answer) = say(&site, "start").await;
    let said = answer.to_string();
    assert!(status == 409 && said.contains("applied, but not persisted"), "{status} {said}");
    assert!(said.contains("the disk has not answered for 1"), "{said}");
    until("the log says so", || site.count_said("the state cannot be written") == 1).await;
    go_on(&site);
    until("it is written again", || site.count_said("the state is written again") == 1).await;
    let (status, answer) = say(&site, "abort").await;
    assert_eq!((status, &answer["canary"]["state"]), (200, &"rolled_back".into()), "{answer}");
    site.restart().await;
    assert_eq!(canary(&site).await["state"], "rolled_back", "what was answered is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_gets_no_more_before_that_is_written() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let checks = "checks: [{metric: errors}], steps: [20, 100], hold: 1s";
    let site = launched(models(&v1, &v2, checks)).await;
    site.said_times("canary_began", 1).await;
    hang(&site).await;
    let running = traffic(&site);
    // It has seen enough for its next step long before.
    let paused = until_state(&site, "paused").await;
    let said = paused["sentence"].as_str().unwrap();
    assert!(said.contains("paused at 20 %"), "{said}");
    assert!(said.contains("the journal cannot be written: the disk has not answered"), "{said}");
    assert_eq!(site.count_said("canary_promoted"), 0);
    assert!((site.metric("evener_promotions_total", "m").await).abs() < 1e-9);
    go_on(&site);
    until("it is written again", || site.count_said("the state is written again") == 1).await;
    let (status, answer) = say(&site, "resume").await;
    assert_eq!(status, 200, "{answer}");
    until_state(&site, "promoted").await;
    drop(running);
    site.said_times("canary_promoted", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_file_cannot_be_read_orders_are_carried_out() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let text = models(&v1, &v2, "start: manual");
    let site = Site::start(text).await;
    let (pipe, file) = (site.path().join("pipe"), site.path().join("conf/evener.yaml"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, &file).unwrap();
    let asked = Request::post("/api/v1/reload", "{}").header("host", "localhost");
    let reloading = tokio::spawn(send(site.admin, asked));
    // A pipe can be opened so once somebody reads it, who then waits for what is written.
    let mut writer = eventually("the file is read", async || {
        let mut pipe = fs::OpenOptions::new();
        pipe.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&file).ok()
    })
    .await;
    let (status, answer) = say(&site, "start").await;
    assert_eq!((status, &answer["canary"]["share"]), (200, &1.0.into()), "{answer}");
    assert!(!reloading.is_finished());
    writer.write_all(b"nonsense: {").unwrap();
    drop(writer);
    let reply = reloading.await.unwrap().unwrap();
    assert_eq!(reply.status, 422, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_file_that_the_new_configuration_names_is_opened_a_candidate_is_rolled_back() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let checks = "checks: [{metric: errors}], steps: [50, 100], hold: 1h, confirm: false";
    let text = models(&v1, &v2, checks);
    let mut site = launched(text.clone()).await;
    let running = traffic(&site);
    until_state(&site, "collecting").await;
    let (log, hangs) = (site.path().join("access.log"), site.path().join("access.log.hangs"));
    fs::write(&hangs, "").unwrap();
    let logged = format!("access_log: {{file: \"{}\"}}", log.display());
    site.write(&Setup::new(text.replace("access_log: null", &logged)));
    let asked = Request::post("/api/v1/reload", "{}").header("host", "localhost");
    let reloading = tokio::spawn(send(site.admin, asked));
    turn(&v2, r#"{"error": "50%"}"#).await;
    until_state(&site, "rolled_back").await;
    assert!(!reloading.is_finished() && !log.exists(), "the file was opened after all");
    assert_eq!(site.send(Request::post(ASK, BODY)).await.version(), "v1");
    fs::remove_file(&hangs).unwrap();
    let reply = reloading.await.unwrap().unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    drop(running);
    site.send(Request::post(ASK, BODY)).await;
    until("the request is logged", || fs::read_to_string(&log).is_ok_and(|it| !it.is_empty()))
        .await;
    assert!(site.runs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ordered_of_one_model_gives_no_candidate_of_another_what_waits_for_the_disk() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let checks = "checks: [{metric: errors}], steps: [20, 100], hold: 1s";
    let other = format!(
        "  other:\n    versions: {{v1: [\"{}\"], v2: [\"{}\"]}}\n    split: {{v1: 90, v2: 10}}\n",
        v1.url(),
        v2.url()
    );
    let site = launched(models(&v1, &v2, checks) + &other).await;
    site.said_times("canary_began", 1).await;
    hang(&site).await;
    let running = traffic(&site);
    let mut looks = 0;
    let paused = eventually("it is paused", async || {
        looks += 1;
        if looks % 20 == 0 {
            let v1 = 1 + looks / 20 % 99;
            let split = format!(r#"{{"shares": {{"v1": {v1}, "v2": {}}}}}"#, 100 - v1);
            let split = Request::post("/api/v1/models/other/split", split);
            // It is carried out at once, and answered when the disk is waited for no longer.
            tokio::spawn(send(site.admin, split.header("host", "localhost")));
        }
        let canary = canary(&site).await;
        assert!(share_of(&canary) < 20.1, "{canary}");
        (canary["state"] == "paused").then_some(canary)
    })
    .await;
    let said = paused["sentence"].as_str().unwrap();
    assert!(looks > 100 && said.contains("paused at 20 %"), "{looks} looks, then {said}");
    let split = site.ask(Request::get("/api/v1/models/other")).await.json();
    assert!(split["split_override"].is_object(), "{split}");
    drop(running);
    go_on(&site);
}
