//! The journal of a canary: what was answered is kept whenever the process is killed, and what cannot be used is said.
use crate::client::{Request, send};
use crate::site::{Site, eventually, until};
use rustix::process::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

const MODELS: &str = "models:\n  m:\n    versions: {v1: [http://127.0.0.1:1], v2: [http://127.0.0.1:1]}\n    \
                      split: {v1: 100, v2: 0}\n    health: false\n    \
                      canary: {candidate: v2, steps: [7, 100]}\n";

async fn canary(site: &Site) -> Value {
    site.ask(Request::get("/api/v1/models/m")).await.json()["canary"].clone()
}

fn order(verb: &str) -> Request {
    let path = format!("/api/v1/models/m/canary/{verb}");
    Request::post(&path, r#"{"reason":"a test"}"#).header("host", "localhost")
}

#[tokio::test]
async fn what_was_answered_is_kept_whenever_the_process_is_killed() {
    let mut site = Site::start(MODELS).await;
    let is_after = |canary: &Value, verb: &str| (canary["state"] == "paused") == (verb == "pause");
    for round in 0..16_u64 {
        let verb = if round % 2 == 0 { "pause" } else { "resume" };
        let answered = round % 4 < 2;
        let admin = site.admin;
        let asked = tokio::spawn(async move { send(admin, order(verb)).await.map(|r| r.status) });
        if answered {
            assert_eq!(asked.await.unwrap(), Ok(200), "{verb}");
        } else {
            // Somewhere in the middle of it: each round a little later.
            tokio::time::sleep(Duration::from_micros(300 * round)).await;
        }
        site.restart().await;
        let now = canary(&site).await;
        assert_eq!((&now["share"], &now["step"]), (&7.0.into(), &0.into()), "{now}");
        assert!(["paused", "collecting"].contains(&now["state"].as_str().unwrap()), "{now}");
        assert!(!answered || is_after(&now, verb), "{verb} was answered: {now}");
        if !is_after(&now, verb) {
            assert_eq!(send(site.admin, order(verb)).await.unwrap().status, 200);
        }
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_used_pauses_the_canary_and_says_so() {
    let mut site = Site::start(MODELS).await;
    let file = site.path().join("state/state.json");
    // As another version would have written it: of another format, and with what is not known here.
    for (key, value) in [("version", Value::from(99)), ("plan", Value::from("unknown"))] {
        assert_eq!(send(site.admin, order("start")).await.unwrap().status, 200);
        let text = std::fs::read_to_string(&file).unwrap();
        let mut state: Value = serde_json::from_str(&text).unwrap();
        let snapshot = &mut state["canaries"]["m"]["snapshot"];
        assert!(!snapshot[key].is_null(), "{text}");
        snapshot[key] = value;
        site.signal(Signal::KILL);
        site.ended().await;
        std::fs::write(&file, state.to_string()).unwrap();
        site.restart().await;
        let paused = canary(&site).await;
        assert_eq!(
            (&paused["state"], &paused["share"]),
            (&"paused".into(), &7.0.into()),
            "{paused}"
        );
        let sentence = paused["sentence"].as_str().unwrap();
        assert!(sentence.contains("its journal cannot be used"), "{sentence}");
        until("it is an event", || site.count_said("canary_paused") > 0).await;
        assert_eq!(send(site.admin, order("resume")).await.unwrap().status, 200);
    }
}

/// While this lives, no state can be written.
struct Full(PathBuf);

impl Full {
    async fn disk(site: &Site) -> Self {
        let in_the_way = site.path().join("state/state.json.new");
        // What is written at the moment comes first.
        until("nothing is written", || std::fs::create_dir(&in_the_way).is_ok()).await;
        Self(in_the_way)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap();
    }
}

async fn is_written_when_there_is_room(verb: &str, ending: &str) {
    let mut site = Site::start(MODELS).await;
    let full = Full::disk(&site).await;
    let answer = send(site.admin, order(verb)).await.unwrap();
    let said = answer.text();
    assert!(answer.status == 409 && said.contains("not persisted"), "{said}");
    let drained = r#"{"model":"m","version":"v1","reason":"a test"}"#;
    let drained = site.ask(Request::post("/api/v1/replicas/drain", drained)).await;
    assert_eq!(drained.status, 409, "{}", drained.text());
    assert_eq!(canary(&site).await["state"], ending);
    drop(full);
    eventually("nobody asks, and it is written", async || {
        let events = site.ask(Request::get("/api/v1/events")).await.text();
        events.contains("the state is written again").then_some(())
    })
    .await;
    for once in ["the state cannot be written", "the state is written again"] {
        site.said_times(once, 1).await;
    }
    site.restart().await;
    assert_eq!(canary(&site).await["state"], ending);
    let model = site.ask(Request::get("/api/v1/models/m")).await.text();
    assert!(model.contains("drained"), "{model}");
}

#[tokio::test]
async fn what_a_full_disk_did_not_take_is_written_when_there_is_room() {
    tokio::join!(
        is_written_when_there_is_room("promote", "promoted"),
        is_written_when_there_is_room("abort", "rolled_back"),
    );
}
