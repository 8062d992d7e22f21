//! May a failed attempt be repeated elsewhere, after which pause, and when is a second one worth starting early?
use std::time::Duration;

/// Repeating what failed (key `retries`).
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPlan {
    /// Attempts beyond the first.
    pub max: u32,
    pub when: Vec<RetryOn>,
    /// Retries per first attempt, 0 to 1; a few a second are free besides.
    pub budget: f64,
}

/// How an attempt failed, as `retries.when` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection could be made.
    Connect,
    /// The connection broke before a byte of the answer was passed on.
    Reset,
    /// No first byte in time.
    FirstByte,
    /// The replica answered with this status.
    Status(u16),
}

/// May the same request be worked on twice?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeatable {
    /// Its method says so, or it only asks a model for an answer.
    Always,
    /// It may have an effect: again only when no replica has seen it.
    Unseen,
}

impl RetryOn {
    /// The words of `retries.when`.
    pub const WORDS: [&'static str; 8] =
        ["connect", "reset", "first_byte", "429", "500", "502", "503", "504"];

    /// From a word of [`Self::WORDS`].
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "connect" => Self::Connect,
            "reset" => Self::Reset,
            "first_byte" => Self::FirstByte,
            status => Self::Status(status.parse().ok().filter(|_| Self::WORDS.contains(&status))?),
        })
    }

    /// The word in metrics, logs and the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::FirstByte => "first_byte",
            Self::Status(429) => "429",
            Self::Status(500) => "500",
            Self::Status(502) => "502",
            Self::Status(503) => "503",
            Self::Status(_) => "504",
        }
    }
}

impl RetryPlan {
    /// The longest pause before the first retry; it doubles with each up to [`Self::LONGEST_PAUSE`].
    const FIRST_PAUSE: Duration = Duration::from_millis(25);
    const LONGEST_PAUSE: Duration = Duration::from_millis(250);

    /// May a request that failed so be asked again, as its retry number `done + 1`? Budget and deadline have their own say.
    pub fn allows(&self, failed: RetryOn, repeatable: Repeatable, done: u32) -> bool {
        done < self.max
            && self.when.contains(&failed)
            && (repeatable == Repeatable::Always || failed == RetryOn::Connect)
    }

    /// How long to wait before retry number `done + 1`: uniform, so that those who failed together do not return
    /// together ("full jitter"). `draw` is uniform in [0, 1).
    pub fn pause(done: u32, draw: f64) -> Duration {
        let longest = Self::FIRST_PAUSE.saturating_mul(1 << done.min(4));
        longest.min(Self::LONGEST_PAUSE).mul_f64(draw)
    }
}

/// A second attempt elsewhere when the first is slow (key `hedge`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgePlan {
    pub after: HedgeAfter,
    /// Hedges per first attempt, 0 to 1.
    pub budget: f64,
}

/// When the first attempt is slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// At this quantile of the version's times to the first byte, 0 to 1.
    Quantile(f64),
    Fixed(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan() -> RetryPlan {
        let when = ["connect", "reset", "503"].map(|word| RetryOn::of_word(word).unwrap());
        RetryPlan { max: 2, when: when.to_vec(), budget: 0.2 }
    }

    #[test]
    fn what_may_have_an_effect_is_repeated_only_when_no_replica_has_seen_it() {
        for (failed, always, unseen) in [
            (RetryOn::Connect, true, true),
            (RetryOn::Reset, true, false),
            (RetryOn::Status(503), true, false),
            (RetryOn::Status(502), false, false),
            (RetryOn::FirstByte, false, false),
        ] {
            assert_eq!(plan().allows(failed, Repeatable::Always, 0), always, "{failed:?}");
            assert_eq!(plan().allows(failed, Repeatable::Unseen, 0), unseen, "{failed:?}");
        }
        assert!(!plan().allows(RetryOn::Connect, Repeatable::Always, 2));
    }

    #[test]
    fn every_word_reads_back() {
        for word in RetryOn::WORDS {
            assert_eq!(RetryOn::of_word(word).map(RetryOn::word), Some(word));
        }
        assert_eq!(RetryOn::of_word("501"), None);
    }

    proptest! {
        #[test]
        fn a_pause_is_short_and_random(done in 0_u32..40, draw in 0.0..1.0_f64) {
            let pause = RetryPlan::pause(done, draw);
            prop_assert!(pause <= Duration::from_millis(250));
            prop_assert!(done > 0 || pause <= Duration::from_millis(25));
        }
    }
}
