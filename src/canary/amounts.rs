//! What amounts are compared with: what is usual on the stable side, for requests that are alike in what makes them slow
//! whatever version serves them: how busy their replica is, and whether it has their prompt in its prefix cache.
use super::metric::{Metric, Reading};
use super::observation::{Arm, Observation};
use super::prefixes::Warmth;
use super::replicas::Replicas;
use super::sketch::Sketch;
use super::world::Fairness;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was measured so long ago, in seconds, is not compared with what is measured now.
pub(super) const SAME_MINUTES: f64 = 120.0;

/// Requests that are alike: how busy their replica was, up to [`ALL`], and how warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alike(pub(super) u16);

/// However busy.
const ALL: u8 = u8::MAX;

impl Alike {
    fn of(busy: u8, warmth: Warmth) -> Self {
        Self(u16::from(warmth as u8) << 8 | u16::from(busy))
    }

    /// All of them.
    #[cfg(test)]
    pub(super) const ANY: Self = Self(ALL as u16);
}

/// How busy a replica was that had so many requests already: each number up to 8 for itself, above that a quarter more.
fn as_busy(beside: u32) -> u8 {
    if beside <= 8 {
        return beside as u8;
    }
    8 + (f64::from(beside) / 8.0).log(1.25).ceil().min(20.0) as u8
}

/// The amounts of requests that are alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    sketch: Sketch,
    /// When the last one came.
    last: f64,
    /// What is usual.
    threshold: Option<f64>,
    /// How many amounts there were when it was read, and how many came since.
    read_of: f64,
    since: u32,
}

impl Known {
    fn learn(&mut self, amount: f64, q: f64, at: f64) {
        self.sketch.add(amount, at);
        self.last = at;
        self.since += 1;
        if self.threshold.is_none() || f64::from(self.since) * 50.0 >= self.read_of {
            self.threshold = self.sketch.quantile(q).or(self.threshold);
            (self.read_of, self.since) = (self.sketch.total(), 0);
        }
    }
}

/// All that a check of amounts compares with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Amounts {
    known: BTreeMap<u16, Known>,
    pub(super) replicas: Replicas,
    /// Readings of the candidate that were compared with nothing, because their prompts were in the stable side's cache.
    pub(super) cold: u64,
}

/// Whom a reading is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compared {
    With(Alike),
    /// With nobody: the candidate is crowded, or its cache is cold.
    Never,
    /// With nobody yet.
    NotYet,
}

impl Amounts {
    /// Who is alike to a request.
    pub(super) fn place(
        &self,
        metric: &Metric,
        reading: Reading,
        arm: Arm,
        (beside, warmth): (u32, Warmth),
        (fairness, age): (Fairness, f64),
    ) -> Compared {
        let warmth = if metric.depends_on_prefix() { warmth } else { Warmth::Unknown };
        if warmth == Warmth::Elsewhere {
            return Compared::Never;
        }
        let all = Compared::With(Alike::of(ALL, warmth));
        if !metric.depends_on_load() {
            return all;
        }
        match (fairness, reading) {
            (Fairness::Nobody, _) => Compared::Never,
            (Fairness::All, _) | (_, Reading::Hit(_)) => all,
            (Fairness::Alike, _) if arm == Arm::Stable => {
                Compared::With(Alike::of(as_busy(beside), warmth))
            }
            // One that is less busy may be compared with one that is more so: it should be the faster one.
            (Fairness::Alike, _) => {
                let current =
                    |known: &Known| known.threshold.is_some() && age - known.last <= SAME_MINUTES;
                let from = Alike::of(as_busy(beside), warmth).0;
                let mut busier = self.known.range(from..Alike::of(ALL, warmth).0);
                let found = busier.find(|(_, known)| current(known));
                found.map_or(Compared::NotYet, |(place, _)| Compared::With(Alike(*place)))
            }
        }
    }

    /// Is the amount a bad one? `times`: how many times what is usual is allowed. `None`: that cannot be told (yet).
    pub(super) fn hit(&self, reading: Reading, place: Alike, times: f64) -> Option<bool> {
        let (amount, exact) = match reading {
            Reading::Hit(hit) => return Some(hit),
            Reading::Amount(amount) => (amount, true),
            Reading::AtLeast(amount) => (amount, false),
        };
        let above = amount > self.known.get(&place.0)?.threshold? * times;
        // Both sides' are left out alike below what they are compared with: equal ones stay equal.
        (exact || above).then_some(above)
    }

    /// Learns from a reading, after it was compared: the threshold knows only the past.
    pub(super) fn learn(
        &mut self,
        metric: &Metric,
        reading: Reading,
        seen: &Observation,
        (arm, warmth, at): (Arm, Warmth, f64),
    ) {
        let (Reading::Amount(amount), Some(q)) = (reading, metric.quantile()) else { return };
        if metric.is_speed() {
            self.replicas.add(arm, seen.replica, amount);
        }
        if arm == Arm::Candidate {
            return;
        }
        let warmth = if metric.depends_on_prefix() { warmth } else { Warmth::Unknown };
        self.known.entry(Alike::of(ALL, warmth).0).or_default().learn(amount, q, at);
        if metric.depends_on_load() {
            let busy = Alike::of(as_busy(seen.beside), warmth);
            self.known.entry(busy.0).or_default().learn(amount, q, at);
        }
    }

    /// What need not outlive a restart is left out: how busy ones compare is soon learned again.
    pub(super) fn to_keep(&self) -> Self {
        let all = |place: &u16| place & 0xFF == u16::from(ALL);
        let known = self.known.iter().filter(|(place, _)| all(place));
        let known = known.map(|(place, known)| (*place, known.clone())).collect();
        Self { known, replicas: self.replicas.clone(), cold: self.cold }
    }
}
