//! Who was turned away from the admin API, for the log: not each of a flood.
use super::guard::{Denied, Knock};
use crate::stats::Moment;
use parking_lot::Mutex;
use std::time::Duration;

/// After one was told of, others are only counted for so long.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct TurnedAway(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    told: Option<Moment>,
    /// Since then.
    untold: u64,
}

impl Book {
    /// Shall this one be told of? Returns how many before it were not.
    fn note(&mut self, now: Moment) -> Option<u64> {
        if self.told.is_some_and(|told| now.since(told) < QUIET) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl TurnedAway {
    pub(super) fn note(&self, knock: &Knock<'_>, denied: Denied, now: Moment) {
        let noted = self.0.lock().note(now);
        let Some(untold) = noted else { return };
        let Knock { method, uri, peer, .. } = knock;
        // As a client wrote it, so in quotes and escaped; without the query.
        let (path, code) = (uri.path(), denied.code());
        let why = denied.message();
        tracing::warn!(%peer, %method, ?path, code, untold, "turned away from the admin API: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_one_is_told_of_with_the_number_before_it() {
        let (mut book, at) = (Book::default(), Moment::from_millis);
        let told: Vec<_> = (0..50).map(|i| book.note(at(i * 500))).collect();
        let times = told.iter().enumerate().filter_map(|(i, told)| told.map(|n| (i, n)));
        assert_eq!(times.collect::<Vec<_>>(), [(0, 0), (20, 19), (40, 19)]);
    }
}
