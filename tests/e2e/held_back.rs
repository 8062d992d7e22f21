//! What a canary waits for: a candidate that is not up yet, the end of an outage of all, a person.
use crate::canary::{BODY, canary, check, models, until_state, version};
use crate::client::{Request, send};
use crate::counting::{Counting, counts, is_a_run_of, said_of_errors, sentence_has};
use crate::site::{Site, Stopwatch, eventually, until};
use crate::upstream::{Mock, Upstream};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

const PROBED: &str = "health: {path: /health, every: 200ms, timeout: 150ms, fall: 2, rise: 1}";

fn sentence(canary: &Value) -> &str {
    canary["sentence"].as_str().unwrap()
}

pub(crate) async fn turn(mock: &Mock, knobs: &str) {
    let reply = send(mock.address, Request::post("/mock", knobs.to_owned())).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Waits until the canary has looked at its candidate so often: once a second.
async fn for_seconds(seconds: f64) {
    let watch = Stopwatch::start();
    until("some looks are over", || watch.elapsed() > Duration::from_secs_f64(seconds)).await;
}

/// It answers no health check, then 503, then all is well. Until then it fails what it is asked.
const SILENT: u8 = 0;
const LOADING: u8 = 1;
const UP: u8 = 2;

async fn booting(phase: &Arc<AtomicU8>) -> Upstream {
    let phase = Arc::clone(phase);
    Upstream::start(move |mut talk| {
        let phase = Arc::clone(&phase);
        async move {
            while let Some(seen) = talk.request().await {
                match (phase.load(SeqCst), seen.line().starts_with("GET /health ")) {
                    (SILENT, true) => return talk.wait_for_close().await,
                    (UP, _) => talk.answer("{\"choices\":[{\"text\":\"x\"}]}").await,
                    _ => {
                        let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
                        talk.write(busy).await;
                    }
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_boots_for_long_is_not_judged_before_it_was_up() {
    let (v1, phase) = (version("v1", "0%").await, Arc::new(AtomicU8::new(SILENT)));
    let v2 = booting(&phase).await;
    let steps = "steps: [50, 100], hold: 1s, checks: [{metric: errors}]";
    let text = models(&v1, &v1, steps).replace("warmup: 0s", "warmup: 1s");
    let text = text.replace(&format!("v2: [\"{}\"]", v1.url()), &format!("v2: [\"{}\"]", v2.url()));
    let site =
        Site::start(text.replace("retries: false", &format!("retries: false\n    {PROBED}"))).await;
    let probed = |times| {
        let v2 = &v2;
        let probes = move || v2.seen().iter().filter(|seen| seen.line().starts_with("GET")).count();
        async move { until("it is probed", || probes() >= times).await }
    };
    let asked = || v2.seen().iter().filter(|seen| seen.line().starts_with("POST")).count();
    probed(2).await;
    let client = Counting::on(&site, BODY).await;
    for (now, probes) in [(SILENT, 5), (LOADING, 15)] {
        phase.store(now, SeqCst);
        for_seconds(3.5).await;
        probed(probes).await;
        let waits = canary(&site).await;
        assert_eq!((&waits["state"], &waits["share"]), (&"collecting".into(), &50.0.into()));
        let said = sentence(&waits);
        let expected = "v2 has 50 %, but no usable replica yet; it is judged 1 s after one of its replicas has passed its \
                        health check or served a request.";
        assert_eq!((said, said_of_errors(&waits)), (expected, [0; 4]));
        let counted = counts(&client.answers());
        assert!(counted[..3] == [0; 3] && counted[3] > 100, "stable serves all: {counted:?}");
        assert_eq!(asked(), 0);
    }
    let before = client.answers().len();
    phase.store(UP, SeqCst);
    let done = until_state(&site, "promoted").await;
    let answers = client.end().await.split_off(before);
    let said = said_of_errors(&done);
    assert!(sentence_has(&done, said), "{done}");
    assert!(is_a_run_of(&answers, answers.len(), said), "{:?}: {done}", counts(&answers));
    for (event, times) in [("canary_promoted", 1), ("canary_failing", 0), ("canary_rolled_back", 0)]
    {
        site.said_times(event, times).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_both_sides_holds_it_back_and_then_it_goes_on() {
    let (v1, v2) = (version("v1", "32%").await, version("v2", "32%").await);
    let site =
        Site::start(models(&v1, &v2, "steps: [20, 50, 100], hold: 1s, checks: [{metric: errors}]"))
            .await;
    eventually("it is up", async || {
        sentence(&canary(&site).await).contains(" (step 1 of 3)").then_some(())
    })
    .await;
    let client = Counting::on(&site, BODY).await;
    for_seconds(3.0).await;
    eventually("a step would be over", async || {
        let said = said_of_errors(&canary(&site).await);
        (said[1] >= 200).then_some(())
    })
    .await;
    let outage = client.end().await;
    let counted = counts(&outage);
    let held = eventually("all is judged", async || {
        let canary = canary(&site).await;
        (said_of_errors(&canary) == counted || canary["state"] != "collecting").then_some(canary)
    })
    .await;
    assert!(sentence_has(&held, counted), "{held}");
    assert_eq!((&held["state"], &held["share"]), (&"collecting".into(), &20.0.into()), "{held}");
    let why = " Nothing decides yet: v1 itself fails ";
    let proves = " of its requests, and to fail as often proves nothing.";
    assert!(sentence(&held).contains(why) && sentence(&held).contains(proves), "{held}");
    site.said_times("canary_advanced", 0).await;

    for mock in [&v1, &v2] {
        turn(mock, r#"{"error": 0}"#).await;
    }
    let client = Counting::on(&site, BODY).await;
    eventually("the outage is over", async || {
        (!sentence(&canary(&site).await).contains(why)).then_some(())
    })
    .await;
    let done = until_state(&site, "promoted").await;
    let answers = [outage, client.end().await].concat();
    let said = said_of_errors(&done);
    assert!(sentence_has(&done, said) && said[0] == counted[0], "{done}");
    assert!(is_a_run_of(&answers, 1, said), "{:?}: {done}", counts(&answers));
    for (event, times) in [("canary_advanced", 1), ("canary_failing", 0), ("canary_promoted", 1)] {
        site.said_times(event, times).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_dies_while_it_waits_for_a_person_gets_the_first_steps_share() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let text = models(&v1, &v2, "steps: [5, 50, 100], hold: 1h, checks: [{metric: errors}]");
    let text =
        text.replace("split: {v1: 100, v2: 0}", "split: {v1: 50, v2: 50}\n    health: false");
    let site = Site::start(text).await;
    eventually("it is up", async || {
        sentence(&canary(&site).await).contains(" (step 2 of 3)").then_some(())
    })
    .await;
    let client = Counting::on(&site, BODY).await;
    eventually("it is asked", async || (client.answers().len() > 300).then_some(())).await;
    let (code, said, _) = site.evener(&["canary", "pause", "m", "--reason", "lunch"]).await;
    assert_eq!(code, Some(0));
    assert!(said.starts_with("m  candidate v2  paused  50%  step 2 of 3 "), "{said}");
    drop(v2);
    let cut = eventually("it is cut", async || {
        let canary = canary(&site).await;
        (canary["share"] == 5.0).then_some(canary)
    })
    .await;
    assert_eq!((&cut["state"], &cut["step"]), (&"paused".into(), &0.into()), "{cut}");
    let said = sentence(&cut);
    let waits = said.starts_with("v2 is paused by api: lunch, and fails: errors in ");
    assert!(
        waits && said.contains("It is kept at 5 % until it is clear that this was no burst"),
        "{said}"
    );
    let before = client.answers().len();
    eventually("clients ask on", async || (client.answers().len() > before + 401).then_some(()))
        .await;
    let answers = client.end().await;
    let hurt = counts(&answers[before + 1..=before + 400])[0];
    assert!((10..=30).contains(&hurt), "{hurt} of 400");
    eventually("it has counted each of them", async || {
        (said_of_errors(&canary(&site).await) == counts(&answers)).then_some(())
    })
    .await;
    site.said_times("canary_failing", 1).await;
    let events = site.ask(Request::get("/api/v1/events")).await.json();
    let mut events = events["events"].as_array().unwrap().iter();
    let told =
        events.find(|event| event["message"].as_str().unwrap().contains("and fails: errors in"));
    assert!(told.is_some(), "{told:?}");
    assert_eq!(check(&cut, "errors")["stable_hits"], 0);
}
