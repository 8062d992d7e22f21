//! `evener run`: serves until it is told to end.
use super::log::log_to_stderr;
use super::{config_file, env};
use super::{limits, terminal};
use crate::admin::{self, Live, Office, Readiness, TurnedAway};
use crate::config;
use crate::control::{
    Heritage, Inherited, Order, Orders, Runner, Started, activated, few_descriptors, systemd,
    verify,
};
use crate::observe::Task;
use crate::proxy::{self, Phase};
use crate::table::ListenAddress;
use crate::wire::{descriptor_limit, keep_descriptors};
use anyhow::Context as _;
use clap::Args;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// Serve: the proxy, its health checks and the admin page
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
SIGHUP reloads the file, SIGUSR1 reopens the logs, SIGTERM ends in good order: readiness fails,
what runs finishes, and a second SIGTERM ends at once. The file is reloaded whenever it changes.

With --takeover, a new process replaces the one that runs: it takes its sockets, so that no
connection is refused, and its state; the old one finishes what it runs, for `shutdown.drain` at
most, and ends. Until the new one serves, whatever ends it leaves the old one serving. When none
runs, it starts as usual. Sockets that systemd passes are served, too (systemd/README.md).

Examples:
  evener run                      ./evener.yaml, else /etc/evener/evener.yaml
  evener run -c conf/canary.yaml
  evener run --takeover           replaces the one that runs, losing nothing
  EVENER_LOG=debug evener run     more on stderr")]
pub struct RunArgs {
    /// The file; default: `$EVENER_CONFIG`, ./evener.yaml or /etc/evener/evener.yaml
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Take the sockets and the state of the Evener that runs on the same state directory, which then drains and ends
    #[arg(long)]
    pub takeover: bool,
}

