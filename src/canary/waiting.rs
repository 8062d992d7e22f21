//! Requests that are still open: what they have come to so far counts now, and not again at their end.
use super::observation::Arm;
use super::prefixes::Warmth;
use std::collections::{BTreeMap, BTreeSet};

/// Requests whose readings were taken before their end; of more, the end alone is read.
const MOST: usize = 65_536;
/// So unlikely must it be by chance that the candidate has so many of the late ones, as a logarithm: one in a thousand.
pub(super) const UNLIKELY: f64 = 6.9;
/// Fewer late requests tell nothing.
pub(super) const FEW: u64 = 3;

/// What is found out once about a request, however often it is looked at while it is open: its client is counted then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Met {
    /// How warm the cache was that it met.
    pub(super) warmth: Warmth,
    /// Its client has not had more than its part of this side.
    pub(super) admitted: bool,
}

/// What was taken of one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Read {
    /// The checks that have read it, as bits.
    checks: u16,
    met: Option<Met>,
    /// The round in which it was open last.
    round: u32,
}

/// What was taken of open requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Waiting {
    read: BTreeMap<u64, Read>,
    round: u32,
    /// Requests that began on this step: of each side, those that are over, those that are open, and those of them that
    /// are late.
    over: [u64; 2],
    open: [u64; 2],
    late: [u64; 2],
    /// Who has one of the late ones, on which side: each counts once.
    whose: BTreeSet<(usize, u64)>,
    /// How many of the candidate's late ones each client has, where it did not choose its side.
    each: BTreeMap<u64, u64>,
}

/// Requests that began on this step and are open, and those of them that are late, of the candidate and of the stable
/// side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) open: [u64; 2],
    pub(super) late: [u64; 2],
}

/// Whose an open request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    /// It was drawn, and nobody knows whose it is.
    Anybody,
    /// It was drawn for this client.
    Drawn(u64),
    /// This one has chosen its side.
    Chosen(u64),
}

fn side(arm: Arm) -> usize {
    usize::from(arm == Arm::Stable)
}

/// How far a rate is from the one that is expected, for each reading: Chernoff's bound on the tail of the binomial
/// distribution, as a logarithm (the Kullback-Leibler divergence).
pub(super) fn divergence(rate: f64, expected: f64) -> f64 {
    let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    term(rate, expected) + term(1.0 - rate, 1.0 - expected)
}

