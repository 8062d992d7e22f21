//! What all exchanges share.
use super::buffers::Buffers;
use super::chance::draw;
use super::rounds::Instance;
#[cfg(feature = "otlp")]
use crate::observe::otlp::Traces;
use crate::observe::{Logs, Meters};
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::{Current, Plan};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, watch};

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Readiness fails; connections are still accepted.
    Notice,
    /// Nothing new is accepted; what runs finishes, and connections end with their next answer.
    Draining,
    /// Connections at rest are closed too.
    Parting,
}

/// The data path's context: one for the process.
#[derive(Debug)]
pub struct Proxy {
    pub current: Current,
    pub clock: MonotonicClock,
    pub meters: Arc<Meters>,
    pub logs: Arc<Logs>,
    #[cfg(feature = "otlp")]
    pub traces: Traces,
    pub buffers: Buffers,
    /// What tells this process from other Eveners on a request's way.
    pub(super) instance: Instance,
    /// Seconds since 1970 when the process began.
    pub started: jiff::Timestamp,
    phase: watch::Sender<Phase>,
    succeeded: watch::Sender<bool>,
    /// Does the process before this one finish what it runs?
    predecessor: watch::Sender<bool>,
    connections: AtomicUsize,
    none_left: Notify,
}

impl Proxy {
    pub fn new(
        current: Current,
        clock: MonotonicClock,
        meters: Arc<Meters>,
        logs: Arc<Logs>,
    ) -> Self {
        let plan = Arc::clone(&current.load().plan);
        let new = Self {
            current,
            clock,
            buffers: Buffers::new(plan.buffers, Arc::clone(&meters)),
            meters,
            logs,
            #[cfg(feature = "otlp")]
            traces: Traces::default(),
            instance: Instance::new([draw(), draw()]),
            started: crate::observe::stamp(),
            phase: watch::channel(Phase::Serving).0,
            succeeded: watch::channel(false).0,
            predecessor: watch::channel(false).0,
            connections: AtomicUsize::default(),
            none_left: Notify::new(),
        };
        new.follow(&plan);
        new
    }

    /// Takes up what a plan says of it.
    pub fn follow(&self, plan: &Plan) {
        self.buffers.set_limit(plan.buffers);
        #[cfg(feature = "otlp")]
        self.traces.configure(plan.otlp.as_ref(), &self.meters);
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Another process serves on the same sockets from now on.
    pub fn succeed(&self) {
        self.succeeded.send_replace(true);
    }

    /// Returns when another process serves on the same sockets.
    pub async fn until_succeeded(&self) {
        // The sender lives in `self`: it cannot be gone.
        self.succeeded.subscribe().wait_for(|succeeded| *succeeded).await.ok();
    }

    /// Notes whether the process before this one still runs requests.
    pub fn follows(&self, predecessor: bool) {
        self.predecessor.send_replace(predecessor);
    }

    /// Does the process before this one still run requests?
    pub fn has_predecessor(&self) -> bool {
        *self.predecessor.borrow()
    }

    /// Returns when it does not.
    pub async fn until_alone(&self) {
        self.predecessor.subscribe().wait_for(|runs| !*runs).await.ok();
    }

    /// May clients be sent here? Also when it is another process that will serve them.
    pub(super) fn ready(&self) -> bool {
        self.phase() == Phase::Serving || *self.succeeded.borrow()
    }

    pub(super) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns when no connection is left.
    pub async fn idle(&self) {
        loop {
            let left = self.none_left.notified();
            if self.connections.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    pub(super) fn connection(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Connected(Arc::clone(self))
    }
}

/// Returns when nothing new may begin.
pub(super) async fn draining(phase: &mut watch::Receiver<Phase>) {
    // An error means that the proxy is gone: then nothing may begin either.
    phase.wait_for(|phase| *phase >= Phase::Draining).await.ok();
}

/// Returns when connections at rest are to be closed.
pub(super) async fn parting(phase: &mut watch::Receiver<Phase>) {
    phase.wait_for(|phase| *phase >= Phase::Parting).await.ok();
}

/// A connection, counted while this lives.
#[derive(Debug)]
pub(super) struct Connected(Arc<Proxy>);

impl Drop for Connected {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
