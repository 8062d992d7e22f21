//! Copies of requests to another version: which are made, and what they find.
use crate::client::{Client, Request};
use crate::h2c::{H2c, read};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Seen, Talk, Upstream};
use bytes::Bytes;
use serde_json::{Value, json};

pub(crate) const PREDICT: &str = "/v1/models/m:predict";
const CHAT: &str = "/v1/chat/completions";

/// What a scripted replica says to the number that it is asked about.
pub(crate) async fn numbers(say: impl Fn(i64) -> Value + Clone + Send + 'static) -> Upstream {
    Upstream::start(move |mut talk| {
        let say = say.clone();
        async move {
            while let Some(seen) = talk.request().await {
                json_answer(&mut talk, &say(number(&seen.body))).await;
            }
        }
    })
    .await
}

fn number(body: &[u8]) -> i64 {
    serde_json::from_slice::<Value>(body).unwrap()["instances"][0].as_i64().unwrap()
}

pub(crate) async fn json_answer(talk: &mut Talk, body: &Value) {
    typed(talk, "application/json", &body.to_string()).await;
}

async fn typed(talk: &mut Talk, kind: &str, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n");
    talk.write(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
}

pub(crate) async fn echo() -> Upstream {
    numbers(|n| json!({"predictions": [n]})).await
}

pub(crate) fn is_copy(seen: &Seen) -> bool {
    seen.header("x-evener-mirror") == "1"
}

pub(crate) fn setup(v1: &str, v2: &str, mirror: &str) -> Setup {
    Setup::new(format!(
        "telemetry: {{access_log: null}}\nmodels:\n  m:\n    versions: {{v1: [\"{v1}\"], v2: [{v2}]}}\n    \
         split: {{v1: 100, v2: 0}}\n    mirror: {mirror}\n"
    ))
}

pub(crate) async fn site(v1: &Upstream, v2: &Upstream, mirror: &str) -> Site {
    Site::with(setup(&v1.url(), &v2.url(), mirror)).await
}

pub(crate) fn ask(n: usize) -> Request {
    Request::post(PREDICT, json!({"instances": [n]}).to_string())
}

pub(crate) async fn report(site: &Site) -> Value {
    site.ask(Request::get("/api/v1/models/m/mirror")).await.json()
}

pub(crate) fn sum(report: &Value) -> u64 {
    report["results"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
}

/// The report, once so many requests came to something.
pub(crate) async fn settled(site: &Site, n: u64) -> Value {
    eventually(&format!("{n} requests were mirrored or not"), async || {
        let report = report(site).await;
        (sum(&report) >= n && report["running"] == 0).then_some(report)
    })
    .await
}

/// Nothing is left of what was mirrored.
pub(crate) async fn at_rest(site: &Site) {
    site.in_flight(0).await;
    eventually("no bytes are kept", async || {
        let page = site.ask(Request::get("/metrics")).await.text();
        page.contains("evener_buffered_bytes 0\n").then_some(())
    })
    .await;
}

async fn command(site: &Site, args: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_evener"));
    command.args(args).args(["--admin", &format!("http://{}", site.admin)]);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_changes_one_answer_in_ten_is_reported_so() {
    let v1 = echo().await;
    let v2 = numbers(|n| json!({"predictions": [if n % 10 == 3 { n + 1 } else { n }]})).await;
    let mirror = "{to: v2, percent: 100, concurrency: 1000, keep_worst: 2}";
    let site = site(&v1, &v2, mirror).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    for n in 0..400 {
        let reply = client.send(ask(n)).await.unwrap();
        assert_eq!(reply.json(), json!({"predictions": [n]}));
    }
    let found = settled(&site, 400).await;
    assert_eq!(found["compared"], 400, "{found}");
    let rate = found["agreement"].as_f64().unwrap();
    assert!((0.88..=0.92).contains(&rate), "{found}");
    let bound = |side: usize| found["interval"][side].as_f64().unwrap();
    assert!(bound(0) <= 0.9 && 0.9 <= bound(1) && bound(1) - bound(0) < 0.07, "{found}");
    assert_eq!(found["results"]["differed"], 40);
    assert_eq!(found["by"]["status"]["agreement"], 1.0);
    assert_eq!(found["by"]["numeric"]["agreed"], 360);
    assert_eq!(found["from"]["v1"]["compared"], 400);
    let worst = &found["worst"];
    assert_eq!(worst.as_array().unwrap().len(), 2);
    assert_eq!(worst[0]["difference"], "the numbers differ at `predictions[0]`");
    let said = command(&site, &["mirror", "report", "m"]).await;
    assert!(
        said.contains("m  mirror to v2: 360 of 400 answers agree, 90.0% (86.7 to 92.6%)"),
        "{said}"
    );
    let json: Value =
        serde_json::from_str(&command(&site, &["mirror", "report", "m", "--format", "json"]).await)
            .unwrap();
    assert_eq!(json["agreement"], 0.9);
    assert!(command(&site, &["status"]).await.contains("  mirror to v2: 360 of 400"), "status too");
    let page = site.ask(Request::get("/metrics")).await.text();
    for line in [
        "evener_mirror_requests_total{model=\"m\",result=\"differed\"} 40\n",
        // A copy is nobody's request.
        "evener_split_observed_share{model=\"m\",version=\"v2\"} 0\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    assert!(!page.contains("evener_requests_total{model=\"m\",version=\"v2\""), "{page}");
    at_rest(&site).await;
}

#[tokio::test]
async fn a_copy_is_the_request_with_a_mark_and_without_its_deadline() {
    let (v1, v2) = (echo().await, echo().await);
    let text = setup(&v1.url(), "REPLICAS", "{to: v2, percent: 100}").rest;
    let named = format!("{{replicas: [\"{}\"], upstream_model: other}}", v2.url());
    let site = Site::start(text.replace("[REPLICAS]", &named)).await;
    let request = ask(7).header("x-request-timeout-ms", "5000").header("x-evener-mirror", "1");
    assert_eq!(site.send(request).await.status, 200);
    assert_eq!(settled(&site, 1).await["agreement"], 1.0);
    let (own, copy) = (v1.only(), v2.only());
    assert!(!own.has("x-evener-mirror") && own.has("x-request-timeout-ms"), "{own:?}");
    assert!(is_copy(&copy) && !copy.has("x-request-timeout-ms"), "{copy:?}");
    assert_eq!(copy.line(), "POST /v1/models/other:predict HTTP/1.1");
    assert_eq!(own.header("x-request-id"), copy.header("x-request-id"));
    assert_eq!(own.body, copy.body);
}

#[tokio::test]
async fn streams_are_compared_by_what_they_say() {
    let stream = async |words: fn(&str) -> Vec<&'static str>| {
        Upstream::start(move |mut talk| async move {
            while let Some(seen) = talk.request().await {
                let asked = String::from_utf8_lossy(&seen.body).into_owned();
                let event = |word: &str| {
                    let delta = json!({"choices": [{"index": 0, "delta": {"content": word}}]});
                    format!("data: {delta}\n\n")
                };
                let text: String = words(&asked).into_iter().map(event).collect();
                typed(&mut talk, "text/event-stream", &(text + "data: [DONE]\n\n")).await;
            }
        })
        .await
    };
    let v1 = stream(|_| vec!["all ", "is ", "well ", "here"]).await;
    let v2 = stream(|asked| {
        if asked.contains("odd") { vec!["no ", "idea"] } else { vec!["all is", " well here"] }
    })
    .await;
    let site = site(&v1, &v2, "{to: v2, percent: 100, keep_worst: 1}").await;
    let chat = |text: &str| {
        let messages = json!([{"role": "user", "content": text}]);
        json!({"model": "m", "stream": true, "messages": messages}).to_string()
    };
    for text in ["even", "odd"] {
        assert!(site.send(Request::post(CHAT, chat(text))).await.text().ends_with("[DONE]\n\n"));
    }
    let found = settled(&site, 2).await;
    assert_eq!((&found["compared"], &found["agreed"]), (&2.into(), &1.into()), "{found}");
    assert_eq!(found["by"]["text_similarity"]["agreed"], 1);
    assert!(found["worst"][0]["request"].as_str().unwrap().contains("odd"), "{found}");
}

#[tokio::test]
async fn what_must_not_be_kept_is_nowhere_in_the_report() {
    let card = |n: i64| json!({"predictions": [n], "echo": {"card": "4111-secret"}});
    let (v1, v2) = (numbers(card).await, numbers(move |n| card(n + 1)).await);
    let mirror = "{to: v2, percent: 100, keep_worst: 5, redact: [instances, echo.card]}";
    let site = site(&v1, &v2, mirror).await;
    assert_eq!(site.send(ask(5551)).await.status, 200);
    let found = settled(&site, 1).await;
    assert_eq!(found["worst"].as_array().unwrap().len(), 1);
    let text = found.to_string() + &command(&site, &["mirror", "report", "m"]).await;
    assert!(!text.contains("secret") && text.contains("***"), "{text}");
    // The number is in the answers, but not in the request.
    assert!(!found["worst"][0]["request"].to_string().contains("5551"), "{text}");
}

#[tokio::test]
async fn what_was_found_survives_a_reload_until_another_version_is_asked() {
    let (v1, v2) = (echo().await, echo().await);
    let text = |mirror: &str| setup(&v1.url(), &v2.url(), mirror);
    let site = Site::with(text("{to: v2, percent: 100}")).await;
    assert_eq!(site.send(ask(1)).await.status, 200);
    assert_eq!(settled(&site, 1).await["compared"], 1);
    site.reload(&text("{to: v2, percent: 100, timeout: 30s}")).await;
    assert_eq!(report(&site).await["compared"], 1);
    site.reload(&text("{to: v1, percent: 100}")).await;
    let found = report(&site).await;
    assert_eq!((&found["to"], &found["compared"], sum(&found)), (&"v1".into(), &0.into(), 0));
    site.reload(&text("false")).await;
    assert_eq!(report(&site).await["error"]["code"], "no_mirror");
    let status = site.ask(Request::get("/api/v1/models/m")).await.json();
    assert_eq!(status["mirror"], Value::Null);
}

#[tokio::test]
async fn only_whole_questions_with_good_answers_are_mirrored() {
    let v1 = Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            let asked = String::from_utf8_lossy(&seen.body).into_owned();
            if asked.contains("fail") {
                talk.write("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
            } else if asked.contains("long") {
                typed(&mut talk, "text/plain", &"x".repeat((1 << 20) + 1)).await;
            } else {
                talk.answer("ok").await;
            }
        }
    })
    .await;
    let v2 = Upstream::answering("HTTP/1.1 429 Full\r\ncontent-length: 0\r\n\r\n").await;
    let site = site(&v1, &v2, "{to: v2, percent: 100}").await;
    // Not asked of a model, no body that is kept, or more than a question: none of these is copied.
    let beyond = Request::post(PREDICT, vec![b' '; (8 << 20) + 1]);
    for request in [Request::get("/v2/models/m"), Request::post("/other", "{}"), beyond] {
        assert_eq!(site.send(request).await.status, 200);
    }
    let json = |text: &str| Request::post(PREDICT, json!({"say": text}).to_string());
    assert_eq!(site.send(json("fail")).await.status, 500);
    assert_eq!(settled(&site, 1).await["results"]["abandoned"], 1);
    assert_eq!(site.send(json("long")).await.body.len(), (1 << 20) + 1);
    assert_eq!(settled(&site, 2).await["results"]["too_large"], 1);
    assert_eq!(v2.seen().len(), 0, "none of them needed a copy");
    // One that is full has not answered.
    assert_eq!(site.send(json("well")).await.status, 200);
    let found = settled(&site, 3).await;
    assert_eq!((&found["results"]["failed"], v2.seen().len()), (&1.into(), 1), "{found}");
    assert_eq!(sum(&found), 3);
    at_rest(&site).await;
}

