//! Splits that operators set instead of the file's: who is moved, how long it lasts, and what ends it.
use crate::client::{Client, Request};
use crate::site::{Setup, Site, eventually};
use crate::upstream::Mock;
use serde_json::{Value, json};

const KEYS: usize = 400;

async fn two_versions() -> [Mock; 2] {
    [Mock::version("v1").await, Mock::version("v2").await]
}

/// `chat`, of which `v2` has this share of the keys.
pub(crate) fn setup(mocks: &[Mock; 2], share: u32, more: &str) -> Setup {
    let [v1, v2] = mocks;
    Setup::new(format!(
        "models:\n  chat:\n    versions: {{v1: [\"{}\"], v2: [\"{}\"]}}\n    split: {{v1: {}, v2: {share}}}\n    \
         hash_on: [\"header:x-user-id\"]\n{more}",
        v1.url(),
        v2.url(),
        100 - share
    ))
}

/// Which of so many keys are served by `v2`.
pub(crate) async fn on_v2(site: &Site, keys: usize) -> Vec<bool> {
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut served = Vec::new();
    for key in 0..keys {
        let request = || Request::get("/headers").header("x-user-id", &format!("user-{key}"));
        let mut reply = client.send(request()).await;
        if reply.is_err() {
            // One that is taken over closes what it keeps open; then a client connects anew.
            client = Client::connect(site.address, false).await.unwrap();
            reply = client.send(request()).await;
        }
        served.push(reply.unwrap().version() == "v2");
    }
    served
}

async fn ordered(site: &Site, body: Value) -> (u16, Value) {
    let path = "/api/v1/models/chat/split";
    let reply = site.ask(Request::post(path, body.to_string())).await;
    (reply.status, reply.json())
}

async fn model(site: &Site) -> Value {
    site.ask(Request::get("/api/v1/models/chat")).await.json()
}

