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
const PRIOR: f64 = 50.0;
const LEAST: f64 = 1e-4;
const MOST: f64 = 0.999;

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
    fn likelihood(&self, bet: (f64, f64), claim: (f64, f64)) -> f64 {
        self.candidate_hits * (bet.0 / claim.0).ln()
            + (self.candidate - self.candidate_hits) * ((1.0 - bet.0) / (1.0 - claim.0)).ln()
            + self.stable_hits * (bet.1 / claim.1).ln()
            + (self.stable - self.stable_hits) * ((1.0 - bet.1) / (1.0 - claim.1)).ln()
    }

    /// Of all pairs of rates `margin` apart the nearest to the `bet`, by its stable rate between `low` and `high`:
    /// the root of a rising function.
    fn nearest(&self, bet: (f64, f64), margin: f64, low: f64, high: f64) -> f64 {
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

/// Evidence against "the candidate's rate is at most the stable one plus a margin".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Harm {
    /// The logarithm of each bet's stake.
    stakes: [f64; 8],
    /// The part of the capital that is on no bet yet.
    reserve: f64,
    /// Of the stable side, with what was expected before.
    hits: f64,
    requests: f64,
}

impl Harm {
    /// `expected`: the rate before anything was seen.
    pub fn new(expected: f64) -> Self {
        Self { stakes: [0.0; 8], reserve: 0.0, hits: expected * PRIOR, requests: PRIOR }
    }

    /// Keeps a part of the capital back, to be put on later: a candidate that was good for long has won nearly all that
    /// was betted against it, and its death would take as long to prove as that conduct lasted.
    pub fn keeping(expected: f64, reserve: f64) -> Self {
        Self { stakes: [(1.0 - reserve).ln(); 8], reserve, ..Self::new(expected) }
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

    /// The stable side's rate so far.
    pub fn usual(&self) -> f64 {
        self.hits / self.requests
    }

    /// Takes in a block. The bets come from earlier ones only; the block is learned from afterwards.
    pub fn add(&mut self, block: &Block, margin: f64) {
        let margin = margin.clamp(0.0, 0.99);
        let tb = self.usual().clamp(LEAST, MOST - margin - LEAST);
        for (stake, effect) in self.stakes.iter_mut().zip(EFFECTS) {
            let tc = (tb + margin + (1.0 - tb - margin) * effect).min(MOST);
            let p = block.nearest((tc, tb), margin, tb, (tc - margin).max(tb));
            *stake += block.likelihood((tc, tb), (p + margin, p));
        }
        self.hits += block.stable_hits;
        self.requests += block.stable;
    }

    /// The logarithm of the capital: the mean stake and the reserve.
    pub fn log(&self) -> f64 {
        let stakes = log_sum(&self.stakes) - (EFFECTS.len() as f64).ln();
        log_sum(&[stakes, self.reserve.ln()])
    }

    pub fn stakes(&self) -> &[f64; 8] {
        &self.stakes
    }
}

/// Evidence against "the candidate's rate exceeds the stable one by a margin or more": what lets it advance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Safe {
    stake: f64,
    /// Of the candidate, over the whole roll-out, with what was expected before.
    hits: f64,
    requests: f64,
}

impl Safe {
    pub fn new(expected: f64) -> Self {
        Self { stake: 0.0, hits: expected * PRIOR, requests: PRIOR }
    }

    /// Each step asks anew: what a small share proved says little of a large one.
    pub fn restart(&mut self) {
        self.stake = 0.0;
    }

    /// The logarithm of the stake.
    pub fn log(&self) -> f64 {
        self.stake
    }

    fn bet(&self, usual: f64, margin: f64) -> Option<(f64, f64)> {
        let tb = usual.clamp(LEAST, 0.9);
        let tc = f64::midpoint((self.hits / self.requests).clamp(LEAST, 0.95), tb);
        (tc < tb + margin && has_room(tb, margin)).then_some((tc, tb))
    }

    fn gain(bet: (f64, f64), block: &Block, margin: f64) -> f64 {
        let (tc, tb) = bet;
        let p = block.nearest(bet, margin, (tc - margin).max(1e-9).min(tb), tb);
        block.likelihood((tc, tb), (p + margin, p))
    }

    /// Takes in a block. `usual`: the stable rate before it.
    pub fn add(&mut self, block: &Block, usual: f64, margin: f64) {
        if let Some(bet) = self.bet(usual, margin) {
            self.stake += Self::gain(bet, block, margin);
        }
        self.hits += block.candidate_hits;
        self.requests += block.candidate;
    }

    /// What one more request of the candidate gains on average if it goes on as so far; the stable side gets `beside`
    /// in the same time. `None`: nothing.
    pub fn pace(&self, usual: f64, margin: f64, beside: f64) -> Option<f64> {
        let bet = self.bet(usual, margin)?;
        let block = Block::new(bet.0, 1.0, bet.1 * beside, beside);
        Some(Self::gain(bet, &block, margin)).filter(|gain| *gain > 1e-6)
    }
}

/// Could anything be worse than `usual` by the margin?
pub(super) fn has_room(usual: f64, margin: f64) -> bool {
    usual + margin < MOST
}

