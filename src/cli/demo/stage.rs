//! What the demo plays with: six mocks, a file, and Evener in front of them.
use super::counts::Counts;
use super::scratch::Scratch;
use crate::cli::env;
use crate::cli::remote::{AdminArgs, Remote};
use crate::cli::run::{self, Opened};
use crate::config;
use crate::control::{Heritage, Order, Started};
use crate::health::Standing;
use crate::mock::{Knobs, Latency, serve};
use crate::observe::CanaryReport;
use crate::stats::{Clock as _, Moment};
use crate::table::ListenAddress;
use anyhow::Context as _;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub(super) const MODEL: &str = "chat";
/// How much slower the slow replica is.
pub(super) const SLOWER: u32 = 6;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plot {
    /// A slow replica, a death, a reload.
    Death,
    /// A canary that starts well and breaks.
    Fall,
}

/// Everything that runs.
pub(super) struct Stage {
    pub(super) file: PathBuf,
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) started: Started,
    /// Of v1 the first three; the first of all is the slow one.
    pub(super) replicas: Vec<MockReplica>,
    state: PathBuf,
    running: JoinHandle<()>,
}

impl Stage {
    /// Starts the mocks, writes the file, and serves it.
    pub(super) async fn set(scratch: &Scratch, plot: Plot) -> anyhow::Result<Self> {
        let mut replicas = Vec::new();
        for i in 0..6_u32 {
            let version = if i < 3 { "v1" } else { "v2" };
            let times = if i == 0 { SLOWER } else { 1 };
            let median = Duration::from_millis(30) * times;
            let knobs = Knobs {
                version: version.to_owned(),
                latency: Latency::LogNormal { median, sigma: 0.3 },
                token_interval: Duration::from_millis(4) * times,
                tokens: 8,
                seed: u64::from(i),
                ..Knobs::default()
            };
            replicas.push(MockReplica::start(version, knobs).await?);
        }
        let (file, state) = (scratch.path().join("evener.yaml"), scratch.path().join("state"));
        let text = match plot {
            Plot::Death => yaml(&replicas, &state, (90, 10), ""),
            Plot::Fall => yaml(&replicas, &state, (100, 0), CANARY),
        };
        std::fs::write(&file, text)?;
        let checked = config::load(&file, &env)
            .map_err(|found| anyhow::anyhow!("{}", found.render_text(false)))?;
        let heritage = Heritage::claim(&checked.plan.state_dir, false, Vec::new()).await?;
        let Opened { runner, started, admin, .. } =
            run::open(file.clone(), checked, heritage).await?;
        let proxy = match started.addresses.load().first() {
            Some((_, ListenAddress::Tcp(address))) => *address,
            Some((_, ListenAddress::Unix(_))) | None => anyhow::bail!("no TCP listener is bound"),
        };
        let running = tokio::spawn(runner.run());
        Ok(Self { file, proxy, admin, started, replicas, state, running })
    }

    pub(super) fn now(&self) -> Moment {
        self.started.proxy.clock.now()
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::read(&self.started.proxy.current.load(), MODEL)
    }

    /// The canary as it stands.
    pub(super) fn canary(&self) -> Option<CanaryReport> {
        self.started.proxy.meters.canaries.load().first().cloned()
    }

    pub(super) fn generation(&self) -> u64 {
        self.started.proxy.current.load().generation
    }

    pub(super) fn standing(&self, url: &str) -> Option<Standing> {
        let table = self.started.proxy.current.load();
        let versions = table.model(MODEL).into_iter().flat_map(|model| &model.versions);
        let mut members = versions.flat_map(|version| &version.members);
        members.find(|m| &*m.replica.id.url == url).map(|m| m.replica.standing())
    }

    /// Rewrites the file as an editor would: the new one takes the old one's place as a whole.
    pub(super) fn rewrite(&self, v1: u32, v2: u32) -> std::io::Result<()> {
        let new = self.file.with_extension("yaml.new");
        std::fs::write(&new, yaml(&self.replicas, &self.state, (v1, v2), ""))?;
        std::fs::rename(&new, &self.file)
    }

    /// Ends Evener, then the mocks.
    pub(super) async fn strike(self) {
        let Self { started, replicas, running, .. } = self;
        let stop = Order::Stop { drain: Some(Duration::from_secs(1)) };
        started.orders.give(stop, "demo", None).await;
        // A runner that panicked has said so.
        running.await.ok();
        for mut replica in replicas {
            replica.kill().await;
        }
    }
}

/// Faster than the defaults: nobody watches for ten minutes.
const CANARY: &str = "    canary: {candidate: v2, steps: [10, 25, 100], hold: 5s, warmup: 1s}\n";

/// A mock that can be killed and revived.
pub(super) struct MockReplica {
    pub(super) version: &'static str,
    pub(super) url: String,
    address: SocketAddr,
    knobs: Knobs,
    life: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl MockReplica {
    async fn start(version: &'static str, knobs: Knobs) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot start a mock")?;
        let address = listener.local_addr()?;
        let mut replica =
            Self { version, url: format!("http://{address}"), address, knobs, life: None };
        replica.live(listener);
        Ok(replica)
    }

    fn live(&mut self, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel();
        let knobs = self.knobs.clone();
        let task = tokio::spawn(serve(listener, knobs, async move {
            stopped.await.ok();
        }));
        self.life = Some((stop, task));
    }

    /// Changes its knobs while it runs, by its `POST /mock`.
    pub(super) async fn turn(&self, knobs: &Value) -> anyhow::Result<()> {
        let mock = AdminArgs { admin: self.url.clone(), token: None };
        let turned = async { Remote::new(&mock)?.post("/mock", knobs).await?.good() };
        turned.await.map(drop).map_err(|failure| anyhow::anyhow!(failure.message))
    }

    /// Its connections are cut, its port is closed.
    pub(super) async fn kill(&mut self) {
        if let Some((stop, task)) = self.life.take() {
            stop.send(()).ok();
            task.await.ok();
        }
    }

    /// Listens on the same port again.
    pub(super) async fn revive(&mut self) -> anyhow::Result<()> {
        // Somebody's outgoing connection may have the port for a moment.
        let mut patience = 50;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) if patience > 0 => patience -= 1,
                Err(error) => return Err(error).context("the port of the replica was taken"),
            }
            sleep(Duration::from_millis(100)).await;
        };
        self.live(listener);
        Ok(())
    }
}

fn yaml(
    replicas: &[MockReplica],
    state: &std::path::Path,
    (v1, v2): (u32, u32),
    more: &str,
) -> String {
    let list = |version| {
        let urls = replicas.iter().filter(|r| r.version == version).map(|r| r.url.as_str());
        urls.collect::<Vec<_>>().join(", ")
    };
    format!(
        "\
# Written by `evener demo`. Change the split and save: it is reloaded while requests run.
listeners:
  - {{address: \"127.0.0.1:0\", name: public, debug_headers: true}}
admin: {{address: \"127.0.0.1:0\"}}
models:
  {MODEL}:
    kind: llm
    versions:
      v1: [{}]
      v2: [{}]
    split: {{v1: {v1}, v2: {v2}}}
    health: {{path: /health, every: 1s, timeout: 500ms, fall: 2, rise: 1}}
    ejection: {{for: 1s}}
    slow_start: 2s
{more}telemetry: {{access_log: null}}
state: {{dir: {:?}}}
shutdown: {{notice: 0s, drain: 2s}}
",
        list("v1"),
        list("v2"),
        state.display().to_string(),
    )
}
