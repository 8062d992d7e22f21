//! How much requests of two sides prove that a candidate is good enough for the next step.
use super::evidence::{Block, LEAST, MOST};
use serde::{Deserialize, Serialize};

/// Evidence against "the candidate's rate exceeds the stable one by a margin or more": what lets it advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Safe {
    stake: f64,
}

impl Safe {
    /// Each step asks anew: what a small share proved says little of a large one.
    pub fn restart(&mut self) {
        self.stake = 0.0;
    }

    /// The logarithm of the stake.
    pub fn log(&self) -> f64 {
        self.stake
    }

    /// The rates that are bet on, from what the candidate did and what is usual. `None`: none.
    fn bet((own, usual): (f64, f64), margin: f64) -> Option<(f64, f64)> {
        let tb = usual.clamp(LEAST, 0.9);
        let tc = f64::midpoint(own.clamp(LEAST, 0.95), tb);
        (tc < tb + margin && has_room(tb, margin)).then_some((tc, tb))
    }

    fn gain(bet: (f64, f64), block: &Block, margin: f64) -> f64 {
        let (tc, tb) = bet;
        let p = block.nearest(bet, margin, (tc - margin).max(1e-9).min(tb), tb);
        block.likelihood((tc, tb), (p + margin, p))
    }

    /// Takes in a block. `rates`: of the candidate and of the stable side before it.
    pub fn add(&mut self, block: &Block, rates: (f64, f64), margin: f64) {
        if let Some(bet) = Self::bet(rates, margin) {
            self.stake += Self::gain(bet, block, margin);
        }
    }

    /// What one more request of the candidate gains on average if it goes on as so far; the stable side gets `beside`
    /// in the same time. `None`: nothing.
    pub fn pace(rates: (f64, f64), margin: f64, beside: f64) -> Option<f64> {
        let bet = Self::bet(rates, margin)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, golden: f64) {
        assert!((found - golden).abs() < 1e-4, "{found} is not {golden}");
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
}
