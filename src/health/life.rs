//! Taking a replica out for a while, and letting it prove itself before it serves again.
//!
//! ```text
//! free ──convicted──► ejected ──time is over──► probation ──three successes──► free
//!                        ▲                          │
//!                        └──────── one failure ─────┘       an operator's restore: free, from anywhere
//! ```
use super::ejection::EjectionPlan;
use crate::stats::Moment;
use std::time::Duration;

/// Successes in a row that end a probation.
const PROOFS: u8 = 3;

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Serves, as far as ejection is concerned.
    #[default]
    Free,
    /// `until`: `None` holds until an operator restores it.
    Ejected { until: Option<Moment>, by_hand: bool },
    /// One request at a time, until so many have succeeded or one has failed.
    Probation { passed: u8 },
}

/// What the last trial of a probation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Further ones are needed.
    Passed,
    /// It was the last that was needed.
    Proved,
    Failed,
}

/// A replica that was ill once is well again after this long without further signs, however short its ejection was.
const CALM: Duration = Duration::from_mins(1);

/// A replica's ejections so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    stage: Stage,
    /// How often it was ejected, less what was forgiven.
    count: u32,
    /// How long the last ejection was, before it was spread. The next one is twice as long.
    last: Duration,
    /// Since when it is free, or since its last forgiving.
    calm_since: Moment,
}

impl Life {
    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    /// Out for cause: convicted by its peers after it had been `ill` for so long, or failed on probation. `draw` in
    /// [0, 1) spreads the time by ±20 %. Returns for how long it is out.
    pub fn eject(
        &mut self,
        plan: &EjectionPlan,
        ill: Duration,
        draw: f64,
        now: Moment,
    ) -> Duration {
        let doubled = if self.count == 0 { Duration::ZERO } else { self.last.saturating_mul(2) };
        self.count = self.count.saturating_add(1);
        self.last = plan.first(ill).max(doubled).min(plan.at_most);
        let lasts = self.last.mul_f64(0.8 + 0.4 * draw);
        self.stage = Stage::Ejected { until: Some(now + lasts), by_hand: false };
        lasts
    }

    /// Out by an operator's hand; says nothing of how it behaves.
    pub fn hold(&mut self, until: Option<Moment>) {
        self.stage = Stage::Ejected { until, by_hand: true };
    }

    /// Is it ejected, and its time over?
    pub fn over(&self, now: Moment) -> bool {
        matches!(self.stage, Stage::Ejected { until: Some(until), .. } if until <= now)
    }

    /// Its time is over, and its health check passes where it has one. Returns whether that was so.
    pub fn try_out(&mut self, now: Moment) -> bool {
        let over = self.over(now);
        if over {
            self.stage = Stage::Probation { passed: 0 };
        }
        over
    }

    /// Takes in the ending of a request on probation.
    pub fn trial(&mut self, passed: bool) -> Option<Trial> {
        let Stage::Probation { passed: before } = &mut self.stage else { return None };
        if !passed {
            return Some(Trial::Failed);
        }
        *before = before.saturating_add(1).min(PROOFS);
        Some(if *before == PROOFS { Trial::Proved } else { Trial::Passed })
    }

    /// Ends a probation that was passed. Returns whether it was.
    pub fn reinstate(&mut self, now: Moment) -> bool {
        let proved = self.stage == Stage::Probation { passed: PROOFS };
        if proved {
            self.restore(now);
        }
        proved
    }

    /// Free at once, as an operator says.
    pub fn restore(&mut self, now: Moment) {
        self.stage = Stage::Free;
        self.calm_since = now;
    }

