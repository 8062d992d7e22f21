//! The last seconds of both sides: whoever has just begun to fail is not given more.
use super::fading::Fading;
use super::waiting::{UNLIKELY, divergence};

/// The memory, as a time constant in seconds.
const FADES: f64 = 5.0;
/// Fewer hits tell nothing.
const FEW: f64 = 1.5;
/// What is usual, at least, as a rate.
const LEAST: f64 = 0.002;

/// What both sides did in the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lately {
    candidate: Fading,
    stable: Fading,
}

impl Lately {
    /// Takes in a reading; `age` in seconds.
    pub(super) fn note(&mut self, is_candidate: bool, hit: bool, age: f64) {
        let side = if is_candidate { &mut self.candidate } else { &mut self.stable };
        side.note(hit, age, FADES);
    }

    /// The candidate's rate in the last seconds, where it is far above what both the stable side did in them and what
    /// `allowed` is, by more than chance.
    pub(super) fn worse(&self, allowed: f64, age: f64) -> Option<f64> {
        let (own, stable) = (self.candidate.at(age, FADES), self.stable.at(age, FADES));
        let rate = own.rate();
        let bound = allowed.max(stable.rate()).clamp(LEAST, 1.0);
        let far = own.readings * divergence(rate, bound);
        (own.hits >= FEW && rate > bound && far >= UNLIKELY).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many readings a second of each side these fail, in the last second of a minute and before it.
    fn after(rate: u32, fails: impl Fn(bool, u32) -> bool, later: f64) -> Option<f64> {
        let mut lately = Lately::default();
        for second in 0..60 {
            for n in 0..rate {
                let age = f64::from(second) + f64::from(n) / f64::from(rate);
                for candidate in [true, false] {
                    lately.note(candidate, fails(candidate, second), age);
                }
            }
        }
        lately.worse(0.01, 60.0 + later)
    }

    #[test]
    fn a_candidate_that_has_just_died_is_worse_at_once_and_for_a_while() {
        let dies = |candidate, second| candidate && second == 59;
        for rate in [5, 25, 500] {
            assert!(after(rate, dies, 0.0).is_some(), "{rate}");
        }
        assert!(after(25, dies, 5.0).is_some() && after(25, dies, 60.0).is_none());
    }

    #[test]
    fn what_both_sides_do_or_what_is_allowed_is_not_worse() {
        assert_eq!(after(25, |_, second| second == 59, 0.0), None);
        assert_eq!(after(25, |_, _| true, 0.0), None);
        assert_eq!(after(1, |candidate, second| candidate && second == 59, 0.0), None, "one");
        assert_eq!(after(25, |_, _| false, 0.0), None);
        assert_eq!(Lately::default().worse(0.0, 1.0), None);
    }
}
