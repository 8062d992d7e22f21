//! What is remembered of the sticky keys: each is one unit, however often it asks.
//!
//! A key that fails always would otherwise be counted as a failure of its version again and again. It counts once a
//! minute at most, and only beside keys that failed as often before it, on whichever side: under "both versions are
//! alike" these fail alike whatever side they are on. A first failure is one event for each key (as in a log-rank test;
//! ter Schure, Pérez-Ortiz, Ly and Grünwald 2024, are the sequential form of it). Keys that failed before are few, differ
//! from each other and repeat themselves: they count after 1, 2, 4, 8 … minutes only, so that the differences between a
//! handful of keys cannot add up.
use super::observation::Arm;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use serde::{Deserialize, Deserializer};

/// Room for all entries, in bytes.
const ROOM: usize = 160 << 10;
/// Entries of a set.
const WAYS: usize = 8;
/// Keys that failed which outlive a restart.
const KEPT: usize = 128;
/// The mark of the candidate's side in a mask; the other bits are checks.
const CANDIDATE: u16 = 1 << 15;
/// All checks were read since the key came to its side; and they are taken for read, because of a restart.
const READ: u16 = !CANDIDATE;
const RESTORED: u16 = u16::MAX;

/// Readings that are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Class {
    /// Each request was drawn for itself.
    Drawn,
    /// The same, of a client that mostly fails on either side.
    Failing,
    /// A key that is met for the first time.
    New,
    /// It never failed in 1, 2–3, 4–7, 8 or more minutes.
    Good1,
    Good2,
    Good4,
    Good8,
    /// It failed in a twentieth of its minutes at most.
    Seldom,
    /// Up to a sixth, a half, five sixths, or more: for fewer than four minutes, and for four or more.
    Sixth,
    Half,
    Often,
    Always,
    LongSixth,
    LongHalf,
    LongOften,
    LongAlways,
}

impl Class {
    /// The rate of hits that is expected of it before anything was seen, and for how many requests that counts; `rate`
    /// and `weight` are those of all.
    pub(super) fn expects(self, rate: f64, weight: f64) -> (f64, f64) {
        let few = weight / 10.0;
        match self {
            Self::Drawn | Self::New => (rate, weight),
            Self::Good1 | Self::Good2 | Self::Good4 | Self::Good8 => (rate / 2.0, weight / 2.0),
            Self::Seldom => (rate.max(0.02), few),
            Self::Sixth | Self::LongSixth => (rate.max(0.1), few),
            Self::Half | Self::LongHalf => (rate.max(0.3), few),
            Self::Often | Self::LongOften => (rate.max(0.65), few),
            Self::Failing | Self::Always | Self::LongAlways => (rate.max(0.9), few),
        }
    }

    /// Has its key or client failed before, as far as is known?
    pub(super) const fn failed_before(self) -> bool {
        !matches!(
            self,
            Self::Drawn | Self::New | Self::Good1 | Self::Good2 | Self::Good4 | Self::Good8
        )
    }

    /// Of a key that failed in so many of its minutes; `None`: it is not counted now.
    fn of(minutes: u8, failed: u8) -> Option<Self> {
        if failed == 0 {
            return Some(match minutes {
                0 => Self::New,
                1 => Self::Good1,
                2..=3 => Self::Good2,
                4..=7 => Self::Good4,
                8.. => Self::Good8,
            });
        }
        let part = f64::from(failed) / f64::from(minutes.max(1));
        if part <= 0.05 {
            return Some(Self::Seldom);
        }
        let bounds = [1.0 / 6.0, 0.5, 5.0 / 6.0];
        let degree = bounds.iter().filter(|bound| part > **bound).count();
        let long = usize::from(minutes >= 4);
        let classes = [
            [Self::Sixth, Self::Half, Self::Often, Self::Always],
            [Self::LongSixth, Self::LongHalf, Self::LongOften, Self::LongAlways],
        ];
        minutes.is_power_of_two().then_some(classes[long][degree])
    }
}

/// Where a key is kept, until another one is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// A set-associative table of bounded size: what falls out is new when it comes again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Keys {
    checks: usize,
    /// 0: nothing is there.
    tags: Vec<u32>,
    /// Of the canary, when the key was last met.
    minutes: Vec<u16>,
    /// The checks that were read in this minute, and on which side.
    masks: Vec<u16>,
    /// The checks that were read since the key came to its side. What is not kept over a restart is taken for read.
    arrived: Vec<u16>,
    /// Minutes with a reading, and those of them with a hit, of each check of each entry.
    history: Vec<[u8; 2]>,
    /// Until this minute a key that is met for the first time may be known from before a restart.
    restored: u16,
}

