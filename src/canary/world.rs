//! What a canary is told of the fleet, and whether that makes for a fair comparison.
use serde::{Deserialize, Serialize};

/// Weights are written as decimals and kept as `f32`.
const ROUNDING: f64 = 1e-6;
/// So little of what the stable side is given by weight keeps a candidate less busy, even on one replica where the other
/// side has many to choose from.
const LITTLE: f64 = 0.25;

/// The fleet at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct World {
    /// Has the candidate a usable replica?
    pub candidate_usable: bool,
    pub candidate: Load,
    pub stable: Load,
}

/// What one side has to carry, and with what. Not what it has in flight: a slow one has much in flight because it is
/// slow (in flight is rate × time, Little 1961), and would excuse itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// The sum of the weights of its usable replicas.
    pub weight: f64,
    /// The fraction of the requests that it is given.
    pub share: f64,
}

/// With whom speed is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fairness {
    /// With all: the candidate is no busier than the stable side but by its own slowness.
    #[default]
    All,
    /// With requests whose replicas were as busy: it queues more on few replicas than the others on many.
    Alike,
    /// With nobody: each of its replicas is given more than each of the others'.
    Nobody,
}

impl World {
    pub(super) fn fairness(&self) -> Fairness {
        let (one, other) = (self.candidate, self.stable);
        let is_given = |times: f64| {
            one.share * other.weight <= times * other.share * one.weight * (1.0 + ROUNDING)
        };
        let as_many = one.weight >= other.weight * (1.0 - ROUNDING);
        if is_given(LITTLE) || (as_many && is_given(1.0)) {
            Fairness::All
        } else if is_given(1.0) {
            Fairness::Alike
        } else {
            Fairness::Nobody
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fairness::{Alike, All, Nobody};

    fn fairness(candidate: (f64, f64), stable: (f64, f64)) -> Fairness {
        let load = |(share, weight)| Load { weight, share };
        World { candidate_usable: true, candidate: load(candidate), stable: load(stable) }
            .fairness()
    }

    #[test]
    fn whoever_is_given_little_is_compared_with_all() {
        assert_eq!(fairness((0.01, 1.0), (0.99, 9.0)), All);
        assert_eq!(fairness((0.05, 1.0), (0.95, 3.0)), All);
        assert_eq!(fairness((0.25, 3.0), (0.75, 3.0)), All);
        assert_eq!(fairness((0.5, 3.0), (0.5, 3.0)), All);
    }

    #[test]
    fn few_replicas_are_compared_with_those_as_busy_while_each_is_given_no_more() {
        assert_eq!(fairness((0.05, 1.0), (0.95, 9.0)), Alike);
        assert_eq!(fairness((0.25, 1.0), (0.75, 3.0)), Alike, "as much each");
        let written = |weight: f32| f64::from(weight) * 3.0;
        assert_eq!(fairness((0.25, written(0.1)), (0.75, written(0.3))), Alike);
    }

    #[test]
    fn whoever_is_given_more_each_is_compared_with_nobody() {
        assert_eq!(fairness((0.5, 2.0), (0.5, 3.0)), Nobody);
        assert_eq!(fairness((0.75, 2.0), (0.25, 2.0)), Nobody);
        assert_eq!(fairness((0.05, 0.0), (0.95, 3.0)), Nobody, "nothing usable");
    }
}
