//! What was learned from the exchanges of one replica: behind one small lock that belongs to it alone.
use crate::balance::{Phantom, Slowness};
use crate::health::{Carried, Cause, Detector, Recent, Senders};
use crate::stats::Moment;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    pub(super) slowness: Slowness,
    pub(super) phantom: Phantom,
    pub(super) detector: Detector,
    /// Whose failures count.
    pub(super) senders: Senders,
    pub(super) recent: Recent,
    /// Requests in flight, smoothed.
    pub(super) load: f32,
    /// The part of timeouts among the last endings, as a moving average, and when the last one was.
    timeouts: f32,
    timed_out: Moment,
    /// When it last refused a request because it was full.
    pub(super) shed: Option<Moment>,
    /// When the request began that began last of all that went well, and when the last of them ended.
    pub(super) good_began: Moment,
    pub(super) good_ended: Moment,
    /// Successes in a row of one that is capped.
    pub(super) proofs: u8,
    /// The HTTP/2 connections that broke last.
    broken: [Option<u64>; 4],
}

/// A replica times out while this part of its last endings are timeouts, the last of them not long ago.
const TIMES_OUT: f32 = 0.25;
pub(super) const NOT_LONG_AGO: Duration = Duration::from_mins(1);

impl Learned {
    pub(super) fn carried(&self, now: Moment) -> Carried {
        let times_out = self.timeouts >= TIMES_OUT && now.since(self.timed_out) < NOT_LONG_AGO;
        Carried { load: self.load, times_out }
    }

    pub(super) fn worked_since(&self, since: Moment) -> bool {
        self.good_ended > since
    }

    /// Counts one ending among the last sixteen.
    pub(super) fn note_timeout(&mut self, timeout: bool, now: Moment) {
        self.timeouts += (f32::from(u8::from(timeout)) - self.timeouts) / 16.0;
        if timeout {
            self.timed_out = now;
        }
    }

    /// Notes that a connection broke. Returns whether that was known.
    pub(super) fn breaks(&mut self, connection: u64) -> bool {
        let known = self.broken.contains(&Some(connection));
        if !known {
            self.broken.rotate_right(1);
            self.broken[0] = Some(connection);
        }
        known
    }
}

/// What an ending says of its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    /// It failed as its whole pool fails at present: a part of the usual, and no evidence.
    Shared,
    Counts(Result<(), Cause>),
}
