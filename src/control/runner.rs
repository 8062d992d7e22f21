//! The one writer: takes orders in turn, and is alone in storing a table.
mod leaving;
mod saving;
mod tokens;

use self::leaving::Leave;
pub(super) use self::saving::done;
use super::certificates::Certificates;
use super::core::{Applied, Core};
use super::courier::Courier;
use super::desk::{Desk, Loaded, Rejected};
use super::handover::Gate;
use super::heritage::{Heritage, told_if_shut};
use super::listeners::{Listeners, Prepared};
use super::order::{Answer, Letter, Order, Orders, Reload};
use super::prober::Prober;
use super::state::StateDir;
use super::verify::verify;
use super::watch::watch;
use crate::config::{self, Checked, Diagnostic, Diagnostics};
use crate::observe::{Events, Level, Logs, Meters, ReloadResult, stamp};
use crate::proxy::Proxy;
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::{Changes, ListenAddress};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// How the environment is asked; only `cli` may read it.
pub type Env = fn(&str) -> Option<String>;

/// What a started Evener consists of, for those who serve it.
#[derive(Clone, Debug)]
pub struct Started {
    pub proxy: Arc<Proxy>,
    pub orders: Orders,
    pub desk: Arc<Desk>,
    pub events: Arc<Events>,
    pub addresses: Arc<ArcSwap<Vec<(String, ListenAddress)>>>,
}

/// The one writer.
#[derive(Debug)]
pub struct Runner {
    env: Env,
    pub(super) core: Core,
    pub(super) state: StateDir,
    gate: Option<Gate>,
    admin: OwnedFd,
    listeners: Listeners,
    prober: Prober,
    pub(super) courier: Arc<Courier>,
    pub(super) started: Started,
    letters: mpsc::Receiver<Letter>,
    pub(super) clock: MonotonicClock,
    /// The hash of the text that was read last, whatever became of it.
    seen: String,
    /// When the canaries' evidence was last written.
    pub(super) journalled: Moment,
    /// When it was last tried in vain to write the state; `None`: it is written.
    unsaved: Option<Moment>,
}

impl Runner {
    /// Starts from a checked file: binds, builds, serves. An error leaves nothing behind.
    /// `heritage` is what exists already, `admin` the socket of the admin listener.
    pub async fn start(
        file: PathBuf,
        checked: Checked,
        env: Env,
        heritage: &mut Heritage,
        admin: OwnedFd,
    ) -> anyhow::Result<Self> {
        let clock = MonotonicClock::new();
        let Checked { plan, text_hash, warnings, .. } = checked;
        let plan = Arc::new(plan);
        let prepared =
            Listeners::begin(&plan.listeners, &mut heritage.sockets).map_err(|errors| {
                let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
                anyhow::anyhow!(texts.join("; "))
            })?;
        let meters = Arc::new(Meters::default());
        let logs = Arc::new(Logs::open(&plan, &meters)?);
        // The last step: an Evener that hands over serves on until here.
        let (mut state, gate) = heritage.state().await?;
        let overrides = state.load(clock.now(), stamp())?;
        let untold = overrides.webhooks.clone();
        let (core, Applied { table, told, .. }) =
            Core::start(&plan, overrides, seed(), clock.now());
        let events = Arc::new(Events::default());
        let current = Arc::new(ArcSwap::new(Arc::clone(&table)));
        let proxy = Arc::new(Proxy::new(current, clock, Arc::clone(&meters), logs));
        // Before anything is accepted, which an error would cut.
        state.save(core.overrides()).context("cannot write the state")?;
        let mut listeners = Listeners::default();
        listeners.commit(&proxy, prepared).context("cannot serve a bound socket")?;
        let courier = Courier::new(Arc::clone(&events), Arc::clone(&proxy.meters));
        courier.resume(untold, &table);
        let suspects = Arc::clone(core.suspects());
        let mut prober = Prober::new(Arc::clone(&events), suspects, clock);
        prober.follow(&table);
        let at = stamp();
        meters.reloaded(ReloadResult::Applied, at);
        let first = Loaded {
            at,
            result: ReloadResult::Applied,
            generation: 1,
            hash: text_hash.clone(),
            who: "start".to_owned(),
            changes: Vec::new(),
            rejected: None,
        };
        let desk = Arc::new(Desk::new(file, first, warnings.masked_source()));
        let (orders, letters) = Orders::new();
        let addresses = Arc::new(ArcSwap::from_pointee(listeners.addresses()));
        let started = Started { proxy, orders, desk, events, addresses };
        let seen = text_hash;
        let (journalled, begun) = (clock.now(), told);
        let mut new = Self {
            env,
            core,
            state,
            gate,
            admin,
            listeners,
            prober,
            courier,
            started,
            letters,
            clock,
            seen,
            journalled,
            unsaved: None,
        };
        // What cannot be written is tried again.
        new.tell(&begun, "start", None).ok();
        Ok(new)
    }

