//! Equal replicas get equal shares of requests that come one after the other, over every protocol, also on a machine that
//! does something else as well.
use crate::client::{Client, Request};
use crate::grpc_client::{Calls, INFER, echo, naming};
use crate::h2c::H2c;
use crate::secure::{Authority, Drawer, Echo, Shown, replace};
use crate::site::Site;
use crate::upstream::Mock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Takes what it can get of the processor, until it is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Relaxed) {
                    std::hint::black_box((0..10_000_u64).sum::<u64>());
                }
            });
        }
        Self(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

async fn site(urls: &[String], tls: &str) -> Site {
    Site::start(format!(
        "models: {{m: {{versions: {{v: {{{tls}replicas: [{}]}}}}, health: false}}}}\n",
        urls.join(", ")
    ))
    .await
}

/// Sends 300 requests, one after the other.
async fn ask_300(site: &Site) {
    let mut client = Client::connect(site.address, false).await.unwrap();
    for _ in 0..300 {
        let asked = Request::post("/v1/chat/completions", r#"{"model":"m"}"#);
        let reply = client.send(asked).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

fn assert_alike(what: &str, shares: [usize; 3]) {
    assert_eq!(shares.iter().sum::<usize>(), 300, "{what}");
    assert!(shares.iter().all(|n| n.abs_diff(100) <= 30), "{what}: {shares:?}");
}

async fn mocks_of(scheme: &str) -> ([Mock; 3], Site) {
    let mocks = [Mock::version("a").await, Mock::version("b").await, Mock::version("c").await];
    let urls: Vec<_> =
        mocks.iter().map(|mock| format!("\"{scheme}://{}\"", mock.address)).collect();
    let site = site(&urls, "").await;
    (mocks, site)
}

/// By what Evener counted.
async fn shares_of(site: &Site) -> [usize; 3] {
    let model = site.ask(Request::get("/api/v1/models/m")).await.json();
    let replicas = model["versions"][0]["replicas"].as_array().unwrap().clone();
    let requests = replicas.iter().map(|r| r["requests_total"].as_u64().unwrap() as usize);
    requests.collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_and_h2c() {
    for scheme in ["http", "h2c"] {
        let (_mocks, site) = mocks_of(scheme).await;
        ask_300(&site).await;
        assert_alike(scheme, shares_of(&site).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_http1_and_http2() {
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let (authority, drawer) = (Authority::new("ca"), Drawer::new());
        replace(&drawer.file("ca.crt"), &authority.pem());
        let pair = authority.issue(&["127.0.0.1"]);
        let mut echoes = Vec::new();
        for _ in 0..3 {
            echoes.push(Echo::secure(Shown::new(&pair, protocols)).await);
        }
        let urls: Vec<_> = echoes.iter().map(|e| format!("\"https://{}\"", e.address)).collect();
        let tls = format!("tls: {{ca: {}}}, ", drawer.file("ca.crt").display());
        let site = site(&urls, &tls).await;
        ask_300(&site).await;
        let shares = [0, 1, 2].map(|i: usize| echoes[i].seen().len());
        assert_alike(&format!("{protocols:?}"), shares);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_grpc_also_while_something_else_takes_the_processor() {
    for busy in [false, true] {
        let _busy = busy.then(Busy::begin);
        let replicas: [H2c; 3] = [echo().await, echo().await, echo().await];
        let urls: Vec<_> =
            replicas.iter().map(|replica| format!("\"{}\"", replica.url())).collect();
        let site = site(&urls, "").await;
        let calls = Calls::connect(site.address).await;
        let asked = naming("m", b"tensor");
        for _ in 0..300 {
            assert_eq!(calls.call(INFER, &asked).await.status(), "0");
        }
        let shares = [0, 1, 2].map(|i: usize| replicas[i].seen().len());
        assert_alike(if busy { "gRPC, busy" } else { "gRPC" }, shares);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_while_something_else_takes_the_processor() {
    let _busy = Busy::begin();
    let (_mocks, site) = mocks_of("http").await;
    ask_300(&site).await;
    assert_alike("HTTP/1, busy", shares_of(&site).await);
}
