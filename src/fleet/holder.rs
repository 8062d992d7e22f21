//! What one client holds of the memory that all share.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that the requests of one client hold together: of one key, else one address, else one connection.
#[derive(Debug, Default)]
pub struct Holder(AtomicU64);

impl Holder {
    /// Returns what it holds with these.
    pub fn add(&self, bytes: u64) -> u64 {
        self.0.fetch_add(bytes, Relaxed) + bytes
    }

    pub fn remove(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