/// Serves until the end. An error of the file or a port in use ends it at once.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let log = log_to_stderr()?;
    let file = config_file(args.config);
    let checked = match config::load(&file, &env) {
        Ok(checked) => checked,
        Err(found) => {
            log.show(&found);
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut found = checked.warnings.clone();
    let limit = limits::raise();
    for more in verify(&checked).into_iter().chain(few_descriptors(&checked, limit)) {
        found.push(more);
    }
    log.show(&found);
    if found.has_errors() {
        return Ok(ExitCode::FAILURE);
    }
    keep_descriptors(limit);
    let activated = sockets_of_systemd();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = checked.plan.threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build().context("cannot start threads")?;
    let ended = runtime.block_on(serve(file, checked, args.takeover, activated));
    // What still runs after the drain is cut: a blocking task must not hold the end up.
    runtime.shutdown_background();
    ended
}

/// Without a process id they are not meant for us, whatever else the environment says.
fn sockets_of_systemd() -> Vec<Inherited> {
    env("LISTEN_PID").map_or_else(Vec::new, |_| activated(env("LISTEN_FDNAMES").as_deref()))
}

async fn serve(
    file: PathBuf,
    checked: config::Checked,
    takeover: bool,
    activated: Vec<Inherited>,
) -> anyhow::Result<ExitCode> {
    // Asked for before anything can be told to end.
    let mut signals = Signals::new()?;
    let opening = async {
        let heritage = Heritage::claim(&checked.plan.state_dir, takeover, activated).await?;
        open(file, checked, heritage).await
    };
    let opened = tokio::select! {
        opened = opening => opened?,
        // An Evener that was to be replaced serves on.
        () = signals.end() => {
            tracing::info!("stopped before serving");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let Opened { mut runner, started, admin, heritage } = opened;
    let plan = Arc::clone(&started.proxy.current.load().plan);
    for (name, address) in started.addresses.load().iter() {
        let url = url(address, plan.scheme_of(name));
        terminal::announce(&format!("listening {name} {url}\n"));
    }
    say_what_serves(&started, admin);
    terminal::announce(&format!("listening admin http://{admin}\nready\n"));
    runner.succeed(heritage).await?;
    systemd::ready();
    // On a thread of its own: while it waits for a disk, requests are served and signals heard.
    let running = spawn_blocking(move || Handle::current().block_on(runner.run()));
    tokio::select! {
        ran = running => ran.map(|()| ExitCode::SUCCESS).context("the runner ended"),
        () = signals.obey(&started.orders) => Ok(ExitCode::FAILURE),
    }
}

/// One line of the log: what runs here, from which file, with how much behind it, and where it listens.
fn say_what_serves(started: &Started, admin: SocketAddr) {
    let table = started.proxy.current.load();
    let replicas = table.models.iter().flat_map(|model| &model.versions);
    let replicas: usize = replicas.map(|version| version.members.len()).sum();
    let mut listeners: Vec<String> = Vec::new();
    for (name, address) in started.addresses.load().iter() {
        let url = url(address, table.plan.scheme_of(name));
        let unnamed = address.to_string() == *name;
        listeners.push(if unnamed { url } else { format!("{name} {url}") });
    }
    listeners.push(format!("admin http://{admin}"));
    let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    tracing::info!(
        "evener {} serves {}: {}, {}, listening at {}",
        env!("CARGO_PKG_VERSION"),
        started.desk.file.display(),
        count(table.models.len(), "model"),
        count(replicas, "replica"),
        listeners.join(", "),
    );
}

/// An Evener whose sockets are bound. It serves; orders are taken once `runner` runs.
pub(super) struct Opened {
    pub(super) runner: Runner,
    pub(super) started: Started,
    pub(super) admin: SocketAddr,
    /// Whoever served before waits to hear that we do.
    pub(super) heritage: Heritage,
}

/// Binds everything that a checked file names and nobody has bound yet, and serves it.
pub(super) async fn open(
    file: PathBuf,
    checked: config::Checked,
    mut heritage: Heritage,
) -> anyhow::Result<Opened> {
    let address = checked.plan.admin.address;
    let listener = match heritage.admin(address)? {
        Some(listener) => listener,
        // With room for a burst of connections, as listeners have it.
        None => proxy::bind(&ListenAddress::Tcp(address)).context("admin")?.into(),
    };
    let listener = TcpListener::from_std(listener)?;
    let admin = listener.local_addr()?;
    let lent = listener.as_fd().try_clone_to_owned()?;
    let runner = Runner::start(file, checked, env, &mut heritage, lent).await?;
    let started = runner.started();
    let proxy = Arc::clone(&started.proxy);
    let succeeded = async move { proxy.until_succeeded().await };
    Task::Admin.spawn(admin::serve(listener, office(&started), succeeded));
    Ok(Opened { runner, started, admin, heritage })
}

fn office(started: &Started) -> Arc<Office> {
    let (proxy, addresses) = (Arc::clone(&started.proxy), Arc::clone(&started.addresses));
    let (predecessor, data_path) = (Arc::clone(&proxy), Arc::clone(&proxy));
    Arc::new(Office {
        current: Arc::clone(&started.proxy.current),
        meters: Arc::clone(&started.proxy.meters),
        events: Arc::clone(&started.events),
        logs: Arc::clone(&started.proxy.logs),
        desk: Arc::clone(&started.desk),
        orders: started.orders.clone(),
        live: Live::default(),
        turned_away: TurnedAway::default(),
        descriptor_limit: descriptor_limit(),
        started: started.proxy.started,
        clock: started.proxy.clock,
        listeners: Box::new(move || {
            let addresses = addresses.load();
            addresses.iter().map(|(name, address)| (name.clone(), address.to_string())).collect()
        }),
        connect: Box::new(move || proxy::connect(&data_path)),
        has_predecessor: Box::new(move || predecessor.has_predecessor()),
        readiness: Box::new(move || match proxy.phase() {
            Phase::Serving => Readiness::Serving,
            Phase::Notice => Readiness::Notice,
            Phase::Draining | Phase::Parting => Readiness::Draining,
        }),
    })
}

pub(super) fn url(address: &ListenAddress, scheme: &str) -> String {
    match address {
        ListenAddress::Tcp(address) => format!("{scheme}://{address}"),
        ListenAddress::Unix(_) => address.to_string(),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    reopen: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// Returns when one says end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Does what signals say. Returns at the second that says end, which means now.
    async fn obey(mut self, orders: &Orders) {
        // Apart: a file that takes its time keeps nothing else waiting, nor does the end of what runs.
        let (reloads, reloading) = giver(orders.clone());
        let (others, giving) = giver(orders.clone());
        let mut ending = false;
        loop {
            let (line, order) = tokio::select! {
                _ = self.terminate.recv() => (&others, Order::Stop { drain: None }),
                _ = self.interrupt.recv() => (&others, Order::Stop { drain: None }),
                _ = self.hangup.recv() => (&reloads, Order::Reload { always: true }),
                _ = self.reopen.recv() => (&others, Order::ReopenLogs),
            };
            let ends = matches!(order, Order::Stop { .. });
            if ends && std::mem::replace(&mut ending, true) {
                reloading.abort();
                giving.abort();
                return;
            }
            line.send(order).ok();
        }
    }
}

/// Gives orders, one after the other.
fn giver(orders: Orders) -> (mpsc::UnboundedSender<Order>, JoinHandle<()>) {
    let (line, mut waiting) = mpsc::unbounded_channel();
    let giving = async move {
        while let Some(order) = waiting.recv().await {
            let reloads = matches!(order, Order::Reload { .. });
            if reloads {
                systemd::reloading();
            }
            orders.give(order, "signal", None).await;
            if reloads {
                systemd::ready();
            }
        }
    };
    (line, tokio::spawn(giving))
}
