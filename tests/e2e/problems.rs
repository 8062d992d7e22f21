//! What is wrong is named by page, API, `evener status` and log, in the same words; and nothing is when all is well.
use crate::client::Request;
use crate::live::Page;
use crate::secure::{Authority, Drawer};
use crate::site::{Setup, Site, eventually, text_of};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

async fn problems(site: &Site) -> Vec<Value> {
    let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
    status["problems"].as_array().unwrap().clone()
}

/// Waits until the API has a problem of this kind, then sees that page, terminal, check and log say the same.
async fn named(site: &Site, code: &str, words: &str, level: &str) -> Value {
    let found = eventually(&format!("{code} is listed"), async || {
        problems(site).await.into_iter().find(|problem| problem["code"] == code)
    })
    .await;
    let sentence = found["sentence"].as_str().unwrap().to_owned();
    assert!(sentence.contains(words), "{sentence}");
    assert!(!found["what_to_do"].as_str().unwrap().is_empty(), "{found}");
    // Counts move on meanwhile: what is the same of all is looked for.
    let tick = Page::open(site, "").await.next("tick").await;
    let on_page = tick["problems"].as_array().unwrap().iter().find(|each| each["code"] == code);
    assert!(
        on_page.is_some_and(|each| each["sentence"].as_str().unwrap().contains(words)),
        "{tick}"
    );
    let (exit, text, _) = site.evener(&["status"]).await;
    assert_eq!(exit, Some(0));
    assert!(text.lines().next().unwrap().contains(words), "{text}");
    let (exit, text, _) = site.evener(&["status", "--check"]).await;
    assert!(exit == Some(1) && text.contains(words), "{exit:?} {text}");
    let (exit, text, _) = site.evener(&["status", "--check", "--format", "json"]).await;
    let checked: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((exit, &checked["ok"]), (Some(1), &json!(false)));
    eventually("the log says so", async || {
        site.logged_at(level).iter().any(|line| line.contains(words)).then_some(())
    })
    .await;
    found
}

/// Waits until nothing is wrong.
async fn well(site: &Site) {
    eventually("all is well", async || problems(site).await.is_empty().then_some(())).await;
    let (exit, text, _) = site.evener(&["status", "--check"]).await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.starts_with("all is well: ") && text.lines().count() == 1, "{text}");
}

fn chat() -> Request {
    let messages = json!([{"role": "user", "content": "hi"}]);
    Request::post("/v1/chat/completions", json!({"model": "m", "messages": messages}).to_string())
}

async fn turn(mock: &Mock, knobs: Value) {
    let turned = crate::client::send(mock.address, Request::post("/mock", knobs.to_string())).await;
    assert_eq!(turned.unwrap().status, 200);
}

const CHECKS: &str = "health: {path: /health, every: 100ms, timeout: 90ms, fall: 2, rise: 1}";

#[tokio::test]
async fn a_total_outage_is_named_and_its_end_is_told() {
    let mocks = [Mock::version("a").await, Mock::version("b").await];
    let [a, b] = [mocks[0].url(), mocks[1].url()];
    let models = format!("models: {{m: {{versions: {{v1: [\"{a}\", \"{b}\"]}}, {CHECKS}}}}}\n");
    let site = Site::start(models).await;
    for _ in 0..20 {
        assert_eq!(site.send(chat()).await.status, 200);
    }
    well(&site).await;
    for mock in &mocks {
        turn(mock, json!({"healthy": false})).await;
    }
    let words =
        "m/v1 has no usable replica and serves by those that fail (2 of 2 fail their health check)";
    let found = named(&site, "no_usable_replica", words, "ERROR").await;
    assert_eq!((&found["rank"], &found["severity"]), (&json!(0), &json!("critical")));
    let text = found["text"].as_str().unwrap();
    assert!(text.ends_with(" UTC: look at `evener status m`"), "{text}");
    assert_eq!(site.logged_at("ERROR").len(), 1, "once: {:?}", site.logged_at("ERROR"));
    let (_, one, _) = site.evener(&["status", "--check", "m"]).await;
    assert!(one.starts_with(words), "{one}");
    let question = ["explain", "--live", "--path", "/v1/chat/completions", "--model", "m"];
    let (_, told, _) = site.evener(&question).await;
    assert!(
        told.contains(&format!("as `fail_open` is on, it asks those that fail: `{a}`, `{b}`")),
        "{told}"
    );
    for mock in &mocks {
        turn(mock, json!({"healthy": true})).await;
    }
    well(&site).await;
    site.said_times("m/v1 works again: a replica is usable (it lasted ", 1).await;
    let events = site.ask(Request::get("/api/v1/events")).await.json();
    let told = |kind: &str, level: &str| {
        let mut events = events["events"].as_array().unwrap().iter();
        events.any(|event| event["kind"] == kind && event["level"] == level)
    };
    assert!(told("problem", "error") && told("recovery", "info"), "{events}");
    assert!(told("standing", "warning") && told("standing", "info"), "{events}");
}

