//! Replicas that queue: what a canary makes of times that depend on how busy a replica is.
use crate::speed::lognormal;
use crate::{GOOD, at_once, judged};
use evener::canary::{
    Arm, CanaryPlan, Check, Ended, Load, Margin, Metric, Observation, RollOut, State, World,
};
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
    /// When its client leaves.
    leaves: f64,
    beside: u32,
    /// Seconds of work, were it alone.
    left: f64,
}

#[derive(Clone, Debug)]
struct Replica {
    arm: Arm,
    works: Works,
    jobs: Vec<Job>,
    now: f64,
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
struct Over {
    at: f64,
    job: Job,
    arm: Arm,
    ended: Ended,
}

impl Replica {
    /// Works until `to`, and tells what is over.
    fn work(&mut self, to: f64, over: &mut Vec<Over>) {
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
            let job = self.jobs.remove(first);
            over.push(Over { at: end, job, arm: self.arm, ended: Ended::Seen });
        }
        self.now = to;
        let arm = self.arm;
        let left = self.jobs.extract_if(.., |job| job.leaves <= to);
        over.extend(left.map(|job| Over { at: to, job, arm, ended: Ended::Cancelled }));
    }
}

/// A candidate beside a stable version.
#[derive(Clone, Copy, Debug)]
struct Scene {
    works: Works,
    /// Seconds of work, the median.
    work: f64,
    /// Replicas of each side.
    replicas: [usize; 2],
    /// Percent of the candidate; on the only one of two it stays.
    steps: &'static [f64],
    /// Requests a second.
    rps: f64,
    /// How much longer the candidate's requests take.
    times: f64,
    /// How much longer all take from the fifth to the seventh minute.
    bad_minutes: f64,
    /// How long clients wait, the median.
    patience: f64,
}

const SCENE: Scene = Scene {
    works: Works::InLine,
    work: 0.1,
    replicas: [1, 3],
    steps: &[25.0, 100.0],
    rps: 12.0,
    times: 1.0,
    bad_minutes: 1.0,
    patience: f64::INFINITY,
};
const LADDER: &[f64] = &[1.0, 5.0, 25.0, 50.0, 100.0];

impl Scene {
    fn plan(self) -> CanaryPlan {
        let slow = |metric| Check { metric, at_most: Margin { points: 0.0, times: 1.1 } };
        let mut checks = [50, 95].map(|p| slow(Metric::Latency(p))).to_vec();
        if self.patience.is_finite() {
            checks = Check::usual();
            checks.truncate(2);
        }
        let ladder = self.steps.len() > 2;
        let hold = if ladder { Duration::from_mins(2) } else { Duration::from_hours(1) };
        let steps = self.steps.to_vec();
        CanaryPlan { checks, steps, confirm: true, hold, ..at_once(5.0) }
    }

    fn world(self, share: f64) -> World {
        let [candidate, stable] = self.replicas.map(|n| n as f64);
        let load = |weight, share| Load { weight, share };
        World { candidate: load(candidate, share), stable: load(stable, 1.0 - share), ..GOOD }
    }
}

/// Whichever of them has least.
fn least_busy(replicas: &[Replica], rng: &mut Xoshiro256PlusPlus) -> usize {
    let fewest = replicas.iter().map(|replica| replica.jobs.len()).min().unwrap_or(0);
    let from = rng.random_range(0..replicas.len());
    let turns = (0..replicas.len()).map(|i| (from + i) % replicas.len());
    turns.into_iter().find(|i| replicas[*i].jobs.len() == fewest).expect("one has the fewest")
}

/// Half an hour at most.
fn half_an_hour(scene: Scene, seed: u64) -> (RollOut, Moment) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let share = scene.steps[0] / 100.0;
    let mut roll_out = RollOut::begin(scene.plan(), judged(), "v1".into(), share, Moment::ZERO).0;
    let new = |arm| Replica { arm, works: scene.works, jobs: Vec::new(), now: 0.0 };
    let mut candidate = vec![new(Arm::Candidate); scene.replicas[0]];
    let mut stable = vec![new(Arm::Stable); scene.replicas[1]];
    let (mut now, mut second) = (0.0, 0.0);
    let mut over = Vec::new();
    while now < 1800.0 && roll_out.is_live() {
        now += -(1.0 - rng.random::<f64>()).ln() / scene.rps;
        for replica in candidate.iter_mut().chain(&mut stable) {
            replica.work(now, &mut over);
        }
        while second + 1.0 < now {
            second += 1.0;
            let at = Moment::from_nanos((second * 1e9) as u64);
            for Over { at: end, job, arm, ended } in over.extract_if(.., |over| over.at <= second) {
                let began = Moment::from_nanos((job.began * 1e9) as u64);
                let latency = Some(Duration::from_secs_f64(end - job.began));
                let first_byte = latency.filter(|_| ended == Ended::Seen);
                let usual = Observation::of(arm, false, began);
                let beside = job.beside;
                let seen = Observation { latency, first_byte, ended, beside, ..usual };
                roll_out.observe(&seen, at);
            }
            roll_out.tick(&scene.world(roll_out.share()), at);
        }
        let to_candidate = rng.random::<f64>() < roll_out.share();
        let (side, times) =
            if to_candidate { (&mut candidate, scene.times) } else { (&mut stable, 1.0) };
        let bad = if (300.0..420.0).contains(&now) { scene.bad_minutes } else { 1.0 };
        let left = scene.work * times * bad * lognormal(&mut rng, 0.5);
        let leaves = now + scene.patience * lognormal(&mut rng, 0.5);
        let to = least_busy(side, &mut rng);
        let beside = side[to].jobs.len() as u32;
        side[to].jobs.push(Job { began: now, leaves, beside, left });
    }
    (roll_out, Moment::from_nanos((now * 1e9) as u64))
}

