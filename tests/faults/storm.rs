//! Clients, replicas and a running Evener between them; what is left when all went home.
use crate::client::Request;
use crate::fault::Ending;
use crate::http1::{self, Conn};
use crate::http2::{self, Shared};
use crate::ledger::{Ledger, Seen};
use crate::plan::{Plan, Wire};
use crate::replica::Faulty;
use crate::site::{Setup, Site, eventually, until};
use crate::streams::http2 as streams;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const WORKERS: usize = 128;
/// Workers that share a connection of HTTP/2.
const SHARE: usize = 8;
/// As `/proc/net/tcp` writes it.
const LISTENS: &str = "0A";
/// Well above every limit of the site together.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every replica there is.
#[derive(Debug)]
pub(crate) struct Replicas {
    http1: Vec<Faulty>,
    streams: Vec<Faulty>,
    shaky: Faulty,
    closing: [Faulty; 2],
    silent: Faulty,
    /// Where nobody listens.
    nobody: SocketAddr,
}

/// Files written so far.
static SETUPS: AtomicUsize = AtomicUsize::new(0);

impl Replicas {
    pub(crate) async fn start(ledger: &Arc<Ledger>) -> Self {
        let mut http1 = Vec::new();
        for _ in 0..4 {
            http1.push(Faulty::http1(ledger).await);
        }
        let nobody = Faulty::closing(Ending::Close).await.address;
        Self {
            http1,
            streams: vec![streams(ledger).await, streams(ledger).await],
            shaky: streams(ledger).await,
            closing: [Faulty::closing(Ending::Close).await, Faulty::closing(Ending::Reset).await],
            silent: Faulty::closing(Ending::Hang).await,
            nobody,
        }
    }

    /// A file; who is in it and with which weight comes and goes with `seed`.
    pub(crate) fn setup(&self, seed: usize) -> Setup {
        let list = |scheme: &str, of: &[&Faulty]| {
            let urls = of.iter().map(|replica| format!("\"{scheme}://{}\"", replica.address));
            urls.collect::<Vec<_>>().join(", ")
        };
        let some = self.http1.iter().enumerate();
        let some = some.filter(|(i, _)| *i < 2 || (seed >> i) & 1 == 0);
        let some: Vec<_> = some.map(|(_, replica)| replica).collect();
        let streams: Vec<_> = self.streams.iter().take(2 - seed % 2).collect();
        let closing: Vec<_> = self.closing.iter().collect();
        let limits = "health: false, slow_start: 0s, timeouts: {connect: 1s, first_byte: 700ms, between_chunks: 700ms, total: 4s}";
        let share = 70 + seed % 20;
        // A file like the last one would be no news, and waited for in vain.
        let number = SETUPS.fetch_add(1, SeqCst);
        let setup = Setup::new(format!(
            "# {number}\ntelemetry: {{access_log: {{file: ../access.jsonl}}}}\nroutes:\n\
             \x20 - {{match: {{path: /raw/*}}, model: m}}\n\
             \x20 - {{match: {{path: /streams/*}}, model: streams}}\n\
             \x20 - {{match: {{path: /shaky/*}}, model: shaky}}\n\
             \x20 - {{match: {{path: /closed/*}}, model: closed}}\n\
             \x20 - {{match: {{path: /v1/*}}}}\n\
             models:\n\
             \x20 m: {{versions: {{v1: [{}], v2: [{}]}}, split: {{v1: {share}, v2: {}}}, {limits}}}\n\
             \x20 streams: {{versions: {{v: [{}]}}, {limits}}}\n\
             \x20 shaky: {{versions: {{v: [{}]}}, {limits}}}\n\
             \x20 closed: {{versions: {{v: [\"http://{}\", {}, {}]}}, {limits}}}\n",
            list("http", &some[1..]),
            list("http", &some[..1]),
            100 - share,
            list("h2c", &streams),
            list("h2c", &[&self.shaky]),
            self.nobody,
            list("http", &closing),
            list("h2c", &[&self.silent]),
        ));
        setup.listener("client: {header_timeout: 3s, body_timeout: 3s, write_timeout: 3s}")
    }

    /// A file without any of them: Evener lets go of what it kept.
    pub(crate) fn farewell(&self) -> Setup {
        Setup::new(format!(
            "telemetry: {{access_log: {{file: ../access.jsonl}}}}\n\
             models: {{m: {{versions: {{v: [\"http://{}\"]}}, health: false}}}}\n",
            self.nobody
        ))
    }
}

/// The clients of one storm, who go through its requests one by one.
#[derive(Debug)]
pub(crate) struct Clients {
    ledger: Arc<Ledger>,
    next: AtomicU64,
    /// No further request begins.
    stop: AtomicBool,
}

