//! Who was counted lately: of each client one request in a while, however often it asks.

/// A client counts once in so many seconds.
const WHILE: f32 = 10.0;
/// Places of the table; who meets another in one of them counts again.
const PLACES: usize = 512;

/// A table of bounded size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Once {
    /// The upper half of who was met last, and when, in seconds. The lower half chooses the place.
    met: Vec<(u32, f32)>,
}

impl Once {
    /// Does this client count now? `age`: seconds.
    pub(super) fn counts(&mut self, who: u64, age: f64) -> bool {
        if self.met.is_empty() {
            self.met = vec![(0, f32::NEG_INFINITY); PLACES];
        }
        let (place, who, age) = (who as usize % PLACES, (who >> 32) as u32, age as f32);
        let place = &mut self.met[place];
        let counts = place.0 != who || age - place.1 >= WHILE;
        if counts {
            *place = (who, age);
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
        assert!((0..100).all(|who| once.counts(1000 + who, 100.0)));
    }
}
