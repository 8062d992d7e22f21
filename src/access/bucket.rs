//! A limit by the minute: a token bucket that holds one minute's worth and fills evenly.
//!
//! So a client that was quiet may spend a whole minute's worth at once, and no more than that a minute in the long run.
//! What is used is kept in exact integers (tokens times nanoseconds): nothing is lost or won by rounding, and a changed
//! limit keeps what was used. What a request takes is not known before its end, so it is reserved first and settled
//! then; one that took more than was reserved leaves a debt that the next ones wait for.
use crate::stats::Moment;
use std::num::NonZeroU64;
use std::time::Duration;

/// A minute in nanoseconds.
const MINUTE: u128 = 60_000_000_000;

/// So many a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerMinute(NonZeroU64);

impl PerMinute {
    /// `None` for 0.
    pub fn new(limit: u64) -> Option<Self> {
        NonZeroU64::new(limit).map(Self)
    }

    pub fn get(self) -> u64 {
        self.0.get()
    }

    fn wide(self) -> u128 {
        u128::from(self.get())
    }
}

/// What was used of a limit and did not flow back yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Times a minute's nanoseconds.
    used: u128,
    /// When that was so.
    at: Moment,
}

/// Why nothing is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// It will be there after so long, if nobody else takes it.
    For(Duration),
    /// The limit is lower than that: it never will be.
    Ever,
}

/// How full a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub limit: u64,
    /// What can be taken now.
    pub left: u64,
    /// Until it is full, if nobody takes anything.
    pub full_in: Duration,
}

impl Bucket {
    /// Takes so much, or says what is missing.
    pub fn take(&mut self, amount: u64, limit: PerMinute, now: Moment) -> Result<(), Shortage> {
        self.flow_back(limit, now);
        let wanted = self.used + u128::from(amount) * MINUTE;
        let all = limit.wide() * MINUTE;
        if wanted <= all {
            self.used = wanted;
            return Ok(());
        }
        if amount > limit.get() {
            return Err(Shortage::Ever);
        }
        Err(Shortage::For(nanos((wanted - all).div_ceil(limit.wide()))))
    }

    /// What was reserved turned out to be so much.
    pub fn settle(&mut self, reserved: u64, actual: u64, limit: PerMinute, now: Moment) {
        self.flow_back(limit, now);
        let used = self.used + u128::from(actual) * MINUTE;
        // What flowed back meanwhile does not flow back twice: a bucket is never more than full.
        self.used = used.saturating_sub(u128::from(reserved) * MINUTE);
    }

    pub fn level(mut self, limit: PerMinute, now: Moment) -> Level {
        self.flow_back(limit, now);
        let used = u64::try_from(self.used.div_ceil(MINUTE)).unwrap_or(u64::MAX);
        Level {
            limit: limit.get(),
            left: limit.get().saturating_sub(used),
            full_in: nanos(self.used.div_ceil(limit.wide())),
        }
    }

    fn flow_back(&mut self, limit: PerMinute, now: Moment) {
        // Threads read the clock before they take their turn.
        let passed = now.since(self.at).as_nanos();
        self.used = self.used.saturating_sub(passed * limit.wide());
        self.at = self.at.max(now);
    }
}

