//! How much requests of two sides prove about their rates, whenever one looks.
//!
//! E-processes: bets against a claim whose stake can grow only if the claim is wrong. A true one lets it reach 1/α
//! ever, at any look, with a chance of α at most (Ville). The bets are growth-optimal ones for two samples with a
//! margin between them (Turner, Ly and Grünwald 2021), against the concurrent baseline, so a bad minute that both
//! sides share proves nothing.
use serde::{Deserialize, Serialize};

/// How much worse the alternatives are that are betted on: fractions of the way from the margin to 1.
const EFFECTS: [f64; 8] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9];
/// Requests that the expectation before all evidence counts as.
pub(super) const PRIOR: f64 = 50.0;
/// The part of the capital that is not put on bets at once.
pub(super) const RESERVE: f64 = 0.1;
pub(super) const LEAST: f64 = 1e-4;
pub(super) const MOST: f64 = 0.999;

/// What happened on both sides since the last block. It ends with a request of the smaller side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub candidate_hits: f64,
    pub candidate: f64,
    pub stable_hits: f64,
    pub stable: f64,
}

impl Block {
    pub fn new(candidate_hits: f64, candidate: f64, stable_hits: f64, stable: f64) -> Self {
        Self { candidate_hits, candidate, stable_hits, stable }
    }

    pub fn has_both(&self) -> bool {
        self.candidate > 0.0 && self.stable > 0.0
    }

    /// The logarithm of how much likelier it is with the rates `bet` than with `claim`: (candidate, stable).
    pub(super) fn likelihood(&self, bet: (f64, f64), claim: (f64, f64)) -> f64 {
        self.candidate_hits * (bet.0 / claim.0).ln()
            + (self.candidate - self.candidate_hits) * ((1.0 - bet.0) / (1.0 - claim.0)).ln()
            + self.stable_hits * (bet.1 / claim.1).ln()
            + (self.stable - self.stable_hits) * ((1.0 - bet.1) / (1.0 - claim.1)).ln()
    }

    /// Of all pairs of rates `margin` apart the nearest to the `bet`, by its stable rate between `low` and `high`:
    /// the root of a rising function.
    pub(super) fn nearest(&self, bet: (f64, f64), margin: f64, low: f64, high: f64) -> f64 {
        let (nb, nc) = (self.stable, self.candidate);
        let (tc, tb) = bet;
        let (mut low, mut high) = (low, high);
        // With a margin of 0 it is this mean.
        let mean = (nb * tb + nc * (tc - margin)) / (nb + nc);
        let mut p = if mean > low && mean < high { mean } else { f64::midpoint(low, high) };
        for _ in 0..60 {
            let (vb, q) = (p * (1.0 - p), p + margin);
            let vc = q * (1.0 - q);
            let value = nb * (p - tb) / vb + nc * (q - tc) / vc;
            if value > 0.0 {
                high = p;
            } else {
                low = p;
            }
            let slope = nb * (vb - (p - tb) * (1.0 - 2.0 * p)) / (vb * vb)
                + nc * (vc - (q - tc) * (1.0 - 2.0 * q)) / (vc * vc);
            let newton = p - value / slope;
            let next =
                if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
            let moved = (next - p).abs();
            p = next;
            if moved <= 1e-9 * p {
                break;
            }
        }
        p
    }
}

/// How likely each of the effects is thought to be. A candidate that fails a few percent more is what is hard to find:
/// one that fails nearly always is found by few requests whatever is bet on it.
const BELIEFS: [f64; 8] = [0.08, 0.16, 0.2, 0.2, 0.16, 0.1, 0.06, 0.04];

/// Evidence against "the candidate's rate is at most the stable one plus a margin".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Harm {
    /// The logarithm of each bet's stake.
    stakes: [f64; 8],
    /// The part of the capital that is on no bet yet.
    reserve: f64,
}

impl Default for Harm {
    /// The same stake on each effect.
    fn default() -> Self {
        Self { stakes: [0.0; 8], reserve: 0.0 }
    }
}