    pub fn started(&self) -> Started {
        self.started.clone()
    }

    /// Takes orders until one of them says stop, then ends in good order.
    pub async fn run(mut self) {
        let watching =
            tokio::spawn(watch(self.started.desk.file.clone(), self.started.orders.clone()));
        let certificates = Certificates::follow(&self.started);
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let suspects = Arc::clone(self.core.suspects());
        let leave = loop {
            let letter = tokio::select! {
                letter = self.letters.recv() => letter,
                () = suspects.wait() => {
                    let rulings = self.core.judge_suspects(self.clock.now());
                    self.announce(&rulings);
                    continue;
                }
                Some(heir) = leaving::knocked(&mut self.gate) => {
                    match self.hand_over(heir, &mut second).await {
                        Some(parted) => break Leave::HandedOver(parted),
                        None => continue,
                    }
                }
                _ = second.tick() => {
                    let rulings = self.core.tick(self.clock.now());
                    self.announce(&rulings);
                    self.judge();
                    self.save_again();
                    self.follow_token_keys();
                    super::systemd::alive();
                    continue;
                }
            };
            let Some(Letter { order, who, reason, reply }) = letter else {
                break Leave::Told(None);
            };
            let answer = match order {
                Order::Stop { drain } => {
                    self.announce_end(&who, reason.as_deref());
                    reply.send(Answer::Done).ok();
                    break Leave::Told(drain);
                }
                Order::Reload { always } => {
                    let reload = self.reload(always, &who).await;
                    certificates.look();
                    reload.map_or(Answer::Done, Answer::Reloaded)
                }
                Order::Replicas { target, act, lasts } => {
                    self.act(&target, act, lasts, &who, reason.as_deref())
                }
                Order::Canary { model, verb } => self.say(&model, verb, &who, reason.as_deref()),
                Order::Split { model, shares, lasts } => {
                    self.split(&model, shares, lasts, &who, reason.as_deref())
                }
                Order::ReopenLogs => {
                    self.started.proxy.logs.reopen();
                    Answer::Done
                }
            };
            // Whoever asked may have left.
            reply.send(answer).ok();
        };
        watching.abort();
        self.end(leave, second).await;
    }