impl Keys {
    pub(super) fn new(checks: usize) -> Self {
        Self { checks: checks.min(15), ..Self::default() }
    }

    fn sets(&self) -> usize {
        ROOM / (10 + 2 * self.checks) / WAYS
    }

    fn allocate(&mut self) {
        let entries = self.sets() * WAYS;
        self.tags = vec![0; entries];
        self.minutes = vec![0; entries];
        self.masks = vec![0; entries];
        self.arrived = vec![RESTORED; entries];
        self.history = vec![[0; 2]; entries * self.checks];
    }

    /// The place of a key that asks on this side in this minute.
    pub(super) fn find(&mut self, key: u64, arm: Arm, minute: u16) -> Slot {
        if self.tags.is_empty() {
            self.allocate();
        }
        let (tag, set) = ((key >> 32) as u32 | 1, (key as u32 as usize) % self.sets());
        let entries = set * WAYS..(set + 1) * WAYS;
        let side = if arm == Arm::Candidate { CANDIDATE } else { 0 };
        let known = entries.clone().find(|i| self.tags[*i] == tag);
        let i = known.unwrap_or_else(|| {
            let age = |i: &usize| (self.tags[*i] != 0, self.minutes[*i]);
            let oldest = entries.min_by_key(age).expect("a set has ways");
            let again = minute < self.restored;
            let first = if again { [1, 0] } else { [0, 0] };
            self.arrived[oldest] = if again { RESTORED } else { 0 };
            self.tags[oldest] = tag;
            self.history[oldest * self.checks..(oldest + 1) * self.checks].fill(first);
            self.masks[oldest] = side;
            oldest
        });
        let moved = self.masks[i] & CANDIDATE != side;
        if moved {
            // Nobody knows on which side a key was before a restart.
            self.arrived[i] = if self.arrived[i] == RESTORED { READ } else { 0 };
        }
        if moved || self.minutes[i] != minute {
            self.masks[i] = side;
            self.minutes[i] = minute;
        }
        Slot(i)
    }

    /// With whom a reading of this check is compared; `None`: it is not, because the key was read in this minute.
    pub(super) fn class(&self, Slot(i): Slot, check: usize) -> Option<Class> {
        let [minutes, failed] = self.history[i * self.checks + check];
        let read = self.masks[i] & (1 << check) != 0;
        (!read).then(|| Class::of(minutes, failed)).flatten()
    }

    /// Is a reading of this check that counts the first one since its key came to the candidate? All of the stable side
    /// are there to be compared with.
    pub(super) fn arrives(&self, Slot(i): Slot, check: usize) -> bool {
        self.masks[i] & CANDIDATE == 0 || self.arrived[i] & (1 << check) == 0
    }

    /// Takes note of a reading, once a minute.
    pub(super) fn note(&mut self, Slot(i): Slot, check: usize, hit: bool) {
        if self.masks[i] & (1 << check) != 0 {
            return;
        }
        self.masks[i] |= 1 << check;
        self.arrived[i] |= 1 << check;
        let [minutes, failed] = &mut self.history[i * self.checks + check];
        if *minutes == u8::MAX {
            *minutes /= 2;
            *failed = failed.div_ceil(2);
        }
        *minutes += 1;
        *failed += u8::from(hit);
    }

    /// Does it mostly fail, as far as is known?
    pub(super) fn mostly_fails(&self, Slot(i): Slot, check: usize) -> bool {
        let [minutes, failed] = self.history[i * self.checks + check];
        minutes >= 2 && 2 * failed >= minutes
    }

    /// After a restart in this minute the keys that never failed are not known any more: for a while none is new.
    pub(super) fn restored_in(&mut self, minute: u16) {
        if !self.tags.is_empty() {
            self.restored = minute.saturating_add(30);
        }
    }
}

/// One entry that outlives a restart: its place, tag, minute and history.
type Kept = (u32, u32, u16, Vec<[u8; 2]>);

