//! Who was counted lately: of each client one request in a while, however often it asks.

/// A client counts once in so many seconds.
const WHILE: f32 = 10.0;
/// Sets of the table, and places of each. Two who had one place between them would count with each request: one of a few
/// dozen clients who always fails would look like an outage.
const SETS: usize = 128;
const WAYS: usize = 4;

/// A table of bounded size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Once {
    /// The upper half of who was met, and when it counted last, in seconds. The lower half chooses the set.
    met: Vec<(u32, f32)>,
}

impl Once {
    /// Does this client count now? `age`: seconds.
    pub(super) fn counts(&mut self, who: u64, age: f64) -> bool {
        if self.met.is_empty() {
            self.met = vec![(0, f32::NEG_INFINITY); SETS * WAYS];
        }
        let (first, who, age) = (who as usize % SETS * WAYS, (who >> 32) as u32, age as f32);
        let set = &mut self.met[first..first + WAYS];
        let place = set.iter().position(|(known, _)| *known == who).unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by(|a, b| set[*a].1.total_cmp(&set[*b].1));
            oldest.expect("a set has ways")
        });
        let counts = set[place].0 != who || age - set[place].1 >= WHILE;
        if counts {
            set[place] = (who, age);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_often_counts_as_one() {
        let mut once = Once::default();
        let counted = |once: &mut Once, who| {
            (0..1000).filter(|n| once.counts(who, f64::from(*n) / 10.0)).count()
        };
        assert_eq!(counted(&mut once, 7), 10);
        assert!((0..100).all(|who| once.counts((1000 + who) << 32 | who, 100.0)));
    }

    #[test]
    fn whoever_shares_a_set_with_others_counts_no_more_often() {
        let mut once = Once::default();
        let counted = (0..1000_u32).filter(|n| {
            let who = u64::from(n % 4 + 1);
            once.counts(who << 32 | 7, f64::from(*n) / 10.0)
        });
        assert_eq!(counted.count(), 4 * 10);
    }
}
