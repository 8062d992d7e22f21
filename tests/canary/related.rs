//! Requests that are not independent: users who ask again and again, clients who choose their side, outages, hangs.
use crate::{GOOD, errors_only, judged, runs};
use evener::canary::{
    Arm, By, CanaryPlan, Check, Command, Effect, Ended, Metric, Observation, Occasion, Open,
    RollOut, State,
};
use evener::stats::Moment;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Roll-outs of a cell.
fn few() -> u64 {
    (runs() / 25).max(4)
}

/// A request on its way.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// Where its sticky key lies in the split: the candidate has what is below its share.
    pub(crate) point: f64,
    pub(crate) key: Option<u64>,
    pub(crate) client: u64,
    /// It is of the adversary, or of a user who always fails.
    pub(crate) odd: bool,
}

/// How a request goes: its error, and after how many seconds it is over.
pub(crate) type Goes<'a> = &'a dyn Fn(Asked, Arm, f64, f64, &mut Xoshiro256PlusPlus) -> (bool, f64);
/// Who asks.
pub(crate) type Asks<'a> = &'a dyn Fn(&mut Xoshiro256PlusPlus) -> Asked;

pub(crate) struct Run {
    pub(crate) state: State,
    pub(crate) minutes: f64,
    candidate: u64,
    failing: u32,
    pub(crate) sentence: String,
}

fn hash(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 31)
}

/// A user with a sticky key of its own.
pub(crate) fn user(n: u64, odd: bool) -> Asked {
    let point = hash(n) as f64 / u64::MAX as f64;
    Asked { point, key: Some(hash(n)), client: hash(n ^ 0xC11E), odd }
}

pub(crate) fn plan(checks: Vec<Check>) -> CanaryPlan {
    CanaryPlan { checks, warmup: Duration::ZERO, ..errors_only() }
}

fn default_checks() -> Vec<Check> {
    CanaryPlan::default().checks
}

/// A whole roll-out at so many requests a second, for so many minutes at most.
pub(crate) fn roll_out(
    plan: &CanaryPlan,
    rps: f64,
    longest: f64,
    seed: u64,
    asks: Asks<'_>,
    goes: Goes<'_>,
) -> Run {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut canary, _) = RollOut::begin(plan.clone(), judged(), "v1".into(), 0.0, Moment::ZERO);
    let (mut under_way, mut number): (Vec<(f64, Observation)>, u64) = (Vec::new(), 0);
    let (mut candidate, mut failing) = (0, 0);
    for second in 0..(longest * 60.0) as u64 {
        for i in 0..rps as u64 {
            let at = second as f64 + i as f64 / rps;
            let asked = asks(&mut rng);
            let point = if asked.key.is_some() { asked.point } else { rng.random() };
            let arm = if point < canary.share() { Arm::Candidate } else { Arm::Stable };
            let (error, takes) = goes(asked, arm, at, canary.share(), &mut rng);
            number += 1;
            candidate += u64::from(arm == Arm::Candidate);
            let began = Moment::from_nanos((at * 1e9) as u64);
            let seen = Observation {
                id: number,
                key: asked.key,
                client: Some(asked.client),
                replica: 1 + number % 3 + if arm == Arm::Candidate { 10 } else { 0 },
                latency: (!error).then(|| Duration::from_secs_f64(takes)),
                first_byte: (!error).then(|| Duration::from_secs_f64(takes / 2.0)),
                ..Observation::of(arm, error, began)
            };
            under_way.push((at + takes, seen));
        }
        let (now, moment) = ((second + 1) as f64, now_of(second + 1));
        let waits: Vec<Open> = under_way
            .iter()
            .filter(|(end, _)| *end > now)
            .map(|(_, seen)| Open {
                id: seen.id,
                arm: seen.arm,
                began: seen.began,
                key: seen.key,
                client: seen.client,
                replica: seen.replica,
                beside: 0,
                prefix: None,
                first_byte: None,
                silent: None,
            })
            .collect();
        canary.open(&waits, moment);
        under_way.retain(|(end, seen)| {
            if *end <= now {
                canary.observe(seen, moment);
            }
            *end > now
        });
        let effects = canary.tick(&GOOD, moment);
        let failed = |effect: &&Effect| {
            matches!(effect, Effect::Announce { occasion: Occasion::Failing, .. })
        };
        failing += effects.iter().filter(failed).count() as u32;
        let state = canary.state(moment);
        if !canary.is_live() || [State::Paused, State::Undecided].contains(&state) {
            let sentence = canary.sentence(moment);
            return Run { state, minutes: now / 60.0, candidate, failing, sentence };
        }
    }
    let moment = Moment::from_millis((longest * 60_000.0) as u64);
    let (state, sentence) = (canary.state(moment), canary.sentence(moment));
    Run { state, minutes: longest, candidate, failing, sentence }
}

