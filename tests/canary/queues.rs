//! Replicas that queue: what a canary makes of times that depend on how busy a replica is.
use crate::speed::lognormal;
use crate::{GOOD, at_once, judged};
use evener::canary::{Arm, CanaryPlan, Check, Load, Margin, Metric, Observation, RollOut, World};
use evener::stats::Moment;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// How a replica works on several requests.
#[derive(Clone, Copy, Debug)]
enum Works {
    /// One after the other.
    InLine,
    /// On all at once, as servers of language models do: each of them takes longer by this part for each other one.
    Together(f64),
}

/// A request at a replica.
#[derive(Clone, Copy, Debug)]
struct Job {
    began: f64,
    beside: u32,
    /// Seconds of work, were it alone.
    left: f64,
}

#[derive(Clone, Debug)]
struct Replica {
    works: Works,
    jobs: Vec<Job>,
    now: f64,
}

impl Replica {
    /// Works until `to`; `done` gets what is finished, and when.
    fn work(&mut self, to: f64, mut done: impl FnMut(f64, Job)) {
        while !self.jobs.is_empty() {
            let (at_once, pace) = match self.works {
                Works::InLine => (1, 1.0),
                Works::Together(each) => {
                    let n = self.jobs.len();
                    (n, 1.0 / (1.0 + each * (n - 1) as f64))
                }
            };
            let under_way = self.jobs[..at_once].iter().enumerate();
            let (first, job) =
                under_way.min_by(|a, b| a.1.left.total_cmp(&b.1.left)).expect("not empty");
            let end = self.now + job.left / pace;
            let until = end.min(to);
            let worked = (until - self.now) * pace;
            self.jobs[..at_once].iter_mut().for_each(|job| job.left -= worked);
            self.now = until;
            if end > to {
                break;
            }
            done(end, self.jobs.remove(first));
        }
        self.now = to;
    }
}

/// A candidate beside a stable version.
#[derive(Clone, Copy, Debug)]
struct Scene {
    works: Works,
    /// Replicas of each side.
    replicas: [usize; 2],
    share: f64,
    /// Requests a second.
    rps: f64,
    /// How much longer the candidate's requests take.
    times: f64,
    /// How much longer all take from the fifth to the seventh minute.
    bad_minutes: f64,
}

/// Half an hour at most: 0.1 s of work with a deviation of 0.5; the stable side gives each to who has least.
fn half_an_hour(scene: Scene, seed: u64) -> RollOut {
    let Scene { works, replicas, share, rps, times, bad_minutes } = scene;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let slow = |metric| Check { metric, at_most: Margin { points: 0.0, times: 1.1 } };
    let checks = [50, 95].map(|p| slow(Metric::Latency(p))).to_vec();
    let steps = vec![share * 100.0, 100.0];
    let plan = CanaryPlan { checks, steps, confirm: true, ..at_once(5.0) };
    let mut roll_out = RollOut::begin(plan, judged(), "v1".into(), share, Moment::ZERO).0;
    let load = |n: usize, share| Load { weight: n as f64, share };
    let world = World {
        candidate: load(replicas[0], share),
        stable: load(replicas[1], 1.0 - share),
        ..GOOD
    };
    let new = Replica { works, jobs: Vec::new(), now: 0.0 };
    let mut each = vec![new; replicas[0] + replicas[1]];
    let (mut now, mut second) = (0.0, 0.0);
    let mut ends: Vec<(f64, Job, Arm)> = Vec::new();
    while now < 1800.0 && roll_out.is_live() {
        now += -(1.0 - rng.random::<f64>()).ln() / rps;
        for (i, replica) in each.iter_mut().enumerate() {
            let arm = if i < replicas[0] { Arm::Candidate } else { Arm::Stable };
            replica.work(now, |at, job| ends.push((at, job, arm)));
        }
        while second + 1.0 < now {
            second += 1.0;
            let at = Moment::from_nanos((second * 1e9) as u64);
            for (end, job, arm) in ends.extract_if(.., |(end, ..)| *end <= second) {
                let began = Moment::from_nanos((job.began * 1e9) as u64);
                let latency = Some(Duration::from_secs_f64(end - job.began));
                let usual = Observation::of(arm, false, began);
                roll_out.observe(&Observation { latency, beside: job.beside, ..usual }, at);
            }
            roll_out.tick(&world, at);
        }
        let candidate = rng.random::<f64>() < share;
        let among = if candidate { 0..replicas[0] } else { replicas[0]..each.len() };
        let first = rng.random_range(among.clone());
        let fewest = among.clone().map(|i| each[i].jobs.len()).min().unwrap_or(0);
        let to = if each[first].jobs.len() == fewest {
            first
        } else {
            among.clone().find(|i| each[*i].jobs.len() == fewest).unwrap_or(first)
        };
        let longer = if candidate { times } else { 1.0 };
        let bad = if (300.0..420.0).contains(&now) { bad_minutes } else { 1.0 };
        let left = 0.1 * longer * bad * lognormal(&mut rng, 0.5);
        each[to].jobs.push(Job { began: now, beside: fewest as u32, left });
    }
    roll_out
}

/// How many of so many half hours end with a rollback.
fn called_slow(scene: Scene, runs: u64) -> u64 {
    (0..runs).filter(|seed| !half_an_hour(scene, *seed).is_live()).count() as u64
}

/// A replica alone queues more than each of three of which the least busy is chosen; that is not its version's fault.
#[test]
fn a_candidate_that_queues_for_want_of_a_choice_is_not_called_slow() {
    for works in [Works::InLine, Works::Together(0.1)] {
        for rps in [4.0, 12.0, 25.0] {
            let scene =
                Scene { works, replicas: [1, 3], share: 0.25, rps, times: 1.0, bad_minutes: 1.0 };
            let called = called_slow(scene, 10);
            println!("{works:?}, {rps} requests/s: {called} of 10 called slow");
            assert_eq!(called, 0, "{scene:?}");
        }
    }
}

/// What it has in flight because it is slow is no excuse, on a step where it has little to do or as much as the others.
#[test]
fn a_candidate_that_queues_because_it_is_slow_is_called_slow() {
    for works in [Works::InLine, Works::Together(0.1)] {
        for (share, times) in [(0.25, 1.3), (0.05, 1.3), (0.05, 3.0)] {
            let scene =
                Scene { works, replicas: [1, 3], share, rps: 12.0, times, bad_minutes: 1.0 };
            let called = called_slow(scene, 8);
            println!("{works:?}, {times} times as slow at {share}: {called} of 8 called slow");
            assert!(called >= 7, "{scene:?}");
        }
    }
}

#[test]
fn minutes_that_are_bad_for_both_sides_are_nobodys_fault() {
    for (share, bad_minutes) in [(0.25, 2.0), (0.05, 2.0)] {
        let works = Works::Together(0.1);
        let scene = Scene { works, replicas: [1, 3], share, rps: 12.0, times: 1.0, bad_minutes };
        let called = called_slow(scene, 10);
        println!(
            "all {bad_minutes} times as slow for two minutes, {share}: {called} of 10 called slow"
        );
        assert_eq!(called, 0, "{scene:?}");
    }
}
