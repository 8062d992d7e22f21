//! Nobody reads stderr, or not fast enough: requests, health checks, reloads and the API go on.
use crate::client::Request;
use crate::process::{Launch, Reader};
use crate::site::{Setup, Site, eventually, text_of};
use crate::upstream::Mock;
use rustix::process::Signal;
use std::time::Duration;

const HEALTH: &str = "health: {tcp: true, every: 100ms, timeout: 50ms, fall: 1, rise: 1}";

fn models(urls: &[&str]) -> Setup {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    Setup::new(format!(
        "models: {{m: {{versions: {{v: [{}]}}, retries: false, {HEALTH}}}}}\n",
        urls.join(", ")
    ))
}

async fn serves_on(reader: Reader) {
    let mock = Mock::version("v").await;
    // Nobody listens at port 1: each request to it is a line of the log.
    let dead = models(&["http://127.0.0.1:1"]);
    let launch = Launch { debug: true, ..Launch::read_by(reader) };
    let mut site = Site::launched(dead.clone(), launch).await;
    for _ in 0..300 {
        let status = site.send(Request::get("/headers")).await.status;
        assert!([502, 503].contains(&status), "{reader:?}: {status}");
    }
    for i in 0..30 {
        site.write_text(&text_of(&dead).replace("models:", &format!("models: [{i}")));
        site.ask(Request::post("/api/v1/reload", "{}")).await;
    }
    assert_eq!(site.ask(Request::get("/api/v1/status")).await.status, 200, "{reader:?}");
    site.reload(&models(&[&mock.url()])).await;
    eventually("the new replica is probed, and serves", async || {
        (site.send(Request::get("/headers")).await.status == 200).then_some(())
    })
    .await;
    // A slow reader is behind, and nothing is lost yet.
    if reader != Reader::IsSlow {
        eventually("what is lost is counted", async || {
            (site.metric("evener_log_dropped_total", "").await > 0.0).then_some(())
        })
        .await;
    }
    assert!(site.metric("evener_panics_total{", "").await < 0.5, "{reader:?}");
    site.signal(Signal::TERM);
    let ended = tokio::time::timeout(Duration::from_secs(8), site.ended()).await;
    assert!(ended.expect("it waits for nobody").success(), "{reader:?}");
}

#[tokio::test]
async fn with_stderr_closed_it_serves_on() {
    serves_on(Reader::Leaves).await;
}

#[tokio::test]
async fn with_a_slow_reader_of_stderr_it_serves_on() {
    serves_on(Reader::IsSlow).await;
}

#[tokio::test]
async fn with_stderr_on_a_full_disk_it_serves_on() {
    serves_on(Reader::FullDisk).await;
}

#[tokio::test]
async fn with_a_full_pipe_at_stderr_it_serves_on() {
    let mock = Mock::version("v").await;
    let mut site = Site::launched(
        models(&[&mock.url()]),
        Launch { debug: true, ..Launch::read_by(Reader::ReadsNothing) },
    )
    .await;
    // More than the pipe takes, and less than waits in memory.
    let dead = models(&["http://127.0.0.1:1"]);
    for i in 0..50 {
        site.write_text(&text_of(&dead).replace("models:", &format!("models: [{i}")));
        site.ask(Request::post("/api/v1/reload", "{}")).await;
        assert_eq!(site.send(Request::get("/headers")).await.status, 200);
    }
    site.reload(&models(&[&mock.url(), "http://127.0.0.1:1"])).await;
    site.signal(Signal::TERM);
    let ended = tokio::time::timeout(Duration::from_secs(8), site.ended()).await;
    assert!(ended.expect("it waits for nobody").success());
}

/// Runs `evener ARGS | true` in a shell: by then nobody reads. Returns its exit code and what it complained.
fn unread(args: &str) -> (String, String) {
    let line = format!("\"$0\" {args} | true; echo ${{PIPESTATUS[0]}}");
    let ran = std::process::Command::new("bash")
        .args(["-c", &line, env!("CARGO_BIN_EXE_evener")])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    (text(ran.stdout), text(ran.stderr))
}

#[tokio::test]
async fn a_command_whose_reader_left_ends_without_a_word() {
    let mock = Mock::version("v").await;
    let site = Site::with(models(&[&mock.url()])).await;
    let file = site.path().join("conf/evener.yaml");
    let (file, admin) = (file.display(), format!("--admin http://{}", site.admin));
    let commands = [
        "schema".to_owned(),
        "--help".to_owned(),
        "run --help".to_owned(),
        "completions bash".to_owned(),
        "key new k".to_owned(),
        format!("check {file}"),
        format!("check {file} --format json"),
        format!("diff {file} {file}"),
        format!("explain -c {file} --path /x"),
        format!("status {admin}"),
        format!("status {admin} --format json"),
        format!("drain m/v {admin}"),
    ];
    for command in commands {
        let ran = tokio::task::spawn_blocking(move || (unread(&command), command));
        let ((code, said), command) = ran.await.unwrap();
        // What is written before `true` has ended is written well.
        assert!(["0", "141"].contains(&&*code), "{command}: {code} {said}");
        assert!(!said.contains("panicked") && !said.contains("error"), "{command}: {said}");
    }
}

#[tokio::test]
async fn a_watch_ends_when_its_reader_does() {
    let mock = Mock::version("v").await;
    let site = Site::with(models(&[&mock.url()])).await;
    let admin = format!("http://{}", site.admin);
    let line = "\"$0\" tap --admin \"$1\" | head -n 1; echo ${PIPESTATUS[0]}";
    let mut tap = tokio::task::spawn_blocking(move || {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", line, env!("CARGO_BIN_EXE_evener"), &admin]).output().unwrap()
    });
    let ran = loop {
        tokio::select! {
            ran = &mut tap => break ran.unwrap(),
            _ = site.send(Request::get("/headers")) => {}
        }
    };
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(said.ends_with("\n141\n"), "{said}");
    assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn the_log_can_be_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evener.yaml");
    // A secret in the file is worth a warning.
    let version = "{replicas: [\"http://127.0.0.1:1\"], headers: {set: {x-api-key: hush}}}";
    let models = Setup::new(format!("models: {{m: {{versions: {{v: {version}}}}}}}\n"));
    std::fs::write(&file, text_of(&models).replace("../state", "s")).unwrap();
    let start = |format: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_evener"));
        command.arg("run").arg("-c").arg(&file).env("EVENER_LOG_FORMAT", format);
        crate::process::Process::begin(command, dir.path())
    };
    let mut process = start("json");
    eventually("the replica fails its health check", async || {
        process.warned("fails its health check").then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    eventually("the last line is written", async || process.warned("is ending").then_some(()))
        .await;
    for line in process.warnings(0).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["timestamp", "level", "message", "target"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    assert!(process.warnings(0).contains(r#""kind":"standing""#));
    assert!(process.warnings(0).contains(r#""code":"literal-secret""#));
    let mut process = start("xml");
    assert_eq!(process.ended().await.code(), Some(1));
    eventually("it says why", async || process.warned("can be `text` or `json`").then_some(()))
        .await;
}
