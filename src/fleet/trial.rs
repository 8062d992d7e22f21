//! The one request that a replica on probation may run: claimed by a pick, held by the request, freed by its end.
use crate::stats::Moment;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const FREE: u64 = 0;
/// Nobody may claim it: the probation is decided, or there is none.
const CLOSED: u64 = u64::MAX;
/// Set once the request that claimed it has begun.
const BEGUN: u64 = 1;
/// A claim whose request never began is nobody's after so long: the pick came to nothing.
const CLAIM_LASTS: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Slot {
    /// [`FREE`], [`CLOSED`], or when it was claimed, in nanoseconds without the last bit, plus [`BEGUN`].
    holder: AtomicU64,
    free_since: AtomicU64,
    /// The holder whose request is sent, and the one whose first byte came.
    sent: AtomicU64,
    answered: AtomicU64,
}

/// Held by the request that is the trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Default for Slot {
    fn default() -> Self {
        let (free_since, sent, answered) = Default::default();
        Self { holder: AtomicU64::new(CLOSED), free_since, sent, answered }
    }
}

impl Slot {
    pub(super) fn open(&self, now: Moment) {
        self.free_since.store(now.as_nanos(), Relaxed);
        self.holder.store(FREE, Relaxed);
    }

    pub(super) fn close(&self) {
        self.holder.store(CLOSED, Relaxed);
    }

    /// Claims it if it has been free for `patience`. Of several at once, one gets it.
    pub(super) fn claim(&self, patience: Duration, now: Moment) -> bool {
        let held = self.holder.load(Relaxed);
        let claimed = (now.as_nanos() & !BEGUN).max(2);
        self.may_be_claimed(held, patience, now)
            && self.holder.compare_exchange(held, claimed, Relaxed, Relaxed).is_ok()
    }

    /// Would [`Self::claim`] succeed now?
    pub(super) fn is_free(&self, patience: Duration, now: Moment) -> bool {
        self.may_be_claimed(self.holder.load(Relaxed), patience, now)
    }

    fn may_be_claimed(&self, held: u64, patience: Duration, now: Moment) -> bool {
        match held {
            FREE => {
                let since = Moment::from_nanos(self.free_since.load(Relaxed));
                now.since(since) >= patience
            }
            CLOSED => false,
            claimed => {
                let lost = claimed & BEGUN == 0;
                lost && now.since(Moment::from_nanos(claimed)) >= CLAIM_LASTS
            }
        }
    }

    /// The request that claimed it begins.
    pub(super) fn begin(&self) -> Option<Token> {
        let held = self.holder.load(Relaxed);
        if held == FREE || held & BEGUN != 0 {
            return None;
        }
        let begun = held | BEGUN;
        self.holder.compare_exchange(held, begun, Relaxed, Relaxed).ok().map(|_| Token(begun))
    }

    /// It is sent: from now on a deadline ends it if no first byte comes.
    pub(super) fn is_sent(&self, Token(held): Token) {
        self.sent.store(held, Relaxed);
    }

    /// Its first byte came.
    pub(super) fn answers(&self, Token(held): Token) {
        self.answered.store(held, Relaxed);
    }

    /// The one that has run for so long, and whether it answers. `None`, too, while it waits for its first byte.
    pub(super) fn runs_for(&self, long: Duration, now: Moment) -> Option<(Token, bool)> {
        let held = self.holder.load(Relaxed);
        let runs = held != CLOSED && held & BEGUN != 0;
        let answers = self.answered.load(Relaxed) == held;
        let waits = !answers && self.sent.load(Relaxed) == held;
        let long = now.since(Moment::from_nanos(held & !BEGUN)) >= long;
        (runs && !waits && long).then_some((Token(held), answers))
    }

    /// Does this one still hold it?
    pub(super) fn is_held_by(&self, Token(held): Token) -> bool {
        self.holder.load(Relaxed) == held
    }

    /// The request ended. Of an earlier probation, it changes nothing.
    pub(super) fn free(&self, Token(held): Token, now: Moment) {
        if self.holder.load(Relaxed) == held {
            self.free_since.store(now.as_nanos(), Relaxed);
            self.holder.compare_exchange(held, FREE, Relaxed, Relaxed).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    const AT_ONCE: Duration = Duration::ZERO;

    #[test]
    fn one_claim_at_a_time_and_none_while_closed() {
        let slot = Slot::default();
        assert!(!slot.claim(AT_ONCE, at(1)), "closed at first");
        slot.open(at(1));
        assert!(slot.claim(AT_ONCE, at(2)));
        assert!(!slot.claim(AT_ONCE, at(2)));
        let token = slot.begin().unwrap();
        assert_eq!(slot.begin(), None);
        assert!(!slot.claim(AT_ONCE, at(60_000)), "it runs for as long as it runs");
        slot.free(token, at(60_000));
        assert!(slot.claim(AT_ONCE, at(60_000)));
    }

    #[test]
    fn a_request_that_cannot_be_repeated_waits_for_one_that_can() {
        let slot = Slot::default();
        slot.open(at(5_000));
        let patience = Duration::from_secs(1);
        assert!(!slot.claim(patience, at(5_999)));
        assert!(slot.claim(patience, at(6_000)));
    }

    #[test]
    fn a_claim_that_came_to_nothing_is_lost_after_a_second() {
        let slot = Slot::default();
        slot.open(at(1));
        assert!(slot.claim(AT_ONCE, at(10)));
        assert!(!slot.claim(AT_ONCE, at(1_009)));
        assert!(slot.claim(AT_ONCE, at(1_011)));
    }

    #[test]
    fn the_end_of_an_earlier_trial_frees_nothing() {
        let slot = Slot::default();
        slot.open(at(1));
        assert!(slot.claim(AT_ONCE, at(2)));
        let old = slot.begin().unwrap();
        slot.close();
        slot.free(old, at(3));
        assert!(!slot.claim(AT_ONCE, at(4)));
        slot.open(at(5));
        assert!(slot.claim(AT_ONCE, at(6)));
        slot.free(old, at(7));
        assert!(!slot.claim(AT_ONCE, at(8)));
    }

    #[test]
    fn of_many_threads_one_claims() {
        let slot = Slot::default();
        slot.open(at(1));
        let claims: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    let slot = &slot;
                    scope.spawn(move || usize::from(slot.claim(AT_ONCE, at(2 + i))))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(claims, 1);
    }
}
