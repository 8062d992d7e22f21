//! Who was turned away from the admin API, for the log: one line now and then of a flood.
use super::guard::{Denied, Knock};
use crate::observe::Repeats;
use crate::stats::Moment;
use parking_lot::Mutex;
use std::time::Duration;

/// After a log line, others are only counted for this time.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct TurnedAway(Mutex<Repeats<()>>);

impl Default for TurnedAway {
    fn default() -> Self {
        Self(Mutex::new(Repeats::new(QUIET)))
    }
}

impl TurnedAway {
    pub(super) fn note(&self, knock: &Knock<'_>, denied: Denied, now: Moment) {
        let noted = self.0.lock().note((), now);
        let Some(untold) = noted else { return };
        let Knock { method, uri, peer, .. } = knock;
        // As a client wrote it, so in quotes and escaped; without the query.
        let (path, code) = (uri.path(), denied.code());
        let why = denied.message();
        tracing::warn!(%peer, %method, ?path, code, untold, "turned away from the admin API: {why}");
    }
}
