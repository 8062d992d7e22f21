//! Which requests somebody wants to know the reasons of, and who is told: the last of them, who follows, and a log.
use super::log::LineLog;
use crate::stats::Moment;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::broadcast;

/// Decisions kept for those who ask later.
const KEPT: usize = 200;
/// Decisions that are shown in a second: at most so many while nobody follows, and while somebody does.
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

#[derive(Debug)]
pub struct Decisions {
    pub log: LineLog,
    recent: Mutex<VecDeque<Arc<Decision>>>,
    feed: broadcast::Sender<Arc<Decision>>,
    /// The present second, and how many were shown in it: 32 bits each.
    shown: AtomicU64,
}

impl Decisions {
    /// `dropped` counts the lines that the log loses because its writer is too slow.
    pub fn new(dropped: Arc<AtomicU64>) -> Self {
        Self {
            log: LineLog::new("decision log", dropped),
            recent: Mutex::default(),
            feed: broadcast::channel(2 * WATCHED as usize).0,
            shown: AtomicU64::default(),
        }
    }

    /// Before a request is assigned: does anybody want to know why? `chance` is uniform in [0, 1).
    pub fn interest(&self, now: Moment, chance: impl FnOnce() -> f64) -> Option<Interest> {
        let interest = Interest { log: self.log.wants(chance), show: self.may_show(now) };
        (interest.log || interest.show).then_some(interest)
    }

    /// After one failed of which nobody wanted to know.
    pub fn interest_in_failure(&self, now: Moment) -> Option<Interest> {
        self.may_show(now).then_some(Interest { log: false, show: true })
    }

    fn may_show(&self, now: Moment) -> bool {
        let most = if self.feed.receiver_count() > 0 { WATCHED } else { UNWATCHED };
        let second = (now.as_nanos() / 1_000_000_000) << 32;
        let shown = self.shown.load(Relaxed);
        if shown & !0xFFFF_FFFF != second {
            // Whoever loses this race is shown in the next second.
            return self.shown.compare_exchange(shown, second | 1, Relaxed, Relaxed).is_ok();
        }
        shown & 0xFFFF_FFFF < most && {
            self.shown.fetch_add(1, Relaxed);
            true
        }
    }

    pub fn tell(&self, decision: Decision, interest: Interest) {
        if interest.log {
            self.log.write(decision.json.clone().into_bytes());
        }
        if interest.show {
            let decision = Arc::new(decision);
            let mut recent = self.recent.lock();
            if recent.len() == KEPT {
                recent.pop_front();
            }
            recent.push_back(Arc::clone(&decision));
            drop(recent);
            // Nobody listens: that is no error.
            self.feed.send(decision).ok();
        }
    }

    /// Oldest first.
    pub fn recent(&self) -> Vec<Arc<Decision>> {
        self.recent.lock().iter().cloned().collect()
    }

    pub fn follow(&self) -> broadcast::Receiver<Arc<Decision>> {
        self.feed.subscribe()
    }
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
        assert_eq!(decisions.interest_in_failure(NOW), None);
        assert_eq!(wanted(&decisions, NOW + Duration::from_secs(1)), 100);
        let follower = decisions.follow();
        assert_eq!(wanted(&decisions, NOW + Duration::from_secs(1)), 900);
        drop(follower);
        assert_eq!(wanted(&decisions, NOW + Duration::from_secs(2)), 100);
    }

    #[test]
    fn the_last_are_kept() {
        let decisions = Decisions::new(Arc::default());
        for i in 0..250 {
            let request_id = i.to_string();
            let (model, json, took) = (None, String::new(), Duration::ZERO);
            let decision = Decision { request_id, model, failed: false, took, json };
            decisions.tell(decision, Interest { log: false, show: true });
        }
        let kept = decisions.recent();
        assert_eq!((kept.len(), &*kept[0].request_id, &*kept[199].request_id), (200, "50", "249"));
    }
}