/// How many of so many roll-outs end in this state.
fn ends(scene: Scene, runs: u64, state: State) -> u64 {
    let is_so = |seed: &u64| {
        let (roll_out, now) = half_an_hour(scene, *seed);
        roll_out.state(now) == state
    };
    let found = (0..runs).filter(is_so).count() as u64;
    let Scene { works, replicas, steps, rps, times, .. } = scene;
    println!("{works:?} {replicas:?} {steps:?} {rps}/s, x{times}: {found} of {runs} {state:?}");
    found
}

/// A replica alone queues more than each of three of which the least busy is chosen; that is not its version's fault.
#[test]
fn a_candidate_that_queues_for_want_of_a_choice_is_not_called_slow() {
    for works in [Works::InLine, Works::Together(0.1)] {
        for rps in [4.0, 12.0, 25.0] {
            assert_eq!(ends(Scene { works, rps, ..SCENE }, 8, State::RolledBack), 0);
        }
    }
}

/// What it has in flight because it is slow is no excuse, on a step where it has little to do or as much as the others.
#[test]
fn a_candidate_that_queues_because_it_is_slow_is_called_slow() {
    for works in [Works::InLine, Works::Together(0.1)] {
        for (steps, times) in [(&[25.0, 100.0], 1.3), (&[5.0, 100.0], 1.3), (&[5.0, 100.0], 3.0)] {
            let scene = Scene { works, steps, times, ..SCENE };
            assert!(ends(scene, 8, State::RolledBack) >= 7);
        }
    }
}

/// Each replica of a language model has ten requests at once, and more do not slow it: the first steps, on which the
/// candidate idles beside them, must find it.
#[test]
fn a_slow_candidate_is_not_excused_by_replicas_that_idle_or_fill() {
    let scene = Scene { works: Works::Together(0.0), work: 1.0, steps: LADDER, ..SCENE };
    for (replicas, rps) in [([3, 9], 120.0), ([3, 3], 40.0)] {
        let scene = Scene { replicas, rps, ..scene };
        assert_eq!(ends(scene, 3, State::Promoted), 3);
        assert_eq!(ends(Scene { times: 1.3, ..scene }, 3, State::Promoted), 0);
        assert_eq!(ends(Scene { times: 2.0, ..scene }, 3, State::RolledBack), 3);
    }
}

#[test]
fn minutes_that_are_bad_for_both_sides_are_nobodys_fault() {
    for steps in [&[25.0, 100.0], &[5.0, 100.0]] {
        let works = Works::Together(0.1);
        let scene = Scene { works, steps, bad_minutes: 2.0, ..SCENE };
        assert_eq!(ends(scene, 8, State::RolledBack), 0);
    }
}

/// Who waits longer leaves more often, and a replica alone lets them wait longer.
#[test]
fn clients_who_leave_a_queue_are_not_the_versions_fault() {
    for (patience, steps) in [(0.5, &[25.0, 100.0]), (1.0, &[25.0, 100.0]), (1.0, &[50.0, 100.0])] {
        let scene = Scene { patience, steps, rps: 25.0, ..SCENE };
        assert_eq!(ends(scene, 8, State::RolledBack), 0);
    }
}

/// Nobody can tell a slow version from one with too few replicas, but no client has to wait until somebody can.
#[test]
fn clients_who_wait_in_vain_for_one_replica_beside_twenty_are_spared() {
    let scene =
        Scene { replicas: [1, 20], steps: LADDER, rps: 100.0, work: 0.09, patience: 10.0, ..SCENE };
    for seed in 0..3 {
        let (roll_out, now) = half_an_hour(scene, seed);
        let sentence = roll_out.sentence(now);
        assert_eq!(roll_out.state(now), State::Paused, "{sentence}");
        assert!(roll_out.share() <= 0.05, "{sentence}");
        for said in ["waited for it in vain for 3 min at 25 %", "clients left", "no verdict"] {
            assert!(sentence.contains(said), "{sentence}");
        }
    }
}

/// Both sides have too few replicas.
#[test]
fn a_queue_before_both_sides_pauses_nobody() {
    for replicas in [[3, 3], [3, 9]] {
        let rps = 20.0 * (replicas[0] + replicas[1]) as f64;
        let scene = Scene { replicas, rps, steps: LADDER, patience: 3.0, ..SCENE };
        assert_eq!(ends(scene, 3, State::Paused), 0);
    }
}
