//! Percentiles of what ended lately: of the last 10 000 requests, or of as many as the last 5 minutes had.
//!
//! The 99th percentile of 1 000 requests, whose latency is lognormal with a sigma of 0.4, has a standard error of 5 %; that
//! of 10 000 one of 1.5 %.
use crate::fleet::Sketch;
use crate::stats::log_scale::quantile;
use std::collections::VecDeque;

/// More requests than these do not make a window longer.
const ENOUGH: u64 = 10_000;
/// Slots that a window has at most.
pub(super) const SLOTS: usize = 60;

/// The counts of one slot of time, by bucket of the scale, in rising order. Those that are 0 are left out.
#[derive(Debug, Default)]
struct Slot {
    total: u64,
    counts: Box<[(i16, u32)]>,
}

/// The recent past of one sketch. It takes 8 bytes for each request of the window at most, and 7 KiB.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The sketch when the last slot was closed, modulo 2^32.
    before: Box<[u32]>,
    /// Closed ones, oldest first.
    slots: VecDeque<Slot>,
    /// Requests in `slots`.
    total: u64,
    /// The one that is not closed yet.
    open: Slot,
}

/// In milliseconds. `None`: nothing ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Percentiles(pub(super) [Option<f64>; 3]);

const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

fn counted(sketch: &Sketch) -> Box<[u32]> {
    sketch.counts().map(|count| count as u32).collect()
}

impl Recent {
    /// Knows nothing of what the sketch has already.
    pub(super) fn begin(sketch: &Sketch) -> Self {
        Self { before: counted(sketch), ..Self::default() }
    }

    /// Looks at the sketch; `closes`: a new slot begins.
    pub(super) fn look(&mut self, sketch: &Sketch, closes: bool) {
        self.open = self.since_last_slot(sketch);
        if closes {
            self.before = counted(sketch);
            let slot = std::mem::take(&mut self.open);
            self.total += slot.total;
            self.slots.push_back(slot);
            self.trim();
        }
    }

    fn since_last_slot(&self, sketch: &Sketch) -> Slot {
        let mut slot = Slot::default();
        let mut counts: Vec<(i16, u32)> = Vec::new();
        for (place, count) in sketch.counts().enumerate() {
            let before = self.before.get(place).copied().unwrap_or_default();
            let new = (count as u32).wrapping_sub(before);
            if new > 0 {
                slot.total += u64::from(new);
                let bucket = sketch.bucket_at(place);
                match counts.last_mut().filter(|(last, _)| *last == bucket) {
                    Some((_, sum)) => *sum += new,
                    None => counts.push((bucket, new)),
                }
            }
        }
        slot.counts = counts.into();
        slot
    }

    fn trim(&mut self) {
        while let Some(oldest) = self.slots.front()
            && (self.slots.len() > SLOTS || self.total - oldest.total >= ENOUGH)
        {
            self.total -= oldest.total;
            self.slots.pop_front();
        }
    }
}

/// What several sketches counted in the same time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    /// Closed slots that it consists of; the open one is in it, too.
    pub(super) slots: usize,
    /// From the shortest.
    counts: Vec<u64>,
}

impl Window {
    /// Of these together, as many slots as hold enough requests.
    pub(super) fn of(parts: &[&Recent]) -> Self {
        let longest = parts.iter().map(|recent| recent.slots.len()).max().unwrap_or_default();
        let mut window = Self::default();
        for recent in parts {
            window.add(&recent.open);
        }
        let mut held = 0;
        while window.slots < longest && held < ENOUGH {
            for recent in parts {
                let slot = recent.slots.iter().nth_back(window.slots);
                if let Some(slot) = slot {
                    window.add(slot);
                    held += slot.total;
                }
            }
            window.slots += 1;
        }
        window
    }

    /// Of the slots that were closed last.
    pub(super) fn of_last_slots(parts: &[&Recent]) -> Self {
        let mut window = Self { slots: 1, counts: Vec::new() };
        let last = parts.iter().filter_map(|recent| recent.slots.back());
        last.for_each(|slot| window.add(slot));
        window
    }

    fn add(&mut self, slot: &Slot) {
        if slot.total > 0 && self.counts.is_empty() {
            self.counts = vec![0; Sketch::BUCKETS];
        }
        for (bucket, count) in &slot.counts {
            self.counts[usize::from(bucket.abs_diff(Sketch::FIRST))] += u64::from(*count);
        }
    }

