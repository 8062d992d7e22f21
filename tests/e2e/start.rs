//! Starting and ending: what stops a start at once, and what signals do.
use crate::client::{Raw, Request};
use crate::site::{Setup, Site, eventually, refused_start, text_of, until};
use crate::upstream::{Mock, Upstream};
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\n")
}

async fn mock_and_setup() -> (Mock, Setup) {
    let mock = Mock::version("v").await;
    let setup = Setup::new(models(&mock.url()));
    (mock, setup)
}

#[tokio::test]
async fn a_file_that_cannot_be_read_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evener.yaml");
    let (code, said) = refused_start(&file, dir.path()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("evener.yaml"), "{said}");
    let (code, said) = refused_start(dir.path(), dir.path()).await;
    assert_eq!(code, Some(1), "a directory: {said}");
    for (name, bytes) in [
        ("not UTF-8", &b"models: \xff\xfe"[..]),
        ("empty", b""),
        ("not YAML", b"models: [}"),
        ("a NUL", b"models: \0"),
        ("an unknown key", b"modelz: {}"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let (code, said) = refused_start(&file, dir.path()).await;
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(said.contains("error"), "{name}: {said}");
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_port_in_use_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_mock, setup) = mock_and_setup().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evener.yaml");
    for text in [
        text_of(&setup).replacen("address: 127.0.0.1:0", &format!("address: {address}"), 1),
        text_of(&setup).replacen("address: \"127.0.0.1:0\"", &format!("address: \"{address}\""), 1),
    ] {
        let text = text.replace("../state", "state");
        std::fs::write(&file, &text).unwrap();
        let (code, said) = refused_start(&file, dir.path()).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&address), "{said}");
    }
}

#[tokio::test]
async fn a_state_directory_serves_one_evener_only() {
    let (_mock, setup) = mock_and_setup().await;
    let site = Site::with(setup).await;
    let file = site.path().join("conf/evener.yaml");
    let (code, said) = refused_start(&file, &site.path().join("conf")).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another Evener"), "{said}");
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
}

#[tokio::test]
async fn a_state_that_cannot_be_used_ends_the_start() {
    let (_mock, setup) = mock_and_setup().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evener.yaml");
    std::fs::write(&file, text_of(&setup).replace("../state", "state")).unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "a file").unwrap();
    let (code, said) = refused_start(&file, dir.path()).await;
    assert_eq!(code, Some(1), "a file in its place: {said}");
    assert!(said.contains("state"), "{said}");
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("state.json"), "{").unwrap();
    let (code, said) = refused_start(&file, dir.path()).await;
    assert_eq!(code, Some(1), "a broken file: {said}");
    assert!(said.contains("state.json"), "{said}");
    std::fs::remove_file(state.join("state.json")).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o000)).unwrap();
    // The superuser may read everything.
    if std::fs::read_dir(&state).is_err() {
        let (code, said) = refused_start(&file, dir.path()).await;
        assert_eq!(code, Some(1), "a directory out of reach: {said}");
    }
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn sigterm_with_nothing_to_finish_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_mock, setup) = mock_and_setup().await;
        let mut site = Site::with(setup).await;
        let _idle = Raw::connect(site.address).await;
        site.send(Request::get("/headers")).await;
        site.signal(signal);
        let ended = tokio::time::timeout(Duration::from_secs(2), site.ended()).await;
        assert!(ended.expect("nothing to wait for").success());
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_whatever_runs() {
    let hangs = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.wait_for_close().await;
    })
    .await;
    let mut site = Site::start(models(&hangs.url())).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    until("it runs", || !hangs.seen().is_empty()).await;
    site.signal(Signal::TERM);
    until("it drains", || site.count_said("Evener is ending") > 0).await;
    assert!(site.runs(), "the first waits");
    site.signal(Signal::TERM);
    let ended = tokio::time::timeout(Duration::from_secs(2), site.ended()).await;
    assert!(!ended.expect("the second does not").success());
}

