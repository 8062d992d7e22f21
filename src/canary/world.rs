//! What a canary is told of the fleet.

/// Speed is compared while the candidate is given no more by weight than the stable side is. Up to twice as much would do
/// for replicas that work on one request at a time; where each request slows down the others, what a busy one has now
/// says less of what it gets meanwhile.
const FAIR: f64 = 1.0;

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

impl World {
    /// Has the candidate too few replicas for what it is given?
    pub(super) fn is_crowded(&self) -> bool {
        let (one, other) = (self.candidate, self.stable);
        one.share * other.weight > FAIR * other.share * one.weight + 1e-9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowded(candidate: (f64, f64), stable: (f64, f64)) -> bool {
        let load = |(share, weight)| Load { weight, share };
        World { candidate_usable: true, candidate: load(candidate), stable: load(stable) }
            .is_crowded()
    }

    #[test]
    fn whoever_is_given_much_more_by_weight_is_crowded() {
        assert!(!crowded((0.01, 1.0), (0.99, 9.0)));
        assert!(!crowded((0.25, 1.0), (0.75, 3.0)), "as much each");
        assert!(!crowded((0.5, 3.0), (0.5, 3.0)));
        assert!(crowded((0.5, 2.0), (0.5, 3.0)));
        assert!(crowded((0.05, 0.0), (0.95, 3.0)), "nothing usable");
    }
}
