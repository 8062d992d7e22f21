//! Streams of requests, second by second, and what is said of them.
use super::*;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// A model that is asked.
struct Asked {
    failing: Failing,
    counts: Outcomes,
    second: u64,
    said: Option<Verdict>,
    /// How often it began to be said.
    times: usize,
}

impl Asked {
    fn new() -> Self {
        let mut failing = Failing::new(REQUESTS);
        failing.look(&Outcomes::default(), Moment::ZERO);
        Self { failing, counts: Outcomes::default(), second: 0, said: None, times: 0 }
    }

    fn second(&mut self, good: u64, failed: u64) {
        self.second += 1;
        self.counts.good += good;
        self.counts.failed[Class::Timeout as usize] += failed;
        let before = self.said.is_some();
        self.said = self.failing.look(&self.counts, Moment::from_millis(self.second * 1000));
        self.times += usize::from(!before && self.said.is_some());
    }

    /// One request each `every` seconds, for so many seconds.
    fn seldom(&mut self, every: u64, seconds: u64, fails: bool) {
        for _ in 0..seconds {
            let asked = u64::from(self.second.is_multiple_of(every));
            self.second(asked * u64::from(!fails), asked * u64::from(fails));
        }
    }

    /// Seconds with `rate` requests, each of which fails with chance `p`.
    fn chance(&mut self, rng: &mut SmallRng, seconds: u64, rate: u64, p: f64) {
        for _ in 0..seconds {
            let failed = (0..rate).filter(|_| rng.random::<f64>() < p).count() as u64;
            self.second(rate - failed, failed);
        }
    }
}

#[test]
fn one_request_in_three_seconds_that_fails_is_said_at_once_and_until_it_works() {
    let mut asked = Asked::new();
    for _ in 0..60 {
        asked.seldom(3, 1, true);
        let said = asked.said.expect("it fails");
        assert_eq!((said.grade, said.seen.good, said.kind), (Grade::Many, 0, Class::Timeout));
    }
    asked.seldom(3, 30, false);
    assert!(asked.said.is_some(), "half of the last 20 failed");
    asked.seldom(3, 45, false);
    assert_eq!((asked.said, asked.times), (None, 1));
}

#[test]
fn a_good_model_that_is_seldom_asked_is_said_to_fail_at_its_third_failure() {
    let mut asked = Asked::new();
    asked.seldom(3, 600, false);
    asked.seldom(3, 7, true);
    assert_eq!(asked.said.map(|said| (said.grade, said.seen.failed)), Some((Grade::Many, 3)));
}

#[test]
fn one_failure_alone_is_forgotten_by_the_next_success() {
    let mut asked = Asked::new();
    asked.second(0, 1);
    assert!(asked.said.is_some_and(|said| said.seen.all() == 1), "nothing is known to work");
    for _ in 0..600 {
        asked.second(0, 0);
    }
    assert!(asked.said.is_some_and(|said| said.seen.span.is_none()), "nor does silence prove it");
    asked.second(1, 0);
    assert_eq!(asked.said, None);
}

#[test]
fn what_failed_an_hour_ago_says_nothing_of_now() {
    let mut asked = Asked::new();
    asked.second(0, 5);
    for _ in 0..3700 {
        asked.second(0, 0);
    }
    assert_eq!(asked.said, None);
}

#[test]
fn a_busy_model_that_fails_altogether_is_said_within_three_seconds() {
    for rate in [1, 5, 100, 2000] {
        let mut asked = Asked::new();
        for _ in 0..600 {
            asked.second(rate, 0);
        }
        let mut after = 0;
        while asked.said.is_none() {
            asked.second(0, rate);
            after += 1;
        }
        assert!(after <= 6, "{after} s at {rate}/s");
        for _ in 0..30 {
            asked.second(0, rate);
        }
        let said = asked.said.expect("it fails");
        assert!(said.seen.rate() > 0.99, "{said:?}");
    }
}

#[test]
fn the_end_of_an_outage_is_said_after_a_minute() {
    let mut asked = Asked::new();
    for (good, failed, seconds) in [(100, 0, 300), (0, 100, 120)] {
        for _ in 0..seconds {
            asked.second(good, failed);
        }
    }
    let mut after = 0;
    while asked.said.is_some() {
        asked.second(100, 0);
        after += 1;
    }
    assert!((30..=61).contains(&after), "{after}");
    for _ in 0..600 {
        asked.second(100, 0);
    }
    assert_eq!(asked.times, 1, "and it is not said again");
}

#[test]
fn an_hour_of_chance_failures_below_the_bar_says_nothing() {
    let mut rng = SmallRng::seed_from_u64(7);
    for (rate, p) in [(1, 0.001), (20, 0.002), (200, 0.004), (2000, 0.005)] {
        let mut asked = Asked::new();
        // Something is known to work.
        asked.second(1, 0);
        asked.chance(&mut rng, 3600, rate, p);
        assert_eq!(asked.times, 0, "{rate}/s, {p}");
    }
}

#[test]
fn a_steady_rate_above_the_bar_does_not_flicker() {
    let mut rng = SmallRng::seed_from_u64(11);
    for (rate, p) in
        [(1, 0.1), (1, 0.2), (2, 0.03), (10, 0.02), (10, 0.08), (100, 0.02), (100, 0.5)]
    {
        let mut asked = Asked::new();
        asked.second(1, 0);
        asked.chance(&mut rng, 3600, rate, p);
        assert!(asked.said.is_some() && asked.times == 1, "{rate}/s, {p}: {}", asked.times);
    }
}

#[test]
fn a_rate_at_the_very_bar_is_said_few_times() {
    let mut rng = SmallRng::seed_from_u64(13);
    for (rate, p) in [(1, 0.05), (5, 0.01), (10, 0.01), (100, 0.01), (100, 0.05)] {
        let mut asked = Asked::new();
        asked.second(1, 0);
        asked.chance(&mut rng, 3600, rate, p);
        assert!(asked.times <= 5, "{rate}/s, {p}: {} times in an hour", asked.times);
    }
}

#[test]
fn counters_that_began_anew_are_no_failures() {
    let mut asked = Asked::new();
    asked.second(100, 0);
    asked.counts = Outcomes::default();
    asked.second(0, 0);
    assert_eq!(asked.said, None);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut asked = Asked::new();
    for _ in 0..4000 {
        asked.second(3, 1);
    }
    assert!(asked.failing.slots.len() <= 301, "{}", asked.failing.slots.len());
}
