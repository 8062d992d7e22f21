//! A seeded mix of everything that goes wrong at once; afterwards nothing is left behind.
use crate::client::{Client, Raw, Request, Wire, send};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const WORKERS: u64 = 6;
const SPAN: Duration = Duration::from_secs(8);

fn setup(urls: &[String], seed: usize) -> Setup {
    // Who is in comes and goes; the first two always stay.
    let some: Vec<_> = urls
        .iter()
        .enumerate()
        .filter(|(i, _)| *i < 2 || (seed >> i) & 1 == 0)
        .map(|(_, url)| format!("\"{url}\""))
        .collect();
    Setup::new(format!(
        "# {seed}\nmodels:\n  m:\n    versions: {{v1: [{}], v2: [{}]}}\n    split: {{v1: {}, v2: {}}}\n    slow_start: 0s\n\
         \x20   health: {{path: /health, every: 200ms, timeout: 150ms, fall: 2, rise: 1}}\n\
         \x20   timeouts: {{first_byte: 300ms, between_chunks: 300ms, total: 2s}}\n",
        some[1..].join(", "),
        some[0],
        80 + seed % 10,
        20 - seed % 10
    ))
}

/// One client's deed, whose end nobody promises.
async fn deed(address: SocketAddr, rng: &mut SmallRng) {
    let wire = [Wire::Sized, Wire::Chunked, Wire::H2c][rng.random_range(0..3)];
    let stream = rng.random_bool(0.5);
    let pad = "x".repeat([0, 10, 70_000, 300_000][rng.random_range(0..4)]);
    let body = format!(r#"{{"stream":{stream},"messages":[],"pad":"{pad}","model":"m"}}"#);
    let patience = Duration::from_millis(rng.random_range(0..250));
    match rng.random_range(0..6) {
        0 => {
            let mut raw = Raw::connect(address).await;
            let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n";
            raw.write(head).await;
            raw.write(&body).await;
            tokio::time::timeout(patience, raw.read_to_end()).await.ok();
            socket2::SockRef::from(&raw.0).set_linger(Some(Duration::ZERO)).unwrap();
        }
        1 => {
            let upload =
                Request::new(http::Method::POST, "/echo", body.repeat(5).into()).wire(wire);
            tokio::time::timeout(patience, send(address, upload)).await.ok();
        }
        2 | 3 => {
            let request = Request::post("/v1/chat/completions", body).wire(wire);
            tokio::time::timeout(patience, send(address, request)).await.ok();
        }
        _ => {
            let Ok(mut client) = Client::connect(address, wire == Wire::H2c).await else { return };
            for _ in 0..3 {
                let request = Request::post("/v1/chat/completions", body.clone()).wire(wire);
                if client.send(request).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn status(site: &Site) -> Value {
    site.ask(Request::get("/api/v1/status")).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_storm_nothing_is_in_flight_and_requests_succeed() {
    let knobs = |version: &str| Knobs {
        version: version.to_owned(),
        token_interval: Duration::from_millis(2),
        ..Knobs::default()
    };
    let percent = |p: &str| p.parse().unwrap();
    let mocks = [
        Mock::start(knobs("good-1")).await,
        Mock::start(knobs("good-2")).await,
        Mock::start(Knobs { reset: percent("20%"), cut: percent("20%"), ..knobs("resets") }).await,
        Mock::start(Knobs { hang: percent("10%"), error: percent("20%"), ..knobs("hangs") }).await,
        Mock::start(knobs("good-h2c")).await,
    ];
    let talks = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nnonsense").await;
    let mut urls: Vec<_> = mocks.iter().map(Mock::url).collect();
    urls[4] = format!("h2c://{}", mocks[4].address);
    urls.push(talks.url());
    let site = Arc::new(Site::with(setup(&urls, 0)).await);
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for seed in 0..WORKERS {
        let (over, address) = (Arc::clone(&over), site.address);
        clients.push(tokio::spawn(async move {
            let mut rng = SmallRng::seed_from_u64(seed);
            while !over.load(Relaxed) {
                deed(address, &mut rng).await;
            }
        }));
    }
    let storm = async {
        for seed in 1.. {
            site.reload(&setup(&urls, seed)).await;
        }
    };
    tokio::time::timeout(SPAN, storm).await.expect_err("it goes on until the time is over");
    over.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    site.reload(&setup(&urls[..2], usize::MAX)).await;
    eventually("nothing is in flight", async || {
        let status = status(&site).await;
        let versions = status["models"][0]["versions"].as_array().unwrap();
        let replicas = versions.iter().flat_map(|v| v["replicas"].as_array().unwrap());
        let left: u64 = replicas.map(|r| r["in_flight"].as_u64().unwrap()).sum();
        (left == 0).then_some(())
    })
    .await;
    for mock in &mocks {
        eventually("no replica works for nobody", async || {
            let panel = send(mock.address, Request::get("/mock")).await.unwrap().json();
            (panel["in_flight"] == 0).then_some(())
        })
        .await;
    }
    for _ in 0..50 {
        let reply = site.send(Request::post("/v1/chat/completions", r#"{"model":"m"}"#)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert!(site.log().len() > 200, "{} requests", site.log().len());
    assert_eq!(site.count_said("panicked"), 0);
}
