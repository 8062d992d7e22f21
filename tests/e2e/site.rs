//! A running Evener with its own directory: configured, signalled, reloaded and ended by a test.
use crate::client::{Reply, Request, send};
use crate::process::Launch;
pub(crate) use crate::process::Process;
use evener::stats::{Clock as _, Moment, MonotonicClock};
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(MonotonicClock);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(MonotonicClock::new())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.now().since(Moment::ZERO)
    }
}

/// Waits until `found` finds something.
pub(crate) async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, looking).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, async || holds().then_some(())).await;
}

/// What a site is configured with; the rest of the file has defaults fit for a test.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Further keys of the one listener, indented by four.
    pub(crate) listener: String,
    /// Further top-level keys; `models` among them.
    pub(crate) rest: String,
}

impl Setup {
    pub(crate) fn new(rest: impl Into<String>) -> Self {
        Self { listener: String::new(), rest: rest.into() }
    }

    /// Adds a key to the listener.
    pub(crate) fn listener(mut self, key: &str) -> Self {
        writeln!(self.listener, "    {key}").unwrap();
        self
    }

    fn yaml(&self) -> String {
        let Self { listener, rest } = self;
        let mut yaml = format!(
            "listeners:\n  - name: public\n    address: 127.0.0.1:0\n{listener}\n\
             admin: {{address: \"127.0.0.1:0\"}}\nstate: {{dir: ../state}}\n"
        );
        if !rest.contains("shutdown:") {
            yaml.push_str("shutdown: {notice: 0s, drain: 20s}\n");
        }
        yaml + rest
    }
}

/// A running Evener.
#[derive(Debug)]
pub(crate) struct Site {
    dir: TempDir,
    process: Process,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
}

impl Site {
    /// Starts with these top-level keys, and waits for `ready`.
    pub(crate) async fn start(rest: impl Into<String>) -> Self {
        Self::with(Setup::new(rest)).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::launched(setup, Launch::default()).await
    }

