//! The one writer: takes orders in turn, and is alone in storing a table.
mod leaving;
mod panics;
mod reloading;
mod saving;
mod tokens;

use self::leaving::Leave;
use self::panics::PanicNews;
use self::reloading::{Asked, Reloads};
use super::certificates::Certificates;
use super::core::{Core, Instruction, Trigger};
use super::courier::Courier;
use super::desk::{Desk, Loaded};
use super::handover::Gate;
use super::heritage::Heritage;
use super::listeners::Listeners;
use super::order::{Answer, Letter, Order, Orders, Unable, hold};
use super::prober::Prober;
use super::scribe::Scribe;
use super::started::Started;
use super::waiting::{Then, Unwritten, Waiting};
use super::watch::watch;
use crate::canary::By;
use crate::config::Checked;
use crate::observe::{Events, Logs, Meters, Panicked, ReloadResult, Task, stamp};
use crate::proxy::Proxy;
use crate::stats::{Clock as _, Moment, MonotonicClock};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

/// The pause after a step that panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How the environment is asked; only `cli` may read it.
pub type Env = fn(&str) -> Option<String>;

/// The one writer.
#[derive(Debug)]
pub struct Runner {
    env: Env,
    pub(super) core: Core,
    scribe: Scribe,
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
    /// What is done when the state is written.
    waiting: Vec<Waiting>,
    reloads: Reloads,
    panics: PanicNews,
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
        let (core, begun) = Core::start(&plan, overrides, seed(), clock.now());
        let table = Arc::clone(core.table());
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
        let mut prober = Prober::new(Arc::clone(&events), suspects, clock, Arc::clone(&meters));
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
        let journalled = clock.now();
        let mut new = Self {
            env,
            core,
            scribe: Scribe::start(state, None).context("cannot begin to write the state")?,
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
            waiting: Vec::new(),
            reloads: Reloads::default(),
            panics: PanicNews::default(),
        };
        new.perform(begun, By { who: "start", reason: None }, Unwritten::Stands);
        // It serves by this table already: whoever looks finds it so.
        new.publish();
        Ok(new)
    }

    pub fn started(&self) -> Started {
        self.started.clone()
    }

    /// Takes orders until one of them says stop, then ends in good order. An order that panics fails, and the next is
    /// taken all the same.
    pub async fn run(mut self) {
        let (file, orders) = (self.started.desk.file.clone(), self.started.orders.clone());
        let watch = move || watch(file.clone(), orders.clone());
        let watching = tokio::spawn(Task::Watch.keep_running(watch));
        let certificates = Certificates::follow(&self.started);
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let leave = loop {
            match Task::Control.caught(self.step(&mut second, &certificates)).await {
                Ok(Some(leave)) => break leave,
                Ok(None) => {}
                Err(Panicked) => {
                    self.tell_panics();
                    // What panics at each step must not take a whole core.
                    sleep(AFTER_PANIC).await;
                }
            }
        };
        watching.abort();
        if matches!(leave, Leave::Told(_)) {
            self.settle_waiting().await;
        }
        self.end(leave, second).await;
    }

    /// Does the next thing that is to be done. Returns why the process ends, if it does.
    async fn step(&mut self, second: &mut Interval, certificates: &Certificates) -> Option<Leave> {
        let suspects = Arc::clone(self.core.suspects());
        let letter = tokio::select! {
            letter = self.letters.recv() => letter,
            () = suspects.wait() => {
                self.follow(Trigger::Suspects);
                return None;
            }
            Some(written) = self.scribe.answers() => {
                self.note_written(&written);
                return None;
            }
            read = self.reloads.read() => {
                self.take_up(read);
                certificates.look();
                return None;
            }
            Some(heir) = leaving::knocked(&mut self.gate) => {
                return self.hand_over(heir, second).await.map(Leave::HandedOver);
            }
            _ = second.tick() => {
                self.tick();
                return None;
            }
        };
        let Some(Letter { order, who, reason, reply }) = letter else {
            return Some(Leave::Told(None));
        };
        let (by, now) = (By { who: &who, reason: reason.as_deref() }, self.clock.now());
        let carried = match order {
            Order::Stop { drain } => {
                self.announce_end(&who, reason.as_deref());
                reply.send(Answer::Done).ok();
                return Some(Leave::Told(drain));
            }
            Order::Reload { always } => {
                self.read_again(Asked { always, who, reply });
                return None;
            }
            Order::ReopenLogs => {
                self.started.proxy.logs.reopen();
                reply.send(Answer::Done).ok();
                return None;
            }
            Order::Replicas { target, act, lasts } => {
                let hold = hold(lasts, by.reason, now);
                self.obey(Instruction::Replicas { target: &target, act, hold }, by, now)
            }
            Order::Canary { model, verb } => {
                self.obey(Instruction::Canary { model: &model, verb }, by, now)
            }
            Order::Split { model, shares, lasts } => {
                let (hold, since) = (hold(lasts, by.reason, now), stamp());
                self.obey(Instruction::Split { model: &model, shares, hold, since }, by, now)
            }
        };
        match carried {
            Ok(number) => self.once_saved(number, Then::Answer(reply)),
            Err(Unable::Unknown(why)) => drop(reply.send(Answer::Unknown(why))),
            Err(Unable::Impossible(why)) => drop(reply.send(Answer::Failed(why))),
        }
        None
    }

    /// What is done each second.
    fn tick(&mut self) {
        self.tell_panics();
        self.follow(Trigger::Second);
        self.save_again();
        self.follow_token_keys();
        super::systemd::alive();
    }
}

/// Starts the split's sequences: different in each process, so that proxies do not move in step.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
