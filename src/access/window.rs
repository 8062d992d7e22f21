//! A limit by the minute: what was taken in the last minute counts, and flows back a minute after it was taken.
//!
//! A token bucket with room for a minute's worth would let twice the limit pass in a minute: what it holds, and what
//! flows in meanwhile. Here no minute has more than the limit, and all of it may still come at once. What a request
//! takes is not known before its end, so it is reserved first and settled then; one that took more than was reserved
//! leaves a debt that the next ones wait for. All is in whole numbers: nothing is lost or won by rounding.
use crate::stats::Moment;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

/// What is taken within such a time is kept as one, and flows back evenly over as long.
const TICK: u64 = 250_000_000;
/// A minute of them. The last is for flowing back: within 59.5 s no more than the limit is ever taken.
const TICKS: u64 = 240;

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

/// What was taken in the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The earliest first: the number of a tick, and what was taken in it.
    ticks: VecDeque<(u64, u128)>,
    /// Their sum.
    total: u128,
}

/// What was taken, and when: for settling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    tick: u64,
    amount: u64,
}

/// Why nothing is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// It will be there after so long, if nobody else takes it.
    For(Duration),
    /// The limit is lower than that: it never will be.
    Ever,
}

/// How much is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub limit: u64,
    /// What can be taken now.
    pub left: u64,
    /// Until all of it can, if nobody takes anything.
    pub full_in: Duration,
}

impl Window {
    /// Takes so much, or says what is missing.
    pub fn take(&mut self, amount: u64, limit: PerMinute, now: Moment) -> Result<Taken, Shortage> {
        self.forget(now);
        if amount > limit.get() {
            return Err(Shortage::Ever);
        }
        let wanted = self.total + u128::from(amount);
        if wanted - self.flowed_back(now) <= limit.wide() {
            return Ok(Taken { tick: self.add(amount, now), amount });
        }
        Err(Shortage::For(self.until_back(wanted - limit.wide(), now)))
    }

    /// What was taken turned out to be so much. What flowed back meanwhile is not given back again.
    pub fn settle(&mut self, taken: Taken, actual: u64, now: Moment) {
        self.forget(now);
        let Taken { tick, amount } = taken;
        if actual > amount {
            self.add(actual - amount, now);
        } else if let Ok(place) = self.ticks.binary_search_by_key(&tick, |(tick, _)| *tick) {
            let unused = u128::from(amount - actual).min(self.ticks[place].1);
            self.ticks[place].1 -= unused;
            self.total -= unused;
        }
    }

    /// Takes so much more of what was not reserved, be it there or not.
    pub fn spend(&mut self, amount: u64, now: Moment) {
        self.forget(now);
        self.add(amount, now);
    }

    pub fn level(&mut self, limit: PerMinute, now: Moment) -> Level {
        self.forget(now);
        let used = self.total - self.flowed_back(now);
        let last = self.ticks.iter().rfind(|(_, amount)| *amount > 0);
        Level {
            limit: limit.get(),
            left: limit.get().saturating_sub(u64::try_from(used).unwrap_or(u64::MAX)),
            full_in: last.map_or(Duration::ZERO, |(tick, _)| begins(tick + TICKS).since(now)),
        }
    }

    /// Returns the tick that it is kept in.
    fn add(&mut self, amount: u64, now: Moment) -> u64 {
        let present = now.as_nanos() / TICK;
        self.total += u128::from(amount);
        match self.ticks.back_mut() {
            // Threads read the clock before they take their turn.
            Some((tick, taken)) if *tick >= present => {
                *taken += u128::from(amount);
                *tick
            }
            _ => {
                self.ticks.push_back((present, u128::from(amount)));
                present
            }
        }
    }

    fn forget(&mut self, now: Moment) {
        while let Some(&(tick, amount)) = self.ticks.front()
            && begins(tick + TICKS) <= now
        {
            self.total -= amount;
            self.ticks.pop_front();
        }
    }

    /// Of the first tick, the part that has flowed back by now.
    fn flowed_back(&self, now: Moment) -> u128 {
        let Some(&(tick, amount)) = self.ticks.front() else { return 0 };
        let passed = now.since(begins(tick + TICKS - 1)).as_nanos();
        amount * passed.min(u128::from(TICK)) / u128::from(TICK)
    }

    /// How long it takes until so much of all has flowed back; there is so much.
    fn until_back(&self, mut wanted: u128, now: Moment) -> Duration {
        for &(tick, amount) in &self.ticks {
            if amount >= wanted {
                let part = (wanted * u128::from(TICK)).div_ceil(amount);
                let part = Duration::from_nanos(u64::try_from(part).unwrap_or(TICK));
                return (begins(tick + TICKS - 1) + part).since(now);
            }
            wanted -= amount;
        }
        Duration::from_nanos(TICK * TICKS)
    }
}