impl Serialize for Keys {
    /// Those that failed, the latest first: a restart must not count them as new failures.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let of = |i: usize| &self.history[i * self.checks..(i + 1) * self.checks];
        let mut failed: Vec<usize> = (0..self.tags.len())
            .filter(|i| self.tags[*i] != 0 && of(*i).iter().any(|[_, failed]| *failed > 0))
            .collect();
        failed.sort_by_key(|i| std::cmp::Reverse(self.minutes[*i]));
        let kept: Vec<Kept> = failed
            .into_iter()
            .take(KEPT)
            .map(|i| (i as u32, self.tags[i], self.minutes[i], of(i).to_vec()))
            .collect();
        let mut fields = out.serialize_struct("Keys", 3)?;
        fields.serialize_field("checks", &self.checks)?;
        fields.serialize_field("used", &!self.tags.is_empty())?;
        fields.serialize_field("failed", &kept)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Saved {
            checks: usize,
            used: bool,
            failed: Vec<Kept>,
        }
        let Saved { checks, used, failed } = Saved::deserialize(from)?;
        let mut keys = Self::new(checks);
        if used {
            keys.allocate();
        }
        for (i, tag, minute, history) in failed {
            let i = i as usize;
            if i < keys.tags.len() && history.len() == keys.checks {
                (keys.tags[i], keys.minutes[i]) = (tag, minute);
                keys.history[i * checks..(i + 1) * checks].copy_from_slice(&history);
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a key once in each of the minutes; returns the classes in which it counted.
    fn counted(keys: &mut Keys, key: u64, minutes: std::ops::Range<u16>, hit: bool) -> Vec<Class> {
        let read = |minute| {
            let slot = keys.find(key, Arm::Candidate, minute);
            let class = keys.class(slot, 0);
            keys.note(slot, 0, hit);
            class
        };
        minutes.filter_map(read).collect()
    }

    #[test]
    fn a_key_that_always_fails_is_a_new_failure_once() {
        let mut keys = Keys::new(7);
        let classes = counted(&mut keys, 7 << 32 | 7, 0..120, true);
        assert_eq!(classes[0], Class::New);
        assert!(classes[1..].iter().all(|c| matches!(c, Class::Always | Class::LongAlways)));
        assert_eq!(classes.len(), 1 + 7, "after 1, 2, 4, 8, 16, 32 and 64 minutes");
    }

    #[test]
    fn a_good_key_counts_each_minute_and_once_in_it() {
        let mut keys = Keys::new(7);
        let key = 9 << 32 | 3;
        assert_eq!(counted(&mut keys, key, 0..300, false).len(), 300);
        let slot = keys.find(key, Arm::Candidate, 299);
        assert_eq!(keys.class(slot, 0), None, "it was read in this minute");
        assert_eq!(keys.class(slot, 1), Some(Class::New), "but not by the other check");
        let slot = keys.find(key, Arm::Stable, 299);
        assert_eq!(keys.class(slot, 0), Some(Class::Good8), "on the other side it is read anew");
    }

    #[test]
    fn a_key_comes_to_the_candidate_once_until_it_moves() {
        let mut keys = Keys::new(7);
        let mut arrived = |arm, minutes: std::ops::Range<u16>| {
            let read = |minute: &u16| {
                let slot = keys.find(9 << 32 | 3, arm, *minute);
                let arrives = keys.arrives(slot, 0);
                keys.note(slot, 0, false);
                arrives
            };
            minutes.filter(read).collect::<Vec<_>>()
        };
        assert_eq!(arrived(Arm::Candidate, 0..20), [0]);
        assert_eq!(arrived(Arm::Stable, 20..23), [20, 21, 22], "all of them");
        assert_eq!(arrived(Arm::Candidate, 70..90), [70]);
    }

    #[test]
    fn it_is_bounded_and_forgets_who_came_longest_ago() {
        let mut keys = Keys::new(7);
        let of = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for n in 0..100_000 {
            let slot = keys.find(of(n), Arm::Stable, (n / 1000) as u16);
            keys.note(slot, 0, false);
        }
        let bytes = keys.tags.len() * (10 + 2 * keys.checks);
        assert!(bytes <= ROOM && keys.tags.len() > 6500, "{bytes}");
        let slot = keys.find(of(99_999), Arm::Stable, 100);
        assert_eq!(keys.class(slot, 0), Some(Class::Good1));
        let slot = keys.find(of(0), Arm::Stable, 100);
        assert_eq!(keys.class(slot, 0), Some(Class::New));
    }

    #[test]
    fn a_restart_remembers_who_failed_and_takes_the_others_for_known() {
        let mut keys = Keys::new(7);
        counted(&mut keys, 7 << 32 | 7, 0..5, true);
        counted(&mut keys, 8 << 32 | 8, 0..5, false);
        let text = serde_json::to_string(&keys).unwrap();
        let mut again: Keys = serde_json::from_str(&text).unwrap();
        again.restored_in(5);
        let class = |keys: &mut Keys, key| {
            let slot = keys.find(key, Arm::Candidate, 6);
            keys.class(slot, 0)
        };
        assert_eq!(class(&mut again, 7 << 32 | 7), None, "not after five minutes");
        assert_eq!(class(&mut again, 8 << 32 | 8), Some(Class::Good1));
        for key in [7 << 32 | 7, 8 << 32 | 8] {
            let slot = again.find(key, Arm::Candidate, 7);
            assert!(!again.arrives(slot, 0), "it came before the restart");
        }
    }
}