    /// Each bucket that has some, with its count.
    pub(super) fn counts(&self) -> impl Iterator<Item = (i16, f64)> + Clone + '_ {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(i, count)| (Sketch::FIRST.saturating_add_unsigned(i as u16), *count as f64))
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        Percentiles(QUANTILES.map(|q| quantile(self.counts(), q).map(|seconds| seconds * 1e3)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn observe(sketch: &Sketch, millis: u64, n: usize) {
        for _ in 0..n {
            sketch.observe(Duration::from_millis(millis));
        }
    }

    fn p50(window: &Window) -> Option<f64> {
        window.percentiles().0[0].map(f64::round)
    }

    #[test]
    fn a_seldom_asked_one_is_looked_back_at_for_five_minutes() {
        let (sketch, mut recent) = (Sketch::default(), Recent::default());
        observe(&sketch, 100, 50);
        recent.look(&sketch, true);
        for _ in 1..SLOTS {
            observe(&sketch, 200, 1);
            recent.look(&sketch, true);
        }
        let window = Window::of(&[&recent]);
        assert_eq!((window.slots, p50(&window)), (SLOTS, Some(200.0)));
        assert!((window.counts().map(|(_, n)| n).sum::<f64>() - 109.0).abs() < 1e-9);
        recent.look(&sketch, true);
        let all: f64 = Window::of(&[&recent]).counts().map(|(_, n)| n).sum();
        assert!((all - 59.0).abs() < 1e-9, "the oldest slot is forgotten: {all}");
        assert_eq!(p50(&Window::of_last_slots(&[&recent])), None, "nothing ended in the last slot");
    }

    #[test]
    fn a_busy_one_is_looked_back_at_as_far_as_enough_requests_go() {
        let (sketch, mut recent) = (Sketch::default(), Recent::default());
        observe(&sketch, 100, 9_999);
        recent.look(&sketch, true);
        observe(&sketch, 200, 6_000);
        recent.look(&sketch, true);
        assert_eq!(Window::of(&[&recent]).slots, 2);
        observe(&sketch, 200, 4_000);
        recent.look(&sketch, true);
        observe(&sketch, 50, 20_001);
        recent.look(&sketch, false);
        let window = Window::of(&[&recent]);
        assert_eq!((window.slots, p50(&window)), (2, Some(50.0)), "what is new counts at once");
        assert_eq!(recent.slots.len(), 2, "and no more is kept");
    }

    #[test]
    fn two_together_are_of_the_same_time() {
        let (busy, seldom) = (Sketch::default(), Sketch::default());
        let mut recents = [Recent::default(), Recent::default()];
        for second in 0..30 {
            observe(&busy, 100, 10_000);
            observe(&seldom, if second == 29 { 300 } else { 900 }, 10_000 / 30);
            recents[0].look(&busy, true);
            recents[1].look(&seldom, true);
        }
        let [one, other] = &recents;
        let both = Window::of(&[one, other]);
        assert_eq!(both.slots, 1);
        let slowest = quantile(both.counts(), 1.0).unwrap();
        assert!((slowest - 0.3).abs() < 0.003, "{slowest}");
        assert_eq!(Window::of(&[other]).slots, 30);
    }

    proptest! {
        #[test]
        fn slots_lose_and_double_nothing(
            seconds in prop::collection::vec((prop::collection::vec(1_u64..100_000, 0..20), any::<bool>()), 1..40),
        ) {
            // At a border of the exposition, buckets are in two places.
            let (sketch, mut recent) = (Sketch::new(&[0.1, 1.0, 10.0]), Recent::default());
            let all = Sketch::default();
            for (millis, closes) in &seconds {
                for each in millis {
                    observe(&sketch, *each, 1);
                    observe(&all, *each, 1);
                }
                recent.look(&sketch, *closes);
            }
            let expected: Vec<(i16, f64)> = all
                .counts()
                .enumerate()
                .filter(|(_, n)| *n > 0)
                .map(|(place, n)| (all.bucket_at(place), n as f64))
                .collect();
            prop_assert_eq!(Window::of(&[&recent]).counts().collect::<Vec<_>>(), expected);
        }
    }
}
