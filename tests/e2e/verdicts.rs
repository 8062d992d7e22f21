//! What canaries see on real traffic, and what they do not take for a version's fault.
use crate::canary::{
    ASK, BODY, Traffic, asking, canary, check, models, say, traffic, until_state, version, waiting,
};
use crate::client::{Client, Request, send};
use crate::counting::{Counting, counts, is_a_run_of, said_of_errors, sentence_has};
use crate::site::{Setup, Site, Stopwatch, eventually};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use serde_json::Value;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":16}"#;
/// From the first look on, at once, and with the checks of a file that names none.
const AT_ONCE: &str = "steps: [50, 100], hold: 1h, confirm: false";

async fn turn(mock: &Mock, knobs: &str) {
    let reply = send(mock.address, Request::post("/mock", knobs.to_owned())).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn sentence(canary: &Value) -> &str {
    canary["sentence"].as_str().unwrap()
}

/// Waits until the candidate has had so many requests.
async fn until_asked(site: &Site, times: u64) -> Value {
    eventually("the candidate was asked", async || {
        let canary = canary(site).await;
        let asked = check(&canary, "errors")["candidate_requests"].as_u64().unwrap();
        (asked >= times).then_some(canary)
    })
    .await
}

/// Asks this with further headers, again and again.
fn asking_as(site: &Site, headers: Vec<(&'static str, String)>) -> Traffic {
    let address = site.address;
    Traffic::of(async move {
        loop {
            let Ok(mut client) = Client::connect(address, false).await else { return };
            loop {
                let post = Request::post(ASK, BODY);
                let post =
                    headers.iter().fold(post, |post, (name, value)| post.header(name, value));
                if client.send(post).await.is_err() {
                    break;
                }
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_refuses_half_of_what_the_others_take_is_rolled_back() {
    let v1 = version("v1", "0%").await;
    let error = "50%".parse().unwrap();
    let v2 = Knobs { version: "v2".into(), error, error_status: 400, ..Knobs::default() };
    let v2 = Mock::start(v2).await;
    let site = Site::start(models(&v1, &v2, AT_ONCE)).await;
    let running = traffic(&site);
    let done = until_state(&site, "rolled_back").await;
    drop(running);
    let said = sentence(&done);
    assert!(said.starts_with("v2 was rolled back: client errors in "), "{said}");
    assert!(said.contains(", v1 in 0 of "), "{said}");
    assert_eq!(check(&done, "errors")["candidate_hits"], 0);
    // As its replica has counted, but for the requests of the last second.
    let panel = send(v2.address, Request::get("/mock")).await.unwrap().json();
    let asked = panel["requests_total"].as_u64().unwrap();
    let found = check(&done, "client_errors");
    let [hits, judged] =
        ["candidate_hits", "candidate_requests"].map(|name| found[name].as_u64().unwrap());
    assert!(judged <= asked && hits * 10 > judged * 3 && hits * 10 < judged * 7, "{panel} {done}");
    assert!(said.contains(&format!("client errors in {hits} of {judged} requests")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_hang_on_the_last_step_speak_before_they_end() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    turn(&v1, r#"{"latency": "20ms"}"#).await;
    turn(&v2, r#"{"latency": "20ms"}"#).await;
    let site =
        Site::start(models(&v1, &v2, "steps: [10, 50, 100], hold: 2s, confirm: false")).await;
    let mut running = vec![traffic(&site)];
    eventually("it has a half", async || (canary(&site).await["share"] == 50.0).then_some(()))
        .await;
    turn(&v2, r#"{"hang": 30}"#).await;
    // No timeout ends what hangs, and the clients are patient.
    for _ in 0..10 {
        running.push(waiting(&site, ASK, BODY, Duration::from_secs(4)));
    }
    let done = until_state(&site, "rolled_back").await;
    let said = sentence(&done);
    assert!(said.contains("first_byte_p95 of v1") || said.contains("errors in "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_fall_silent_are_seen() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    for mock in [&v1, &v2] {
        turn(mock, r#"{"token_interval": "2ms"}"#).await;
    }
    turn(&v2, r#"{"stall": 20}"#).await;
    let site = Site::start(models(&v1, &v2, AT_ONCE)).await;
    let patience = Duration::from_millis(1500);
    let _running = [(); 4].map(|()| waiting(&site, CHAT, STREAM, patience));
    let done = until_state(&site, "rolled_back").await;
    let said = sentence(&done);
    let found =
        said.contains("chunk_gap_p99 of v1") || said.contains("clients left before the end");
    assert!(found, "{said}");
    assert_eq!(check(&done, "errors")["candidate_hits"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_three_times_as_slow_are_seen() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    turn(&v1, r#"{"token_interval": "2ms"}"#).await;
    turn(&v2, r#"{"token_interval": "6ms"}"#).await;
    let checks = format!("{AT_ONCE}, checks: [{{metric: errors}}, {{metric: tokens_per_second}}]");
    let site = Site::start(models(&v1, &v2, &checks)).await;
    let _running = asking(&site, CHAT, STREAM);
    let done = until_state(&site, "rolled_back").await;
    let said = sentence(&done);
    assert!(said.contains(" below 0.8 times the tokens_per_second of v1"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_streams_pass() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    for mock in [&v1, &v2] {
        turn(mock, r#"{"token_interval": "1ms"}"#).await;
    }
    let checks = "[{metric: errors}, {metric: chunk_gap_p99}, {metric: tokens_per_second}]";
    let checks = format!("steps: [50, 100], hold: 1s, checks: {checks}");
    let site = Site::start(models(&v1, &v2, &checks)).await;
    let _running = [(); 4].map(|()| asking(&site, CHAT, STREAM));
    let done = until_state(&site, "promoted").await;
    assert!(check(&done, "tokens_per_second")["candidate_requests"].as_u64() > Some(20), "{done}");
    assert!(check(&done, "chunk_gap_p99")["candidate_requests"].as_u64() > Some(20), "{done}");
    assert!(sentence(&done).contains("It would have found errors of "), "{done}");
}

/// Fails with this status whoever says that it is poison.
async fn with_poison(status: u16) -> Upstream {
    Upstream::start(move |mut talk| async move {
        while let Some(seen) = talk.request().await {
            if seen.header("x-user").starts_with("poison") {
                talk.write(format!("HTTP/1.1 {status} Oh\r\ncontent-length: 0\r\n\r\n")).await;
            } else {
                talk.answer("{\"choices\":[{\"text\":\"x\"}]}").await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_whose_requests_always_fail_decides_nothing() {
    let (v1, v2) = (with_poison(500).await, with_poison(502).await);
    let text = format!(
        "telemetry: {{access_log: null}}\nmodels:\n  m:\n    versions: {{v1: [\"{}\"], v2: [\"{}\"]}}\n    \
         split: {{v1: 50, v2: 50}}\n    hash_on: [\"header:x-user\"]\n    retries: false\n    ejection: false\n    \
         canary: {{candidate: v2, warmup: 0s, steps: [50, 100], hold: 1h}}\n",
        v1.url(),
        v2.url()
    );
    let site = Site::start(text).await;
    let mut running: Vec<Traffic> =
        (0..10).map(|n| asking_as(&site, vec![("x-user", format!("good-{n}"))])).collect();
    // A key that lies on the candidate's side.
    let mut poison = None;
    for n in 0.. {
        let user = format!("poison-{n}");
        if site.send(Request::post(ASK, BODY).header("x-user", &user)).await.status == 502 {
            poison = Some(user);
            break;
        }
    }
    running.push(asking_as(&site, vec![("x-user", poison.unwrap())]));
    let seen = eventually("it failed a hundred times", async || {
        let canary = canary(&site).await;
        (check(&canary, "errors")["candidate_hits"].as_u64() >= Some(100)).then_some(canary)
    })
    .await;
    assert!(["collecting", "passing"].contains(&seen["state"].as_str().unwrap()), "{seen}");
    assert!(check(&seen, "errors")["evidence"].as_f64().unwrap() < 10.0, "{seen}");
    assert!(sentence(&seen).contains("client"), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_patience_decides_nothing() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    for mock in [&v1, &v2] {
        turn(mock, r#"{"latency": "50ms"}"#).await;
    }
    let site = Site::start(models(&v1, &v2, AT_ONCE)).await;
    let hurried = vec![("x-request-timeout-ms", "20".to_owned())];
    let _running = [traffic(&site), asking_as(&site, hurried.clone()), asking_as(&site, hurried)];
    let seen = until_asked(&site, 200).await;
    assert!(["collecting", "passing"].contains(&seen["state"].as_str().unwrap()), "{seen}");
    assert_eq!(check(&seen, "errors")["candidate_hits"], 0, "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ending_that_the_request_asked_for_is_not_truncated() {
    const SHORT: &str = r#"{"model":"m","prompt":"x","max_tokens":1}"#;
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let site = Site::start(models(&v1, &v2, AT_ONCE)).await;
    let _running = [asking(&site, ASK, SHORT), traffic(&site)];
    let seen = until_asked(&site, 200).await;
    let found = check(&seen, "bad_output");
    assert_eq!((&found["candidate_hits"], &found["stable_hits"]), (&0.into(), &0.into()), "{seen}");
    assert!(found["candidate_requests"].as_u64() > Some(0), "the others tell: {seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_dies_while_it_is_paused_is_rolled_back() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let site = Site::start(models(&v1, &v2, AT_ONCE)).await;
    let _running = traffic(&site);
    until_asked(&site, 100).await;
    let (status, _) = say(&site, "pause").await;
    assert_eq!(status, 200);
    turn(&v2, r#"{"error": 100}"#).await;
    let done = until_state(&site, "rolled_back").await;
    assert!(sentence(&done).contains("errors in "), "{done}");
    site.said_times("canary_rolled_back", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_canaries_are_judged_each_for_itself() {
    let (v1, v2, v3) =
        (version("v1", "0%").await, version("v2", "0%").await, version("v3", "30%").await);
    let model = |name: &str, candidate: &Mock| {
        format!(
            "  {name}:\n    versions: {{v1: [\"{}\"], v2: [\"{}\"]}}\n    split: {{v1: 50, v2: 50}}\n    \
             retries: false\n    ejection: false\n    canary: {{candidate: v2, warmup: 0s, confirm: false, \
             hold: 1s, steps: [50, 100], checks: [{{metric: errors}}]}}\n",
            v1.url(),
            candidate.url()
        )
    };
    let text = format!("models:\n{}{}", model("m", &v2), model("n", &v3));
    let site = Site::start(text).await;
    let of = async |name: &str| {
        let path = format!("/api/v1/models/{name}");
        site.ask(Request::get(&path)).await.json()["canary"].clone()
    };
    for name in ["m", "n"] {
        eventually("it is up", async || {
            sentence(&of(name).await).contains(" (step 1 of 2)").then_some(())
        })
        .await;
    }
    let good = Counting::on(&site, BODY).await;
    let bad = Counting::on(&site, r#"{"model":"n","prompt":"x"}"#).await;
    for (name, client, ending) in [("m", good, "promoted"), ("n", bad, "rolled_back")] {
        let done = eventually(ending, async || {
            Some(of(name).await).filter(|canary| canary["state"] == ending)
        })
        .await;
        let (answers, said) = (client.end().await, said_of_errors(&done));
        assert!(sentence_has(&done, said), "{done}");
        assert!(is_a_run_of(&answers, 1, said), "{:?}: {done}", counts(&answers));
        assert_eq!((said[0] > 0, said[2]), (ending == "rolled_back", 0), "{done}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_after_a_promotion_moves_nothing() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let text = models(&v1, &v2, "steps: [10, 50, 100], hold: 1h, checks: [{metric: errors}]");
    let site = Site::start(text.clone()).await;
    assert_eq!(say(&site, "promote").await.0, 200);
    let without = text.lines().filter(|line| !line.contains("canary:"));
    let without = without.collect::<Vec<_>>().join("\n") + "\n";
    let other_check = text.replace("[{metric: errors}]", "[{metric: latency_p95}]");
    for edited in [other_check, without, text.replace("hold: 1h", "hold: 2h")] {
        site.reload(&Setup::new(edited.clone())).await;
        for _ in 0..50 {
            let reply = site.send(Request::post(ASK, BODY)).await;
            assert_eq!((reply.status, reply.version()), (200, "v2"), "{edited}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_forgets_few_seconds() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let mut site = Site::start(models(&v1, &v2, AT_ONCE)).await;
    let running = traffic(&site);
    let early = until_asked(&site, 100).await;
    let early = check(&early, "errors")["candidate_requests"].as_u64().unwrap();
    let watch = Stopwatch::start();
    eventually("some seconds pass", async || {
        (watch.elapsed() > Duration::from_millis(6500)).then_some(())
    })
    .await;
    drop(running);
    site.restart().await;
    let now = canary(&site).await;
    let kept = check(&now, "errors")["candidate_requests"].as_u64().unwrap();
    assert!(kept >= early, "{kept} of {early}: {now}");
    assert!(["collecting", "passing"].contains(&now["state"].as_str().unwrap()), "{now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_in_the_middle_forgets_nothing() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "0%").await);
    let mut site = Site::start(models(&v1, &v2, AT_ONCE)).await;
    let running = traffic(&site);
    until_asked(&site, 100).await;
    drop(running);
    // Two looks with the same count: all is judged.
    let before = eventually("all is judged", async || {
        let count = async || check(&canary(&site).await, "errors")["candidate_requests"].clone();
        let one = count().await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        (one == count().await).then_some(one)
    })
    .await;
    let mut old = site.take_over().await;
    let after = canary(&site).await;
    assert_eq!(check(&after, "errors")["candidate_requests"], before, "{after}");
    old.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retries_hide_is_said() {
    let (v1, v2) = (version("v1", "0%").await, version("v2", "20%").await);
    turn(&v2, r#"{"error_status": 503}"#).await;
    let text = models(&v1, &v2, AT_ONCE).replace("retries: false", "retries: {budget: 100%}");
    let site = Site::start(text).await;
    let _running = traffic(&site);
    let done = until_state(&site, "rolled_back").await;
    let said = sentence(&done);
    assert!(said.contains("Retries hide it: its first attempts fail "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_or_an_error_in_the_place_of_an_answer_is_seen() {
    const PAGE: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>";
    const ERROR: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 39\r\n\r\n{\"error\":{\"message\":\"CUDA is all out\"}}";
    const MOVED: &str = "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n";
    for (answer, said) in [
        (PAGE, "that are no answer of a model"),
        (ERROR, "with an error inside"),
        (MOVED, "client errors in"),
    ] {
        let (v1, v2) = (version("v1", "0%").await, Upstream::answering(answer).await);
        let text = models(&v1, &v1, AT_ONCE);
        let text =
            text.replace(&format!("v2: [\"{}\"]", v1.url()), &format!("v2: [\"{}\"]", v2.url()));
        let site = Site::start(text).await;
        let _running = traffic(&site);
        let done = until_state(&site, "rolled_back").await;
        assert!(sentence(&done).contains(said), "{done}");
    }
}
