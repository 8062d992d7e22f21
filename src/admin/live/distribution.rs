//! How latencies are spread, coarse enough to be drawn.
use super::latencies::Window;
use crate::admin::live::figures::shown;
use crate::stats::log_scale::lower;
use serde::Serialize;

/// Buckets of the scale that make one bin: eight bins to an octave.
const IN_BIN: i16 = 8;

/// Requests by how long they took. All in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Distribution {
    requests: u64,
    /// Where the first bin begins.
    from_ms: f32,
    /// Where each bin ends, with the requests in it, from the first to the last that has some.
    bins: Vec<(f32, u64)>,
}

impl Distribution {
    pub(super) fn of(window: &Window) -> Self {
        let mut bins: Vec<u64> = Vec::new();
        let mut first = None;
        for (bucket, count) in window.counts() {
            let bin = bucket.div_euclid(IN_BIN);
            let first = *first.get_or_insert(bin);
            bins.resize(usize::from(bin.abs_diff(first)) + 1, 0);
            if let Some(last) = bins.last_mut() {
                *last += count as u64;
            }
        }
        let Some(first) = first else { return Self::default() };
        let begin = |bin: i16| shown(1e3 * lower(bin * IN_BIN));
        let ends = (first + 1..).map(begin);
        Self { requests: bins.iter().sum(), from_ms: begin(first), bins: ends.zip(bins).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::live::latencies::Recent;
    use crate::fleet::Sketch;
    use std::time::Duration;

    #[test]
    fn bins_are_from_the_first_that_has_some_to_the_last() {
        let (sketch, mut recent) = (Sketch::default(), Recent::default());
        for millis in [100, 101, 101, 150, 240] {
            sketch.observe(Duration::from_millis(millis));
        }
        recent.look(&sketch, false);
        let found = Distribution::of(&Window::of(&[&recent]));
        assert_eq!((found.requests, found.from_ms), (5, 93.75));
        let counts: Vec<u64> = found.bins.iter().map(|(_, n)| *n).collect();
        assert_eq!((counts.iter().sum::<u64>(), counts[0], counts.last()), (5, 3, Some(&1)));
        assert!(found.bins.windows(2).all(|two| two[0].0 < two[1].0));
        assert!(found.bins.last().is_some_and(|(end, _)| *end > 240.0));
        assert_eq!(Distribution::of(&Window::default()), Distribution::default());
    }
}