/// All end in this state.
fn all_end(state: State, run: impl Fn(u64) -> Run) -> Vec<Run> {
    (0..few())
        .map(|seed| {
            let run = run(seed);
            assert_eq!(run.state, state, "run {seed}, {} min: {}", run.minutes, run.sentence);
            run
        })
        .collect()
}

/// It is rolled back, or waits for a person at the first step.
fn stops(run: Run) {
    let Run { state, minutes, sentence, .. } = run;
    let stopped = [State::RolledBack, State::Paused].contains(&state);
    assert!(stopped, "{state:?} after {minutes} min: {sentence}");
}

pub(crate) fn coin(rng: &mut Xoshiro256PlusPlus, chance: f64) -> bool {
    rng.random::<f64>() < chance
}

/// One of 500 users, whoever it is in this run, and with `whale` as a part of all requests.
fn five_hundred(seed: u64, whale: f64) -> impl Fn(&mut Xoshiro256PlusPlus) -> Asked {
    let odd = hash(seed) % 500;
    move |rng| {
        let whale = coin(rng, whale);
        let n = if whale { odd } else { rng.random_range(0..500) };
        user(n + seed * 1000, n == odd)
    }
}

#[test]
fn one_user_who_always_fails_rolls_nothing_back_and_does_not_keep_it_for_ever() {
    for whale in [0.0, 0.1] {
        all_end(State::Promoted, |seed| {
            let goes: Goes<'_> = &|asked, _, _, _, rng| (asked.odd || coin(rng, 0.002), 0.1);
            // Of 500 keys none may lie within 1 %.
            let plan = CanaryPlan { adapts: true, ..plan(errors_only().checks) };
            roll_out(&plan, 50.0, 120.0, seed, &five_hundred(seed, whale), goes)
        });
    }
}

/// A twentieth of the requests are of one client, who chose all its keys for the candidate's side.
fn with_an_adversary(seed: u64) -> impl Fn(&mut Xoshiro256PlusPlus) -> Asked {
    move |rng| {
        if coin(rng, 0.05) {
            let key = Some(rng.random());
            return Asked {
                point: rng.random::<f64>() * 0.01,
                key,
                client: 0xBAD << 32,
                odd: true,
            };
        }
        user(rng.random_range(0..2000) + seed * 10_000, false)
    }
}

#[test]
fn a_client_who_chooses_its_keys_rolls_nothing_back() {
    all_end(State::Promoted, |seed| {
        let goes: Goes<'_> = &|asked, _, _, _, rng| (asked.odd || coin(rng, 0.002), 0.1);
        roll_out(&plan(errors_only().checks), 50.0, 120.0, seed, &with_an_adversary(seed), goes)
    });
}

#[test]
fn a_client_who_chooses_its_keys_protects_no_bad_candidate() {
    for seed in 0..few() {
        let goes: Goes<'_> = &|asked, arm, _, _, rng| {
            let chance = if arm == Arm::Candidate { 0.2 } else { 0.005 };
            (!asked.odd && coin(rng, chance), 0.1)
        };
        let checks = errors_only().checks;
        stops(roll_out(&plan(checks), 50.0, 60.0, seed, &with_an_adversary(seed), goes));
    }
}

