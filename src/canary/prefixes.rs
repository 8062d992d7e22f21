//! Which side has a prompt in its prefix cache. A candidate with a small share has seen few conversations before: its
//! replicas read from the start what the stable side's have in their caches, and any version would be slower so.
use super::observation::{Arm, Observation};

/// Entries of the table; each is four bytes.
const ENTRIES: usize = 16_384;
const WAYS: usize = 8;
/// For so many minutes a prompt is taken to stay in a cache.
const KEPT: u16 = 30;
/// Where more than this part of the entries that are overwritten were still of use, the table is too small to tell: from
/// then on only half of the conversations are followed, by their hashes, which know nothing of sides and speed.
const CHURN: f64 = 0.02;
/// How often that may be halved: a tag without more of its bits would tell too few apart.
const MOST_HALVES: u32 = 6;
/// The memory of looks: each keeps so much of those before it; of fewer than this many nothing is told.
const KEEPS: f64 = 0.9995;
const ENOUGH: f64 = 500.0;
/// Where fewer than this part of the conversations are met again, and that was seen for so many minutes, those that nobody
/// has met are new. Else one may be known from before the canary began, to the stable side alone.
const AGAIN: f64 = 0.02;
const SEEN: u16 = 3;

/// How warm the cache was that a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Warmth {
    /// Nobody knows.
    Unknown,
    /// As the answer says: nothing of the prompt was in the cache, less than a half, or a half and more.
    None,
    Part,
    Most,
    /// Neither side has met its conversation before.
    New,
    /// Its own side alone has.
    Own,
    /// Both have.
    Both,
    /// The other side alone has: it is cold here, and would be warm there.
    Elsewhere,
}

/// A table of the conversations that each side has met.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Prefixes {
    /// 16 bits of tag, 14 of the minute, 2 of the sides. 0: nothing.
    table: Vec<u32>,
    /// Of those that are followed: all, those for whom one of use gave way, and those that are met again; all fade.
    looks: f64,
    lost: f64,
    again: f64,
    /// One of two to the power of this many is followed.
    halves: u32,
    /// The minute of the first look.
    first: u16,
    /// Until this minute what is new here may be known from before a restart.
    restored: u16,
}

impl Prefixes {
    /// After a restart in this minute the caches are as warm as before, and nothing is known of them.
    pub(super) fn restored_in(&mut self, minute: u16) {
        self.restored = minute.saturating_add(KEPT);
    }

    /// How warm its cache is for a request that is sent to this side in this minute of the canary, which is noted.
    pub(super) fn meet(&mut self, seen: &Observation, arm: Arm, minute: u16) -> Warmth {
        if let Some(part) = seen.cached {
            return match part {
                part if part <= 0.0 => Warmth::None,
                part if part < 0.5 => Warmth::Part,
                _ => Warmth::Most,
            };
        }
        let Some(prefix) = seen.prefix else { return Warmth::Unknown };
        if self.table.is_empty() {
            self.table = vec![0; ENTRIES];
            self.first = minute;
        }
        let tag = (prefix >> 48) as u32;
        if !self.follows(tag) {
            return self.unfollowed(minute);
        }
        let minute = (minute & 0x3FFF).max(1);
        let set = (prefix as usize) % (ENTRIES / WAYS) * WAYS;
        let entries = &mut self.table[set..set + WAYS];
        let own = if arm == Arm::Candidate { 1 } else { 2 };
        let minute_of = |entry: u32| (entry >> 2 & 0x3FFF) as u16;
        let is_current =
            |entry: u32| entry != 0 && minute.wrapping_sub(minute_of(entry)) & 0x3FFF <= KEPT;
        let known = entries.iter().position(|entry| is_current(*entry) && entry >> 16 == tag);
        self.looks = self.looks * KEEPS + 1.0;
        self.lost *= KEEPS;
        self.again = self.again * KEEPS + f64::from(u8::from(known.is_some()));
        let place = known.unwrap_or_else(|| {
            let age = |i: &usize| {
                let entry = entries[*i];
                if is_current(entry) {
                    KEPT - (minute.wrapping_sub(minute_of(entry)) & 0x3FFF) + 1
                } else {
                    0
                }
            };
            (0..WAYS).min_by_key(age).expect("a set has ways")
        });
        let entry = &mut entries[place];
        if known.is_none() {
            self.lost += f64::from(u8::from(is_current(*entry)));
            *entry = 0;
        }
        let sides = *entry & 3;
        *entry = tag << 16 | u32::from(minute) << 2 | sides | own;
        if self.lost > CHURN * self.looks.max(ENOUGH) {
            self.halve();
            return Warmth::Elsewhere;
        }
        match (sides & own != 0, sides & !own != 0) {
            (false, false) if self.is_new(minute) => Warmth::New,
            (false, _) => Warmth::Elsewhere,
            (true, false) => Warmth::Own,
            (true, true) => Warmth::Both,
        }
    }

    fn follows(&self, tag: u32) -> bool {
        tag.trailing_zeros() >= self.halves
    }

    /// Of one that is not followed: where hardly any conversation is met again, it is new.
    fn unfollowed(&self, minute: u16) -> Warmth {
        if minute >= self.restored && self.are_all_new(minute) {
            Warmth::New
        } else {
            Warmth::Elsewhere
        }
    }