/// By how much a candidate with `share` may be worse without being kept from the next step: the more exposure, the
/// tighter, and never tighter than what does not stop it (`stops`), nor than a quarter of what is usual: where every
/// third answer is bad, a point is not to be told from chance in a day.
pub fn margin_of_step(share: f64, stops: f64, usual: f64) -> f64 {
    const BOUNDS: [(f64, f64); 4] = [(0.01, 0.10), (0.05, 0.05), (0.25, 0.02), (0.50, 0.01)];
    let place = BOUNDS.iter().position(|(upto, _)| share <= *upto + 1e-12);
    let own = match place {
        Some(0) => BOUNDS[0].1,
        Some(i) => {
            let ((x0, y0), (x1, y1)) = (BOUNDS[i - 1], BOUNDS[i]);
            y0 + (y1 - y0) * (share / x0).ln() / (x1 / x0).ln()
        }
        None => BOUNDS[3].1,
    };
    own.max(1.5 * stops).max(usual / 4.0)
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
    use proptest::prelude::*;

    fn near(found: f64, golden: f64) {
        assert!((found - golden).abs() < 1e-4, "{found} is not {golden}");
    }

    fn margin(harm: &Harm) -> f64 {
        0.005_f64.max(0.5 * harm.usual())
    }

    fn harm(blocks: impl IntoIterator<Item = Block>) -> Vec<f64> {
        let mut harm = Harm::new(0.01);
        let mut logs = Vec::new();
        for block in blocks {
            let margin = margin(&harm);
            harm.add(&block, margin);
            logs.push(harm.log());
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
        let mut harm = Harm::new(0.01);
        harm.add(&Block::new(1.0, 1.0, 0.0, 99.0), 0.005);
        let golden = [0.28503, 0.50703, 0.84316, 1.46614, 2.04731, 2.69861, 3.66845, 4.40947];
        for (found, golden) in harm.stakes().iter().zip(golden) {
            near(*found, golden);
        }
    }

    #[test]
    fn a_reserve_keeps_long_good_conduct_from_hiding_a_death() {
        let death = |mut harm: Harm| {
            for n in 0..5000 {
                harm.add(&Block::new(0.0, 1.0, f64::from(u8::from(n % 20 == 0)), 9.0), 0.005);
                let before = harm.log();
                if n % 15 == 0 {
                    harm.raise(0.01);
                }
                assert!((harm.log() - before).abs() < 1e-9, "what is put on was there before");
            }
            let failed = Block::new(1.0, 1.0, 0.0, 9.0);
            (1..1000).find(|_| {
                harm.add(&failed, 0.005);
                harm.log() > 100_f64.ln()
            })
        };
        assert_eq!(death(Harm::keeping(0.01, 0.1)), Some(7));
        assert!(death(Harm::new(0.01)) > Some(30));
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
            let (mut safe, mut harm) = (Safe::new(0.01), Harm::new(0.01));
            let block = Block::new(0.0, 1.0, 0.0, 99.0);
            let mut reached = None;
            for n in 1..=400 {
                safe.add(&block, harm.usual(), margin);
                harm.add(&block, 0.005);
                if n == 100 {
                    near(safe.log(), after_100);
                }
                if reached.is_none() && safe.log() >= 20_f64.ln() {
                    reached = Some(n);
                }
            }
            assert_eq!(reached, Some(needed));
        }
    }

    #[test]
    fn a_step_asks_for_more_the_larger_its_share() {
        for (share, margin) in [(0.001, 0.1), (0.01, 0.1), (0.05, 0.05), (0.25, 0.02), (0.5, 0.01)]
        {
            near(margin_of_step(share, 0.0, 0.01), margin);
        }
        near(margin_of_step(0.75, 0.005, 0.01), 0.01);
        near(margin_of_step(0.5, 0.02, 0.01), 0.03);
        near(margin_of_step(0.5, 0.01, 0.4), 0.1);
        near(margin_of_step((0.25_f64 * 0.5).sqrt(), 0.0, 0.01), 0.015);
    }

    proptest! {
        #[test]
        fn no_counts_make_nonsense(
            blocks in prop::collection::vec((0_u16..40, 1_u16..40, 0_u16..400, 1_u16..400), 1..60),
            points in 0.0..0.5_f64, times in 1.0..20.0_f64,
        ) {
            let (mut harm, mut safe) = (Harm::new(0.01), Safe::new(0.01));
            for (kc, nc, kb, nb) in blocks {
                let block = Block::new(
                    f64::from(kc.min(nc)), f64::from(nc), f64::from(kb.min(nb)), f64::from(nb),
                );
                let margin = points.max((times - 1.0) * harm.usual());
                let usual = harm.usual();
                safe.add(&block, usual, margin_of_step(0.3, margin, usual));
                harm.add(&block, margin);
                prop_assert!(harm.log().is_finite(), "{harm:?} at {margin}");
                prop_assert!(safe.log().is_finite(), "{safe:?} at {margin}");
            }
        }

        /// What makes an e-process valid: on the edge of the claim a stake does not grow on average.
        #[test]
        fn a_true_claim_gains_nothing_on_average(
            usual in 0.001..0.4_f64, truth in 0.001..0.5_f64, margin in 0.0..0.2_f64, others in 1_u8..20,
        ) {
            let before = Harm { hits: usual * 1e3, requests: 1e3, ..Harm::new(0.0) };
            let (pc, nb) = (truth + margin, f64::from(others));
            let mut mean = 0.0;
            for kc in 0..2 {
                for kb in 0..=others {
                    let chance = (0..others).fold(1.0, |all, i| {
                        let (i, k) = (f64::from(i), f64::from(kb));
                        all * if i < k { truth * (nb - i) / (k - i) } else { 1.0 - truth }
                    }) * if kc == 1 { pc } else { 1.0 - pc };
                    let mut harm = before.clone();
                    harm.add(&Block::new(f64::from(kc), 1.0, f64::from(kb), nb), margin);
                    mean += chance * harm.log().exp();
                }
            }
            prop_assert!(mean <= 1.0 + 1e-6, "{mean}");
        }
    }
}