    /// Reads the file again. `None`: nobody asked for this look, and the text is the one already seen.
    async fn reload(&mut self, always: bool, who: &str) -> Option<Reload> {
        let (file, env) = (self.started.desk.file.clone(), self.env);
        let began = self.clock.now();
        let loading = tokio::task::spawn_blocking(move || {
            config::load(&file, &env).map(|checked| {
                let failed = verify(&checked);
                (checked, failed)
            })
        });
        let loaded = match loading.await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, "reading the configuration panicked; the old one serves on");
                return None;
            }
        };
        tracing::debug!(took = ?self.clock.now().since(began), "read and checked the file");
        let (mut checked, failed) = match loaded {
            Ok(loaded) => loaded,
            Err(diagnostics) => {
                let hash = diagnostics_hash(&diagnostics);
                let seen = std::mem::replace(&mut self.seen, hash.clone()) == hash;
                return (always || !seen).then(|| self.reject(&diagnostics, who));
            }
        };
        checked.plan.keep_certificates(&self.core.table().plan);
        let same = self.seen == checked.text_hash;
        self.seen.clone_from(&checked.text_hash);
        if same && !always {
            return None;
        }
        let mut diagnostics = checked.warnings.clone();
        for diagnostic in failed {
            diagnostics.push(diagnostic);
        }
        if checked.text_hash == self.started.desk.running().0 {
            return Some(self.unchanged(checked, who));
        }
        for field in Changes::needs_restart(&self.core.table().plan, &checked.plan) {
            diagnostics.push(needs_restart(&diagnostics, field));
        }
        if diagnostics.has_errors() {
            return Some(self.reject(&diagnostics, who));
        }
        let prepared = match self.listeners.prepare(&checked.plan.listeners) {
            Ok(prepared) => prepared,
            Err(errors) => {
                for (i, error) in errors {
                    diagnostics.push(cannot_listen(
                        &diagnostics,
                        &checked.plan.listeners[i].address,
                        &error,
                    ));
                }
                return Some(self.reject(&diagnostics, who));
            }
        };
        let moved = !same_folder(&checked.plan.state_dir, &self.core.table().plan.state_dir);
        let state = match moved.then(|| StateDir::open(&checked.plan.state_dir)).transpose() {
            Ok(state) => state,
            Err(error) => {
                let span = diagnostics.find("state:");
                diagnostics.push(Diagnostic::error("unusable-file", span, error.to_string()));
                return Some(self.reject(&diagnostics, who));
            }
        };
        // The last that can fail: what was opened before is let go by its drop.
        if let Err((key, error)) = self.started.proxy.logs.follow(&checked.plan) {
            let span = diagnostics.find(key);
            diagnostics.push(Diagnostic::error("unusable-file", span, error.to_string()));
            return Some(self.reject(&diagnostics, who));
        }
        if let Some(state) = state {
            self.gate = told_if_shut(Gate::open(&checked.plan.state_dir));
            self.state = state;
        }
        Some(self.apply(checked, prepared, who))
    }

    fn apply(&mut self, checked: Checked, prepared: Prepared, who: &str) -> Reload {
        let plan = Arc::new(checked.plan);
        let began = self.clock.now();
        let Applied { table, joined, left, changes, told } =
            self.core.apply(&plan, self.clock.now());
        for replica in joined {
            replica.upstream.join();
        }
        let proxy = Arc::clone(&self.started.proxy);
        proxy.current.store(Arc::clone(&table));
        tracing::debug!(took = ?self.clock.now().since(began), "built and swapped the table");
        proxy.follow(&plan);
        if let Err(error) = self.listeners.commit(&proxy, prepared) {
            tracing::error!(%error, "a bound socket cannot be served");
        }
        self.started.addresses.store(Arc::new(self.listeners.addresses()));
        self.prober.follow(&table);
        for replica in left {
            replica.upstream.retire();
        }
        // Also the sides of sticky keys. What cannot be written is tried again.
        self.tell(&told, "file", None).ok();
        let generation = table.generation;
        let Changes(changes) = changes;
        let text = checked.warnings.masked_source();
        self.note(ReloadResult::Applied, checked.text_hash, who, changes.clone(), None, text);
        let what =
            if changes.is_empty() { "nothing that routes".to_owned() } else { changes.join("; ") };
        let message = format!("generation {generation} serves: {what}");
        self.started.events.announce("reload", message, who, None);
        Reload::Applied { generation, changes }
    }

    fn unchanged(&mut self, checked: Checked, who: &str) -> Reload {
        let text = checked.warnings.masked_source();
        self.note(ReloadResult::Unchanged, checked.text_hash, who, Vec::new(), None, text);
        Reload::Unchanged
    }

    fn reject(&mut self, diagnostics: &Diagnostics, who: &str) -> Reload {
        let text = diagnostics.render_text(false);
        let json = diagnostics.to_json();
        let errors = diagnostics.errors();
        let rejected = Rejected { text: text.clone(), diagnostics: json.clone() };
        let (hash, on_disk) = (self.seen.clone(), diagnostics.masked_source());
        self.note(ReloadResult::Rejected, hash, who, Vec::new(), Some(rejected), on_disk);
        tracing::warn!("the new configuration is rejected, the old one serves on:\n{text}");
        let s = if errors == 1 { "" } else { "s" };
        let message = format!(
            "configuration rejected: the file on disk has {errors} error{s}; generation {} keeps serving",
            self.core.table().generation
        );
        self.started.events.tell(Level::Warning, "reload", message, who, None);
        Reload::Rejected { text, diagnostics: json }
    }

    fn note(
        &self,
        result: ReloadResult,
        hash: String,
        who: &str,
        changes: Vec<String>,
        rejected: Option<Rejected>,
        text: String,
    ) {
        let at = stamp();
        let generation = self.core.table().generation;
        self.started.proxy.meters.reloaded(result, at);
        let who = who.to_owned();
        let loaded = Loaded { at, result, generation, hash, who, changes, rejected };
        self.started.desk.note(loaded, text);
    }
}

/// Starts the split's sequences: different in each process, so that proxies do not move in step.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn same_folder(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Tells one file with errors from the next.
fn diagnostics_hash(diagnostics: &Diagnostics) -> String {
    let all = diagnostics.render_text(false) + &diagnostics.masked_source();
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(all.as_bytes()))
}

fn needs_restart(diagnostics: &Diagnostics, field: &str) -> Diagnostic {
    let key = field.split('.').next().unwrap_or(field);
    let message =
        format!("`{field}` cannot change while Evener runs; nothing of this file is applied");
    Diagnostic::error("needs-restart", diagnostics.find(key), message)
        .help("restart Evener, or put the old value back")
}

fn cannot_listen(
    diagnostics: &Diagnostics,
    address: &ListenAddress,
    error: &std::io::Error,
) -> Diagnostic {
    let span = diagnostics.find(&address.to_string());
    Diagnostic::error("cannot-listen", span, error.to_string())
        .help("another program may use this address")
}