fn nanos(n: u128) -> Duration {
    Duration::from_nanos(u64::try_from(n).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZERO: Moment = Moment::ZERO;

    fn per_minute(limit: u64) -> PerMinute {
        PerMinute::new(limit).unwrap()
    }

    #[test]
    fn a_minutes_worth_is_there_at_once_and_flows_back_evenly() {
        let (mut bucket, limit) = (Bucket::default(), per_minute(60));
        for _ in 0..60 {
            assert_eq!(bucket.take(1, limit, ZERO), Ok(()));
        }
        let second = Duration::from_secs(1);
        assert_eq!(bucket.take(1, limit, ZERO), Err(Shortage::For(second)));
        assert_eq!(bucket.level(limit, ZERO).left, 0);
        assert_eq!(bucket.level(limit, ZERO).full_in, Duration::from_mins(1));
        assert_eq!(bucket.take(1, limit, ZERO + second), Ok(()));
        assert_eq!(bucket.take(61, limit, ZERO + second), Err(Shortage::Ever));
    }

    #[test]
    fn more_than_was_reserved_is_a_debt_and_less_is_given_back() {
        let (mut bucket, limit) = (Bucket::default(), per_minute(600));
        bucket.take(100, limit, ZERO).unwrap();
        bucket.settle(100, 900, limit, ZERO);
        assert_eq!(bucket.level(limit, ZERO).left, 0);
        assert_eq!(bucket.take(1, limit, ZERO), Err(Shortage::For(Duration::from_millis(30_100))));
        bucket.settle(0, 0, limit, ZERO);
        bucket.settle(900, 30, limit, ZERO);
        assert_eq!(bucket.level(limit, ZERO).left, 570);
    }

    #[test]
    fn what_flowed_back_is_not_given_back_again() {
        let (mut bucket, limit) = (Bucket::default(), per_minute(100));
        bucket.take(100, limit, ZERO).unwrap();
        let later = ZERO + Duration::from_hours(1);
        bucket.settle(100, 0, limit, later);
        assert_eq!(bucket.level(limit, later).left, 100);
        assert_eq!(bucket.take(101, limit, later), Err(Shortage::Ever));
    }

    #[test]
    fn a_changed_limit_keeps_what_was_used() {
        let mut bucket = Bucket::default();
        bucket.take(90, per_minute(100), ZERO).unwrap();
        assert_eq!(bucket.level(per_minute(1000), ZERO).left, 910);
        assert_eq!(bucket.level(per_minute(50), ZERO).left, 0);
    }

    /// A request of the simulation: it comes, and some time later it ends.
    #[derive(Clone, Debug)]
    struct Ask {
        /// Milliseconds after the one before.
        pause: u64,
        reserved: u64,
        /// What it takes of what was reserved, in percent.
        actual: u64,
        lasts: u64,
    }

    fn asks() -> impl Strategy<Value = Vec<Ask>> {
        let one = (0_u64..400, 1_u64..700, 0_u64..=100, 0_u64..90_000)
            .prop_map(|(pause, reserved, actual, lasts)| Ask { pause, reserved, actual, lasts });
        proptest::collection::vec(one, 1..400)
    }

    proptest! {
        /// Requests overlap as they like, wait as they are told and end when they end: over any time, no more is taken
        /// than a minute's worth and what flowed back.
        #[test]
        fn never_more_is_taken_than_the_limit_allows(asks in asks(), limit in 700_u64..20_000) {
            let limit = per_minute(limit);
            let mut bucket = Bucket::default();
            let mut running: Vec<(Moment, u64, u64)> = Vec::new();
            let (mut now, mut spent) = (ZERO, 0_u128);
            for ask in asks {
                now = now + Duration::from_millis(ask.pause);
                running.retain(|&(ends, reserved, actual)| {
                    if ends <= now {
                        bucket.settle(reserved, actual, limit, now);
                    }
                    ends > now
                });
                let actual = ask.reserved * ask.actual / 100;
                match bucket.take(ask.reserved, limit, now) {
                    Ok(()) => {
                        spent += u128::from(actual);
                        let ends = now + Duration::from_millis(ask.lasts);
                        running.push((ends, ask.reserved, actual));
                    }
                    Err(Shortage::For(wait)) => {
                        // Truthful to the nanosecond: not a moment before, and then.
                        let mut early = bucket;
                        let before = now + wait.saturating_sub(Duration::from_nanos(1));
                        prop_assert!(early.take(ask.reserved, limit, before).is_err());
                        let mut then = bucket;
                        prop_assert_eq!(then.take(ask.reserved, limit, now + wait), Ok(()));
                    }
                    Err(Shortage::Ever) => prop_assert!(ask.reserved > limit.get()),
                }
                let level = bucket.level(limit, now);
                prop_assert!(level.left <= limit.get() && level.full_in <= Duration::from_mins(1));
                let flowed = u128::from(limit.get()) * u128::from(now.as_nanos()) / MINUTE;
                prop_assert!(spent <= u128::from(limit.get()) + flowed, "{spent} in {now:?}");
            }
        }

        #[test]
        fn no_numbers_overflow(
            steps in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..50),
            limit in 1_u64..,
        ) {
            let limit = per_minute(limit);
            let mut bucket = Bucket::default();
            for (amount, actual, at) in steps {
                let now = Moment::from_nanos(at);
                let taken = bucket.take(amount, limit, now).is_ok();
                bucket.settle(if taken { amount } else { 0 }, actual, limit, now);
                prop_assert!(bucket.level(limit, now).left <= limit.get());
            }
        }
    }
}