impl Harm {
    /// Stakes by belief. Keeps a part of the capital back, to be put on later: a candidate that was good for long has won
    /// nearly all that was bet against it, and its death would take as long to prove as that conduct lasted.
    pub fn keeping(reserve: f64) -> Self {
        Self { stakes: BELIEFS.map(|belief| (8.0 * belief * (1.0 - reserve)).ln()), reserve }
    }

    /// Puts a part of the reserve on all bets alike. The capital stays the same, so this proves nothing by itself; it
    /// must not depend on a block that is not added yet.
    pub fn raise(&mut self, part: f64) {
        let put = self.reserve * part;
        if put > 0.0 {
            self.reserve -= put;
            for stake in &mut self.stakes {
                *stake = log_sum(&[*stake, put.ln()]);
            }
        }
    }

    /// Takes in a block. `usual`: the stable side's rate, learned from earlier blocks only. Returns how much each hit of
    /// the candidate in it added to the logarithm of the capital, to the first order; at least its part of what the whole
    /// block added: without the hit what the stable side did beside it would have proven nothing, either.
    pub fn add(&mut self, block: &Block, usual: f64, margin: f64) -> f64 {
        let margin = margin.clamp(0.0, 0.99);
        let tb = usual.clamp(LEAST, MOST - margin - LEAST);
        let before = self.log();
        let all = before + (EFFECTS.len() as f64).ln();
        let mut each = 0.0;
        for (stake, effect) in self.stakes.iter_mut().zip(EFFECTS) {
            let tc = (tb + margin + (1.0 - tb - margin) * effect).min(MOST);
            let p = block.nearest((tc, tb), margin, tb, (tc - margin).max(tb));
            if block.candidate_hits > 0.0 {
                each += (*stake - all).exp() * (tc / (p + margin)).ln();
            }
            *stake += block.likelihood((tc, tb), (p + margin, p));
        }
        if block.candidate_hits > 0.0 {
            each = f64::max(each, (self.log() - before) / block.candidate_hits);
        }
        each
    }

    /// The logarithm of the capital: the mean stake and the reserve.
    pub fn log(&self) -> f64 {
        let stakes = log_sum(&self.stakes) - (EFFECTS.len() as f64).ln();
        log_sum(&[stakes, self.reserve.ln()])
    }

    /// The logarithm of the part that is on no bet: it is left whatever the bets lose.
    pub(super) fn log_reserve(&self) -> f64 {
        self.reserve.ln()
    }

    pub fn stakes(&self) -> &[f64; 8] {
        &self.stakes
    }

    /// Gives back what was won since the stakes were these.
    pub(super) fn forgive(&mut self, before: &[f64; 8]) {
        for (stake, before) in self.stakes.iter_mut().zip(before) {
            *stake = stake.min(*before);
        }
    }
}

