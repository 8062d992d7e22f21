//! What one key has used of its limits, found again by its name after a reload.
use crate::access::{Bucket, Level, PerMinute, Shortage};
use crate::stats::Moment;
use parking_lot::Mutex;

/// The living side of one key. Its lock is held for some nanoseconds, and shared by the requests of this key alone.
#[derive(Debug, Default)]
pub struct Allowance(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    requests: Bucket,
    tokens: Bucket,
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
    ) -> Result<(), Shortage> {
        self.0.lock().of(good).take(amount, limit, now)
    }

    /// What was reserved turned out to be so much.
    pub fn settle(
        &self,
        good: Good,
        (reserved, actual): (u64, u64),
        limit: PerMinute,
        now: Moment,
    ) {
        self.0.lock().of(good).settle(reserved, actual, limit, now);
    }

    pub fn level(&self, good: Good, limit: PerMinute, now: Moment) -> Level {
        self.0.lock().of(good).level(limit, now)
    }
}

impl Buckets {
    fn of(&mut self, good: Good) -> &mut Bucket {
        match good {
            Good::Requests => &mut self.requests,
            Good::Tokens => &mut self.tokens,
        }
    }
}
