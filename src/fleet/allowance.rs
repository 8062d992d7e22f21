//! What one key has used of its limits and holds of the memory, found again by its name after a reload.
use super::holder::Holder;
use crate::access::{Level, PerMinute, Shortage, Taken, Window};
use crate::stats::Moment;
use parking_lot::Mutex;
use std::sync::Arc;

/// The living side of one key. Its lock is held for some nanoseconds, and shared by the requests of this key alone.
#[derive(Debug, Default)]
pub struct Allowance {
    windows: Mutex<Windows>,
    /// What its requests hold of `buffers`.
    pub holder: Arc<Holder>,
}

#[derive(Debug, Default)]
struct Windows {
    requests: Window,
    tokens: Window,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    Requests,
    Tokens,
}

impl Allowance {
    pub fn take(
        &self,
        good: Good,
        amount: u64,
        limit: PerMinute,
        now: Moment,
    ) -> Result<Taken, Shortage> {
        self.windows.lock().of(good).take(amount, limit, now)
    }

    /// What was taken turned out to be so much.
    pub fn settle(&self, good: Good, taken: Taken, actual: u64, now: Moment) {
        self.windows.lock().of(good).settle(taken, actual, now);
    }

    /// So much more was used, and not reserved.
    pub fn spend(&self, good: Good, amount: u64, now: Moment) {
        self.windows.lock().of(good).spend(amount, now);
    }

    pub fn level(&self, good: Good, limit: PerMinute, now: Moment) -> Level {
        self.windows.lock().of(good).level(limit, now)
    }
}

impl Windows {
    fn of(&mut self, good: Good) -> &mut Window {
        match good {
            Good::Requests => &mut self.requests,
            Good::Tokens => &mut self.tokens,
        }
    }
}
