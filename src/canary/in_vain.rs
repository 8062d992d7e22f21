//! Clients who wait in vain: their requests are open for far longer than usual, or they left after a long wait. Where the
//! candidate has many of them and the stable side has not, for longer than one event lasts, no more clients are sent there,
//! whether a check can tell why or not.
use super::fading::Fading;
use super::metric::Metric;
use super::once::Once;
use super::plan::Margin;
use super::waiting::{FEW, Late, UNLIKELY, divergence};
use std::collections::BTreeMap;
use std::time::Duration;

/// It must last for so many times `hold`, and for so many seconds at least and at most: the restart of a replica is over
/// by then, and clients are not made to wait for longer where steps are long.
const LASTS: f64 = 1.5;
const LEAST: f64 = 90.0;
const MOST: f64 = 180.0;
/// Requests that are over fade with a time constant of this part of that.
const FADES: f64 = 1.0 / 6.0;
/// Tells a client on the stable side from the same on the candidate's.
const STABLE: u64 = 0x9E37_79B9_7F4A_7C15;
/// Clients who left the candidate lately, at most; of more, the first are forgotten.
const FOLLOWED: usize = 64;

/// What is known of clients who wait in vain on this step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct InVain {
    /// Requests that are over, and those whose clients left after a long wait: of the candidate, and of the stable side.
    over: [Fading; 2],
    /// A client counts once in a while on each side, however often it asks.
    once: Once,
    /// Who left the candidate lately, and when, in seconds. `None`: unknown, and one of its own.
    who: Vec<(Option<u64>, f64)>,
    /// Since when the candidate is the one for whom clients wait, and when it was so last, in seconds.
    since: Option<f64>,
    last: f64,
}

/// For how long it must last, in seconds.
pub(super) fn lasts(hold: Duration) -> f64 {
    (LASTS * hold.as_secs_f64()).clamp(LEAST, MOST)
}

/// The memory of requests that are over, as a time constant in seconds.
fn fades(hold: Duration) -> f64 {
    FADES * lasts(hold)
}

impl InVain {
    /// A step begins, or a person has said that it goes on.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Takes in a request that is over. `side`: 0 is the candidate. `who`: `None` is one of its own.
    pub(super) fn note(
        &mut self,
        side: usize,
        (who, left): (Option<u64>, bool),
        age: f64,
        hold: Duration,
    ) {
        let on_side = |who: u64| who ^ (side as u64).wrapping_mul(STABLE);
        if who.is_some_and(|who| !self.once.counts(on_side(who), age)) {
            return;
        }
        self.over[side].note(left, age, fades(hold));
        if left && side == 0 {
            let spare = (self.who.len() + 1).saturating_sub(FOLLOWED);
            self.who.drain(..spare);
            self.who.push((who, age));
        }
    }

    /// Looks at both sides, about once a second.
    pub(super) fn look(&mut self, open: Late, age: f64, hold: Duration) {
        let fades = fades(hold);
        self.who.retain(|(_, at)| age - at <= fades);
        self.over = self.over.map(|over| over.at(age, fades));
        if self.is_of_candidate(open) {
            self.since.get_or_insert(age);
            self.last = age;
        } else if age - self.last > fades {
            self.since = None;
        }
    }

    /// Are there far more of them on the candidate's side, of several clients?
    fn is_of_candidate(&self, open: Late) -> bool {
        let [own, stable] = self.over;
        let mut each: BTreeMap<u64, u32> = BTreeMap::new();
        for who in self.who.iter().filter_map(|(who, _)| *who) {
            *each.entry(who).or_default() += 1;
        }
        let unknown = self.who.iter().filter(|(who, _)| who.is_none()).count() as u64;
        let loudest = each.values().copied().max().unwrap_or(1);
        // The loudest client counts as one.
        let left = (own.hits - f64::from(loudest - 1)).max(0.0);
        let in_vain = [left + open.late[0] as f64, stable.hits + open.late[1] as f64];
        let all = [own.readings + open.open[0] as f64, stable.readings + open.open[1] as f64];
        let total = in_vain[0] + in_vain[1];
        if each.len() as u64 + unknown + open.late[0] < FEW || all[1] < 1.0 || total <= 0.0 {
            return false;
        }
        let [rate, usual] = [0, 1].map(|side| in_vain[side] / all[side].max(1.0));
        let (of_them, part) = (in_vain[0] / total, all[0] / (all[0] + all[1]));
        rate >= usual + Margin::usual(&Metric::Cancelled).above(usual)
            && of_them > part
            && total * divergence(of_them, part) >= UNLIKELY
    }

