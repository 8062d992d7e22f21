//! What fails in the control path, for the list of problems; and that list, for `/metrics`.
use super::exposition::Page;
use super::metrics::PROBLEMS;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Written by the control path, read once a second.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Why the state cannot be written; `None`: it is written.
    state: ArcSwapOption<String>,
    /// Receivers of webhooks that did not take their last message, by their host.
    webhooks: Mutex<BTreeMap<String, Undelivered>>,
    /// Problems by model (empty: of Evener itself), code and severity, as they were a second ago.
    open: ArcSwap<BTreeMap<[String; 3], u64>>,
}

/// Messages that wait for a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    pub waiting: usize,
    /// How the last attempt failed.
    pub why: String,
}

impl Troubles {
    pub fn state_is(&self, fault: Option<String>) {
        self.state.store(fault.map(Arc::new));
    }

    pub fn state_fault(&self) -> Option<String> {
        self.state.load().as_deref().cloned()
    }

    /// An attempt to reach `receiver` failed.
    pub fn undelivered(&self, receiver: &str, waiting: usize, why: &str) {
        let undelivered = Undelivered { waiting, why: why.to_owned() };
        self.webhooks.lock().insert(receiver.to_owned(), undelivered);
    }

    /// It took a message, or nothing waits for it any more.
    pub fn delivered(&self, receiver: &str) {
        self.webhooks.lock().remove(receiver);
    }

    /// The list is this now; each by its model, code and severity.
    pub fn list_is(&self, problems: impl Iterator<Item = [String; 3]>) {
        let mut open = BTreeMap::new();
        for labels in problems {
            *open.entry(labels).or_default() += 1;
        }
        if **self.open.load() != open {
            self.open.store(Arc::new(open));
        }
    }

    pub(super) fn expose(&self, page: &mut Page) {
        let family = page.family(&PROBLEMS);
        for ([model, code, severity], n) in self.open.load().iter() {
            family.gauge(&[model, code, severity], *n as f64);
        }
    }

    /// Each receiver that fails.
    pub fn webhooks(&self) -> Vec<(String, Undelivered)> {
        self.webhooks.lock().iter().map(|(name, each)| (name.clone(), each.clone())).collect()
    }
}