    pub(crate) async fn launched(setup: Setup, launch: Launch) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("conf")).unwrap();
        std::fs::write(file_of(&dir), setup.yaml()).unwrap();
        let (process, address, admin) = begin(&dir, launch).await;
        Self { dir, process, address, admin }
    }

    /// Ends the process at once and starts it again in the same directory.
    pub(crate) async fn restart(&mut self) {
        self.process.kill();
        (self.process, self.address, self.admin) = begin(&self.dir, Launch::default()).await;
    }

    /// Starts another that takes over. Returns the old one.
    pub(crate) async fn take_over(&mut self) -> Process {
        let (process, address, admin) = begin(&self.dir, Launch::TAKEOVER).await;
        (self.address, self.admin) = (address, admin);
        std::mem::replace(&mut self.process, process)
    }

    /// Starts another, on a file of its own, that is to take over.
    pub(crate) fn heir(&self, text: &str) -> Process {
        let conf = self.dir.path().join("conf");
        std::fs::write(conf.join("heir.yaml"), text).unwrap();
        Process::spawn(&conf.join("heir.yaml"), &conf, &Launch::TAKEOVER)
    }

    /// Starts another that is to take over and fails. Returns exit code and stderr.
    pub(crate) async fn fail_to_take_over(&self) -> (Option<i32>, String) {
        let (file, cwd) = (file_of(&self.dir), self.dir.path().join("conf"));
        refused(Process::spawn(&file, &cwd, &Launch::TAKEOVER)).await
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the file, as editors do: a new one is renamed over it.
    pub(crate) fn write(&self, setup: &Setup) {
        self.write_text(&setup.yaml());
    }

    pub(crate) fn write_text(&self, text: &str) {
        let fresh = self.dir.path().join("fresh.yaml");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, file_of(&self.dir)).unwrap();
    }

    /// Replaces the file and waits until it serves.
    pub(crate) async fn reload(&self, setup: &Setup) {
        let before = self.generation().await;
        self.write(setup);
        eventually("the new file serves", async || {
            (self.generation().await > before).then_some(())
        })
        .await;
    }

    async fn generation(&self) -> f64 {
        self.metric("evener_config_generation", "").await
    }

    /// Replaces the file and waits until it is rejected. Returns what was said of it.
    pub(crate) async fn reload_rejected(&self, text: &str) -> String {
        let before = self.process.count_warnings("");
        self.write_text(text);
        eventually("the new file is rejected", async || {
            let said = self.process.warnings(before);
            said.contains("configuration rejected").then_some(said)
        })
        .await
    }

    /// Waits until it was said so often, and sees that it was not more. What is there to be asked for is said first,
    /// but lines take their time.
    pub(crate) async fn said_times(&self, word: &str, times: usize) {
        until(&format!("`{word}` is said"), || self.count_said(word) >= times).await;
        assert_eq!(self.count_said(word), times, "{word}");
    }

    pub(crate) fn count_said(&self, word: &str) -> usize {
        self.process.count_warnings(word)
    }

    /// What the process logged at this level: `INFO`, `WARN`, `ERROR`.
    pub(crate) fn logged_at(&self, level: &str) -> Vec<String> {
        let is = |line: &&String| line.split_whitespace().nth(1) == Some(level);
        self.process.logged().iter().filter(is).cloned().collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the process to end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// What the kernel tells of the process.
    pub(crate) fn proc(&self) -> PathBuf {
        format!("/proc/{}", self.process.id()).into()
    }

    /// The highest resident memory so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Lines of the access log.
    pub(crate) fn log(&self) -> Vec<Value> {
        let lines = self.process.printed();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a line of the access log.
    pub(crate) async fn logged(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || self.log().into_iter().find(|line| fits(line))).await
    }

    /// How many requests that named no model Evener refused with this code.
    pub(crate) async fn refused(&self, code: &str) -> u64 {
        let text = self.ask(Request::get("/metrics")).await.text();
        let ours = |line: &&str| {
            line.starts_with("evener_refusals_total{")
                && line.contains(&format!(r#"code="{code}""#))
                && line.contains(r#"model="""#)
        };
        let line = text.lines().find(ours);
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Waits until so many requests run at the replicas, by the metrics.
    pub(crate) async fn in_flight(&self, n: u64) {
        eventually("so many are in flight", async || {
            let page = self.ask(Request::get("/metrics")).await.text();
            let gauges = page.lines().filter(|line| line.starts_with("evener_in_flight{"));
            let running: u64 =
                gauges.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
            (running == n).then_some(())
        })
        .await;
    }

    /// Asks the admin API.
    pub(crate) async fn ask(&self, request: Request) -> Reply {
        send(self.admin, request.header("host", "localhost")).await.unwrap()
    }

    /// Runs another command of `evener` on it, as an operator would. Returns exit code, stdout and stderr.
    pub(crate) async fn evener(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evener"));
        command.args(args).args(["--admin", &format!("http://{}", self.admin)]);
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ran.status.code(), text(ran.stdout), text(ran.stderr))
    }

    pub(crate) fn said(&self, word: &str) -> Option<String> {
        self.process.said(word)
    }

    /// The sum of a metric's samples whose line holds this.
    pub(crate) async fn metric(&self, name: &str, with: &str) -> f64 {
        let page = self.ask(Request::get("/metrics")).await.text();
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(with));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Sends on a connection of its own.
    pub(crate) async fn send(&self, request: Request) -> Reply {
        send(self.address, request).await.unwrap()
    }
}

fn file_of(dir: &TempDir) -> PathBuf {
    dir.path().join("conf/evener.yaml")
}

async fn begin(dir: &TempDir, launch: Launch) -> (Process, SocketAddr, SocketAddr) {
    let mut process = Process::spawn(&file_of(dir), &dir.path().join("conf"), &launch);
    eventually("ready", async || {
        assert!(process.runs(), "it ended at the start: {}", process.warnings(0));
        process.said("ready")
    })
    .await;
    let address = |name: &str| {
        let line = process.said(&format!("listening {name} http")).unwrap();
        line.rsplit('/').next().unwrap().parse().unwrap()
    };
    let (public, admin) = (address("public"), address("admin"));
    (process, public, admin)
}

/// Runs `evener run` on a file that must not start. Returns exit code and stderr.
pub(crate) async fn refused_start(file: &Path, cwd: &Path) -> (Option<i32>, String) {
    refused(Process::spawn(file, cwd, &Launch::default())).await
}

async fn refused(mut process: Process) -> (Option<i32>, String) {
    let status = process.ended().await;
    (status.code(), process.warnings(0))
}

/// The text of a file, for a test that starts it itself.
pub(crate) fn text_of(setup: &Setup) -> String {
    setup.yaml()
}
