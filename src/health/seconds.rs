//! What went well and what failed, by the second in which it began: what one replica did is compared with what its
//! peers did with requests of the same seconds.
//!
//! By the time of their ends, the failures of a burst that all share end beside good answers to requests that began
//! after it, and a replica that is asked in bursts only looks worse than peers that are always asked.
use super::evidence::Count;
use crate::stats::Moment;
use std::time::Duration;

/// A second's counts lie in one word: failures, requests, and the low bits of the second's number.
const BITS: u32 = 22;
const MOST: u64 = (1 << BITS) - 1;
/// No request runs for so many seconds.
const LONGEST: u64 = 1 << 16;

/// One second's counts in one word; they stop at four million. The number of a second returns after twelve days, by when
/// the place has been used by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second(u64);

impl Second {
    /// So many are kept, one in each place: what runs for longer, in seconds, is compared with nothing.
    pub const KEPT: usize = 128;

    /// The place of the second in which a request began.
    pub fn place(began: Moment) -> usize {
        (seconds(began) % Self::KEPT as u64) as usize
    }

    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u64 {
        self.0
    }

    fn tag(began: Moment) -> u64 {
        // Not zero in the first second, which an unused place is.
        (seconds(began) + 1) << (2 * BITS)
    }

    /// Is it the second in which this began?
    pub fn is_of(self, began: Moment) -> bool {
        (self.0 ^ Self::tag(began)) >> (2 * BITS) == 0
    }

    /// Is it a later one? Then what began so early ran for longer than anything is kept.
    fn is_later(self, began: Moment) -> bool {
        let ahead = self.0.wrapping_sub(Self::tag(began)) >> (2 * BITS);
        self.0 != 0 && (1..LONGEST).contains(&ahead)
    }

    /// What it counts, if it is the second in which this began; else that one is forgotten, or nothing of it ended yet.
    pub fn of(self, began: Moment) -> Count {
        if self.is_of(began) { self.count() } else { Count::default() }
    }

    fn count(self) -> Count {
        Count { requests: (self.0 >> BITS) & MOST, failures: self.0 & MOST }
    }

    /// The same second with these counts.
    fn counting(self, Count { requests, failures }: Count) -> Self {
        let tag = self.0 >> (2 * BITS) << (2 * BITS);
        Self(tag | requests.min(MOST) << BITS | failures.min(MOST))
    }

    /// With more requests that began then and ended alike. An earlier second makes room, a later one stays as it is.
    #[must_use]
    pub fn with(self, requests: u64, failed: bool, began: Moment) -> Self {
        if self.is_later(began) {
            return self;
        }
        let before = self.of(began);
        let failures = if failed { requests } else { 0 };
        let count =
            Count { requests: before.requests + requests, failures: before.failures + failures };
        Self(Self::tag(began)).counting(count)
    }

    /// Without what a part of it counts, if that is of the same second.
    #[must_use]
    pub fn without(self, part: Self) -> Self {
        if (self.0 ^ part.0) >> (2 * BITS) != 0 {
            return self;
        }
        self.counting(self.count().without(part.count()))
    }
}

/// What the peers of one replica did with requests of the seconds in which its own began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    /// How often they failed, each second weighing as much as it has requests of the replica.
    pub(super) rate: f64,
    /// So many requests at that rate would tell as much: few where they were hardly asked in a second in which it was
    /// asked much (Kish's effective sample size, 1965).
    pub(super) requests: f64,
}

/// How often requests failed, with one more that fails as usual.
pub(super) fn rate(count: Count, usual: f64) -> f64 {
    (count.failures as f64 + usual) / (count.requests as f64 + 1.0)
}

fn seconds(began: Moment) -> u64 {
    began.as_nanos() / 1_000_000_000
}

/// The seconds of one replica. One that was never asked takes no memory for them.
#[derive(Clone, Debug, Default)]
pub struct Seconds(Option<Box<[Second; Second::KEPT]>>);

impl Seconds {
    pub(super) fn add(&mut self, requests: u64, failed: bool, began: Moment) {
        let made = || Box::new([Second::default(); Second::KEPT]);
        let second = &mut self.0.get_or_insert_with(made)[Second::place(began)];
        *second = second.with(requests, failed, began);
    }

