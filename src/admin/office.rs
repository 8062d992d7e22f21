//! What the admin listener knows of the rest of the process.
use super::live::Live;
use super::turned_away::TurnedAway;
use crate::control::{Desk, Orders};
use crate::observe::{Events, Logs, Meters};
use crate::stats::{Moment, MonotonicClock};
use crate::table::Current;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::net::UnixStream;

/// May clients be sent here?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Serving,
    /// On the way out: readiness fails, connections are still accepted.
    Notice,
    /// Nothing new is accepted; what runs finishes.
    Draining,
}

impl Readiness {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Notice => "notice",
            Self::Draining => "draining",
        }
    }
}

/// Shared by all admin connections.
pub struct Office {
    pub current: Current,
    pub meters: Arc<Meters>,
    pub events: Arc<Events>,
    pub logs: Arc<Logs>,
    pub desk: Arc<Desk>,
    pub orders: Orders,
    pub live: Live,
    pub turned_away: TurnedAway,
    /// How many files the process may open.
    pub descriptor_limit: u64,
    /// The wall clock at [`Moment::ZERO`] of `clock`.
    pub started: jiff::Timestamp,
    pub clock: MonotonicClock,
    /// Name and bound address of each listener.
    pub listeners: Box<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    /// A connection to the data path, for tests.
    pub connect: Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>,
    /// Does the process before this one still run requests?
    pub has_predecessor: Box<dyn Fn() -> bool + Send + Sync>,
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Office {
    /// A moment as people read it, to the millisecond.
    pub(super) fn wall(&self, moment: Moment) -> jiff::Timestamp {
        let millis = i64::try_from(moment.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let since = jiff::SignedDuration::from_millis(millis);
        let started = self.started.as_millisecond();
        let started = jiff::Timestamp::from_millisecond(started).unwrap_or(self.started);
        started.checked_add(since).unwrap_or(jiff::Timestamp::MAX)
    }
}