    /// Forgives one ejection for each time that it was free twice as long as it was out, and `CALM` at least. `calm`:
    /// nothing speaks against it just now.
    pub fn forgive(&mut self, calm: bool, now: Moment) {
        if !calm {
            self.calm_since = now;
        }
        while self.stage == Stage::Free && self.count > 0 {
            let stretch = (2 * self.last).max(CALM);
            if now.since(self.calm_since) < stretch {
                return;
            }
            self.count -= 1;
            self.last /= 2;
            self.calm_since = self.calm_since + stretch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_ejection_is_twice_as_long_until_a_healthy_stretch_forgives_it() {
        let plan = EjectionPlan::default();
        let mut life = Life::default();
        let eject =
            |life: &mut Life, ill| life.eject(&plan, Duration::from_secs(ill), 0.5, Moment::ZERO);
        let lasts: Vec<_> = [20, 0, 0].map(|ill| eject(&mut life, ill).as_secs()).into();
        assert_eq!(lasts, [10, 20, 40]);
        life.restore(Moment::from_millis(60_000));
        let forgive = |life: &mut Life, calm, at| {
            life.forgive(calm, Moment::from_millis(at));
            life.count()
        };
        assert_eq!(forgive(&mut life, true, 139_999), 3, "twice 40 s are not over");
        assert_eq!(forgive(&mut life, true, 140_000), 2);
        assert_eq!(forgive(&mut life, false, 160_000), 2);
        assert_eq!(forgive(&mut life, true, 219_999), 2, "a stretch begins anew when it fails");
        assert_eq!(forgive(&mut life, true, 220_000), 1, "a minute is the least");
        assert_eq!(eject(&mut life, 0).as_secs(), 20);
        life.restore(Moment::ZERO);
        assert_eq!(forgive(&mut life, true, 3_600_000), 0);
        assert_eq!(eject(&mut life, 0).as_secs(), 1, "it begins anew");
    }

    #[derive(Clone, Debug)]
    enum Event {
        Convicted(f64),
        Held(Option<u64>),
        Restored,
        Passes(u64),
        TriedOut,
        Trial(bool, f64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            2 => (0.0..1.0).prop_map(Event::Convicted),
            1 => prop::option::of(1_u64..100_000).prop_map(Event::Held),
            1 => Just(Event::Restored),
            4 => (1_u64..400_000).prop_map(Event::Passes),
            4 => Just(Event::TriedOut),
            6 => (any::<bool>(), 0.0..1.0).prop_map(|(passed, draw)| Event::Trial(passed, draw)),
        ]
    }

    /// As the control side moves it.
    fn apply(life: &mut Life, event: &Event, now: &mut Moment) {
        let plan = EjectionPlan::default();
        match *event {
            Event::Convicted(draw) if life.stage() == Stage::Free => {
                life.eject(&plan, Duration::ZERO, draw, *now);
            }
            Event::Convicted(_) => {}
            Event::Held(millis) => {
                life.hold(millis.map(|millis| *now + Duration::from_millis(millis)));
            }
            Event::Restored => life.restore(*now),
            Event::Passes(millis) => {
                *now = *now + Duration::from_millis(millis);
                life.forgive(true, *now);
            }
            Event::TriedOut => {
                life.try_out(*now);
            }
            Event::Trial(passed, draw) => match life.trial(passed) {
                Some(Trial::Failed) => {
                    life.eject(&plan, Duration::ZERO, draw, *now);
                }
                Some(Trial::Proved) => assert!(life.reinstate(*now)),
                Some(Trial::Passed) | None => {}
            },
        }
    }

    proptest! {
        #[test]
        fn no_way_leads_back_but_three_successes_or_an_operator(
            events in prop::collection::vec(event(), 0..200),
        ) {
            let (mut life, mut now, mut in_a_row) = (Life::default(), Moment::ZERO, 0);
            for event in &events {
                let before = life.stage();
                apply(&mut life, event, &mut now);
                match event {
                    Event::Trial(true, _) if matches!(before, Stage::Probation { .. }) => in_a_row += 1,
                    Event::Trial(..) | Event::Held(_) | Event::Restored => in_a_row = 0,
                    Event::Convicted(_) | Event::Passes(_) | Event::TriedOut => {}
                }
                if before != Stage::Free && life.stage() == Stage::Free {
                    prop_assert!(in_a_row == 3 || matches!(event, Event::Restored), "{event:?}");
                    in_a_row = 0;
                }
                if let (Stage::Ejected { until: Some(until), by_hand: false }, true) =
                    (life.stage(), before != life.stage())
                {
                    let left = until.since(now).as_secs_f64();
                    prop_assert!((0.8..=360.0).contains(&left), "{left}");
                }
            }
        }

        #[test]
        fn no_state_is_without_an_exit(events in prop::collection::vec(event(), 0..100)) {
            let (mut life, mut now) = (Life::default(), Moment::ZERO);
            for event in &events {
                apply(&mut life, event, &mut now);
            }
            if matches!(life.stage(), Stage::Ejected { until: None, .. }) {
                life.restore(now);
            }
            now = now + Duration::from_mins(6);
            life.try_out(now);
            for _ in 0..3 {
                if life.trial(true) == Some(Trial::Proved) {
                    life.reinstate(now);
                }
            }
            prop_assert_eq!(life.stage(), Stage::Free);
        }
    }
}
