//! Readings that wait to be compared: each block holds what both sides did since the last one, of requests that began
//! under the same split and are alike.
use super::amounts::{Alike, SAME_MINUTES};
use super::evidence::Block;
use super::keys::Class;
use super::loud::Hit;
use super::observation::Arm;
use std::collections::BTreeMap;

/// Blocks that are open at a time; of more, the one that was met longest ago is dropped.
const MOST: usize = 256;
/// One that nobody met for so long, in seconds, is dropped: its requests are hardly of the same time as what comes now.
const FORGOTTEN: f64 = 600.0;
/// Hits whose clients and keys are followed in one block.
const FOLLOWED: usize = 64;

/// Requests that are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stratum {
    /// The split under which they began: after a cut what ends is what was slow, on either side.
    pub(super) split: u32,
    pub(super) alike: Alike,
    pub(super) class: Class,
}

/// One reading on its way into a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) arm: Arm,
    pub(super) hit: bool,
    pub(super) whose: Hit,
    /// Seconds.
    pub(super) age: f64,
    /// The candidate's share under its split.
    pub(super) share: f64,
    /// Blocks of amounts may not grow old: what the one side did minutes ago is not compared with what the other does now.
    pub(super) amounts: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Pending {
    block: Block,
    opened: f64,
    met: f64,
    hits: Vec<Hit>,
}

/// A block that is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Closed {
    pub(super) block: Block,
    /// Of the candidate.
    pub(super) hits: Vec<Hit>,
}

/// All blocks that are open.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Blocks(BTreeMap<Stratum, Pending>);

impl Blocks {
    /// Takes in a reading. A block ends with one of the smaller side.
    pub(super) fn enter(&mut self, stratum: Stratum, entry: Entry) -> Option<Closed> {
        if !self.0.contains_key(&stratum) && self.0.len() >= MOST {
            let oldest = self.0.iter().min_by(|a, b| a.1.met.total_cmp(&b.1.met));
            let oldest = *oldest.expect("it is full").0;
            self.0.remove(&oldest);
        }
        let pending = self.0.entry(stratum).or_default();
        let Entry { arm, hit, whose, age, share, amounts } = entry;
        let old = amounts && age - pending.opened > SAME_MINUTES;
        if old || age - pending.met > FORGOTTEN || pending.block == Block::default() {
            *pending = Pending { opened: age, ..Pending::default() };
        }
        pending.met = age;
        let one = f64::from(u8::from(hit));
        let block = &mut pending.block;
        match arm {
            Arm::Candidate => {
                block.candidate_hits += one;
                block.candidate += 1.0;
                if hit && pending.hits.len() < FOLLOWED {
                    pending.hits.push(whose);
                }
            }
            Arm::Stable => {
                block.stable_hits += one;
                block.stable += 1.0;
            }
        }
        let smaller = if share <= 0.5 { Arm::Candidate } else { Arm::Stable };
        (arm == smaller && pending.block.has_both()).then(|| {
            let hits = std::mem::take(&mut pending.hits);
            Closed { block: std::mem::take(&mut pending.block), hits }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry {
        arm: Arm::Stable,
        hit: false,
        whose: Hit { client: None, key: None, aimed: true },
        age: 0.0,
        share: 0.05,
        amounts: false,
    };

    fn stratum(split: u32) -> Stratum {
        Stratum { split, alike: Alike::ANY, class: Class::Drawn }
    }

    #[test]
    fn a_block_ends_with_a_request_of_the_smaller_side() {
        let mut blocks = Blocks::default();
        let candidate = Entry { arm: Arm::Candidate, hit: true, ..ENTRY };
        assert_eq!(blocks.enter(stratum(1), candidate), None, "there is nothing beside it");
        for _ in 0..9 {
            assert_eq!(blocks.enter(stratum(1), ENTRY), None);
        }
        let closed = blocks.enter(stratum(1), Entry { hit: false, ..candidate }).unwrap();
        assert_eq!(closed.block, Block::new(1.0, 2.0, 0.0, 9.0));
        assert_eq!(closed.hits.len(), 1);
    }

    #[test]
    fn what_began_under_another_split_is_compared_with_its_like() {
        let mut blocks = Blocks::default();
        for split in [1, 2] {
            assert_eq!(blocks.enter(stratum(split), ENTRY), None);
        }
        let late = Entry { arm: Arm::Candidate, hit: true, ..ENTRY };
        let closed = blocks.enter(stratum(1), late).unwrap();
        assert_eq!(closed.block, Block::new(1.0, 1.0, 0.0, 1.0));
    }

    #[test]
    fn they_are_bounded_and_grow_no_older_than_they_may() {
        let mut blocks = Blocks::default();
        for split in 0..1000 {
            blocks.enter(stratum(split), Entry { age: f64::from(split), ..ENTRY });
        }
        assert_eq!(blocks.0.len(), MOST);
        let late = Entry { arm: Arm::Candidate, age: 1121.0, amounts: true, ..ENTRY };
        assert_eq!(blocks.enter(stratum(999), late), None, "what it began with is too old");
        assert!(blocks.enter(stratum(998), Entry { amounts: false, ..late }).is_some());
    }
}
