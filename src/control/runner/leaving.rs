//! From one process to the next: succeeding another Evener, being succeeded, and the ways out.
use super::Runner;
use super::saving::save_last;
use crate::control::handover::{Broken, Estate, Gate, Heir, Parted};
use crate::control::heritage::{ClaimError, Heritage};
use crate::control::order::{Answer, Letter, Order};
use crate::control::systemd;
use crate::observe::Task;
use crate::proxy::{Phase, Proxy};
use crate::stats::Clock as _;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, sleep, timeout};

/// A client that was not told yet that its connection ends may have its next request on the way. So long, connections
/// at rest stay open for it when another process serves already.
const LAST_REQUEST: Duration = Duration::from_secs(10);
/// Seconds between two lines that say how far a drain is.
const PROGRESS: u32 = 10;

/// Why the process ends.
#[derive(Debug)]
pub(super) enum Leave {
    /// It was told to. With its own limit for what runs.
    Told(Option<Duration>),
    /// Another one serves, which hears of our end.
    HandedOver(Parted),
}

/// What ends a handover before the other one serves.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error("{0}")]
    Broken(#[from] Broken),
    #[error("the state cannot be written: {0}")]
    State(#[from] io::Error),
}

/// The next that wants to take over; never, without a gate.
pub(super) async fn knocked(gate: &mut Option<Gate>) -> Option<Heir> {
    match gate {
        Some(gate) => gate.knocked().await,
        None => std::future::pending().await,
    }
}

impl Runner {
    /// Says to whoever served before that this one does. When it returns, this one is alone.
    pub async fn succeed(&mut self, heritage: Heritage) -> Result<(), ClaimError> {
        let parting = heritage.serves().await?;
        self.listeners.own_files();
        self.gate.iter_mut().for_each(Gate::own_file);
        if let Some(parting) = parting {
            let proxy = Arc::clone(&self.started.proxy);
            proxy.follows(true);
            Task::Takeover.spawn(async move {
                parting.ended().await;
                proxy.follows(false);
            });
        }
        Ok(())
    }

    pub(super) fn announce_end(&self, who: &str, reason: Option<&str>) {
        systemd::stopping();
        self.started.events.announce("shutdown", "Evener is ending".to_owned(), who, reason);
    }

    /// Hands everything to another process. `None`: it did not work, and this one serves on.
    pub(super) async fn hand_over(&mut self, heir: Heir, second: &mut Interval) -> Option<Parted> {
        let pid = heir.pid;
        let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
        let version = heir.version.clone();
        tracing::info!(pid, version, "another Evener begins to take over");
        let handed = {
            let handing = self.hand(heir);
            tokio::pin!(handing);
            loop {
                // Orders wait meanwhile; the watchdog does not.
                tokio::select! {
                    handed = &mut handing => break handed,
                    _ = second.tick() => systemd::alive(),
                }
            }
        };
        let events = Arc::clone(&self.started.events);
        match handed {
            Ok(parted) => {
                self.courier.leave();
                // Said by the one that is still the unit's main process: nobody else would be believed.
                pid.into_iter().for_each(systemd::succeeded_by);
                let left = self.started.proxy.connections();
                let message = format!(
                    "Evener {version} ({who}) took over; {left} connections finish in this process"
                );
                events.announce("handover", message, "takeover", None);
                Some(parted)
            }
            Err(kept) => {
                self.scribe.forget(self.clock.now());
                self.save();
                let message =
                    format!("the takeover by {who} failed, this Evener serves on: {kept}");
                events.announce("handover", message, "takeover", None);
                None
            }
        }
    }

    async fn hand(&mut self, heir: Heir) -> Result<Parted, Kept> {
        let gate = self.gate.as_ref().ok_or(Broken::Gone)?;
        let estate = Estate {
            lock: self.scribe.lock(),
            gate: gate.socket(),
            admin: (self.core.table().plan.admin.address.to_string(), self.admin.as_fd()),
            listeners: self.listeners.bequests(),
        };
        let prepared = heir.offer(estate).await?;
        self.core.keep_canaries(self.clock.now());
        if let Err(error) = self.save_now().await {
            prepared.refuse(format!("its state cannot be written: {error}")).await;
            return Err(error.into());
        }
        Ok(prepared.yours().await?.farewell().await?)
    }

    /// Readiness fails; then nothing new is accepted; then what runs finishes, or its time is over.
    pub(super) async fn end(self, leave: Leave, mut second: Interval) {
        let Self {
            mut core,
            scribe,
            gate,
            admin,
            mut listeners,
            prober: _prober,
            courier,
            started,
            mut letters,
            clock,
            waiting,
            ..
        } = self;
        let proxy = &started.proxy;
        let shutdown = core.table().plan.shutdown;
        let (limit, parted) = match leave {
            Leave::Told(drain) => (drain.unwrap_or(shutdown.drain), None),
            Leave::HandedOver(parted) => (shutdown.drain, Some(parted)),
        };
        let handed_over = parted.is_some();
        // Nothing is held that a successor has: should it die, the next one must be able to start.
        let held = (!handed_over).then_some((scribe, admin));
        if handed_over {
            listeners.leave_files();
            gate.into_iter().for_each(Gate::leave);
            proxy.succeed();
        } else {
            drop(gate);
        }
        let draining = async {
            if !handed_over {
                proxy.enter(Phase::Notice);
                sleep(shutdown.notice).await;
            }
            proxy.enter(Phase::Draining);
            listeners.close();
            if timeout(limit, finish(proxy, handed_over)).await.is_err() {
                let connections = proxy.connections();
                tracing::warn!(connections, "the drain is over; cutting what runs");
            }
        };
        tokio::pin!(draining);
        let mut ticks = 0;
        loop {
            // A drain may be long: the watchdog must not bite, and logs are still rotated.
            tokio::select! {
                () = &mut draining => break,
                _ = second.tick() => {
                    ticks += 1;
                    if ticks % PROGRESS == 0 {
                        tracing::info!(connections = proxy.connections(), "draining");
                    }
                    // A successor gives its own signs of life; ours would hide that it gives none.
                    if !handed_over {
                        systemd::alive();
                    }
                }
                Some(Letter { order, reply, .. }) = letters.recv() => {
                    reply.send(while_ending(&order, handed_over, proxy)).ok();
                }
            }
        }
        if let Some((mut scribe, _admin)) = held {
            save_last(&mut core, &mut scribe, &courier, &waiting, clock).await;
        }
        proxy.logs.close();
        #[cfg(feature = "otlp")]
        proxy.traces.close();
        drop(parted);
    }
}

/// Returns when no connection is left.
async fn finish(proxy: &Proxy, handed_over: bool) {
    if !handed_over || timeout(LAST_REQUEST, proxy.idle()).await.is_err() {
        proxy.enter(Phase::Parting);
        proxy.idle().await;
    }
    if handed_over {
        // Our end tells the successor that nothing runs any more in those before it.
        proxy.until_alone().await;
    }
}

/// What can still be done on the way out.
fn while_ending(order: &Order, handed_over: bool, proxy: &Proxy) -> Answer {
    match order {
        Order::ReopenLogs => {
            proxy.logs.reopen();
            Answer::Done
        }
        Order::Stop { .. } => Answer::Done,
        Order::Reload { .. }
        | Order::Replicas { .. }
        | Order::Canary { .. }
        | Order::Split { .. } => {
            let why = if handed_over {
                "another Evener took over; ask again, and it will answer"
            } else {
                "Evener is ending"
            };
            Answer::Failed(why.to_owned())
        }
    }
}