impl Clients {
    pub(crate) fn new(ledger: &Arc<Ledger>) -> Arc<Self> {
        let ledger = Arc::clone(ledger);
        Arc::new(Self { ledger, next: AtomicU64::new(0), stop: AtomicBool::new(false) })
    }

    pub(crate) fn stop(&self, stop: bool) {
        self.stop.store(stop, SeqCst);
    }

    /// How many requests were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.next.load(SeqCst)
    }

    /// Sends requests up to this number, on connections that end with the last.
    pub(crate) async fn go(self: &Arc<Self>, address: SocketAddr, up_to: u64) {
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..WORKERS / SHARE {
            let shared = Arc::<Shared>::default();
            for _ in 0..SHARE {
                workers.spawn(Arc::clone(self).work(address, up_to, Arc::clone(&shared)));
            }
        }
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
    }

    async fn work(self: Arc<Self>, address: SocketAddr, up_to: u64, shared: Arc<Shared>) {
        let mut kept: Option<Conn> = None;
        while !self.stop.load(SeqCst) && !self.ledger.is_hopeless() {
            let taken =
                self.next.try_update(SeqCst, SeqCst, |next| (next < up_to).then_some(next + 1));
            let Ok(token) = taken else { break };
            let plan = Plan::draw(self.ledger.seed, token);
            let asking = async {
                match plan.wire {
                    Wire::Http2 => http2::ask(&shared, address, &plan).await,
                    Wire::Kept | Wire::Fresh | Wire::Old => {
                        http1::ask(&mut kept, address, &plan).await
                    }
                }
            };
            let seen = tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Seen::Hung);
            self.ledger.settle(&plan, seen);
        }
        shared.close();
    }
}

/// Reloads and drains on a schedule of its own, until it is dropped.
pub(crate) async fn unrest(site: &Site, replicas: &Replicas, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    // What the last unrest left drained, would be one too many.
    for replica in 0..2 {
        order(site, replicas, "undrain", replica).await;
    }
    loop {
        site.reload(&replicas.setup(rng.random_range(0..1000))).await;
        let replica = rng.random_range(0..2);
        for verb in ["drain", "undrain"] {
            order(site, replicas, verb, replica).await;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
        }
    }
}

/// Orders a replica to drain or to serve again, in whichever version it is.
async fn order(site: &Site, replicas: &Replicas, verb: &str, replica: usize) {
    let url = format!("http://{}", replicas.http1[replica].address);
    for version in ["v1", "v2"] {
        let body = json!({"model": "m", "version": version, "replica": url}).to_string();
        let order = Request::post(&format!("/api/v1/replicas/{verb}"), body);
        site.ask(order).await;
    }
}

/// The samples of a metric, summed.
pub(crate) async fn metric(site: &Site, name: &str) -> u64 {
    let page = site.ask(Request::get("/metrics")).await.text();
    let samples = page.lines().filter(|line| line.starts_with(name));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Waits until nobody waits for anything: no request at a replica, none counted, no connection of a client.
pub(crate) async fn calm(site: &Site, ledger: &Ledger) {
    until("replicas work for nobody", || ledger.open() == 0).await;
    for gauge in ["evener_in_flight{", "evener_connections{", "evener_buffered_bytes "] {
        eventually(&format!("{gauge} comes back to 0"), async || {
            (metric(site, gauge).await == 0).then_some(())
        })
        .await;
    }
    let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
    let left = status["models"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|model| model["versions"].as_array().unwrap());
    let left = left.flat_map(|version| version["replicas"].as_array().unwrap());
    let left: u64 = left.map(|replica| replica["in_flight"].as_u64().unwrap()).sum();
    assert_eq!(left, 0, "in flight by the admin API");
}

/// The files that a process has open, and apart from them its connections: both ends as `/proc/net/tcp` writes them.
pub(crate) fn open_files(site: &Site) -> (Vec<String>, Vec<String>) {
    let tcp = std::fs::read_to_string(site.proc().join("net/tcp")).unwrap();
    let lines: Vec<Vec<&str>> = tcp.lines().map(|l| l.split_whitespace().collect()).collect();
    let connection = |file: &str| {
        let inode = file.strip_prefix("socket:[")?.strip_suffix(']')?;
        let line = lines.iter().find(|line| line.get(9) == Some(&inode))?;
        (line[3] != LISTENS).then(|| format!("{} -> {} in state {}", line[1], line[2], line[3]))
    };
    let (mut files, mut connections) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(site.proc().join("fd")).unwrap() {
        // It may have closed meanwhile.
        let Ok(target) = entry.and_then(|entry| std::fs::read_link(entry.path())) else { continue };
        let file = target.display().to_string();
        match connection(&file) {
            Some(connection) => connections.push(connection),
            None => files.push(file),
        }
    }
    (files, connections)
}

/// Memory of a process, in bytes.
pub(crate) fn memory(site: &Site) -> u64 {
    let status = std::fs::read_to_string(site.proc().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