/// Each request of a client of its own, without a sticky key.
pub(crate) fn anybody(rng: &mut Xoshiro256PlusPlus) -> Asked {
    Asked { point: 0.0, key: None, client: rng.random(), odd: false }
}

#[test]
fn more_errors_are_confirmed_in_few_requests() {
    let mut asked: Vec<u64> = (0..9)
        .map(|seed| {
            let steps = vec![5.0, 50.0, 100.0];
            let plan = CanaryPlan { steps, ..plan(errors_only().checks) };
            let goes: Goes<'_> = &|_, arm, _, _, rng| {
                (coin(rng, if arm == Arm::Candidate { 0.1 } else { 0.01 }), 0.1)
            };
            let run = roll_out(&plan, 100.0, 20.0, seed, &anybody, goes);
            assert_eq!(run.state, State::RolledBack);
            run.candidate
        })
        .collect();
    asked.sort_unstable();
    assert!(asked[4] <= 140, "{asked:?}");
}

#[test]
fn an_outage_does_not_make_slow_failures_the_candidates() {
    all_end(State::Promoted, |seed| {
        // Three in a hundred of both sides' requests time out after a minute, and the candidate is out for 3 s.
        let goes: Goes<'_> = &|_, arm, at, _, rng| {
            let out = arm == Arm::Candidate && (400.0..403.0).contains(&at);
            if coin(rng, 0.03) { (true, 60.0) } else { (out, 0.1) }
        };
        roll_out(&plan(errors_only().checks), 50.0, 60.0, seed, &anybody, goes)
    });
}

#[test]
fn what_fails_with_its_share_ends() {
    let runs = all_end(State::RolledBack, |seed| {
        let goes: Goes<'_> = &|_, arm, _, share, _| (arm == Arm::Candidate && share > 0.2, 0.1);
        roll_out(&plan(errors_only().checks), 50.0, 60.0, seed, &anybody, goes)
    });
    for run in runs {
        assert!(run.failing >= 2 && run.minutes < 30.0, "{} min", run.minutes);
        let found = run.sentence.contains("v2 fails above 5 %: it fell back from 25 % ");
        assert!(found, "{}", run.sentence);
    }
}

#[test]
fn where_both_sides_fail_nothing_is_passed() {
    for rates in [[0.8, 0.8], [1.0, 1.0]] {
        for seed in 0..2 {
            let goes: Goes<'_> =
                &|_, arm, _, _, rng| (coin(rng, rates[usize::from(arm == Arm::Stable)]), 0.1);
            let run = roll_out(&plan(errors_only().checks), 50.0, 15.0, seed, &anybody, goes);
            assert_eq!(run.state, State::Collecting, "{}", run.sentence);
            let said = run.sentence.contains("v1 itself fails ")
                && run.sentence.contains("and to fail as often proves nothing");
            assert!(said, "{}", run.sentence);
        }
    }
}

#[test]
fn hangs_that_begin_on_the_last_step_are_not_promoted() {
    for seed in 0..few() {
        let goes: Goes<'_> = &|_, arm, _, share, rng| {
            let hangs = arm == Arm::Candidate && share >= 0.5 && coin(rng, 0.3);
            if hangs { (true, 120.0) } else { (false, 0.05 + rng.random::<f64>() * 0.1) }
        };
        stops(roll_out(&plan(default_checks()), 50.0, 40.0, seed, &anybody, goes));
    }
}

