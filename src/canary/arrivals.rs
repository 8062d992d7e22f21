//! What sticky keys meet when they come to the candidate: of each the first reading there, and no other.
//!
//! A candidate may fail always for some of the users, who are known to fail from their first minute on: there is nobody
//! like them on the stable side any more. Meanwhile those whom it serves well come back each minute, and make of "it fails
//! for one user in twenty" a rate of few failures a minute. So whoever comes to the candidate is one reading, once, and is
//! compared with keys on the stable side that have the same history. A key's side knows nothing of what its requests are
//! like, so where both versions are alike these fail alike.
//!
//! Simulated with a thousand users: where those who ask seldom fail up to 30 % on both sides, 0 of 360 equal candidates
//! were rolled back. Of those that failed always for 5, 4 and 3 % of the users, 37, 34 and 22 of 40 were.
use super::blocks::{Blocks, Closed, Entry, Stratum};
use super::clients::Clients;
use super::evidence::{Harm, RESERVE, log_sum};
use super::loud::Loud;
use super::observation::Arm;
use serde::{Deserialize, Serialize};

/// A process of its own beside that of all readings: the same failures are part of both, so their mean is what holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Arrivals {
    harm: Harm,
    loud: Loud,
    /// Keys that came to the candidate.
    came: u64,
    #[serde(skip)]
    blocks: Blocks,
}

impl Default for Arrivals {
    fn default() -> Self {
        let (harm, loud) = (Harm::keeping(RESERVE), Loud::default());
        Self { harm, loud, came: 0, blocks: Blocks::default() }
    }
}

impl Arrivals {
    /// Takes in a reading of the stable side, or a key's first one of the candidate's. Returns the block that it ends.
    pub(super) fn enter(&mut self, stratum: Stratum, entry: Entry) -> Option<Closed> {
        self.came += u64::from(entry.arm == Arm::Candidate);
        self.blocks.enter(stratum, entry)
    }

    /// Bets on a block. `usual`: how often the stable side's keys of its history fail; `margin`: by how much more the
    /// candidate's may.
    pub(super) fn add(&mut self, Closed { block, hits }: &Closed, usual: f64, margin: f64) {
        let each = self.harm.add(block, usual, margin);
        self.loud.gain(hits, each);
    }

    /// How many keys came to the candidate; `None`: no request has one.
    pub(super) fn keys(&self) -> Option<u64> {
        (self.came > 0).then_some(self.came)
    }

    pub(super) fn raise(&mut self, part: f64) {
        self.harm.raise(part);
    }

    /// Forgets whatever speaks against the candidate.
    pub(super) fn forgive(&mut self) {
        self.harm.forgive(Harm::keeping(RESERVE).stakes());
        self.loud.forgive();
    }

    /// The logarithm of what both say together: `all` is that of all readings.
    pub(super) fn with(&self, all: f64, clients: &Clients) -> f64 {
        if self.came == 0 {
            return all;
        }
        log_sum(&[all, self.loud.left_of(&self.harm, clients)]) - std::f64::consts::LN_2
    }
}