#[tokio::test]
async fn what_fails_at_one_request_in_three_seconds_is_named_until_it_works() {
    let failing = Knobs { error: "100%".parse().unwrap(), ..Knobs::default() };
    let mock = Mock::start(failing).await;
    let models = format!("models: {{m: {{versions: {{v1: [\"{}\"]}}, {CHECKS}}}}}\n", mock.url());
    let site = Site::start(models).await;
    let words = "100 % of the requests for m fail (";
    assert_eq!(site.send(chat()).await.status, 500);
    named(&site, "requests_fail", words, "ERROR").await;
    let mut page = Page::open(&site, "").await;
    let mut pace = interval(Duration::from_secs(3));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..3 {
        pace.tick().await;
        assert_eq!(site.send(chat()).await.status, 500);
        for _ in 0..2 {
            let tick = page.next("tick").await;
            let sentence = tick["problems"][0]["sentence"].as_str().unwrap_or_default();
            assert!(sentence.starts_with(words), "{tick}");
        }
    }
    turn(&mock, json!({"error": "0%"})).await;
    for _ in 0..60 {
        assert_eq!(site.send(chat()).await.status, 200);
    }
    // A minute must pass before it is believed.
    let status = problems(&site).await;
    assert_eq!(status[0]["code"], "requests_fail", "{status:?}");
    assert_eq!(site.logged_at("ERROR").len(), 1, "{:?}", site.logged_at("ERROR"));
}

#[tokio::test]
async fn an_ended_certificate_is_the_first_thing_that_is_said() {
    let (authority, drawer, mock) = (Authority::new("ca"), Drawer::new(), Mock::version("v").await);
    authority.until(&["evener.test"], 2025).write(drawer.path(), "a");
    let models =
        format!("models: {{m: {{health: false, versions: {{v1: [\"{}\"]}}}}}}\n", mock.url());
    let setup = Setup::new(models).listener(&format!("tls: {}", drawer.named("a")));
    let site = Site::with(setup).await;
    let words = "The certificate `evener.test` of listener `public` ended on 2025-12-31";
    let found = named(&site, "certificate_ends", words, "ERROR").await;
    assert_eq!(found["rank"], 0);
    authority.issue(&["evener.test"]).write(drawer.path(), "a");
    well(&site).await;
    site.said_times("The certificate `evener.test` of listener `public` works again", 1).await;
}

#[tokio::test]
async fn a_rejected_file_and_one_that_needs_a_restart_are_named() {
    let mock = Mock::version("v").await;
    let models = |more: &str| {
        Setup::new(format!("models: {{m: {{versions: {{v1: [\"{}\"]}}{more}}}}}\n", mock.url()))
    };
    let site = Site::with(models("")).await;
    well(&site).await;
    site.write(&models(", splitt: {v1: 100}"));
    let words = "he file on disk has 1 error; generation 1 keeps serving";
    let found = named(&site, "file_rejected", words, "WARN").await;
    assert!(found["what_to_do"].as_str().unwrap().contains("evener check "), "{found}");
    let mut changed = models("");
    changed.rest += "threads: 7\n";
    site.write(&changed);
    let words = "The file on disk changes `threads`, which needs a restart";
    let found = eventually("it is listed", async || {
        problems(&site).await.into_iter().find(|problem| problem["code"] == "restart_needed")
    })
    .await;
    assert!(found["sentence"].as_str().unwrap().starts_with(words), "{found}");
    site.write_text(&text_of(&models("")));
    well(&site).await;
}