    /// Is a conversation new that nobody has met, as far as is known?
    fn is_new(&self, minute: u16) -> bool {
        minute >= self.restored && (self.has_watched(minute) || self.are_all_new(minute))
    }

    /// Is all that was there before the canary began out of the caches?
    fn has_watched(&self, minute: u16) -> bool {
        minute.saturating_sub(self.first) > KEPT
    }

    fn are_all_new(&self, minute: u16) -> bool {
        let seen = self.looks >= ENOUGH && minute.saturating_sub(self.first) >= SEEN;
        seen && self.again < AGAIN * self.looks
    }

    /// Follows half as many from now on. Those that stay are known as before.
    fn halve(&mut self) {
        if self.halves < MOST_HALVES {
            self.halves += 1;
            (self.looks, self.lost, self.again) = (0.0, 0.0, 0.0);
            let halves = self.halves;
            for entry in &mut self.table {
                if (*entry >> 16).trailing_zeros() < halves {
                    *entry = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Moment;

    fn of(prefix: u64) -> Observation {
        let seen = Observation::of(Arm::Stable, false, Moment::ZERO);
        Observation { prefix: Some(prefix.wrapping_mul(0x9E37_79B9_7F4A_7C15)), ..seen }
    }

    /// One that has watched for long enough before minute 1.
    fn watched() -> Prefixes {
        let mut prefixes = Prefixes::default();
        prefixes.meet(&of(999_999), Arm::Stable, 0);
        prefixes
    }

    #[test]
    fn what_may_be_from_before_the_canary_is_not_new_where_conversations_are_met_again() {
        for (of_each, expected) in [(1, Warmth::New), (4, Warmth::Elsewhere)] {
            let mut prefixes = Prefixes::default();
            for n in 0..2000_u64 {
                prefixes.meet(&of(n / of_each), Arm::Stable, (n / 500) as u16);
            }
            assert_eq!(prefixes.meet(&of(1_000_000), Arm::Stable, 4), expected, "{of_each}");
            assert_eq!(prefixes.meet(&of(2_000_000), Arm::Stable, 40), Warmth::New);
        }
    }

    #[test]
    fn a_conversation_is_cold_where_only_the_other_side_has_met_it() {
        let mut prefixes = watched();
        assert_eq!(prefixes.meet(&of(7), Arm::Stable, 31), Warmth::New);
        assert_eq!(prefixes.meet(&of(7), Arm::Stable, 32), Warmth::Own);
        assert_eq!(prefixes.meet(&of(7), Arm::Candidate, 33), Warmth::Elsewhere);
        assert_eq!(prefixes.meet(&of(7), Arm::Candidate, 34), Warmth::Both);
        assert_eq!(prefixes.meet(&of(7), Arm::Stable, 70), Warmth::New, "it is gone by then");
        let told = Observation { cached: Some(0.3), ..of(7) };
        assert_eq!(prefixes.meet(&told, Arm::Candidate, 71), Warmth::Part);
    }

    /// So many conversations a minute, new ones each time, on either side in turn; how many of a thousand are how warm
    /// after this many minutes?
    fn after(minutes: u16, each: u64, warmth: Warmth) -> usize {
        let mut prefixes = Prefixes::default();
        let arms = [Arm::Candidate, Arm::Stable];
        let mut meet = |n: u64, minute| prefixes.meet(&of(n), arms[(n % 2) as usize], minute);
        for minute in 1..=minutes {
            for n in 0..each {
                meet(u64::from(minute) * each + n, minute);
            }
        }
        let next = u64::from(minutes + 1) * each;
        (next..next + 1000).filter(|n| meet(*n, minutes) == warmth).count()
    }

    #[test]
    fn of_more_conversations_than_fit_a_part_is_followed_by_their_hashes() {
        let soon = after(8, 3000, Warmth::New);
        assert!((900..=1000).contains(&soon), "{soon}");
        let met_again = |known: u64| {
            let mut prefixes = Prefixes::default();
            for minute in 1..40 {
                for n in 0..3000 {
                    prefixes.meet(&of(u64::from(minute) * 3000 + n), Arm::Stable, minute);
                }
            }
            let of_last = (0..1000).map(|n| of(39 * 3000 + known * 1_000_000 + n));
            let seen: Vec<Warmth> =
                of_last.map(|one| prefixes.meet(&one, Arm::Candidate, 40)).collect();
            let count = |warmth| seen.iter().filter(|one| **one == warmth).count();
            [count(Warmth::New), count(Warmth::Elsewhere)]
        };
        let [_, elsewhere] = met_again(0);
        assert!(elsewhere > 20, "those that are followed are known: {elsewhere}");
        let [new, _] = met_again(1);
        assert!(new > 900, "{new}");
    }

    #[test]
    fn where_hardly_any_is_met_again_all_are_new() {
        let later = after(12, 3000, Warmth::New);
        assert!(later > 950, "{later}");
    }

    #[test]
    fn where_many_are_met_again_those_that_are_not_followed_tell_nothing() {
        let mut prefixes = Prefixes::default();
        for minute in 1..40 {
            for n in 0..6000 {
                prefixes.meet(&of(u64::from(minute) * 3000 + n), Arm::Stable, minute);
            }
        }
        let next = (0..1000).map(|n| prefixes.meet(&of(1_000_000 + n), Arm::Candidate, 40));
        let new = next.filter(|warmth| *warmth == Warmth::New).count();
        assert!((5..200).contains(&new), "{new}");
    }
}