    /// Does it last, if not for long yet?
    pub(super) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// For so many seconds already, once that is too long and is so at the last look.
    pub(super) fn lasted(&self, age: f64, hold: Duration) -> Option<f64> {
        let lasted = self.since.filter(|_| self.last >= age).map(|since| age - since);
        lasted.filter(|lasted| *lasted >= lasts(hold))
    }

    /// The last requests that are over, and those that were left: of the candidate, and of the stable side.
    pub(super) fn over(&self) -> [Fading; 2] {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_mins(2);
    const NONE: Late = Late { open: [0; 2], late: [0; 2] };

    /// Ten requests a second of each side for so long: who asks, and does it leave? After so many seconds it is noticed.
    fn noticed(
        seconds: u32,
        open: impl Fn(u32) -> Late,
        asks: impl Fn(usize, u32) -> (Option<u64>, bool),
    ) -> Option<u32> {
        let mut in_vain = InVain::default();
        (0..seconds).find(|second| {
            let age = f64::from(*second);
            for n in 0..10 {
                for side in [0, 1] {
                    in_vain.note(side, asks(side, second * 10 + n), age, HOLD);
                }
            }
            in_vain.look(open(*second), age, HOLD);
            in_vain.lasted(age, HOLD).is_some()
        })
    }

    fn leave(part: [u32; 2]) -> impl Fn(usize, u32) -> (Option<u64>, bool) {
        move |side, n| (Some(u64::from(n % 997)), n * 7 % 100 < part[side])
    }

    #[test]
    fn clients_who_leave_the_candidate_for_minutes_are_noticed() {
        for part in [[90, 0], [40, 5], [20, 0]] {
            let found = noticed(400, |_| NONE, leave(part)).unwrap();
            assert!((180..=200).contains(&found), "{part:?}: {found}");
        }
    }

    #[test]
    fn what_both_sides_have_and_what_is_within_the_margin_is_not() {
        for part in [[90, 90], [60, 50], [8, 0], [0, 90], [0, 0]] {
            assert_eq!(noticed(1000, |_| NONE, leave(part)), None, "{part:?}");
        }
        let both = |second: u32| {
            let late = u64::from(second) * 5;
            Late { open: [late + 10; 2], late: [late; 2] }
        };
        assert_eq!(noticed(1000, both, leave([0, 0])), None);
    }

    #[test]
    fn one_client_is_not_and_neither_are_two() {
        for clients in [1, 2] {
            let one = |side, n: u32| match side {
                0 => (Some(u64::from(n % clients)), true),
                _ => (Some(u64::from(n)), false),
            };
            assert_eq!(noticed(1000, |_| NONE, one), None, "{clients}");
        }
    }

    #[test]
    fn one_event_is_not_and_events_with_quiet_between_them_are_not_added_up() {
        for (lasts, every) in [(30, 1000), (75, 1000), (30, 150)] {
            let outage = |side, n: u32| (Some(u64::from(n)), side == 0 && n / 10 % every < lasts);
            assert_eq!(noticed(1000, |_| NONE, outage), None, "{lasts} of {every}");
        }
    }

    #[test]
    fn a_queue_that_grows_is_noticed_though_nobody_leaves() {
        let grows = |second: u32| {
            let late = u64::from(second.saturating_sub(20)) * 8;
            Late { open: [late + 40, 10], late: [late, 0] }
        };
        let found = noticed(400, grows, leave([0, 0])).unwrap();
        assert!((200..=230).contains(&found), "{found}");
    }

    #[test]
    fn it_lasts_for_as_long_as_steps_within_bounds() {
        let of = |seconds| lasts(Duration::from_secs(seconds)).round() as u32;
        assert_eq!([2, 80, 120, 3600].map(of), [90, 120, 180, 180]);
    }
}