#[tokio::test]
async fn a_drain_is_over_when_its_time_is() {
    let hangs = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.wait_for_close().await;
    })
    .await;
    let short = "shutdown: {notice: 0s, drain: 300ms}\n";
    let mut site = Site::start(models(&hangs.url()) + short).await;
    let mut raw = Raw::connect(site.address).await;
    raw.write("GET /p HTTP/1.1\r\nHost: x\r\n\r\n").await;
    until("it runs", || !hangs.seen().is_empty()).await;
    site.signal(Signal::TERM);
    let ended = tokio::time::timeout(Duration::from_secs(3), site.ended()).await;
    assert!(ended.is_ok(), "it hangs on what hangs");
}

#[tokio::test]
async fn readiness_fails_before_anything_is_refused() {
    let mock = Mock::version("v").await;
    let notice = "shutdown: {notice: 1s, drain: 5s}\n";
    let mut site = Site::start(models(&mock.url()) + notice).await;
    assert_eq!(site.send(Request::get("/healthz")).await.status, 200);
    site.signal(Signal::TERM);
    eventually("it says so", async || {
        let reply = site.send(Request::get("/healthz")).await;
        (reply.status == 503).then_some(())
    })
    .await;
    assert_eq!(site.send(Request::get("/headers")).await.status, 200, "and still serves");
    assert!(site.ended().await.success());
}

#[tokio::test]
async fn a_rotated_access_log_is_opened_anew_on_sigusr1() {
    let (_mock, setup) = mock_and_setup().await;
    let rest = format!("{}telemetry: {{access_log: {{file: ../access.jsonl}}}}\n", setup.rest);
    let site = Site::start(rest).await;
    let (log, rotated) = (site.path().join("access.jsonl"), site.path().join("access.1"));
    let lines = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    site.send(Request::get("/headers")).await;
    until("a line is written", || lines(&log) == 1).await;
    std::fs::rename(&log, &rotated).unwrap();
    site.signal(Signal::USR1);
    until("it is there again", || log.exists()).await;
    site.send(Request::get("/headers")).await;
    until("the next line is in the new file", || lines(&log) == 1).await;
    assert_eq!(lines(&rotated), 1);
}

#[tokio::test]
async fn a_unix_socket_serves_and_is_removed_at_the_end() {
    let (_mock, setup) = mock_and_setup().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("e.sock");
    let text = text_of(&setup).replace(
        "admin:",
        &format!("  - {{name: local, address: \"unix:{}\"}}\nadmin:", socket.display()),
    );
    let mut site = Site::with(setup).await;
    site.write_text(&text);
    until("it listens", || socket.exists()).await;
    let mut unix = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let request = b"GET /headers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut unix, request).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut unix, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    site.signal(Signal::TERM);
    site.ended().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_state_directory_that_others_may_write_to_is_refused() {
    let (_mock, setup) = mock_and_setup().await;
    let dir = tempfile::tempdir().unwrap();
    let (file, state) = (dir.path().join("evener.yaml"), dir.path().join("state"));
    std::fs::write(&file, text_of(&setup).replace("../state", "state")).unwrap();
    std::fs::create_dir(&state).unwrap();
    for (mode, said) in [(0o777, "everybody"), (0o770, "its group")] {
        std::fs::set_permissions(&state, PermissionsExt::from_mode(mode)).unwrap();
        let (code, stderr) = refused_start(&file, dir.path()).await;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(said) && stderr.contains("`chmod go-w"), "{stderr}");
    }
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, state.join("lock")).unwrap();
    let (code, stderr) = refused_start(&file, dir.path()).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("`lock` in it is a link"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
}

#[tokio::test]
async fn a_takeover_from_a_directory_that_others_may_write_to_is_refused() {
    let (_mock, setup) = mock_and_setup().await;
    let site = Site::with(setup).await;
    std::fs::set_permissions(site.path().join("state"), PermissionsExt::from_mode(0o770)).unwrap();
    let (code, stderr) = site.fail_to_take_over().await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("may be written to by its group"), "{stderr}");
    assert_eq!(site.send(Request::get("/headers")).await.status, 200);
}
