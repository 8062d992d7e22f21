//! A new process takes over from one that runs: nothing is refused, nothing is cut, and a failure changes nothing.
use crate::client::{Client, Raw, Request, Wire, send};
use crate::process::Launch;
use crate::site::{Setup, Site, eventually, text_of, until};
use crate::upstream::Mock;
use evener::mock::Knobs;
use http_body_util::BodyExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

const STREAM: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
const SHORT: &str = r#"{"model":"m","max_tokens":1,"messages":[]}"#;
const PATH: &str = "/v1/chat/completions";
const TOKENS: u32 = 40;

/// Answers in one piece at once, in a stream for two seconds.
async fn slow_streams() -> Mock {
    let token_interval = Duration::from_millis(50);
    Mock::start(Knobs { tokens: TOKENS, token_interval, ..Knobs::default() }).await
}

fn setup(mocks: &[&Mock]) -> Setup {
    let urls: Vec<_> = mocks.iter().map(|mock| format!("\"{}\"", mock.url())).collect();
    Setup::new(format!(
        "models: {{m: {{versions: {{v: [{}]}}, health: false}}}}\n",
        urls.join(", ")
    ))
}

/// Streams that have begun; each returns what came.
async fn fifty_streams(address: SocketAddr) -> JoinSet<String> {
    let begun = Arc::<AtomicUsize>::default();
    let mut streams = JoinSet::new();
    for i in 0..50 {
        let begun = Arc::clone(&begun);
        streams.spawn(async move {
            let wire = if i % 5 == 0 { Wire::H2c } else { Wire::Sized };
            let mut client = Client::connect(address, wire == Wire::H2c).await.unwrap();
            let answer = client.begin(Request::post(PATH, STREAM).wire(wire)).await.unwrap();
            let mut body = answer.into_body();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            begun.fetch_add(1, SeqCst);
            let rest = body.collect().await.expect("the stream is whole").to_bytes();
            String::from_utf8([first, rest].concat()).unwrap()
        });
    }
    until("all streams have begun", || begun.load(SeqCst) == 50).await;
    streams
}

async fn all_whole(streams: JoinSet<String>) {
    let streams = streams.join_all().await;
    let whole = |text: &&String| {
        text.ends_with("data: [DONE]\n\n")
            && text.matches("\"content\":").count() >= TOKENS as usize
    };
    let count = streams.iter().filter(whole).count();
    assert_eq!(count, 50, "{}", streams.iter().find(|text| !whole(text)).unwrap());
}

/// Clients that ask again and again until they are told to stop. Not one request may fail.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    workers: JoinSet<()>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut workers = JoinSet::new();
        for worker in 0..4 {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            workers.spawn(async move {
                let mut kept = None;
                while !stop.load(SeqCst) {
                    let mut client = match kept.take() {
                        Some(client) => client,
                        None => Client::connect(address, false).await.unwrap(),
                    };
                    let reply = client.send(Request::post(PATH, SHORT)).await.unwrap();
                    assert_eq!(reply.status, 200);
                    // Half of them keep their connection until they are told not to.
                    if worker % 2 == 0 && reply.header("connection") != "close" {
                        kept = Some(client);
                    }
                    done.fetch_add(1, SeqCst);
                }
            });
        }
        Self { stop, done, workers }
    }

    async fn goes_on(&self) {
        let before = self.done.load(SeqCst);
        until("requests are answered", || self.done.load(SeqCst) > before + 20).await;
    }

    async fn end(self) {
        self.stop.store(true, SeqCst);
        self.workers.join_all().await;
    }
}

async fn status(site: &Site) -> Value {
    // The old one's last admin connections may close under a request.
    eventually("the admin API answers", async || {
        let reply =
            send(site.admin, Request::get("/api/v1/status").header("host", "localhost")).await;
        reply.ok().map(|reply| reply.json())
    })
    .await
}

