//! Which requests somebody wants to know the reasons of, and who is told: the last of them, who follows, and a log.
use super::log::LineLog;
use crate::stats::Moment;
use crate::table::{RouteUsed, Share};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::broadcast;

/// Decisions kept for those who ask later.
const KEPT: usize = 200;
/// Decisions that are shown in a second: at most so many while nobody follows, and while somebody does; and as many failures.
const UNWATCHED: u64 = 100;
const WATCHED: u64 = 1000;

/// Who wants to know of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    log: bool,
    show: bool,
}

/// One request with its reasons, as people read it.
#[derive(Debug)]
pub struct Decision {
    pub request_id: String,
    pub model: Option<Arc<str>>,
    /// Neither served, nor refused for what the client did.
    pub failed: bool,
    pub took: Duration,
    /// One line.
    pub json: String,
}

/// What the split said of a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    pub generation: u64,
    pub route: Option<RouteUsed>,
    /// The entry of `hash_on` whose key it brought; `None`: its point is the next of a sequence.
    pub key: Option<String>,
    /// The point × 2⁶⁴, in hexadecimal.
    pub hash: String,
    pub point: f64,
    /// The part of all points that holds it and has one owner.
    pub segment: [f64; 2],
    pub owner: String,
    /// The client asked for a version.
    pub pinned: bool,
    pub shares: Vec<Share>,
    pub balance: String,
}

#[derive(Debug)]
pub struct Decisions {
    pub log: LineLog,
    recent: Mutex<VecDeque<Arc<Decision>>>,
    /// Kept apart: others would soon have taken their place.
    failures: Mutex<VecDeque<Arc<Decision>>>,
    feed: broadcast::Sender<Arc<Decision>>,
    shown: PerSecond,
    failures_shown: PerSecond,
}

/// The present second, and how many were shown in it: 32 bits each.
#[derive(Debug, Default)]
struct PerSecond(AtomicU64);

impl PerSecond {
    /// Counts one more, if there are not so many yet.
    fn take(&self, now: Moment, most: u64) -> bool {
        let second = (now.as_nanos() / 1_000_000_000) << 32;
        let taken = self.0.load(Relaxed);
        if taken & !0xFFFF_FFFF != second {
            // Whoever loses this race is shown in the next second.
            return self.0.compare_exchange(taken, second | 1, Relaxed, Relaxed).is_ok();
        }
        taken & 0xFFFF_FFFF < most && {
            self.0.fetch_add(1, Relaxed);
            true
        }
    }
}

impl Decisions {
    /// `dropped` counts the lines that the log loses because its writer is too slow.
    pub fn new(dropped: Arc<AtomicU64>) -> Self {
        Self {
            log: LineLog::new("decision log", dropped),
            recent: Mutex::default(),
            failures: Mutex::default(),
            feed: broadcast::channel(2 * WATCHED as usize).0,
            shown: PerSecond::default(),
            failures_shown: PerSecond::default(),
        }
    }

    /// Before a request is assigned: does anybody want to know why? `chance` is uniform in [0, 1).
    pub fn interest(&self, now: Moment, chance: impl FnOnce() -> f64) -> Option<Interest> {
        let show = self.shown.take(now, self.most());
        let interest = Interest { log: self.log.wants(chance), show };
        (interest.log || interest.show).then_some(interest)
    }

    /// After one failed: who wants to know now?
    pub fn interest_in_failure(&self, before: Option<Interest>, now: Moment) -> Option<Interest> {
        let mut interest = before.unwrap_or_default();
        interest.show |= self.failures_shown.take(now, self.most());
        (interest.log || interest.show).then_some(interest)
    }

    fn most(&self) -> u64 {
        if self.feed.receiver_count() > 0 { WATCHED } else { UNWATCHED }
    }

    pub fn tell(&self, decision: Decision, interest: Interest) {
        if interest.log {
            self.log.write(decision.json.clone().into_bytes());
        }
        if interest.show {
            let decision = Arc::new(decision);
            push(&self.recent, &decision);
            if decision.failed {
                push(&self.failures, &decision);
            }
            // Nobody listens: that is no error.
            self.feed.send(decision).ok();
        }
    }

    /// Oldest first.
    pub fn recent(&self) -> Vec<Arc<Decision>> {
        self.recent.lock().iter().cloned().collect()
    }

    /// Those that failed, oldest first.
    pub fn failures(&self) -> Vec<Arc<Decision>> {
        self.failures.lock().iter().cloned().collect()
    }

    pub fn follow(&self) -> broadcast::Receiver<Arc<Decision>> {
        self.feed.subscribe()
    }
}

fn push(kept: &Mutex<VecDeque<Arc<Decision>>>, decision: &Arc<Decision>) {
    let mut kept = kept.lock();
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(Arc::clone(decision));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_millis(5_000);

    fn wanted(decisions: &Decisions, now: Moment) -> usize {
        (0..3000).filter(|_| decisions.interest(now, || 0.5).is_some()).count()
    }

    #[test]
    fn a_second_shows_so_many_and_more_while_somebody_follows() {
        let decisions = Decisions::new(Arc::default());
        assert_eq!(wanted(&decisions, NOW), 100);
        let failures = (0..300).filter(|_| decisions.interest_in_failure(None, NOW).is_some());
        assert_eq!(failures.count(), 100, "whatever else was shown");
        let logged = Interest { log: true, show: false };
        assert_eq!(decisions.interest_in_failure(Some(logged), NOW), Some(logged));
        assert_eq!(wanted(&decisions, NOW + Duration::from_secs(1)), 100);
        let follower = decisions.follow();
        assert_eq!(wanted(&decisions, NOW + Duration::from_secs(1)), 900);
        drop(follower);
        assert_eq!(wanted(&decisions, NOW + Duration::from_secs(2)), 100);
    }

    #[test]
    fn the_last_are_kept_and_failures_apart() {
        let decisions = Decisions::new(Arc::default());
        for i in 0..250 {
            let request_id = i.to_string();
            let (model, json, took, failed) = (None, String::new(), Duration::ZERO, i < 3);
            let decision = Decision { request_id, model, failed, took, json };
            decisions.tell(decision, Interest { log: false, show: true });
        }
        let ids = |kept: Vec<Arc<Decision>>| -> Vec<usize> {
            kept.iter().map(|decision| decision.request_id.parse().unwrap()).collect()
        };
        assert_eq!(ids(decisions.recent()), (50..250).collect::<Vec<_>>());
        assert_eq!(ids(decisions.failures()), [0, 1, 2]);
    }
}
