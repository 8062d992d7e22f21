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

/// A replica's ejections so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    stage: Stage,
    /// How often it was ejected, less what was forgiven: the exponent of the next ejection.
    count: u32,
    /// How long it was out the last time.
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

    /// Out for cause: convicted by its peers, or failed on probation. Returns for how long.
    pub fn eject(&mut self, plan: &EjectionPlan, draw: f64, now: Moment) -> Duration {
        self.count = self.count.saturating_add(1);
        self.last = plan.lasts(self.count, draw);
        self.stage = Stage::Ejected { until: Some(now + self.last), by_hand: false };
        self.last
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

    /// Forgives one ejection for each time that it was free twice as long as it was out. `calm`: nothing speaks
    /// against it just now.
    pub fn forgive(&mut self, calm: bool, now: Moment) {
        if !calm {
            self.calm_since = now;
        }
        let stretch = 2 * self.last;
        while self.stage == Stage::Free && self.count > 0 && now.since(self.calm_since) >= stretch {
            self.count -= 1;
            self.calm_since = self.calm_since + stretch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_healthy_stretch_of_twice_the_time_forgives_one_ejection() {
        let plan = EjectionPlan::default();
        let mut life = Life::default();
        assert_eq!(life.eject(&plan, 0.5, Moment::ZERO), Duration::from_secs(10));
        assert_eq!(life.eject(&plan, 0.5, Moment::ZERO), Duration::from_secs(20));
        life.restore(Moment::from_millis(60_000));
        life.forgive(true, Moment::from_millis(99_999));
        assert_eq!(life.count(), 2);
        life.forgive(true, Moment::from_millis(100_000));
        assert_eq!(life.count(), 1);
        life.forgive(false, Moment::from_millis(120_000));
        life.forgive(true, Moment::from_millis(159_999));
        assert_eq!(life.count(), 1, "a stretch begins anew when it fails");
        life.forgive(true, Moment::from_millis(160_000));
        assert_eq!(life.count(), 0);
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
                life.eject(&plan, draw, *now);
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
                    life.eject(&plan, draw, *now);
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
                    prop_assert!((8.0..=360.0).contains(&left), "{left}");
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
