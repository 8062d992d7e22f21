//! What operators do in the middle of a takeover, and what must not be forgotten by it.
use crate::client::{Request, send};
use crate::site::{Process, Setup, Site, eventually, text_of, until};
use crate::upstream::Upstream;
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;
use tokio::sync::Notify;

fn setup(replica: &Upstream) -> Setup {
    Setup::new(format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\n",
        replica.url()
    ))
}

#[tokio::test]
async fn a_new_one_that_is_told_to_end_steps_back_at_once() {
    let replica = Upstream::hanging_where_asked().await;
    let site = Site::with(setup(&replica)).await;
    // An old one that never answers: the new one waits in the middle of its takeover.
    let gate = site.path().join("state/takeover.sock");
    std::fs::remove_file(&gate).unwrap();
    let old = UnixListener::bind(&gate).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut new = site.heir(&text_of(&setup(&replica)));
        let (mut link, _) = old.accept().await.unwrap();
        assert_eq!(link.read_u8().await.unwrap(), b'{');
        new.signal(signal);
        assert!(new.ended().await.success());
        let mut rest = Vec::new();
        link.read_to_end(&mut rest).await.unwrap();
        assert_eq!(site.send(Request::get("/fine")).await.status, 200);
    }
}

/// Starts an `evener` that orders something.
fn order(site: &Site, words: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evener"));
    command.args(words).args(["--admin", &format!("http://{}", site.admin)]);
    Process::begin(command, site.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_what_the_processes_before_still_run() {
    let finish = Arc::new(Notify::new());
    let replica = Upstream::halting(Arc::clone(&finish)).await;
    let mut site = Site::with(setup(&replica)).await;
    let address = site.address;
    let running = tokio::spawn(async move { send(address, Request::get("/x")).await.unwrap() });
    site.in_flight(1).await;
    let old = site.take_over().await;
    let waiting = order(&site, &["drain", "m/v", "--wait"]);
    let waits = "waiting: the process before this one still finishes what it runs";
    until("it says what it waits for", || waiting.warned(waits)).await;
    let hasty = ["drain", "m/v", "--wait", "--timeout", "1s"];
    assert_eq!(order(&site, &hasty).ended().await.code(), Some(3), "it gives up, undecided");
    let between = site.take_over().await;
    let code = order(&site, &hasty).ended().await.code();
    assert_eq!(code, Some(3), "the second one waits for the first one");
    finish.notify_one();
    assert_eq!(running.await.unwrap().text(), "half");
    for mut process in [waiting, old, between] {
        assert!(process.ended().await.success());
    }
    let status = site.ask(Request::get("/api/v1/status")).await.json();
    assert_eq!(status["predecessor_drains"], false);
}

#[tokio::test]
async fn the_file_of_a_unix_socket_goes_with_a_listener_that_is_not_taken_on() {
    let replica = Upstream::hanging_where_asked().await;
    let plain = text_of(&setup(&replica));
    let mut site = Site::with(setup(&replica)).await;
    let unix = site.path().join("e.sock");
    let more = format!("  - {{name: local, address: \"unix:{}\"}}\nadmin:", unix.display());
    site.write_text(&plain.replace("admin:", &more));
    until("the socket is there", || unix.exists()).await;
    let new = site.heir(&plain);
    assert!(site.ended().await.success());
    until("its file is gone", || !unix.exists()).await;
    assert!(new.said("ready").is_some());
}

#[tokio::test]
async fn a_long_path_of_the_state_is_no_hindrance() {
    let replica = Upstream::hanging_where_asked().await;
    let site = Site::with(setup(&replica)).await;
    let long = format!("../{}/state", "long".repeat(40));
    let text = text_of(&setup(&replica)).replace("../state", &long);
    std::fs::create_dir(site.path().join("long".repeat(40))).unwrap();
    let begin = |new: &Process| new.said("ready").is_some();
    let mut first = site.heir(&text);
    until("the first runs", || begin(&first)).await;
    let second = site.heir(&text);
    until("the second runs", || begin(&second)).await;
    assert!(first.ended().await.success(), "it was taken over from");
    assert_eq!(first.said("listening public"), second.said("listening public"));
}

#[tokio::test]
async fn a_second_sigterm_ends_it_whatever_still_runs() {
    let replica = Upstream::hanging_where_asked().await;
    let mut site = Site::with(setup(&replica)).await;
    let running = tokio::spawn(send(site.address, Request::get("/hang")));
    site.in_flight(1).await;
    site.signal(Signal::TERM);
    eventually("the second one is obeyed", async || {
        site.signal(Signal::TERM);
        (!site.runs()).then_some(())
    })
    .await;
    assert_eq!(site.ended().await.code(), Some(1));
    running.await.unwrap().unwrap_err();
}

/// Who asked for the file waits for its disk, and nobody else does.
#[tokio::test]
async fn while_the_file_waits_for_a_disk_orders_are_carried_out_and_signals_heard() {
    let replica = Upstream::hanging_where_asked().await;
    let url = replica.url();
    let mut site = Site::start(format!(
        "threads: 1\nmodels: {{m: {{versions: {{v: [\"{url}\"], w: [\"{url}\"]}}, split: {{v: 100, w: 0}}, health: false}}}}\n"
    ))
    .await;
    let (file, pipe) = (site.path().join("conf/evener.yaml"), site.path().join("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, &file).unwrap();
    site.signal(Signal::HUP);
    let writer = eventually("it waits for the file", async || {
        OpenOptions::new().write(true).custom_flags(0o4000).open(&file).ok()
    })
    .await;
    assert!(order(&site, &["drain", "m/w"]).ended().await.success());
    for _ in 0..20 {
        assert_eq!(site.send(Request::get("/fine")).await.status, 200);
        assert_eq!(site.ask(Request::get("/api/v1/status")).await.status, 200);
    }
    site.signal(Signal::TERM);
    assert!(site.ended().await.success());
    drop(writer);
}
