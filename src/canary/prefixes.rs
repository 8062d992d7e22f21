//! Which side has a prompt in its prefix cache. A candidate with a small share has seen few conversations before: its
//! replicas read from the start what the stable side's have in their caches, and any version would be slower so.
use super::observation::{Arm, Observation};

/// Entries of the table; each is four bytes.
const ENTRIES: usize = 16_384;
const WAYS: usize = 8;
/// For so many minutes a prompt is taken to stay in a cache.
const KEPT: u16 = 30;
/// Where more than this part of the entries that are overwritten were still of use, the table is too small to tell.
const CHURN: f64 = 0.02;

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
    looks: f64,
    lost: f64,
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
        }
        let minute = (minute & 0x3FFF).max(1);
        let tag = (prefix >> 48) as u32;
        let set = (prefix as usize) % (ENTRIES / WAYS) * WAYS;
        let entries = &mut self.table[set..set + WAYS];
        let own = if arm == Arm::Candidate { 1 } else { 2 };
        let minute_of = |entry: u32| (entry >> 2 & 0x3FFF) as u16;
        let is_current =
            |entry: u32| entry != 0 && minute.wrapping_sub(minute_of(entry)) & 0x3FFF <= KEPT;
        let known = entries.iter().position(|entry| is_current(*entry) && entry >> 16 == tag);
        self.looks = self.looks * 0.9995 + 1.0;
        self.lost *= 0.9995;
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
        if self.lost > CHURN * self.looks {
            return Warmth::Elsewhere;
        }
        match (sides & own != 0, sides & !own != 0) {
            (false, false) if minute < self.restored => Warmth::Elsewhere,
            (false, false) => Warmth::New,
            (true, false) => Warmth::Own,
            (true, true) => Warmth::Both,
            (false, true) => Warmth::Elsewhere,
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

    #[test]
    fn a_conversation_is_cold_where_only_the_other_side_has_met_it() {
        let mut prefixes = Prefixes::default();
        assert_eq!(prefixes.meet(&of(7), Arm::Stable, 1), Warmth::New);
        assert_eq!(prefixes.meet(&of(7), Arm::Stable, 2), Warmth::Own);
        assert_eq!(prefixes.meet(&of(7), Arm::Candidate, 3), Warmth::Elsewhere);
        assert_eq!(prefixes.meet(&of(7), Arm::Candidate, 4), Warmth::Both);
        assert_eq!(prefixes.meet(&of(7), Arm::Stable, 40), Warmth::New, "it is gone by then");
        let told = Observation { cached: Some(0.3), ..of(7) };
        assert_eq!(prefixes.meet(&told, Arm::Candidate, 41), Warmth::Part);
    }

    #[test]
    fn a_table_that_is_too_small_says_nothing() {
        let mut prefixes = Prefixes::default();
        let mut last = Warmth::Unknown;
        for n in 0..100_000 {
            last = prefixes.meet(&of(n), Arm::Stable, 1);
        }
        assert_eq!(last, Warmth::Elsewhere);
        for n in 0..20_000 {
            last = prefixes.meet(&of(n % 1000), Arm::Stable, 50);
        }
        assert_eq!(last, Warmth::Own, "it is large enough again");
    }
}