async fn until_told(site: &Site, message: &str) -> Value {
    eventually(message, async || {
        let events = site.ask(Request::get("/api/v1/events")).await.json();
        let mut events = events["events"].as_array().unwrap().iter();
        events.find(|event| event["message"] == message).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_that_was_set_outlives_crash_and_takeover_and_ends_by_itself() {
    let mocks = two_versions().await;
    let mut site = Site::with(setup(&mocks, 10, "")).await;
    let before = on_v2(&site, KEYS).await;
    let order = ["split", "chat", "v1=60", "v2=40", "--for", "1h", "--reason", "v1 is slow"];
    let (code, lines, _) = site.evener(&order).await;
    assert_eq!(code, Some(0));
    assert!(lines.starts_with("# chat: v1=60 v2=40, until "), "{lines}");
    assert!(lines.ends_with("\nmodels:\n  chat:\n    split: {v1: 60, v2: 40}\n"), "{lines}");
    let event =
        until_told(&site, "`chat` is split v1=60 v2=40, where the file says v1=90 v2=10, for 1h")
            .await;
    assert_eq!((&event["kind"], &event["who"]), (&json!("split"), &json!("api")));
    assert_eq!(event["reason"], "v1 is slow");
    let moved = on_v2(&site, KEYS).await;
    let n = moved.iter().filter(|v2| **v2).count();
    assert!(n.abs_diff(KEYS * 4 / 10) < 50, "{n} of {KEYS}");
    assert!(
        before.iter().zip(&moved).all(|(was, is)| *is || !was),
        "nobody leaves the one that grows"
    );
    site.restart().await;
    assert_eq!(on_v2(&site, KEYS).await, moved);
    let mut old = site.take_over().await;
    assert_eq!(on_v2(&site, KEYS).await, moved);
    assert!(old.ended().await.success());
    let set = model(&site).await;
    assert_eq!(set["versions"][1]["share"], 40.0);
    assert_eq!(set["versions"][1]["configured_share"], 10.0);
    let set = &set["split_override"];
    assert_eq!((&set["who"], &set["reason"]), (&json!("api"), &json!("v1 is slow")));
    assert!((3000.0..=3600.0).contains(&set["seconds_left"].as_f64().unwrap()), "{set}");
    let (_, table, _) = site.evener(&["status", "chat"]).await;
    assert!(table.contains("  split set by api, until "), "{table}");
    assert!(table.contains(": v1 is slow; the file says v1=90 v2=10\n"), "{table}");
    assert!(table.contains("    to make it last: split: {v1: 60, v2: 40}\n"), "{table}");
    // The last order counts.
    let (status, answer) = ordered(&site, json!({"shares": {"v2": 100}, "for": "1s"})).await;
    assert_eq!((status, &answer["versions"][1]["share"]), (200, &json!(100.0)));
    until_told(
        &site,
        "the split that was set for `chat` is over: its time has passed, and it is v1=90 v2=10 again",
    )
    .await;
    let last = model(&site).await;
    assert_eq!(
        (&last["split_override"], &last["versions"][1]["share"]),
        (&Value::Null, &json!(10.0))
    );
    let n = on_v2(&site, KEYS).await.iter().filter(|v2| **v2).count();
    assert!(n.abs_diff(KEYS / 10) < 35, "{n} of {KEYS}");
}

#[tokio::test]
async fn an_edit_of_the_split_wins_and_another_one_changes_nothing() {
    let mocks = two_versions().await;
    let site = Site::with(setup(&mocks, 10, "")).await;
    assert_eq!(ordered(&site, json!({"shares": {"v1": 50, "v2": 50}})).await.0, 200);
    site.reload(&setup(&mocks, 10, "    retries: false\n")).await;
    assert_eq!(model(&site).await["versions"][1]["share"], 50.0);
    site.reload(&setup(&mocks, 20, "    retries: false\n")).await;
    assert_eq!(model(&site).await["versions"][1]["share"], 20.0);
    until_told(&site, "the split that was set for `chat` is over: the file was edited").await;
    assert_eq!(ordered(&site, json!({"shares": {"v1": 50, "v2": 50}})).await.0, 200);
    let (code, said, _) = site.evener(&["split", "chat", "--reset"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "# chat: v1=80 v2=20\n"));
    until_told(&site, "`chat` is split v1=80 v2=20 again").await;
}

#[tokio::test]
async fn what_cannot_be_a_split_is_refused_with_the_reason() {
    let mocks = two_versions().await;
    let canary = "    canary: {candidate: v2, steps: [25, 100]}\n";
    let site = Site::with(setup(&mocks, 0, canary)).await;
    let shares = json!({"shares": {"v1": 100}});
    let (status, answer) = ordered(&site, shares.clone()).await;
    assert_eq!(status, 409);
    assert!(answer["error"]["message"].as_str().unwrap().contains("pause it first"), "{answer}");
    let (code, _, why) = site.evener(&["split", "chat", "v1=100"]).await;
    assert!(code == Some(1) && why.contains("`evener canary pause chat`"), "{why}");
    let say = async |verb: &str| {
        let path = format!("/api/v1/models/chat/canary/{verb}");
        assert_eq!(site.ask(Request::post(&path, "{}")).await.status, 200);
    };
    say("pause").await;
    assert_eq!(ordered(&site, shares).await.0, 200);
    assert_eq!(model(&site).await["versions"][1]["share"], 0.0);
    say("resume").await;
    assert_eq!(model(&site).await["versions"][1]["share"], 25.0);
    say("abort").await;
    for (body, status, word) in [
        (json!({"shares": {"v1": 90, "v2": 5}}), 400, "sum to 95, not 100"),
        (json!({"shares": {"v1": 90, "v22": 10}}), 404, "did you mean"),
        (json!({"shares": {"v1": 100}, "for": "soon"}), 400, "`for` is"),
        (json!({}), 400, "say either `shares`"),
        (json!({"reset": true, "for": "1m"}), 400, "does not go with"),
    ] {
        let (got, answer) = ordered(&site, body).await;
        let why = answer["error"]["message"].as_str().unwrap();
        assert!(got == status && why.contains(word), "{got}: {why}");
    }
    let (code, _, why) = site.evener(&["split", "chat", "v1=90"]).await;
    assert!(code == Some(2) && why.contains("sum to 90, not 100"), "{why}");
}
