//! Is a pool beyond its capacity? Then timeouts say nothing against one replica, and ejecting it would take from the others
//! what they lack already.
//!
//! Simulated, four replicas at 80 % after a minute at 120 %: with ejection for those timeouts 90 % of the requests fail
//! for the rest of the quarter of an hour, without it 61 %.
use std::collections::VecDeque;
use std::time::Duration;

/// What one replica carries.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// Requests in flight, smoothed, by its weight as a part of the mean weight.
    pub load: f32,
    /// A good part of what it ended last were timeouts.
    pub times_out: bool,
}

/// What holds for one replica at present.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Strain {
    /// What its peers carry: their median [`Carried::load`].
    pub peers_load: f32,
    /// They carry much more than usual.
    pub crowded: bool,
    /// Most of them time out.
    pub time_out: bool,
}

/// More than usual: this many times, and a request more.
const BEYOND: f32 = 1.5;
/// What was carried is noted this often.
const BIN: Duration = Duration::from_secs(10);
/// And remembered for an hour.
const BINS: usize = 360;
/// With fewer, nothing is known.
const ENOUGH: usize = 3;
/// Under strain only one in so many is noted: a collapse must not become the usual within minutes.
const UNDER_STRAIN: u32 = 10;

/// What the replicas of a version usually carry.
#[derive(Clone, Debug, Default)]
pub struct UsualLoad {
    bins: VecDeque<f32>,
    usual: Option<f32>,
    sum: f32,
    seconds: f32,
    skipped: u32,
}

impl UsualLoad {
    /// What holds for each of the usable replicas of a version, in their order.
    pub fn look(&self, carried: &[Carried]) -> Vec<Strain> {
        let all_out = carried.iter().filter(|carried| carried.times_out).count();
        let others = carried.len().saturating_sub(1);
        let strains = medians_of_others(carried).into_iter().zip(carried);
        let strains = strains.map(|(peers_load, it)| Strain {
            peers_load,
            crowded: self.usual.is_some_and(|usual| peers_load > BEYOND * usual + 1.0),
            time_out: (all_out - usize::from(it.times_out)) * 2 > others,
        });
        strains.collect()
    }

    /// Learns from what they carry, `passed` after the last time; `strains`: what [`Self::look`] says of it.
    pub fn learn(&mut self, carried: &[Carried], strains: &[Strain], passed: Duration) {
        if carried.is_empty() {
            return;
        }
        let seconds = passed.as_secs_f32();
        self.sum += median(carried.iter().map(|c| c.load)) * seconds;
        self.seconds += seconds;
        if self.seconds < BIN.as_secs_f32() {
            return;
        }
        let mean = self.sum / self.seconds;
        (self.sum, self.seconds) = (0.0, 0.0);
        let strained =
            strains.iter().filter(|s| s.crowded || s.time_out).count() * 2 > strains.len();
        self.skipped = if strained { self.skipped + 1 } else { 0 };
        if strained && !self.skipped.is_multiple_of(UNDER_STRAIN) {
            return;
        }
        if self.bins.len() == BINS {
            self.bins.pop_front();
        }
        self.bins.push_back(mean);
        self.usual = (self.bins.len() >= ENOUGH).then(|| median(self.bins.iter().copied()));
    }
}

/// For each, the median of all the others; 0 for one alone.
fn medians_of_others(carried: &[Carried]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..carried.len()).collect();
    order.sort_by(|a, b| carried[*a].load.total_cmp(&carried[*b].load));
    let mut medians = vec![0.0; carried.len()];
    let others = carried.len().saturating_sub(1);
    for (rank, i) in order.iter().enumerate() {
        // The kth of those that are left.
        let kth = |k: usize| carried[order[k + usize::from(k >= rank)]].load;
        if others > 0 {
            medians[*i] = f32::midpoint(kth((others - 1) / 2), kth(others / 2));
        }
    }
    medians
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_by(f32::total_cmp);
    f32::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn loads(loads: &[f32]) -> Vec<Carried> {
        loads.iter().map(|&load| Carried { load, times_out: false }).collect()
    }

    /// A second passes.
    fn pass(usual: &mut UsualLoad, carried: &[Carried]) -> Vec<Strain> {
        let strains = usual.look(carried);
        usual.learn(carried, &strains, SECOND);
        strains
    }

    fn usually(load: f32) -> UsualLoad {
        let mut usual = UsualLoad::default();
        for _ in 0..60 {
            pass(&mut usual, &loads(&[load; 4]));
        }
        usual
    }

    #[test]
    fn a_pool_far_beyond_its_usual_load_is_crowded_and_one_hung_replica_is_not() {
        let mut usual = usually(4.0);
        let crowded = |usual: &mut UsualLoad, now: &[f32]| -> Vec<bool> {
            pass(usual, &loads(now)).iter().map(|s| s.crowded).collect()
        };
        assert_eq!(crowded(&mut usual, &[8.0; 4]), [true; 4]);
        assert_eq!(crowded(&mut usual, &[6.9; 4]), [false; 4]);
        // All its requests hang, and the others carry a little more.
        assert_eq!(crowded(&mut usual, &[90.0, 5.0, 6.0, 5.0]), [false; 4]);
        // Of two the other one is all the pool.
        assert_eq!(crowded(&mut usual, &[90.0, 5.0]), [false, true]);
    }

    #[test]
    fn nothing_is_unusual_before_half_a_minute_is_known() {
        let mut usual = UsualLoad::default();
        for load in 0..25_u16 {
            let strains = pass(&mut usual, &loads(&[f32::from(load * load); 3]));
            assert!(strains.iter().all(|s| !s.crowded));
        }
    }

    #[test]
    fn a_collapse_is_not_the_usual_for_minutes_and_growth_is_in_the_end() {
        let mut usual = usually(4.0);
        let mut seconds = 0;
        while pass(&mut usual, &loads(&[40.0; 4]))[0].crowded {
            seconds += 1;
        }
        assert!((300..3_600).contains(&seconds), "{seconds}");
    }

    #[test]
    fn most_time_out_when_most_of_the_others_do() {
        let look = |out: &[bool]| -> Vec<bool> {
            let carried = out.iter().map(|&times_out| Carried { load: 1.0, times_out });
            let carried: Vec<_> = carried.collect();
            UsualLoad::default().look(&carried).iter().map(|s| s.time_out).collect()
        };
        assert_eq!(look(&[true, false, false, false]), [false; 4]);
        assert_eq!(look(&[true, true, true, false]), [true; 4]);
        assert_eq!(look(&[true, true, false, false]), [false, false, true, true]);
        assert_eq!(look(&[true, true, false]), [false, false, true]);
        assert_eq!(look(&[true, false]), [false, true]);
        assert_eq!(look(&[true]), [false]);
    }

    proptest! {
        #[test]
        fn medians_of_others_are_those_of_what_is_left(all in prop::collection::vec(0.0_f32..100.0, 2..20)) {
            for (i, found) in medians_of_others(&loads(&all)).into_iter().enumerate() {
                let left = all.iter().enumerate().filter(|(k, _)| *k != i).map(|(_, load)| *load);
                prop_assert!((found - median(left)).abs() < 1e-4);
            }
        }
    }
}