#[tokio::test]
async fn a_state_that_cannot_be_written_is_named_before_there_is_anything_to_write() {
    let mock = Mock::version("v").await;
    let models = format!("models: {{m: {{versions: {{v1: [\"{}\"]}}}}}}\n", mock.url());
    let site = Site::start(models).await;
    well(&site).await;
    let (state, aside) = (site.path().join("state"), site.path().join("aside"));
    std::fs::rename(&state, &aside).unwrap();
    let words = "he state cannot be written";
    named(&site, "state_unwritable", words, "ERROR").await;
    std::fs::rename(&aside, &state).unwrap();
    well(&site).await;
    site.said_times("the state is written again", 1).await;
}

const SERVED: &str = r#"{"object":"list","data":[{"id":"org/other-7B","object":"model"}]}"#;
const UNKNOWN: &str =
    r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","code":404}}"#;

#[tokio::test]
async fn a_replica_that_serves_another_name_is_asked_and_the_line_to_write_is_told() {
    let upstream = Upstream::start(|mut talk| async move {
        while let Some(seen) = talk.request().await {
            if seen.line().starts_with("GET /v1/models ") {
                talk.answer(SERVED).await;
                continue;
            }
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            if body.contains("org/other-7B") {
                talk.answer("{}").await;
                continue;
            }
            let length = UNKNOWN.len();
            let head = format!("HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
            talk.write(head + UNKNOWN).await;
        }
    })
    .await;
    let models = |name: &str| {
        let url = upstream.url();
        Setup::new(format!(
            "models: {{m: {{versions: {{v1: {{replicas: [\"{url}\"]{name}}}}}}}}}\n"
        ))
    };
    let site = Site::with(models("")).await;
    for _ in 0..2 {
        assert_eq!(site.send(chat()).await.status, 404);
    }
    let words = "because it serves `org/other-7B` and not `m`";
    let found = named(&site, "wrong_model_name", words, "ERROR").await;
    let line = "write `upstream_model: org/other-7B` in version `v1` of model `m`";
    assert_eq!(found["what_to_do"], line);
    assert!(
        found["sentence"]
            .as_str()
            .unwrap()
            .starts_with("m/v1 answers every request with 404 (2 requests")
    );
    site.reload(&models(", upstream_model: org/other-7B")).await;
    assert_eq!(site.send(chat()).await.status, 200);
    well(&site).await;
    // A client that asks for what is not there is no problem of the service.
    for _ in 0..30 {
        site.send(Request::post("/v1/chat/completions", r#"{"model":"nobody"}"#)).await;
    }
    well(&site).await;
}

/// Serves chat under any name and no other path; lists `names`.
async fn chats_only(names: Vec<String>) -> Upstream {
    let entries: Vec<Value> = names.iter().map(|name| json!({"id": name})).collect();
    let list = json!({"object": "list", "data": entries}).to_string();
    Upstream::start(move |mut talk| {
        let list = list.clone();
        async move {
            while let Some(seen) = talk.request().await {
                if seen.line().starts_with("GET /v1/models ") {
                    talk.answer(&list).await;
                } else if seen.line().starts_with("POST /v1/chat/completions ") {
                    talk.answer("{}").await;
                } else {
                    let body = r#"{"detail":"Not Found"}"#;
                    let length = body.len();
                    talk.write(format!(
                        "HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}"
                    ))
                    .await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_path_that_a_replica_lacks_is_no_wrong_name() {
    let loras = (0..150).map(|i| format!("lora-{i:03}")).chain(["z-base".to_owned()]).collect();
    let lists = [
        ("llama3", vec!["llama3:latest".to_owned()]),
        ("z-base", loras),
        ("gem", vec!["models/gem".to_owned()]),
        ("openai/gpt-4o", vec!["openai/*".to_owned()]),
        // It serves whatever it is asked for, and lists its file.
        ("any", vec!["/models/any.gguf".to_owned()]),
    ];
    let mut upstreams = Vec::new();
    let mut models = String::from("defaults: {health: false}\nmodels:\n");
    for (i, (name, list)) in lists.into_iter().enumerate() {
        let upstream = chats_only(list).await;
        let url = upstream.url();
        let served = format!("{{replicas: [\"{url}\"], upstream_model: \"{name}\"}}");
        writeln!(models, "  m{i}: {{versions: {{v1: {served}}}}}").unwrap();
        upstreams.push(upstream);
    }
    let site = Site::start(models).await;
    let ask = async |path: &str, i: usize| {
        let request = Request::post(path, json!({"model": format!("m{i}")}).to_string());
        site.send(request).await.status
    };
    for (i, upstream) in upstreams.iter().enumerate() {
        if i == 4 {
            assert_eq!(ask("/v1/chat/completions", i).await, 200);
        }
        for _ in 0..3 {
            assert_eq!(ask("/v1/embeddings", i).await, 404);
        }
        if i != 4 {
            let asked = |seen: &crate::upstream::Seen| seen.line().starts_with("GET /v1/models ");
            eventually("it is asked for its list", async || {
                upstream.seen().iter().any(asked).then_some(())
            })
            .await;
        }
    }
    let mut page = Page::open(&site, "").await;
    for _ in 0..3 {
        let tick = page.next("tick").await;
        assert_eq!(tick["problems"], json!([]), "{tick}");
    }
    for i in 0..upstreams.len() {
        assert_eq!(ask("/v1/chat/completions", i).await, 200);
        for _ in 0..25 {
            assert_eq!(ask("/v1/embeddings", i).await, 404);
        }
    }
    for _ in 0..3 {
        let tick = page.next("tick").await;
        assert_eq!(tick["problems"], json!([]), "{tick}");
    }
}

#[tokio::test]
async fn what_an_operator_made_so_is_shown_and_passes_the_check() {
    let mocks = [Mock::version("a").await, Mock::version("b").await];
    let [a, b] = [mocks[0].url(), mocks[1].url()];
    let site =
        Site::start(format!("models: {{m: {{versions: {{v1: [\"{a}\", \"{b}\"]}}}}}}\n")).await;
    let order = json!({"model": "m", "version": "v1", "replica": a}).to_string();
    assert_eq!(site.ask(Request::post("/api/v1/replicas/drain", order)).await.status, 200);
    let found = eventually("it is listed", async || problems(&site).await.into_iter().next()).await;
    assert_eq!(
        (&found["code"], &found["severity"]),
        (&json!("replicas_by_hand"), &json!("notice"))
    );
    let (exit, text, _) = site.evener(&["status", "--check"]).await;
    assert_eq!((exit, text.as_str()), (Some(0), "all is well: 1 model, 2 replicas\n"));
    let (_, text, _) = site.evener(&["status"]).await;
    assert!(
        text.starts_with("1 of 2 replicas of m/v1 drains by an operator's order since "),
        "{text}"
    );
}

#[tokio::test]
async fn a_start_is_told_in_one_line() {
    let mock = Mock::version("v").await;
    let url = mock.url();
    let site = Site::start(format!("models: {{m: {{versions: {{v1: [\"{url}\"]}}}}}}\n")).await;
    let public = site.address;
    let words = format!(
        "evener.yaml: 1 model, 1 replica, listening at public http://{public}, admin http://"
    );
    eventually("it is said", async || {
        site.logged_at("INFO").iter().any(|line| line.contains(&words)).then_some(())
    })
    .await;
}