    /// By their places; none of a replica that was never asked.
    pub fn iter(&self) -> impl Iterator<Item = Second> + '_ {
        self.0.iter().flat_map(|seconds| seconds.iter().copied())
    }

    /// Nothing, once the second is forgotten.
    pub(super) fn of(&self, began: Moment) -> Count {
        let seconds = self.0.as_ref();
        seconds.map_or_else(Count::default, |seconds| seconds[Second::place(began)].of(began))
    }

    /// What the others of its version did with requests of the seconds in which its own began since then; `None` if
    /// not all of them are kept. `pool`: what the version did with the requests that began in a second. `usual`: how
    /// often one more of each second would fail.
    ///
    /// `began` is when its first failure did: what went well before that, in the same second, is not compared. For the
    /// peers nobody knows which part of that second it was, so all they failed then is taken for it.
    pub(super) fn beside(
        &self,
        pool: impl Fn(Moment) -> Count,
        usual: f64,
        began: Moment,
        now: Moment,
    ) -> Option<Beside> {
        let passed = seconds(now).saturating_sub(seconds(began));
        if passed >= Second::KEPT as u64 {
            return None;
        }
        let (mut expected, mut requests, mut spread) = (0.0, 0.0, 0.0);
        for ago in 0..=passed {
            let then = now - Duration::from_secs(ago);
            let own = self.of(then);
            if own.requests > 0 {
                let others = pool(then).without(own);
                let would_fail = own.requests as f64 * rate(others, usual);
                let compared = if ago == passed { own.failures } else { own.requests } as f64;
                expected += would_fail.min(compared);
                requests += compared;
                spread += compared * compared / (others.requests as f64 + 1.0);
            }
        }
        let beside =
            || Beside { rate: expected / requests, requests: requests * requests / spread };
        (requests > 0.0).then(beside)
    }

    /// What went well of the requests that began after that, as far as their seconds are kept: in the rest of its own
    /// second, as if its good ones had begun evenly, and in later ones.
    pub(super) fn good_after(&self, began: Moment, now: Moment) -> (f64, f64) {
        let passed = seconds(now).saturating_sub(seconds(began)).min(Second::KEPT as u64 - 1);
        let good = |count: Count| count.requests.saturating_sub(count.failures) as f64;
        let later = (0..passed).map(|ago| good(self.of(now - Duration::from_secs(ago)))).sum();
        let left = 1.0 - began.as_nanos() as f64 / 1e9 % 1.0;
        (left * good(self.of(began)), later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn each_second_has_counts_of_its_own_until_its_place_is_used_again() {
        let mut own = Seconds::default();
        assert_eq!(own.of(Moment::ZERO), Count::default());
        for (requests, failed, began) in
            [(1, true, at(0)), (2, false, at(0)), (3, true, at(1)), (1, false, at(127))]
        {
            own.add(requests, failed, began);
        }
        for (began, requests, failures) in [(at(0), 3, 1), (at(1), 3, 3), (at(127), 1, 0)] {
            assert_eq!(own.of(began), Count { requests, failures });
        }
        let good = |began, now| own.good_after(Moment::from_millis(began), at(now));
        assert_eq!(good(250, 127), (1.5, 1.0));
        own.add(1, false, at(128));
        assert_eq!(own.of(at(0)), Count::default());
        // What began before that, and ran for longer, changes nothing.
        own.add(1, true, at(0));
        assert_eq!(own.of(at(128)), Count { requests: 1, failures: 0 });
    }

    #[test]
    fn a_second_that_is_full_keeps_its_counts_apart() {
        let second = Second::default().with(MOST - 1, true, at(5));
        let second = (0..3).fold(second, |second, _| second.with(1, true, at(5)));
        assert_eq!(second.of(at(5)), Count { requests: MOST, failures: MOST });
        assert_eq!(second.of(at(6)), Count::default());
        let part = Second::default().with(3, true, at(5));
        assert_eq!(
            second.without(part).of(at(5)),
            Count { requests: MOST - 3, failures: MOST - 3 }
        );
        assert_eq!(second.without(Second::default().with(3, true, at(6))), second);
    }

    #[test]
    fn peers_are_looked_at_in_the_seconds_in_which_one_was_asked() {
        let mut own = Seconds::default();
        own.add(3, true, at(1));
        own.add(1, true, at(4));
        // They fail all in the first second, and nothing later.
        let pool = |began| {
            let (requests, failures) = if began == at(1) { (12, 12) } else { (10, 1) };
            Count { requests, failures }
        };
        let beside = own.beside(pool, 0.0, at(1), at(4)).unwrap();
        assert!((beside.rate - 3.0 * 0.9 / 4.0).abs() < 1e-9, "{beside:?}");
        assert!((beside.requests - 16.0 / (9.0 / 10.0 + 1.0 / 10.0)).abs() < 1e-9, "{beside:?}");
        assert!(own.beside(pool, 0.0, at(1), at(129)).is_none(), "too long ago");
        assert!(own.beside(pool, 0.0, at(2), at(3)).is_none(), "not asked");
    }
}