impl Waiting {
    /// Begins to look at all that are open.
    pub(super) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
        (self.open, self.late) = ([0; 2], [0; 2]);
        self.whose.clear();
        self.each.clear();
    }

    /// Which checks have read this one, and what is known of it? `None`: it cannot be followed.
    pub(super) fn read(&mut self, id: u64) -> Option<(u16, Option<Met>)> {
        if self.read.len() >= MOST && !self.read.contains_key(&id) {
            return None;
        }
        let read = self.read.entry(id).or_default();
        read.round = self.round;
        Some((read.checks, read.met))
    }

    /// These checks have read it.
    pub(super) fn note(&mut self, id: u64, checks: u16, met: Met) {
        if let Some(read) = self.read.get_mut(&id) {
            (read.checks, read.met) = (checks, Some(met));
        }
    }

    /// Counts one that began on this step. Is it open for longer than anybody should wait?
    pub(super) fn count(&mut self, arm: Arm, late: bool, whose: Opener) {
        let side = side(arm);
        self.open[side] += 1;
        if !late {
            return;
        }
        let counts = match whose {
            Opener::Anybody => true,
            Opener::Drawn(client) => {
                if arm == Arm::Candidate {
                    *self.each.entry(client).or_default() += 1;
                }
                true
            }
            Opener::Chosen(whose) => self.whose.insert((side, whose)),
        };
        self.late[side] += u64::from(counts);
    }

    /// Those that are open. All late ones of the client that has most of the candidate's count as one: whoever does not
    /// read what it is sent keeps it open.
    pub(super) fn late(&self) -> Late {
        let [candidate, stable] = self.late;
        let most = self.each.values().copied().max().unwrap_or(1);
        Late { open: self.open, late: [candidate - (most - 1).min(candidate), stable] }
    }

    /// Those that are over are forgotten, once their end had time to be told.
    pub(super) fn end(&mut self) {
        let now = self.round;
        self.read.retain(|_, read| now.wrapping_sub(read.round) <= 2);
    }

    /// One that began on this step, or before it, is over. Returns the checks that have read it, and what is known of it.
    pub(super) fn over(&mut self, id: u64, arm: Arm, on_step: bool) -> (u16, Option<Met>) {
        self.over[side(arm)] += u64::from(on_step);
        let read = if id == 0 { None } else { self.read.remove(&id) };
        read.map_or((0, None), |read| (read.checks, read.met))
    }

    /// A step begins: nothing of it is over.
    pub(super) fn step(&mut self) {
        (self.over, self.open, self.late) = ([0; 2], [0; 2], [0; 2]);
        self.each.clear();
    }

    /// Requests that began on this step, of the candidate and of the stable side.
    pub(super) fn on_step(&self) -> [u64; 2] {
        [0, 1].map(|side| self.over[side] + self.open[side])
    }

    /// How many of the candidate's requests and of the stable side's are late, where the candidate has more than its
    /// part of them.
    pub(super) fn unexplained(&self) -> Option<[u64; 2]> {
        let [candidate, stable] = self.late().late;
        let [own, others] = self.on_step();
        let part = own as f64 / (own + others).max(1) as f64;
        let of_late = candidate as f64 / (candidate + stable).max(1) as f64;
        if candidate < FEW || of_late <= part || part <= 0.0 {
            return None;
        }
        let far = divergence(of_late, part);
        ((candidate + stable) as f64 * far >= UNLIKELY).then_some([candidate, stable])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(over: [u64; 2], late: [u64; 2]) -> Waiting {
        Waiting { over, open: late, late, ..Waiting::default() }
    }

    #[test]
    fn late_requests_that_both_sides_have_are_nobodys_fault() {
        assert_eq!(with([100, 9900], [0, 0]).unexplained(), None);
        assert_eq!(with([5000, 5000], [40, 35]).unexplained(), None);
        assert_eq!(with([100, 9900], [2, 0]).unexplained(), None);
        assert_eq!(with([100, 9900], [3, 300]).unexplained(), None);
    }

    #[test]
    fn late_requests_of_the_candidate_alone_are_unexplained() {
        assert_eq!(with([100, 9900], [3, 0]).unexplained(), Some([3, 0]));
        assert_eq!(with([5000, 5000], [12, 0]).unexplained(), Some([12, 0]));
        assert_eq!(with([1000, 1000], [300, 20]).unexplained(), Some([300, 20]));
    }

    #[test]
    fn late_requests_of_one_who_chose_its_side_are_one() {
        let mut waiting = Waiting { over: [100, 9900], ..Waiting::default() };
        waiting.begin();
        for whose in [7, 7, 7, 8].map(Opener::Chosen) {
            waiting.count(Arm::Candidate, true, whose);
        }
        assert_eq!(waiting.unexplained(), None);
        waiting.count(Arm::Candidate, true, Opener::Chosen(9));
        assert_eq!(waiting.unexplained(), Some([3, 0]));
        waiting.begin();
        for _ in 0..3 {
            waiting.count(Arm::Candidate, true, Opener::Anybody);
        }
        assert_eq!(waiting.unexplained(), Some([3, 0]));
    }

    #[test]
    fn late_requests_of_one_client_are_one_though_they_were_drawn() {
        let mut waiting = Waiting { over: [100, 9900], ..Waiting::default() };
        waiting.begin();
        for client in [7, 7, 7, 7, 8] {
            waiting.count(Arm::Candidate, true, Opener::Drawn(client));
        }
        assert_eq!((waiting.late().late, waiting.unexplained()), ([2, 0], None));
        waiting.count(Arm::Candidate, true, Opener::Drawn(9));
        assert_eq!(waiting.unexplained(), Some([3, 0]));
    }

    #[test]
    fn what_was_read_is_known_at_the_end_and_then_forgotten() {
        let mut waiting = Waiting::default();
        waiting.begin();
        assert_eq!(waiting.read(7), Some((0, None)));
        let met = Met { warmth: Warmth::New, admitted: true };
        waiting.note(7, 4, met);
        waiting.end();
        assert_eq!(waiting.over(7, Arm::Candidate, true), (4, Some(met)));
        assert_eq!(waiting.over(7, Arm::Candidate, true), (0, None));
        waiting.read(8).unwrap();
        waiting.note(8, 1, met);
        for _ in 0..4 {
            waiting.begin();
            waiting.end();
        }
        assert_eq!(waiting.over(8, Arm::Candidate, true), (0, None), "nobody told of its end");
    }
}
