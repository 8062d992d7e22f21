//! While all is well nothing is listed and the log warns of nothing, whatever clients and operators do.
use crate::client::{Client, Request};
use crate::live::Page;
use crate::site::{Setup, Site};
use crate::upstream::Mock;
use evener::mock::Knobs;
use serde_json::json;
use std::net::SocketAddr;
use tokio::task::JoinSet;

/// Seconds that are looked at, each by a tick of the page.
const SECONDS: usize = 15;

/// A client that sends whatever clients send, until the task is dropped.
async fn client(address: SocketAddr, seed: usize) {
    let mut client = Client::connect(address, seed.is_multiple_of(2)).await.unwrap();
    let chat = |model: &str, more: &str| {
        let body =
            format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}]{more}}}"#);
        Request::post("/v1/chat/completions", body)
    };
    for i in seed.. {
        let (request, wanted) = match i % 8 {
            // Mistakes of its own.
            0 => (chat("nobody", ""), 404),
            1 => (Request::post("/v1/chat/completions", "{"), 400),
            2 => (Request::post("/v1/nowhere", r#"{"model":"m"}"#), 404),
            3 => (chat("m", r#","stream":true"#), 200),
            4 => (Request::post("/v2/models/canary/infer", r#"{"inputs":[]}"#), 200),
            5 => (chat("mirrored", ""), 200),
            _ => (chat("m", ""), 200),
        };
        assert_eq!(client.send(request).await.unwrap().status, wanted, "{}", i % 8);
    }
}

/// Clients that leave in the middle.
async fn deserter(address: SocketAddr) {
    loop {
        let body = r#"{"model":"m","stream":true,"max_tokens":500,"messages":[]}"#;
        let mut client = Client::connect(address, false).await.unwrap();
        drop(client.begin(Request::post("/v1/chat/completions", body)).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_all_is_well_nothing_is_said() {
    let mut mocks = Vec::new();
    for i in 0..4 {
        let latency = "lognormal:4ms,0.6".parse().unwrap();
        let knobs = Knobs { version: format!("v{i}"), latency, ..Knobs::default() };
        mocks.push(Mock::start(knobs).await);
    }
    let [a, b, c, d] = &mocks[..] else { unreachable!("four were started") };
    let [a, b, c, d] = [a.url(), b.url(), c.url(), d.url()];
    let setup = |share: usize| {
        Setup::new(format!(
            "defaults: {{health: {{path: /health, every: 300ms, timeout: 250ms}}}}\nmodels:\n\
             \x20 m: {{versions: {{v1: [\"{a}\", \"{b}\"], v2: [\"{c}\"]}}, split: {{v1: {share}, v2: {}}}}}\n\
             \x20 canary: {{versions: {{v1: [\"{a}\"], v2: [\"{d}\"]}}, split: {{v1: 90, v2: 10}}, canary: {{candidate: v2, warmup: 0s}}}}\n\
             \x20 mirrored: {{versions: {{v1: [\"{b}\"], v2: [\"{d}\"]}}, split: {{v1: 100, v2: 0}}, mirror: {{to: v2, percent: 50}}}}\n",
            100 - share
        ))
    };
    let site = Site::with(setup(80)).await;
    let mut clients = JoinSet::new();
    for seed in 0..6 {
        clients.spawn(client(site.address, seed));
    }
    clients.spawn(deserter(site.address));
    let mut page = Page::open(&site, "").await;
    for second in 0..SECONDS {
        let tick = page.next("tick").await;
        let problems = tick["problems"].as_array().unwrap();
        let wrong: Vec<_> = problems.iter().filter(|each| each["severity"] != "notice").collect();
        assert!(wrong.is_empty(), "second {second}: {wrong:?}");
        if second % 3 == 1 {
            site.reload(&setup(70 + second)).await;
        }
        let order = json!({"model": "m", "version": "v1", "replica": a}).to_string();
        let verb = if second % 4 == 2 { "drain" } else { "undrain" };
        let order = Request::post(&format!("/api/v1/replicas/{verb}"), order);
        assert_eq!(site.ask(order).await.status, 200);
        assert!(clients.try_join_next().is_none(), "a client ended");
    }
    let (exit, text, _) = site.evener(&["status", "--check"]).await;
    assert_eq!((exit, text.as_str()), (Some(0), "all is well: 3 models, 7 replicas\n"));
    let warned = [site.logged_at("WARN"), site.logged_at("ERROR")].concat();
    assert_eq!(warned, Vec::<String>::new());
}
