//! Over what the failures are spread: replicas, and events. A replica that is out fails all that it is given: that is one
//! event, however many requests it was.
use serde::{Deserialize, Serialize};

/// Replicas that are told apart.
const REPLICAS: usize = 64;
/// One replica with more than this part of the failures is what failed.
const MOST: f64 = 2.0 / 3.0;
/// A replica with less than this part of what the worst has fails by chance, now and then.
const STRAY: f64 = 1.0 / 8.0;

/// That of events.
const EVENTS_FADE: f64 = 300.0;
/// By so many standard deviations there may be more events than expected.
const BY_CHANCE: f64 = 2.0;

/// The memory of who failed lately, as a time constant in seconds.
const FADES: f64 = 60.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Replica {
    id: u64,
    /// Both fade.
    readings: f64,
    hits: f64,
    faded: f64,
    /// When the last request began that failed, and that did not, in seconds.
    failed: Option<f64>,
    good: f64,
}

impl Replica {
    fn fade(&mut self, age: f64) {
        let keeps = (-(age - self.faded) / FADES).exp();
        self.readings *= keeps;
        self.hits *= keeps;
        self.faded = age;
    }
}

/// The candidate's hits: events since the last that was forgiven, and who failed lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// Those of this process.
    #[serde(skip)]
    replicas: Vec<Replica>,
    /// They fade.
    events: f64,
    /// The second in which the last event was seen.
    last: Option<i64>,
    /// Events that were to be expected at the rate at which all fail, those of the second of now apart; they fade, too.
    #[serde(default)]
    expected: f64,
    #[serde(default)]
    now: (i64, f64),
}

impl Spread {
    /// Takes in a reading of the candidate; `began` and `age` in seconds. `usual`: the rate at which all fail.
    pub(super) fn note(&mut self, id: u64, hit: bool, (began, age): (f64, f64), usual: f64) {
        self.expect(usual, age);
        let place = self.replicas.iter().position(|replica| replica.id == id);
        let place = place.unwrap_or_else(|| {
            if self.replicas.len() == REPLICAS {
                self.replicas.remove(0);
            }
            let new = Replica { id, faded: age, good: f64::MIN, ..Replica::default() };
            self.replicas.push(new);
            self.replicas.len() - 1
        });
        let replica = &mut self.replicas[place];
        replica.fade(age);
        replica.readings += 1.0;
        if !hit {
            replica.good = replica.good.max(began);
            return;
        }
        replica.hits += 1.0;
        // By their beginnings: what was sent to a replica before it died may still end well.
        let again = replica.failed.is_none_or(|failed| failed <= replica.good);
        let second = age.floor() as i64;
        if again && self.last != Some(second) {
            self.events += 1.0;
            self.last = Some(second);
        }
        replica.failed = Some(replica.failed.map_or(began, |failed| failed.max(began)));
    }

    /// At most one event a second is counted, so no more are expected.
    fn expect(&mut self, usual: f64, age: f64) {
        let (second, due) = self.now;
        let now = age.floor() as i64;
        if now == second {
            self.now.1 = due + usual;
        } else {
            let keeps = (-((now - second).max(0) as f64) / EVENTS_FADE).exp();
            self.events *= keeps;
            self.expected = (self.expected + due.min(1.0)) * keeps;
            self.now = (now, usual);
        }
    }

    /// How many events there are beyond those that come by chance where nothing is worse: whoever serves for long has had
    /// a few, and an outage is one more.
    pub(super) fn events(&self) -> f64 {
        let expected = self.expected + self.now.1.min(1.0);
        self.events - expected - BY_CHANCE * expected.sqrt()
    }

    /// Do at least three replicas fail lately, or all where there are fewer, and not mostly one? `usual`: the rate at
    /// which all do.
    pub(super) fn is_wide(&self, usual: f64) -> bool {
        let beyond = |replica: &Replica| (replica.hits - usual * replica.readings).max(0.0);
        let most = self.replicas.iter().map(beyond).fold(0.0, f64::max);
        let least = f64::max(0.5, STRAY * most);
        let failing = self.replicas.iter().filter(|replica| beyond(replica) > least).count();
        let all: f64 = self.replicas.iter().map(beyond).sum();
        failing >= self.replicas.len().clamp(2, 3) && most <= MOST * all
    }

    /// Has one replica failed, as far as is known, and not several?
    pub(super) fn is_of_one(&self, usual: f64) -> bool {
        self.replicas.iter().all(|replica| replica.id != 0) && !self.is_wide(usual)
    }

    /// Begins anew; the replicas stay known.
    pub(super) fn forgive(&mut self) {
        for replica in &mut self.replicas {
            replica.hits = 0.0;
            replica.failed = None;
        }
        self.events = 0.0;
        (self.expected, self.now.1) = (0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests to three replicas, ten a second, of which those fail.
    fn seen(seconds: u32, fails: impl Fn(u32, u64) -> bool) -> Spread {
        let mut spread = Spread::default();
        for n in 0..seconds * 10 {
            let at = f64::from(n) / 10.0;
            let replica = 1 + u64::from(n % 3);
            spread.note(replica, fails(n, replica), (at, at), 0.0);
        }
        spread
    }

    #[test]
    fn an_outage_of_one_replica_is_one_event() {
        let spread = seen(100, |n, replica| replica == 2 && (200..650).contains(&n));
        assert!(spread.events <= 1.0 && !spread.is_wide(0.01), "{spread:?}");
    }

    #[test]
    fn an_outage_of_all_is_as_wide_as_can_be_and_few_events() {
        let spread = seen(100, |n, _| (200..230).contains(&n));
        assert!(spread.is_wide(0.01) && spread.events <= 3.0, "{spread:?}");
    }

    #[test]
    fn an_outage_of_two_of_three_is_not_wide_because_the_third_fails_once() {
        let seen = seen(100, |n, replica| (replica != 2 && (900..960).contains(&n)) || n == 910);
        assert!(!seen.is_wide(0.001), "{seen:?}");
    }

    #[test]
    fn failures_at_the_usual_rate_are_no_events_that_count() {
        for (each, usual) in [(100, 0.01), (50, 0.02)] {
            let mut spread = Spread::default();
            for n in 0..20_000_u32 {
                let at = f64::from(n) / 10.0;
                spread.note(1 + u64::from(n % 3), n % each == 0, (at, at), usual);
            }
            assert!(spread.events() < 1.0, "{}", spread.events());
            for n in 20_000..20_600_u32 {
                let at = f64::from(n) / 10.0;
                spread.note(1 + u64::from(n % 3), n % 7 == 0, (at, at), usual);
            }
            assert!(spread.events() > 10.0, "{}", spread.events());
        }
    }

    #[test]
    fn failures_among_successes_are_an_event_each() {
        let spread = seen(30, |n, _| n % 10 == 7);
        assert!(spread.is_wide(0.01) && spread.events > 28.0, "{spread:?}");
    }

    #[test]
    fn what_ends_well_after_the_replica_died_ends_no_outage() {
        let mut spread = Spread::default();
        for second in 0..20 {
            let at = f64::from(second);
            // Long requests of before, and what is sent to it now.
            spread.note(1, false, (at - 30.0, at), 0.0);
            spread.note(1, true, (at, at), 0.0);
        }
        assert!(spread.events <= 1.0, "{spread:?}");
    }
}
