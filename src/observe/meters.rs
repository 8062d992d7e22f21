//! Counters of the process as a whole; those of models and replicas live in the fleet.
use super::canary_report::CanaryReport;
use super::exhaustion::Exhaustion;
use super::troubles::Troubles;
use crate::fleet::ModelState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    Applied,
    Unchanged,
    Rejected,
}

impl ReloadResult {
    pub const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Rejected];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
        }
    }
}

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanFate {
    Exported,
    /// More waited for the collector than there is room for.
    QueueFull,
    /// The collector could not be reached, or refused for too long.
    Unsent,
    /// The collector took the batch, and not this span.
    Rejected,
}

impl SpanFate {
    pub const ALL: [Self; 4] = [Self::Exported, Self::QueueFull, Self::Unsent, Self::Rejected];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::QueueFull => "queue_full",
            Self::Unsent => "unsent",
            Self::Rejected => "rejected",
        }
    }
}

/// Connections of one listener.
#[derive(Debug, Default)]
pub struct ListenerMeter {
    pub connections: AtomicUsize,
}

/// Counted by the data path and the control path, read by `/metrics`.
#[derive(Debug, Default)]
pub struct Meters {
    /// Requests that found no model.
    pub nameless: ModelState,
    /// Bytes of request bodies kept at present.
    pub buffered: AtomicU64,
    /// Lost lines of the access log, and of the decision log.
    pub log_dropped: Arc<AtomicU64>,
    pub decisions_dropped: Arc<AtomicU64>,
    pub exhaustion: Exhaustion,
    spans: [AtomicU64; SpanFate::ALL.len()],
    pub reloads: [AtomicU64; ReloadResult::ALL.len()],
    /// 1 while the file on disk is the one that serves.
    pub reload_successful: AtomicU64,
    /// Unix seconds.
    pub reloaded_at: AtomicI64,
    /// The canaries, as they stood a second ago.
    pub canaries: ArcSwap<Vec<CanaryReport>>,
    pub troubles: Troubles,
    listeners: Mutex<BTreeMap<String, Arc<ListenerMeter>>>,
}

impl Meters {
    /// The meter of the listener of this name.
    pub fn listener(&self, name: &str) -> Arc<ListenerMeter> {
        Arc::clone(self.listeners.lock().entry(name.to_owned()).or_default())
    }

    /// Each listener's name and open connections.
    pub fn connections(&self) -> Vec<(String, usize)> {
        let listeners = self.listeners.lock();
        listeners.iter().map(|(name, m)| (name.clone(), m.connections.load(Relaxed))).collect()
    }

    /// Forgets listeners that are gone and have no connection left.
    pub fn keep_listeners(&self, kept: impl Fn(&str) -> bool) {
        self.listeners.lock().retain(|name, m| kept(name) || m.connections.load(Relaxed) > 0);
    }

    pub fn add_spans(&self, fate: SpanFate, n: usize) {
        self.spans[fate as usize].fetch_add(n as u64, Relaxed);
    }

    pub fn spans(&self, fate: SpanFate) -> u64 {
        self.spans[fate as usize].load(Relaxed)
    }

    /// Spans that no collector has.
    pub fn spans_lost(&self) -> u64 {
        let lost = SpanFate::ALL.into_iter().filter(|fate| *fate != SpanFate::Exported);
        lost.map(|fate| self.spans(fate)).sum()
    }

    pub fn reloaded(&self, result: ReloadResult, at: jiff::Timestamp) {
        self.reloads[result as usize].fetch_add(1, Relaxed);
        self.reload_successful.store(u64::from(result != ReloadResult::Rejected), Relaxed);
        if result != ReloadResult::Rejected {
            self.reloaded_at.store(at.as_second(), Relaxed);
        }
    }
}
