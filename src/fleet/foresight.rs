//! How long an answer may become that nobody bounds, learned from those that came.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Before anything is known: what serving engines generate at most by default.
const UNKNOWN: f64 = 4096.0;
/// How far each shorter answer brings it down.
const FALL: f64 = 1.0 / 20.0;

/// The length in tokens that few answers exceed: it rises to each longer one at once and falls slowly, so that what is
/// reserved by it covers what comes. (A mean would not: half of the answers are longer.)
#[derive(Debug)]
pub struct Foresight(AtomicU64);

impl Default for Foresight {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN.to_bits()))
    }
}

impl Foresight {
    pub fn tokens(&self) -> u64 {
        self.now().ceil() as u64
    }

    /// An answer had so many tokens, and nothing but the model ended it.
    pub fn learn(&self, tokens: u64) {
        let (before, seen) = (self.now(), tokens as f64);
        // Of two at once one may be forgotten: thousands follow.
        let after = if seen >= before { seen } else { before + (seen - before) * FALL };
        self.0.store(after.to_bits(), Relaxed);
    }

    fn now(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let foresight = Foresight::default();
        assert_eq!(foresight.tokens(), 4096);
        for _ in 0..200 {
            foresight.learn(100);
        }
        assert_eq!(foresight.tokens(), 101);
        foresight.learn(700);
        assert_eq!(foresight.tokens(), 700);
        foresight.learn(100);
        assert_eq!(foresight.tokens(), 670);
    }

    #[test]
    fn nineteen_of_twenty_answers_are_no_longer() {
        let foresight = Foresight::default();
        // Exponential lengths, a long tail, in a fixed order.
        let lengths = (0..4000_u64).map(|i| {
            let u = (i as f64 * 0.618_033_988_749_895).fract();
            (-300.0 * (1.0 - u).ln()) as u64
        });
        let mut longer = 0;
        for (i, length) in lengths.enumerate() {
            longer += usize::from(i >= 400 && length > foresight.tokens());
            foresight.learn(length);
        }
        assert!(longer < 3600 / 20 * 2, "{longer}");
    }
}