async fn order(site: &Site, verb: &str, replica: &str) -> u16 {
    let body = json!({"model": "m", "version": "v", "replica": replica}).to_string();
    let request = Request::post(&format!("/api/v1/replicas/{verb}"), body);
    site.ask(request).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_takeovers_under_load_refuse_nothing_and_cut_no_stream() {
    let (a, b) = (slow_streams().await, slow_streams().await);
    let mut site = Site::with(setup(&[&a, &b])).await;
    let (address, admin) = (site.address, site.admin);
    assert_eq!(order(&site, "drain", &b.url()).await, 200);
    let load = Load::on(address);
    for _ in 0..2 {
        let streams = fifty_streams(address).await;
        load.goes_on().await;
        let mut old = site.take_over().await;
        assert_eq!((site.address, site.admin), (address, admin), "the same sockets");
        load.goes_on().await;
        all_whole(streams).await;
        assert!(old.ended().await.success(), "the old one ends by itself");
        until("it says why", || old.warned("took over")).await;
        let replicas = status(&site).await["models"][0]["versions"][0]["replicas"].clone();
        let draining = replicas.as_array().unwrap().iter().find(|r| r["url"] == b.url()).unwrap();
        assert_eq!(draining["state"], "draining", "orders are remembered");
    }
    load.goes_on().await;
    load.end().await;
    assert_eq!(order(&site, "undrain", &b.url()).await, 200, "and given to the new one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_and_a_drained_replica_end_with_whole_streams() {
    let (a, b) = (slow_streams().await, slow_streams().await);
    let mut site = Site::with(setup(&[&a, &b])).await;
    let streams = fifty_streams(site.address).await;
    assert_eq!(order(&site, "drain", &a.url()).await, 200);
    all_whole(streams).await;
    assert_eq!(order(&site, "undrain", &a.url()).await, 200);
    let streams = fifty_streams(site.address).await;
    site.signal(Signal::TERM);
    all_whole(streams).await;
    assert!(site.ended().await.success());
}

#[tokio::test]
async fn a_connection_at_rest_may_ask_once_more_and_is_told_to_go() {
    let mock = slow_streams().await;
    let mut site = Site::with(setup(&[&mock])).await;
    let mut kept = [
        Client::connect(site.address, false).await.unwrap(),
        Client::connect(site.address, false).await.unwrap(),
    ];
    for client in &mut kept {
        assert_eq!(
            client.send(Request::get("/headers")).await.unwrap().header("connection"),
            "keep-alive"
        );
    }
    let mut silent = Raw::connect(site.address).await;
    // Accepted in order: once a later one is answered, the old one has this one.
    site.send(Request::get("/headers")).await;
    let mut old = site.take_over().await;
    until("it has let go", || old.warned("took over")).await;
    for (client, path) in kept.iter_mut().zip(["/headers", "/healthz"]) {
        let reply = client.send(Request::get(path)).await.expect("it is answered");
        assert_eq!((reply.status, reply.header("connection")), (200, "close"), "{path}");
    }
    silent.write("GET /headers HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (answer, reset) = silent.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200") && !reset, "{answer}");
    assert!(old.ended().await.success());
}

#[tokio::test]
async fn an_old_one_that_drains_is_in_nobodys_way() {
    let mock = slow_streams().await;
    let mut site = Site::with(setup(&[&mock])).await;
    let streams = fifty_streams(site.address).await;
    let mut old = site.take_over().await;
    until("it has let go", || old.warned("took over")).await;
    // The new one dies, and is started again in the ordinary way.
    let addresses = [site.address, site.admin];
    site.restart().await;
    for address in addresses {
        let gone = async || TcpStream::connect(address).await.is_err().then_some(());
        eventually("nobody holds the old sockets", gone).await;
    }
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
    all_whole(streams).await;
    assert!(old.ended().await.success());
    assert!(site.path().join("state/takeover.sock").exists());
}

#[tokio::test]
async fn without_one_to_take_over_from_it_starts_as_usual() {
    let mock = slow_streams().await;
    let site = Site::launched(setup(&[&mock]), Launch::TAKEOVER).await;
    until("it says so", || site.count_said("no Evener to take over from") == 1).await;
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
    let socket = std::fs::metadata(site.path().join("state/takeover.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_new_one_that_cannot_start_leaves_the_old_one_serving() {
    let mock = slow_streams().await;
    let site = Site::with(setup(&[&mock])).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    let good = text_of(&setup(&[&mock]));
    let more = format!("  - {{name: more, address: \"{taken}\"}}\nadmin:");
    for (text, said) in [
        (good.replace("versions", "verzions"), "verzions"),
        (good.replace("admin:", &more), "cannot listen on"),
    ] {
        // Not by a reload: the old one must not see it.
        std::fs::write(site.path().join("conf/evener.yaml"), text).unwrap();
        let (code, stderr) = site.fail_to_take_over().await;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
        assert_eq!(site.send(Request::get("/headers")).await.status, 200);
    }
    until("the old one says so", || site.count_said("failed, this Evener serves on") == 1).await;
}

#[tokio::test]
async fn a_new_one_that_cannot_read_the_state_gives_everything_back() {
    let mock = slow_streams().await;
    let mut site = Site::with(setup(&[&mock])).await;
    std::fs::write(site.path().join("state/state.json"), "{").unwrap();
    let (code, stderr) = site.fail_to_take_over().await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("state.json"), "{stderr}");
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
    until("the old one says so", || site.count_said("failed, this Evener serves on") == 1).await;
    // It has written its state anew, and can be asked again.
    let mut old = site.take_over().await;
    assert!(old.ended().await.success());
}

/// A conversation with the old one, by hand.
struct FakeHeir(UnixStream);

impl FakeHeir {
    async fn connect(dir: &Path) -> Self {
        Self(UnixStream::connect(dir.join("state/takeover.sock")).await.unwrap())
    }

    async fn says(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Reads to the end of the line with this word, or of the conversation. Byte by byte: a longer read ends where a
    /// descriptor was sent, and tokio would take it for all that there is.
    async fn hears(&mut self, word: &str) -> String {
        let mut heard = String::new();
        while let Ok(byte) = self.0.read_u8().await {
            heard.push(char::from(byte));
            if byte == b'\n' && heard.contains(word) {
                break;
            }
        }
        heard
    }
}

const HELLO: &str = r#"{"hello":{"protocol":1,"version":"9"}}"#;

#[tokio::test]
async fn whatever_becomes_of_the_new_one_before_it_serves_the_old_one_serves_on() {
    let mock = slow_streams().await;
    let mut site = Site::with(setup(&[&mock])).await;
    let refusals = || site.count_said("a takeover is refused");
    for nonsense in ["GET / HTTP/1.1", "\"ready\"", r#"{"hello":{"protocol":7,"version":"9"}}"#] {
        let before = refusals();
        let mut heir = FakeHeir::connect(site.path()).await;
        heir.says(nonsense).await;
        let answer = heir.hears("refused").await;
        assert_eq!(answer.contains("by protocol 1"), nonsense.contains("hello"), "{answer}");
        until("it is refused", || refusals() > before).await;
    }
    let failures = |n| {
        let site = &site;
        async move { until("it failed", || site.count_said("serves on: the other one") == n).await }
    };
    // It dies when it has all that it was offered.
    let mut heir = FakeHeir::connect(site.path()).await;
    heir.says(HELLO).await;
    let offer = heir.hears("offer").await;
    assert!(offer.contains("\"public\""), "{offer}");
    drop(heir);
    failures(1).await;
    // It says what makes no sense.
    let mut heir = FakeHeir::connect(site.path()).await;
    heir.says(HELLO).await;
    heir.hears("offer").await;
    heir.says("\"started\"").await;
    failures(2).await;
    // It dies when the state is its own.
    let mut heir = FakeHeir::connect(site.path()).await;
    heir.says(HELLO).await;
    heir.hears("offer").await;
    heir.says("\"ready\"").await;
    assert!(heir.hears("yours").await.contains("yours"));
    std::fs::write(site.path().join("state/state.json"), "what the dead one wrote").unwrap();
    drop(heir);
    failures(3).await;
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
    // The state file is whole again, for the one that succeeds.
    let mut old = site.take_over().await;
    assert!(old.ended().await.success());
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
}

#[tokio::test]
async fn what_a_reload_added_is_handed_over_and_what_was_handed_over_reloads() {
    let mock = slow_streams().await;
    let mut site = Site::with(setup(&[&mock])).await;
    let public = site.address;
    let unix = site.path().join("e.sock");
    let more = format!(
        "  - {{name: more, address: \"127.0.0.1:0\"}}\n  - {{name: local, address: \"unix:{}\"}}\nadmin:",
        unix.display()
    );
    site.write_text(&text_of(&setup(&[&mock])).replace("admin:", &more));
    let addresses = async |site: &Site| status(site).await["listeners"].clone();
    let grown = eventually("the reload is applied", async || {
        let now = addresses(&site).await;
        (now.as_array().unwrap().len() == 3).then_some(now)
    })
    .await;
    let mut old = site.take_over().await;
    assert!(old.ended().await.success());
    assert_eq!(addresses(&site).await, grown, "every socket is the same");
    UnixStream::connect(&unix).await.expect("the file of the unix socket is still there");
    site.reload(&setup(&[&mock])).await;
    let shrunk = addresses(&site).await;
    assert_eq!(
        shrunk,
        json!([{"name": "public", "address": public.to_string(), "scheme": "http"}])
    );
    until("the unix socket's file went with it", || !unix.exists()).await;
    let mut old = site.take_over().await;
    assert!(old.ended().await.success());
    assert_eq!(addresses(&site).await, shrunk);
}

#[tokio::test]
async fn a_state_directory_that_moves_takes_the_door_with_it() {
    let mock = slow_streams().await;
    let mut site = Site::with(setup(&[&mock])).await;
    let moved = text_of(&setup(&[&mock])).replace("../state", "../moved");
    site.write_text(&moved);
    until("it moved", || site.path().join("moved/takeover.sock").exists()).await;
    until("the old one is gone", || !site.path().join("state/takeover.sock").exists()).await;
    let mut old = site.take_over().await;
    assert!(old.ended().await.success());
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
    site.signal(Signal::TERM);
    assert!(site.ended().await.success());
    assert!(!site.path().join("moved/takeover.sock").exists(), "nothing is left at the end");
}