#[test]
fn a_paused_candidate_that_dies_is_rolled_back() {
    for confirm in [false, true] {
        let plan = CanaryPlan { confirm, ..plan(errors_only().checks) };
        let (mut canary, _) = RollOut::begin(plan, judged(), "v1".into(), 0.25, Moment::ZERO);
        let (mut second, mut said) = (0, Vec::new());
        let mut pass = |canary: &mut RollOut, seconds: u64, dead: bool| {
            for _ in 0..seconds {
                second += 1;
                let now = now_of(second);
                for n in 0..50 {
                    let arm = if n % 4 == 0 { Arm::Candidate } else { Arm::Stable };
                    let error = dead && arm == Arm::Candidate;
                    let seen = Observation {
                        client: Some(hash(second * 50 + n)),
                        replica: 1 + n % 3,
                        ..Observation::of(arm, error, now)
                    };
                    canary.observe(&seen, now);
                }
                said.extend(canary.tick(&GOOD, now));
            }
            now_of(second)
        };
        let now = pass(&mut canary, 60, false);
        let by = By { who: "api", reason: None };
        canary.command(Command::Pause, by, now).unwrap();
        let now = pass(&mut canary, 60, false);
        assert_eq!(canary.state(now), State::Paused);
        let now = pass(&mut canary, 60, true);
        assert_eq!(canary.state(now), State::RolledBack, "{}", canary.sentence(now));
        let told = said.iter().any(|effect| {
            matches!(effect, Effect::Announce { occasion: Occasion::RolledBack, .. })
        });
        assert!(told);
    }
}

fn now_of(second: u64) -> Moment {
    Moment::from_millis(second * 1000)
}

#[test]
fn clients_who_leave_at_once_or_have_no_time_decide_nothing() {
    let plan = CanaryPlan { confirm: false, ..plan(default_checks()) };
    let (mut canary, _) = RollOut::begin(plan, judged(), "v1".into(), 0.25, Moment::ZERO);
    for second in 1..120 {
        let now = now_of(second);
        for n in 0..40 {
            let arm = if n % 4 == 0 { Arm::Candidate } else { Arm::Stable };
            let took = |ms| Some(Duration::from_millis(ms));
            let seen = Observation {
                client: Some(hash(n)),
                replica: 1,
                latency: took(100),
                first_byte: took(50),
                ..Observation::of(arm, false, now)
            };
            canary.observe(&seen, now);
            // All on the candidate: gone after 20 ms.
            let gone = Observation {
                ended: Ended::Cancelled,
                latency: took(20),
                first_byte: None,
                ..Observation { arm: Arm::Candidate, ..seen }
            };
            canary.observe(&gone, now);
        }
        canary.tick(&GOOD, now);
    }
    let now = now_of(120);
    assert!(canary.is_live() && canary.state(now) != State::Failing, "{}", canary.sentence(now));
    let hits = |metric: Metric| {
        let name = metric.name();
        canary.checks().iter().find(|check| check.metric == name).unwrap().candidate.hits
    };
    assert_eq!((hits(Metric::Errors), hits(Metric::Cancelled)), (0, 0));
}

#[test]
fn a_snapshot_stays_small() {
    let mut canary =
        RollOut::begin(plan(default_checks()), judged(), "v1".into(), 0.05, Moment::ZERO).0;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for second in 1..100 {
        let now = now_of(second);
        for _ in 0..400 {
            let asked = user(rng.random_range(0..50_000), false);
            let arm = if asked.point < 0.05 { Arm::Candidate } else { Arm::Stable };
            let took = Duration::from_secs_f64(0.001 + rng.random::<f64>().powi(4) * 30.0);
            let seen = Observation {
                key: asked.key,
                client: Some(asked.client),
                replica: 1 + asked.client % 40,
                latency: Some(took),
                first_byte: Some(took / 2),
                chunk_gap: Some(took / 9),
                tokens_per_second: Some(50.0),
                ..Observation::of(arm, coin(&mut rng, 0.05), now)
            };
            canary.observe(&seen, now);
        }
        canary.tick(&GOOD, now);
    }
    let text = serde_json::to_string(&canary.snapshot(now_of(100))).unwrap();
    assert!(text.len() < 48 << 10, "{} bytes", text.len());
}
