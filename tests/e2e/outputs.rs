//! Canaries that look into answers: those that say nothing, are broken or end early are found, and streams pass untouched.
use crate::canary::{asking, canary, check, until_it_judges, until_state};
use crate::client::{Client, Request};
use crate::site::{Site, eventually};
use crate::streaming::{SSE, chunk, on_command};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const WHOLE: &str = r#"{"model":"m","messages":[]}"#;
const STREAM: &str = r#"{"model":"m","messages":[],"stream":true}"#;

fn models(v1: &str, v2: &str, checks: &str) -> String {
    format!(
        "telemetry: {{access_log: null}}\nmodels:\n  m:\n    versions: {{v1: [\"{v1}\"], v2: [\"{v2}\"]}}\n    \
         split: {{v1: 50, v2: 50}}\n    retries: false\n    ejection: false\n    canary: {{candidate: v2, warmup: 0s, \
         confirm: false, steps: [50, 100], {checks}}}\n"
    )
}

/// Rolls back a candidate with these answers; returns the last state.
async fn rolled_back(
    v1: &str,
    v2: &str,
    checks: &str,
    path: &'static str,
    body: &'static str,
) -> Value {
    let site = Site::start(models(v1, v2, checks)).await;
    let running = asking(&site, path, body);
    let done = until_state(&site, "rolled_back").await;
    drop(running);
    let page = site.ask(Request::get("/metrics")).await.text();
    let check = done["checks"].as_array().unwrap().last().unwrap()["metric"].as_str().unwrap();
    for name in ["rollbacks_total", "canary_evidence"] {
        let line = format!("evener_{name}{{model=\"m\",check=\"{check}\"}} ");
        assert!(page.contains(&line) && !page.contains(&format!("{line}0\n")), "{page}");
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_says_nothing_is_rolled_back_by_the_default_checks() {
    for body in [WHOLE, STREAM] {
        let v1 = Mock::version("v1").await;
        let v2 = Mock::start(Knobs { version: "v2".into(), tokens: 0, ..Knobs::default() }).await;
        let done = rolled_back(&v1.url(), &v2.url(), "hold: 1h", CHAT, body).await;
        let sentence = done["sentence"].as_str().unwrap();
        assert!(sentence.contains("v2 was rolled back: bad output in "), "{sentence}");
        assert!(sentence.contains(" empty), v1 in 0 of "), "{sentence}");
        let check = check(&done, "bad_output");
        assert_eq!(check["stable_hits"], 0);
        assert_eq!(check["candidate_hits"], check["candidate_requests"]);
        assert_eq!(done["checks"][0]["candidate_hits"], 0, "each had status 200");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_json_and_streams_without_an_end_are_bad_output() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"choices\":[";
    let endless = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                   28\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"x\r\n7\r\n\"}}]}\n\n\r\n0\r\n\r\n";
    for (answer, rule, body, said) in [
        (broken, "json_invalid", WHOLE, " with broken JSON), v1 in 0 of "),
        (endless, "truncated", STREAM, " truncated), v1 in 0 of "),
    ] {
        let v1 = Mock::version("v1").await;
        let v2 = Upstream::answering(answer).await;
        let checks = format!("hold: 1h, checks: [{{metric: bad_output, when: {{{rule}: true}}}}]");
        let done = rolled_back(&v1.url(), &v2.url(), &checks, CHAT, body).await;
        assert!(done["sentence"].as_str().unwrap().contains(said), "{done}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_pointers_and_empty_predictions_are_bad_output() {
    const HOLLOW: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 18\r\n\r\n{\"predictions\":[]}";
    const TWO: &str = r#"{"model":"m","messages":[],"max_tokens":2}"#;
    const INPUTS: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}"#;
    let v1 = Mock::start(Knobs { tokens: 2, ..Knobs::default() }).await;
    let (longer, hollow) = (Mock::version("v2").await, Upstream::answering(HOLLOW).await);
    for (v2, when, path, body) in [
        (longer.url(), "{matches: \"quick +brown fox\"}", CHAT, STREAM),
        (longer.url(), "{json: {/choices/0/finish_reason: stop}}", CHAT, TWO),
        (hollow.url(), "{empty: true}", "/v1/models/m:predict", r#"{"instances":[1]}"#),
        (hollow.url(), "{json: {/outputs/0/name: x}}", "/v2/models/m/infer", INPUTS),
    ] {
        let checks = format!("hold: 1h, checks: [{{metric: bad_output, when: {when}}}]");
        let done = rolled_back(&v1.url(), &v2, &checks, path, body).await;
        assert_eq!(done["checks"][0]["stable_hits"], 0, "{when}: {done}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_much_longer_than_the_others_speak_against_it() {
    let v1 = Mock::start(Knobs { tokens: 8, ..Knobs::default() }).await;
    let v2 = Mock::start(Knobs { tokens: 32, ..Knobs::default() }).await;
    let checks = "hold: 1h, checks: [{metric: output_tokens, at_most: 2x}]";
    let done = rolled_back(&v1.url(), &v2.url(), checks, CHAT, WHOLE).await;
    let sentence = done["sentence"].as_str().unwrap();
    assert!(sentence.contains("above 2 times the output_tokens of v1"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewritten_path_is_answered_in_the_dialect_of_its_replica() {
    let hollow = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 31\r\n\r\n\
                  {\"model_name\":\"m\",\"outputs\":[]}";
    let (v1, v2) = (Mock::version("v1").await, Upstream::answering(hollow).await);
    let text = models(&v1.url(), &v2.url(), "hold: 1h, checks: [{metric: bad_output}]");
    let routes =
        "routes: [{match: {path: /score}, model: m, rewrite: {path: /v2/models/m/infer}}]\n";
    let site = Site::start(routes.to_owned() + &text).await;
    let inputs = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}"#;
    let running = asking(&site, "/score", inputs);
    let done = until_state(&site, "rolled_back").await;
    drop(running);
    assert!(done["sentence"].as_str().unwrap().contains(" empty), v1 in 0 of "), "{done}");
}

/// A canary must not wait for ever for what cannot be had, nor promote in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_can_read_are_passed_over_aloud() {
    let packed = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
                  content-length: 3\r\n\r\nabc";
    let (v1, v2) = (Upstream::answering(packed).await, Upstream::answering(packed).await);
    let site = Site::start(models(&v1.url(), &v2.url(), "hold: 1s")).await;
    let running = asking(&site, CHAT, WHOLE);
    let done = until_state(&site, "promoted").await;
    drop(running);
    let sentence = done["sentence"].as_str().unwrap();
    assert!(sentence.contains("No answer can be read"), "{sentence}");
    assert_eq!(check(&done, "bad_output")["note"], "no answer can be read", "{done}");
}

#[tokio::test]
async fn an_event_that_is_looked_at_is_seen_before_the_next_is_sent() {
    let (upstream, say) = on_command().await;
    let site = Site::start(models(&upstream.url(), &upstream.url(), "hold: 1h")).await;
    until_it_judges(&site).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let event = |text: &str| {
        chunk(&format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"))
    };
    say.send(format!("{SSE}{}", event("0"))).unwrap();
    let mut body = client.begin(Request::post(CHAT, STREAM)).await.unwrap().into_body();
    for i in 1..5 {
        let frame = tokio::time::timeout(Duration::from_secs(5), body.frame());
        let frame = frame.await.expect("the event comes alone").unwrap().unwrap();
        let seen = frame.into_data().unwrap();
        assert!(seen.ends_with(b"}]}\n\n") && seen.starts_with(b"data: "), "{seen:?}");
        say.send(event(&i.to_string())).unwrap();
    }
    say.send("0\r\n\r\n".to_owned()).unwrap();
    body.collect().await.unwrap();
    let seen = eventually("its end was judged", async || {
        let bad = check(&canary(&site).await, "bad_output").clone();
        let of = |side: &str| bad[format!("{side}_requests")].as_u64().unwrap();
        (of("candidate") + of("stable") == 1).then_some(bad)
    })
    .await;
    let hits = |side: &str| seen[format!("{side}_hits")].as_u64().unwrap();
    assert_eq!(hits("candidate") + hits("stable"), 1, "it had no end: {seen}");
}