#[tokio::test]
async fn copies_reach_replicas_that_speak_http2() {
    let v1 = echo().await;
    let v2 = H2c::start(|body, mut respond| async move {
        read(body).await;
        let head = http::Response::builder().header("content-type", "application/json");
        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
        let text = json!({"predictions": [7]}).to_string();
        body.send_data(Bytes::from(text), true).unwrap();
    })
    .await;
    let site = Site::with(setup(&v1.url(), &v2.url(), "{to: v2, percent: 100}")).await;
    for _ in 0..5 {
        assert_eq!(site.send(ask(7)).await.status, 200);
    }
    let found = settled(&site, 5).await;
    assert_eq!((&found["compared"], &found["agreement"]), (&5.into(), &1.0.into()), "{found}");
    at_rest(&site).await;
}

#[tokio::test]
async fn a_copy_on_whose_connection_a_body_may_follow_is_the_last_there() {
    let v1 = echo().await;
    let v2 = Upstream::start(|mut talk| async move {
        while talk.request().await.is_some() {
            talk.write("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n").await;
        }
    })
    .await;
    let text = setup(&v1.url(), &v2.url(), "{to: v2, percent: 100}").rest;
    let site = Site::start(text.replace("    split:", "    health: false\n    split:")).await;
    for n in 1..=3 {
        assert_eq!(site.send(ask(n)).await.status, 200);
        settled(&site, n as u64).await;
        assert_eq!((v2.seen().len(), v2.accepted()), (n, n));
    }
}