/// The logarithm of a sum of which logarithms are given.
pub(super) fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{Safe, margin_of_step};
    use proptest::prelude::*;

    fn near(found: f64, golden: f64) {
        assert!((found - golden).abs() < 1e-4, "{found} is not {golden}");
    }

    /// Bets, with a rate of the stable side that is never forgotten.
    #[derive(Clone)]
    struct Bets {
        harm: Harm,
        safe: Safe,
        /// Hits and requests: of the candidate and of the stable side.
        seen: [(f64, f64); 2],
    }

    impl Bets {
        fn new(expected: f64, harm: Harm) -> Self {
            Self { harm, safe: Safe::default(), seen: [(expected * PRIOR, PRIOR); 2] }
        }

        fn rates(&self) -> (f64, f64) {
            let [own, usual] = self.seen.map(|(hits, requests)| hits / requests);
            (own, usual)
        }

        fn usual(&self) -> f64 {
            self.rates().1
        }

        fn add(&mut self, block: &Block, margin: f64) {
            self.add_with(block, margin, 0.1);
        }

        fn add_with(&mut self, block: &Block, margin: f64, of_step: f64) {
            self.safe.add(block, self.rates(), of_step);
            self.harm.add(block, self.usual(), margin);
            let [own, usual] = &mut self.seen;
            *own = (own.0 + block.candidate_hits, own.1 + block.candidate);
            *usual = (usual.0 + block.stable_hits, usual.1 + block.stable);
        }
    }

    fn harm(blocks: impl IntoIterator<Item = Block>) -> Vec<f64> {
        let mut bets = Bets::new(0.01, Harm::default());
        let mut logs = Vec::new();
        for block in blocks {
            bets.add(&block, 0.005_f64.max(0.5 * bets.usual()));
            logs.push(bets.harm.log());
        }
        logs
    }

    /// The values of an independent implementation in Python.
    #[test]
    fn evidence_of_harm_is_the_golden_one() {
        let failing = harm([Block::new(1.0, 1.0, 0.0, 99.0); 5]);
        for (found, golden) in failing.iter().zip([2.95536, 7.32789, 12.02051, 16.82344, 21.68121])
        {
            near(*found, golden);
        }
        near(harm([Block::new(0.0, 1.0, 0.0, 99.0); 200])[199], -2.68813);
        let mixed =
            (0..50).map(|i| Block::new(f64::from(i % 10 == 9), 1.0, f64::from(i % 3 == 0), 33.0));
        near(harm(mixed)[49], 3.5687);
        let equal = (0..400).map(|i| {
            let hit = f64::from(i % 20 == 0);
            Block::new(hit, 1.0, hit, 1.0)
        });
        near(harm(equal)[399], -1.97951);
    }

    #[test]
    fn the_stakes_are_the_golden_ones() {
        let mut harm = Harm::default();
        harm.add(&Block::new(1.0, 1.0, 0.0, 99.0), 0.01, 0.005);
        let golden = [0.28503, 0.50703, 0.84316, 1.46614, 2.04731, 2.69861, 3.66845, 4.40947];
        for (found, golden) in harm.stakes().iter().zip(golden) {
            near(*found, golden);
        }
    }

    #[test]
    fn what_the_stable_side_did_beside_a_hit_is_the_hits() {
        for stable in [1.0, 9.0, 99.0] {
            let (mut harm, mut hits) = (Harm::keeping(0.1), 0.0);
            for _ in 0..200 {
                hits += harm.add(&Block::new(1.0, 1.0, 0.0, stable), 0.01, 0.005);
            }
            assert!(hits >= harm.log() - 1e-9, "{hits} of {}", harm.log());
        }
    }

    #[test]
    fn a_reserve_keeps_long_good_conduct_from_hiding_a_death() {
        let death = |harm: Harm| {
            let mut bets = Bets::new(0.01, harm);
            for n in 0..5000 {
                bets.add(&Block::new(0.0, 1.0, f64::from(u8::from(n % 20 == 0)), 9.0), 0.005);
                let before = bets.harm.log();
                if n % 15 == 0 {
                    bets.harm.raise(0.01);
                }
                assert!((bets.harm.log() - before).abs() < 1e-9, "what is put on was there before");
            }
            let failed = Block::new(1.0, 1.0, 0.0, 9.0);
            (1..1000).find(|_| {
                bets.add(&failed, 0.005);
                bets.harm.log() > 100_f64.ln()
            })
        };
        assert_eq!(death(Harm::keeping(0.1)), Some(7));
        assert!(death(Harm::default()) > Some(30));
    }

    #[test]
    fn a_block_is_learned_from_only_after_the_bet() {
        let (bad, good) = (Block::new(1.0, 1.0, 9.0, 99.0), Block::new(0.0, 1.0, 0.0, 99.0));
        let (one, other) = (harm([bad, good])[1], harm([good, bad])[1]);
        assert!((one - other).abs() > 1e-3, "{one} {other}");
    }

    #[test]
    fn good_requests_prove_a_candidate_safe_after_the_golden_numbers() {
        for (margin, needed, after_100) in
            [(0.10, 30, 10.244), (0.05, 63, 4.83902), (0.02, 168, 1.73445), (0.01, 352, 0.72524)]
        {
            let mut bets = Bets::new(0.01, Harm::default());
            let block = Block::new(0.0, 1.0, 0.0, 99.0);
            let mut reached = None;
            for n in 1..=400 {
                bets.add_with(&block, 0.005, margin);
                if n == 100 {
                    near(bets.safe.log(), after_100);
                }
                if reached.is_none() && bets.safe.log() >= 20_f64.ln() {
                    reached = Some(n);
                }
            }
            assert_eq!(reached, Some(needed));
        }
    }

    proptest! {
        #[test]
        fn no_counts_make_nonsense(
            blocks in prop::collection::vec((0_u16..40, 1_u16..40, 0_u16..400, 1_u16..400), 1..60),
            points in 0.0..0.5_f64, times in 1.0..20.0_f64,
        ) {
            let mut bets = Bets::new(0.01, Harm::keeping(0.1));
            for (kc, nc, kb, nb) in blocks {
                let block = Block::new(
                    f64::from(kc.min(nc)), f64::from(nc), f64::from(kb.min(nb)), f64::from(nb),
                );
                let usual = bets.usual();
                let margin = points.max((times - 1.0) * usual);
                bets.add_with(&block, margin, margin_of_step(0.3, margin, usual));
                prop_assert!(bets.harm.log().is_finite(), "{:?} at {margin}", bets.harm);
                prop_assert!(bets.safe.log().is_finite(), "{:?} at {margin}", bets.safe);
            }
        }

        /// What makes an e-process valid: on the edge of the claim a stake does not grow on average.
        #[test]
        fn a_true_claim_gains_nothing_on_average(
            usual in 0.001..0.4_f64, truth in 0.001..0.5_f64, margin in 0.0..0.2_f64, others in 1_u8..20,
        ) {
            let before = Harm::keeping(0.1);
            let (pc, nb) = (truth + margin, f64::from(others));
            let mut mean = 0.0;
            for kc in 0..2 {
                for kb in 0..=others {
                    let chance = (0..others).fold(1.0, |all, i| {
                        let (i, k) = (f64::from(i), f64::from(kb));
                        all * if i < k { truth * (nb - i) / (k - i) } else { 1.0 - truth }
                    }) * if kc == 1 { pc } else { 1.0 - pc };
                    let mut harm = before.clone();
                    harm.add(&Block::new(f64::from(kc), 1.0, f64::from(kb), nb), usual, margin);
                    mean += chance * harm.log().exp();
                }
            }
            prop_assert!(mean <= 1.0 + 1e-6, "{mean}");
        }

        /// A factor is convex in the hit, so a fractional reading of the same mean gains no more than a whole one.
        #[test]
        fn fractional_hits_gain_no_more_than_whole_ones(
            usual in 0.001..0.4_f64, margin in 0.0..0.2_f64, part in 0.0..1.0_f64, others in 1_u8..20,
        ) {
            let capital = |hits: f64| {
                let mut harm = Harm::keeping(0.1);
                harm.add(&Block::new(hits, 1.0, 0.0, f64::from(others)), usual, margin);
                harm.log().exp()
            };
            let whole = part * capital(1.0) + (1.0 - part) * capital(0.0);
            prop_assert!(capital(part) <= whole + 1e-9);
        }

        /// What each hit is said to add, and what it adds.
        #[test]
        fn the_part_of_a_hit_is_what_it_adds_to_the_first_order(usual in 0.001..0.2_f64, others in 1_u8..20) {
            let mut harm = Harm::keeping(0.1);
            for _ in 0..5 {
                let (before, with) = (harm.log(), Block::new(1.0, 1.0, 0.0, f64::from(others)));
                let mut without = harm.clone();
                let each = harm.add(&with, usual, 0.005);
                without.add(&Block::new(0.0, 1.0, 0.0, f64::from(others)), usual, 0.005);
                prop_assert!(each > 0.0 && harm.log() - before <= 2.0 * each + 1.0);
                prop_assert!(without.log() < harm.log());
            }
        }
    }
}
