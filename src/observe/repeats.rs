//! Log lines that would be the same again and again: one now and then, with the number of those between.
use crate::stats::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Kinds remembered. More kinds at once are logged more often than need be, which is bounded as well.
const KINDS: usize = 32;

/// When each kind was logged last.
#[derive(Debug)]
pub struct Repeats<K> {
    between: Duration,
    kinds: VecDeque<(K, Moment, u64)>,
}

impl<K: PartialEq> Repeats<K> {
    /// `between`: the pause between two lines of one kind.
    pub fn new(between: Duration) -> Self {
        Self { between, kinds: VecDeque::new() }
    }

    /// Notes that something happened. Returns whether it is to be logged, and then how many of its kind since the last
    /// line were not.
    pub fn note(&mut self, kind: K, now: Moment) -> Option<u64> {
        let known = self.kinds.iter_mut().find(|(known, ..)| *known == kind);
        if let Some((_, logged, unlogged)) = known {
            if now.since(*logged) < self.between {
                *unlogged += 1;
                return None;
            }
            *logged = now;
            return Some(std::mem::take(unlogged));
        }
        if self.kinds.len() == KINDS {
            self.kinds.pop_front();
        }
        self.kinds.push_back((kind, now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_one_is_logged_with_the_number_before_it() {
        let mut repeats = Repeats::new(Duration::from_secs(10));
        let at = |i: u64| Moment::from_millis(i * 500);
        let logged: Vec<_> = (0..50).map(|i| repeats.note("a", at(i))).collect();
        let times = logged.iter().enumerate().filter_map(|(i, logged)| logged.map(|n| (i, n)));
        assert_eq!(times.collect::<Vec<_>>(), [(0, 0), (20, 19), (40, 19)]);
        assert_eq!(repeats.note("b", at(50)), Some(0), "another kind");
    }

    #[test]
    fn kinds_are_bounded() {
        let mut repeats = Repeats::new(Duration::from_secs(10));
        for kind in 0..1000 {
            repeats.note(kind, Moment::ZERO);
        }
        assert_eq!(repeats.kinds.len(), KINDS);
    }
}
