//! Spreading requests without a key evenly over the split: stratified points.
//!
//! The turns are taken in blocks of 128. Within a block each of 128 strata of [0, 1) is hit once, in an
//! order shuffled anew for each block: counts are nearly exact, and yet which request meets which
//! version does not depend on its place in a cycle (smooth round robin and a bare Weyl sequence
//! alias with clients that call periodically, which would bias the canary's comparison). Where in
//! its stratum a block's points lie moves by the golden ratio, so that shares finer than 1/128 even
//! out across blocks (Weyl 1916).

/// 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The point of one turn, as a fraction of 2⁶⁴. `turn` counts the requests of one model without a
/// key; `offset` is random per process, so that proxies are independent of each other.
pub const fn point(turn: u64, offset: u64) -> u64 {
    let block = turn >> 7;
    let within = block.wrapping_mul(GOLDEN).wrapping_add(offset);
    let stratum = shuffle(turn & 127, scramble(offset ^ block));
    (stratum << 57) | (within >> 7)
}

/// A bijection of 0..128 chosen by `key`: four rounds of an odd multiplier, a summand and a shift.
const fn shuffle(mut x: u64, mut key: u64) -> u64 {
    let mut round = 0;
    while round < 4 {
        let odd = (key & 63) << 1 | 1;
        let summand = (key >> 6) & 127;
        x = (x * odd + summand) & 127;
        x ^= x >> 3;
        key >>= 13;
        round += 1;
    }
    x
}

/// All bits of the result depend on all bits of `x` (the finalizer of `SplitMix64`, Steele et al. 2014).
const fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(point: u64) -> f64 {
        point as f64 / 2_f64.powi(64)
    }

    /// How far the hits below `share` stray from their mean, at each turn in `looked_at`.
    fn stray(share: f64, turns: u64, offset: u64, looked_at: impl Fn(u64) -> bool) -> f64 {
        let (mut hits, mut worst) = (0.0, 0.0_f64);
        for turn in 0..turns {
            hits += f64::from(u8::from(unit(point(turn, offset)) < share));
            if looked_at(turn + 1) {
                worst = worst.max((hits - (turn + 1) as f64 * share).abs());
            }
        }
        worst
    }

    proptest! {
        #[test]
        fn every_block_hits_every_stratum_once(block in 0..(1_u64 << 57), offset: u64) {
            let mut strata: Vec<u64> = (0..128).map(|i| point(block << 7 | i, offset) >> 57).collect();
            strata.sort_unstable();
            prop_assert!(strata.into_iter().eq(0..128));
        }
    }

    #[test]
    fn counts_stay_within_twenty_at_every_turn() {
        for share in [0.01, 0.1, 0.25, 0.5, 0.9] {
            for offset in [1, u64::MAX / 3, u64::MAX] {
                let off = stray(share, 20_000, offset, |_| true);
                assert!(off <= 20.0, "{off} off at {share}");
            }
        }
    }

    #[test]
    fn counts_stay_within_four_at_whole_blocks() {
        for share in [0.01, 0.1, 0.25, 0.5, 0.9, 1.0 / 3.0] {
            for offset in [1, u64::MAX / 3, u64::MAX] {
                let off = stray(share, 20_000, offset, |n| n % 128 == 0);
                assert!(off <= 4.0, "{off} off at {share}");
            }
        }
    }

    #[test]
    fn the_place_in_a_block_says_nothing_about_the_point() {
        // χ² of the place in the block of the points below 1/10, 128 places: 127 ± 5 √(2·127).
        let mut seen = [0_u32; 128];
        let mut total = 0;
        for turn in (0..2_000_000).filter(|&turn| unit(point(turn, 42)) < 0.1) {
            seen[(turn & 127) as usize] += 1;
            total += 1;
        }
        let mean = f64::from(total) / 128.0;
        let chi: f64 = seen.iter().map(|&s| (f64::from(s) - mean).powi(2) / mean).sum();
        assert!(chi < 207.0, "χ² = {chi}");
    }

    #[test]
    fn a_client_that_calls_periodically_meets_the_canary_as_often_as_others() {
        for period in [2_u64, 3, 5, 7, 8, 10, 16, 20, 64, 100, 128] {
            let hits = (0..20_000).filter(|i| unit(point(i * period, 9)) < 0.05).count();
            assert!(hits.abs_diff(1_000) < 155, "{hits} of 20 000 at period {period}");
        }
    }
}