fn begins(tick: u64) -> Moment {
    Moment::from_nanos(tick.saturating_mul(TICK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZERO: Moment = Moment::ZERO;

    fn per_minute(limit: u64) -> PerMinute {
        PerMinute::new(limit).unwrap()
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn a_minutes_worth_is_there_at_once_and_comes_back_after_a_minute() {
        let (mut window, limit) = (Window::default(), per_minute(60));
        for _ in 0..60 {
            assert!(window.take(1, limit, ZERO).is_ok());
        }
        // A sixtieth of what flows back from 59.75 s to 60 s.
        let first = Duration::from_nanos(59_750_000_000 + 250_000_000_u64.div_ceil(60));
        assert_eq!(window.take(1, limit, ZERO), Err(Shortage::For(first)));
        assert_eq!(window.level(limit, ZERO).left, 0);
        assert_eq!(window.level(limit, ZERO).full_in, Duration::from_mins(1));
        assert!(window.take(1, limit, at(59_750)).is_err());
        assert!(window.take(1, limit, ZERO + first).is_ok());
        assert_eq!(window.take(61, limit, ZERO), Err(Shortage::Ever));
        assert_eq!(window.level(limit, at(60_000)).left, 59);
    }

    #[test]
    fn who_sends_at_the_pace_of_the_limit_is_never_refused() {
        let (mut window, limit) = (Window::default(), per_minute(60));
        for second in 0..600 {
            assert!(window.take(1, limit, at(1000 * second + 37)).is_ok(), "{second}");
        }
    }

    #[test]
    fn more_than_was_reserved_is_a_debt_and_less_is_given_back() {
        let (mut window, limit) = (Window::default(), per_minute(600));
        let taken = window.take(100, limit, ZERO).unwrap();
        window.settle(taken, 900, at(10_000));
        assert_eq!(window.level(limit, at(10_000)).left, 0);
        // The first hundred is back at 60 s, and of the 800 a part must be, too.
        let Err(Shortage::For(wait)) = window.take(1, limit, at(10_000)) else { panic!("a debt") };
        assert!(wait > Duration::from_millis(59_750) && wait < Duration::from_mins(1), "{wait:?}");
        let mut window = Window::default();
        let taken = window.take(100, limit, ZERO).unwrap();
        window.settle(taken, 30, at(20_000));
        assert_eq!(window.level(limit, at(20_000)).left, 570);
    }

    #[test]
    fn what_flowed_back_is_not_given_back_again() {
        let (mut window, limit) = (Window::default(), per_minute(100));
        let taken = window.take(100, limit, ZERO).unwrap();
        window.settle(taken, 0, at(3_600_000));
        assert_eq!(window.level(limit, at(3_600_000)).left, 100);
        assert_eq!(window.level(limit, at(3_600_000)).full_in, Duration::ZERO);
    }

    #[test]
    fn a_changed_limit_keeps_what_was_used() {
        let mut window = Window::default();
        window.take(90, per_minute(100), ZERO).unwrap();
        assert_eq!(window.level(per_minute(1000), ZERO).left, 910);
        assert_eq!(window.level(per_minute(50), ZERO).left, 0);
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
        let one = (0_u64..900, 1_u64..700, 0_u64..=100, 0_u64..90_000)
            .prop_map(|(pause, reserved, actual, lasts)| Ask { pause, reserved, actual, lasts });
        proptest::collection::vec(one, 1..400)
    }

    proptest! {
        /// Requests overlap as they like, wait as they are told and end when they end: those that begin within a minute
        /// never take more than the limit.
        #[test]
        fn no_minute_has_more_than_the_limit(asks in asks(), limit in 700_u64..20_000) {
            let limit = per_minute(limit);
            let mut window = Window::default();
            let mut running: Vec<(Moment, Taken, u64)> = Vec::new();
            let mut spent: Vec<(Moment, u64)> = Vec::new();
            let mut now = ZERO;
            for ask in asks {
                now = now + Duration::from_millis(ask.pause);
                running.retain(|&(ends, taken, actual)| {
                    if ends <= now {
                        window.settle(taken, actual, now);
                    }
                    ends > now
                });
                let actual = ask.reserved * ask.actual / 100;
                match window.take(ask.reserved, limit, now) {
                    Ok(taken) => {
                        spent.push((now, actual));
                        running.push((now + Duration::from_millis(ask.lasts), taken, actual));
                    }
                    Err(Shortage::For(wait)) => {
                        // Truthful to the nanosecond: not a moment before, and then.
                        prop_assert!(wait <= Duration::from_mins(1));
                        let before = now + wait.saturating_sub(Duration::from_nanos(1));
                        prop_assert!(window.clone().take(ask.reserved, limit, before).is_err());
                        prop_assert!(window.clone().take(ask.reserved, limit, now + wait).is_ok());
                    }
                    Err(Shortage::Ever) => prop_assert!(ask.reserved > limit.get()),
                }
                let level = window.level(limit, now);
                prop_assert!(level.left <= limit.get() && level.full_in <= Duration::from_mins(1));
                let since = now - Duration::from_millis(59_500);
                let minute = spent.iter().filter(|(at, _)| *at >= since).map(|(_, n)| n);
                prop_assert!(minute.sum::<u64>() <= limit.get());
            }
        }

        #[test]
        fn no_numbers_overflow(
            steps in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..50),
            limit in 1_u64..,
        ) {
            let limit = per_minute(limit);
            let mut window = Window::default();
            for (amount, actual, at) in steps {
                let now = Moment::from_nanos(at / 2);
                if let Ok(taken) = window.take(amount, limit, now) {
                    window.settle(taken, actual, now);
                }
                prop_assert!(window.level(limit, now).left <= limit.get());
            }
        }
    }
}
