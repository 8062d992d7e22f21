//! A log-linear scale: buckets narrow enough that each quantile read from their counts is off by less than 1 %.
//!
//! Each octave is divided into 64 equal buckets, as in `HdrHistogram`, so a bucket is found by the bits of the number
//! alone. Counts on one scale can be added and subtracted, bucket by bucket: sketches merge, and a window is the
//! difference of two looks. (`DDSketch`, by Masson, Rim and Lee, VLDB 2019, has the same error with a logarithm for
//! each number.)

/// Bits of the mantissa that choose the bucket within an octave.
const BITS: u32 = 6;
/// Buckets of an octave.
pub const PER_OCTAVE: i16 = 1 << BITS;
/// Bits of an `f64` below its exponent.
const MANTISSA: u32 = 52;
/// The exponent that an `f64` stores for numbers from 1 to 2.
const BIAS: i64 = 1023;

/// The bucket of a number above 0. Bucket 0 begins at 1; numbers below 1 have negative buckets.
pub fn bucket(value: f64) -> i16 {
    let bits = value.max(f64::MIN_POSITIVE).to_bits() >> (MANTISSA - BITS);
    // 2^11 exponents of 64 buckets each; those of numbers that occur are near 0.
    let place = bits.cast_signed() - (BIAS << BITS);
    place.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16
}

/// Where a bucket begins.
pub fn lower(bucket: i16) -> f64 {
    let (octave, part) = (bucket >> BITS, bucket & (PER_OCTAVE - 1));
    2_f64.powi(i32::from(octave)) * (1.0 + f64::from(part) / f64::from(PER_OCTAVE))
}

/// The middle of a bucket: at most 0.8 % from every number in it.
pub fn middle(bucket: i16) -> f64 {
    f64::midpoint(lower(bucket), lower(bucket.saturating_add(1)))
}

/// The number below which the fraction `q` of all counted numbers lies, interpolated between the two nearest in rank
/// (method 7 of Hyndman and Fan, 1996: what spreadsheets and `NumPy` do). `None`: nothing is counted.
///
/// `counts`: each bucket with its count, in rising order. `q`: from 0 to 1.
pub fn quantile(counts: impl Iterator<Item = (i16, f64)> + Clone, q: f64) -> Option<f64> {
    let total: f64 = counts.clone().map(|(_, count)| count).sum();
    if total <= 0.0 {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * (total - 1.0).max(0.0);
    let (below, part) = (rank.floor(), rank.fract());
    let mut passed = 0.0;
    let mut low = None;
    let mut last = None;
    for (bucket, count) in counts.filter(|(_, count)| *count > 0.0) {
        passed += count;
        last = Some(bucket);
        if low.is_none() && passed > below {
            low = Some(middle(bucket));
        }
        if passed > below + 1.0 {
            break;
        }
    }
    let high = middle(last?);
    // Sums of fractions may fall short of their own total by a rounding.
    let low = low.unwrap_or(high);
    Some(low + (high - low) * part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for number in [-2000, -65, -64, -1, 0, 1, 63, 64, 65, 2000_i16] {
            assert_eq!(bucket(lower(number)), number);
            assert_eq!(bucket(lower(number + 1) * (1.0 - 1e-12)), number);
            assert_eq!(bucket(middle(number)), number);
        }
    }

    #[test]
    fn odd_numbers_have_a_bucket_too() {
        assert_eq!(bucket(0.0), bucket(f64::MIN_POSITIVE));
        assert_eq!(bucket(-1.0), bucket(0.0));
        assert!(bucket(1e300) > bucket(1e6) && bucket(f64::INFINITY) >= bucket(1e300));
        assert_eq!(bucket(f64::NAN), bucket(0.0));
    }

    #[test]
    fn where_nothing_is_counted_there_is_no_quantile() {
        assert_eq!(quantile(std::iter::empty(), 0.5), None);
        assert_eq!(quantile([(3, 0.0)].into_iter(), 0.5), None);
    }

    #[test]
    fn a_quantile_lies_between_its_two_neighbors() {
        let two = || [(bucket(1.0), 1.0), (bucket(2.0), 1.0)].into_iter();
        let [low, high] = [1.0, 2.0].map(|n| middle(bucket(n)));
        for (q, expected) in [(0.0, low), (0.5, f64::midpoint(low, high)), (1.0, high)] {
            assert!((quantile(two(), q).unwrap() - expected).abs() < 1e-12);
        }
    }

    fn counted(numbers: &[f64]) -> BTreeMap<i16, f64> {
        let mut counts = BTreeMap::new();
        for number in numbers {
            *counts.entry(bucket(*number)).or_insert(0.0) += 1.0;
        }
        counts
    }

    /// As method 7 has it.
    fn exact(sorted: &[f64], q: f64) -> f64 {
        let rank = q * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        low + (high - low) * rank.fract()
    }

    proptest! {
        #[test]
        fn a_quantile_is_off_by_less_than_one_percent(
            mut numbers in prop::collection::vec(1e-6..1e6_f64, 1..400), q in 0.0..=1.0_f64,
        ) {
            let counts = counted(&numbers);
            let found = quantile(counts.iter().map(|(b, n)| (*b, *n)), q).unwrap();
            numbers.sort_unstable_by(f64::total_cmp);
            prop_assert!((found / exact(&numbers, q) - 1.0).abs() < 0.008, "{found}");
        }

        #[test]
        fn counts_that_are_added_are_the_counts_of_both(
            one in prop::collection::vec(1e-3..1e3_f64, 1..100),
            other in prop::collection::vec(1e-3..1e3_f64, 1..100),
        ) {
            let mut sum = counted(&one);
            for (bucket, count) in counted(&other) {
                *sum.entry(bucket).or_insert(0.0) += count;
            }
            let both: Vec<f64> = one.iter().chain(&other).copied().collect();
            prop_assert_eq!(sum, counted(&both));
        }
    }
}
