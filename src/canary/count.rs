//! Counting what requests had in common.
use serde::{Deserialize, Serialize};

/// Requests of one side, and how many of them were hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub hits: u64,
    pub requests: u64,
}

impl Count {
    pub(super) fn add(&mut self, hits: u64, requests: u64) {
        self.hits = self.hits.saturating_add(hits);
        self.requests = self.requests.saturating_add(requests);
    }

    /// The fraction of hits; `None` without requests.
    pub fn rate(self) -> Option<f64> {
        (self.requests > 0).then(|| self.hits as f64 / self.requests as f64)
    }
}
