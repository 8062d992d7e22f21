//! A new file takes over while requests run: none is lost, and a bad file changes nothing.
use crate::client::{Client, Request, send};
use crate::site::{Setup, Site, eventually, text_of, until};
use crate::upstream::{Mock, Upstream};
use rustix::process::Signal;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Notify;

fn replicas<'a>(mocks: impl IntoIterator<Item = &'a Mock>) -> Setup {
    let urls: Vec<_> = mocks.into_iter().map(|mock| format!("\"{}\"", mock.url())).collect();
    Setup::new(format!("models: {{m: {{versions: {{v: [{}]}}}}}}\n", urls.join(", ")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_reloads_under_load_lose_no_request() {
    let mut mocks = Vec::new();
    for i in 0..4 {
        mocks.push(Mock::version(&format!("r{i}")).await);
    }
    let site = Site::with(replicas(&mocks[..2])).await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = Vec::new();
    for worker in 0..4 {
        let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), site.address);
        load.push(tokio::spawn(async move {
            let mut kept = Client::connect(address, worker == 0).await.unwrap();
            let wire =
                if worker == 0 { crate::client::Wire::H2c } else { crate::client::Wire::Sized };
            while !stop.load(SeqCst) {
                let body = r#"{"model":"m","messages":[]}"#;
                let request = Request::post("/v1/chat/completions", body).wire(wire);
                let reply = if worker == 3 {
                    send(address, request).await
                } else {
                    kept.send(request).await.map_err(|error| error.to_string())
                };
                assert_eq!(reply.map(|reply| reply.status), Ok(200));
                done.fetch_add(1, SeqCst);
            }
        }));
    }
    for round in 0..40 {
        let n = 1 + round % 3;
        site.reload(&replicas(mocks.iter().cycle().skip(round % 4).take(n))).await;
    }
    stop.store(true, SeqCst);
    for worker in load {
        worker.await.expect("no request fails");
    }
    assert!(done.load(SeqCst) > 200, "{} requests", done.load(SeqCst));
    assert!(site.log().iter().all(|line| line["status"] == 200));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_a_good_one_heals() {
    let mocks = [Mock::version("old").await, Mock::version("new").await];
    let site = Site::with(replicas(&mocks[..1])).await;
    let good = text_of(&replicas(&mocks[1..]));
    for (bad, said) in [
        ("models: [", "error"),
        ("", "error"),
        (&good.replace("versions", "verzions")[..], "versions"),
        (&good.replace("http://", "gopher://"), "gopher"),
    ] {
        let text = site.reload_rejected(bad).await;
        assert!(text.contains(said), "{text}");
        assert_eq!(site.send(Request::get("/headers")).await.version(), "old");
    }
    let before = site.count_said("configuration rejected");
    site.signal(Signal::HUP);
    until("SIGHUP reads it again", || site.count_said("configuration rejected") > before).await;
    assert_eq!(site.send(Request::get("/headers")).await.version(), "old");
    site.reload(&replicas(&mocks[1..])).await;
    eventually("the new replica serves", async || {
        (site.send(Request::get("/headers")).await.version() == "new").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_rejected_file_says_otherwise_is_shown_without_secrets() {
    let mock = Mock::version("v").await;
    let setup = |version: &str, secret: &str| {
        let url = mock.url();
        let headers = format!("headers: {{set: {{authorization: \"Bearer {secret}\"}}}}");
        Setup::new(format!(
            "# token: 0ldsecret\nmodels:\n  m:\n    versions:\n      {version}:\n        replicas: [\"{url}\"]\n        {headers}\n"
        ))
    };
    let good = setup("v", "s3cret");
    let wrong = |version| {
        let Setup { listener, rest } = setup(version, "an0ther");
        Setup { listener, rest: rest + "    splitt: {}\n" }
    };
    let site = Site::with(good.clone()).await;
    let on_disk = async || {
        let config = site.ask(Request::get("/api/v1/config")).await;
        let text = config.text();
        assert!(!text.contains("s3cret") && !text.contains("0ldsecret"), "{text}");
        config.json()["on_disk"].clone()
    };
    assert_eq!(on_disk().await, json!({"same": true}));
    site.reload_rejected(&text_of(&wrong("w"))).await;
    let diff = on_disk().await["diff"].as_str().unwrap().to_owned();
    assert!(diff.starts_with("--- running\n+++ on disk\n@@ -"), "{diff}");
    assert!(diff.contains("\n-      v:\n+      w:\n         replicas"), "{diff}");
    assert!(diff.contains("\n+    splitt: {}\n") && !diff.contains("an0ther"), "{diff}");
    // An edit of a file that stays wrong in the same way is an edit.
    site.write(&wrong("x"));
    eventually("the new text", async || {
        on_disk().await["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+      x:"))
            .then_some(())
    })
    .await;
    site.write(&good);
    eventually("the file heals", async || (on_disk().await == json!({"same": true})).then_some(()))
        .await;
    std::fs::remove_file(site.path().join("conf/evener.yaml")).unwrap();
    eventually("the file is missed", async || {
        (on_disk().await == json!({"same": false, "diff": null})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_vanishes_changes_nothing() {
    let mock = Mock::version("v").await;
    let site = Site::with(replicas([&mock])).await;
    std::fs::remove_file(site.path().join("conf/evener.yaml")).unwrap();
    until("it is noticed", || site.count_said("configuration rejected") > 0).await;
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
}

/// A port that nobody listens on.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn listening(base: &Setup, listeners: &[(&str, SocketAddr)]) -> String {
    let text = text_of(base);
    let more: Vec<_> = listeners
        .iter()
        .map(|(name, address)| format!("  - {{name: {name}, address: \"{address}\"}}\n"))
        .collect();
    let more = more.concat();
    text.replace("admin:", &format!("{more}admin:"))
}

#[tokio::test]
async fn listeners_come_move_and_go_while_it_runs() {
    let mock = Mock::version("v").await;
    let base = replicas([&mock]);
    let site = Site::with(base.clone()).await;
    let (first, second) = (free_port(), free_port());
    let answers = async |address: SocketAddr| send(address, Request::get("/headers")).await.is_ok();
    let mut kept = Client::connect(site.address, false).await.unwrap();
    kept.send(Request::get("/headers")).await.unwrap();
    site.write_text(&listening(&base, &[("more", first)]));
    eventually("a listener came", async || answers(first).await.then_some(())).await;
    let mut moved = Client::connect(first, false).await.unwrap();
    moved.send(Request::get("/headers")).await.unwrap();
    site.write_text(&listening(&base, &[("more", second)]));
    eventually("it moved", async || answers(second).await.then_some(())).await;
    eventually("the old one closed", async || (!answers(first).await).then_some(())).await;
    assert!(moved.send(Request::get("/headers")).await.is_ok(), "what it accepted goes on");
    site.write_text(&listening(&base, &[]));
    eventually("it went", async || (!answers(second).await).then_some(())).await;
    assert!(answers(site.address).await, "port 0 keeps its port");
    assert!(kept.send(Request::get("/headers")).await.is_ok(), "and its connections");
}

#[tokio::test]
async fn a_port_in_use_rejects_the_whole_file() {
    let mocks = [Mock::version("old").await, Mock::version("new").await];
    let site = Site::with(replicas(&mocks[..1])).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = listening(&replicas(&mocks[1..]), &[("more", taken.local_addr().unwrap())]);
    let said = site.reload_rejected(&text).await;
    assert!(said.contains("error[cannot-listen]"), "{said}");
    assert_eq!(site.send(Request::get("/headers")).await.version(), "old");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_not_applied() {
    let mocks = [Mock::version("old").await, Mock::version("new").await];
    let site = Site::with(replicas(&mocks[..1])).await;
    let text = format!("{}threads: 3\n", text_of(&replicas(&mocks[1..])));
    let said = site.reload_rejected(&text).await;
    assert!(said.contains("error[needs-restart]") && said.contains("threads"), "{said}");
    assert_eq!(site.send(Request::get("/headers")).await.version(), "old");
}

#[tokio::test]
async fn a_replica_that_leaves_finishes_what_it_runs() {
    let leaving = Mock::start(evener::mock::Knobs {
        version: "leaving".to_owned(),
        tokens: 20,
        token_interval: Duration::from_millis(30),
        ..Default::default()
    })
    .await;
    let staying = Mock::version("staying").await;
    let site = Site::with(replicas([&leaving])).await;
    let address = site.address;
    let running = tokio::spawn(async move {
        let body = r#"{"model":"m","stream":true,"messages":[]}"#;
        send(address, Request::post("/v1/chat/completions", body)).await.unwrap()
    });
    eventually("it runs", async || {
        let panel = send(leaving.address, Request::get("/mock")).await.unwrap().json();
        (panel["in_flight"] == 1).then_some(())
    })
    .await;
    site.reload(&replicas([&staying])).await;
    let reply = running.await.unwrap();
    assert_eq!((reply.status, reply.version()), (200, "leaving"));
    assert!(reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
}

#[tokio::test]
async fn a_replica_that_left_keeps_no_connection() {
    let finish = Arc::new(Notify::new());
    let told = Arc::clone(&finish);
    let leaving = Upstream::start(move |mut talk| {
        let finish = Arc::clone(&told);
        async move {
            talk.request().await;
            finish.notified().await;
            talk.answer("ok").await;
            talk.wait_for_close().await;
        }
    })
    .await;
    let staying = Mock::version("staying").await;
    let site = Site::with(Setup::new(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n",
        leaving.url()
    )))
    .await;
    let address = site.address;
    let running = tokio::spawn(send(address, Request::post("/v1/completions", "{}")));
    until("it runs", || leaving.seen().len() == 1).await;
    site.reload(&replicas([&staying])).await;
    finish.notify_one();
    assert_eq!(running.await.unwrap().unwrap().text(), "ok");
    leaving.until_closed(1).await;
    assert_eq!(site.send(Request::post("/v1/completions", "{}")).await.version(), "staying");
}
