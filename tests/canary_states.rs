//! The states of a canary: every way between them, and what is said in each.
use evener::canary::{
    Arm, By, CanaryPlan, Check, Command, DoWhenUndecided, Effect, Ending, Judged, Load, Metric,
    Observation, OnFailure, OnUndecided, RollOut, State, Unusable, World,
};
use evener::stats::Moment;
use proptest::prelude::*;
use std::time::Duration;

const LOAD: Load = Load { weight: 1.0, share: 0.5 };
const USABLE: World = World { candidate_usable: true, candidate: LOAD, stable: LOAD };
const ANA: By<'_> = By { who: "ana", reason: Some("lunch") };

fn judged() -> Judged {
    Judged { model: "chat".into(), candidate: "v2".into(), upstream_model: None }
}

fn plan() -> CanaryPlan {
    let checks = Check::usual();
    CanaryPlan {
        candidate: "v2".into(),
        checks: vec![checks[0].clone()],
        adapts: false,
        ..CanaryPlan::default()
    }
}

/// A canary with a clock of its own.
struct Site {
    canary: RollOut,
    now: Moment,
    requests: u64,
    turns: [u64; 2],
    effects: Vec<Effect>,
}

impl Site {
    fn of(plan: CanaryPlan, file: f64) -> Self {
        let (canary, effects) = RollOut::begin(plan, judged(), "v1".into(), file, Moment::ZERO);
        let mut site = Self { canary, now: Moment::ZERO, requests: 0, turns: [0; 2], effects };
        site.tick(&USABLE);
        site
    }

    fn tick(&mut self, world: &World) {
        self.effects.extend(self.canary.tick(world, self.now));
    }

    /// Seconds of 40 requests; every so-manyth of the candidate's and of the others fails, 0: none.
    fn pass(&mut self, seconds: u64, bad: u64, others_bad: u64) {
        for _ in 0..seconds {
            for _ in 0..40 {
                self.requests += 1;
                let each = (1.0 / self.canary.share().max(0.01)).round() as u64;
                let candidate = self.requests.is_multiple_of(each);
                let (arm, every) =
                    if candidate { (Arm::Candidate, bad) } else { (Arm::Stable, others_bad) };
                let turn = &mut self.turns[usize::from(candidate)];
                *turn += 1;
                let error = every > 0 && turn.is_multiple_of(every);
                self.canary.observe(&Observation::of(arm, error, self.now), self.now);
            }
            self.idle(1);
        }
    }

    fn idle(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            self.tick(&USABLE);
        }
    }

    fn state(&self) -> State {
        self.canary.state(self.now)
    }

    fn say(&self) -> String {
        self.canary.sentence(self.now)
    }
}

#[test]
fn it_begins_at_the_first_step_that_is_not_below_the_files_share() {
    for (file, step, share) in
        [(0.0, 0, 0.01), (0.01, 0, 0.01), (0.05, 1, 0.05), (0.06, 2, 0.25), (0.6, 3, 0.5)]
    {
        let canary = Site::of(plan(), file).canary;
        assert_eq!(canary.step(), step, "{file}");
        assert!((canary.share() - share).abs() < 1e-12, "{file}");
    }
    let whole = Site::of(plan(), 1.0);
    assert_eq!(whole.state(), State::Promoted);
    assert_eq!(
        whole.say(),
        "v2 was promoted. The file gives it everything. It serves all of chat until the file's `split` changes."
    );
}

#[test]
fn nobody_calls_so_nothing_is_decided() {
    let mut site = Site::of(plan(), 0.05);
    site.idle(300);
    assert_eq!(site.state(), State::Collecting);
    assert_eq!(
        site.say(),
        "chat is not receiving traffic: 0 requests in 5 min. Nothing is decided without evidence."
    );
    for _ in 0..600 {
        site.canary.observe(&Observation::of(Arm::Stable, false, site.now), site.now);
        site.idle(1);
    }
    assert_eq!(
        site.say(),
        "v2 is not receiving traffic: 0 requests in 15 min. Nothing is decided without evidence."
    );
    assert_eq!(site.canary.eta_seconds(site.now), None);
    site.idle(7200);
    assert_eq!(site.state(), State::Undecided);
    assert!((site.canary.share() - 0.05).abs() < 1e-12);
}

#[test]
fn a_metric_that_nobody_measured_is_not_passed() {
    let mut plan = plan();
    plan.checks.push(Check { metric: Metric::OutputTokens, ..plan.checks[0].clone() });
    let mut site = Site::of(plan, 0.05);
    site.pass(600, 0, 0);
    assert_eq!((site.state(), site.canary.step()), (State::Collecting, 1));
    assert!(
        site.say().ends_with("no request has told anything of output_tokens yet."),
        "{}",
        site.say()
    );
}

#[test]
fn a_good_candidate_climbs_to_everything() {
    let mut site = Site::of(plan(), 0.01);
    site.pass(10, 0, 0);
    assert_eq!(site.say(), "v2 has 1 % and warms up; it is judged in 20 s.");
    site.pass(110, 0, 0);
    assert_eq!(site.state(), State::Collecting);
    assert_eq!(
        site.say(),
        "v2 has 1 % (step 1 of 5): errors in 0 of 36 requests (0 %), v1 in 0 of 3 564 (0 %), in 90 s. \
         Nothing decides yet: it needs 64 more requests, about 3 min at the present rate."
    );
    assert_eq!(site.canary.needs_requests(), Some(64));
    site.pass(161, 0, 0);
    assert_eq!(site.canary.step(), 1);
    site.pass(60, 0, 0);
    assert_eq!(site.state(), State::Passing);
    assert_eq!(
        site.say(),
        "v2 has 5 % (step 2 of 5): errors in 0 of 222 requests (0 %), v1 in 0 of 12 218 (0 %), in 5 min. \
         It is proven to be no worse, and goes to 25 % in 59 s."
    );
    site.pass(400, 0, 0);
    assert_eq!(site.state(), State::Promoted, "{}", site.say());
    assert!(site.effects.ends_with(&[
        Effect::SetShare(1.0),
        Effect::Finished(Ending::Promoted),
        Effect::Announce { occasion: evener::canary::Occasion::Promoted, sentence: site.say() },
    ]));
    assert_eq!(
        site.say(),
        "v2 was promoted: errors in 0 of 3 940 requests (0 %), v1 in 0 of 20 460 (0 %), in 10 min. \
         It would have found errors of 1 % or more. It serves all of chat until the file's `split` changes."
    );
}

#[test]
fn a_bad_candidate_is_kept_back_and_then_rolled_back() {
    let mut site = Site::of(plan(), 0.25);
    site.pass(55, 0, 0);
    while site.state() == State::Collecting || site.state() == State::Passing {
        site.pass(1, 4, 1000);
    }
    assert_eq!(site.state(), State::Failing);
    assert!((site.canary.share() - 0.01).abs() < 1e-12, "back to the first step");
    assert_eq!(
        site.say(),
        "v2 fails: errors in 8 of 280 requests (2.9 %), v1 in 0 of 840 (0 %), in 28 s; would be seen by chance less \
         than once in 500 roll-outs. It is kept at 1 % until it is clear that this was no burst."
    );
    while site.state() == State::Failing {
        site.pass(1, 4, 1000);
    }
    assert_eq!(site.state(), State::RolledBack);
    assert_eq!(
        site.say(),
        "v2 was rolled back: errors in 13 of 300 requests (4.3 %), v1 in 2 of 2 820 (0.071 %), in 78 s; would be seen \
         by chance less than once in 30 000 000 roll-outs. v1 serves all; `evener canary start chat` tries again."
    );
}

#[test]
fn two_versions_that_fail_alike_are_no_reason_to_go_back() {
    let mut site = Site::of(plan(), 0.25);
    site.pass(1200, 12, 12);
    assert_eq!(site.state(), State::Promoted, "{}", site.say());
}

#[test]
fn on_failure_pause_waits_for_a_person_at_the_first_step() {
    let mut site = Site::of(CanaryPlan { on_failure: OnFailure::Pause, ..plan() }, 0.25);
    site.pass(300, 3, 0);
    assert_eq!(site.state(), State::Paused);
    assert!((site.canary.share() - 0.01).abs() < 1e-12);
    assert_eq!(
        site.say(),
        "v2 is paused after it failed; it is kept at 1 %: errors in 42 of 128 requests (33 %), v1 in 0 of 10 672 (0 %), \
         in 5 min; would be seen by chance less than once in a billion roll-outs. `evener canary resume chat` overrules \
         that and judges anew; `promote` or `abort` end it."
    );
    site.canary.command(Command::Resume, ANA, site.now).unwrap();
    assert_eq!(site.state(), State::Collecting, "whoever resumes overrules the evidence");
}

#[test]
fn operators_rule() {
    let mut site = Site::of(plan(), 0.05);
    site.pass(60, 0, 0);
    let effects = site.canary.command(Command::Pause, ANA, site.now).unwrap();
    assert_eq!(effects.len(), 1);
    assert_eq!(site.canary.command(Command::Pause, ANA, site.now), Ok(vec![]));
    site.pass(600, 0, 0);
    assert_eq!((site.state(), site.canary.step()), (State::Paused, 1));
    assert_eq!(
        site.say(),
        "v2 is paused at 5 % by ana: lunch. Errors in 0 of 1 260 requests (0 %), v1 in 0 of 23 940 (0 %), \
         in 11 min. `evener canary resume chat` goes on."
    );
    site.canary.command(Command::Resume, ANA, site.now).unwrap();
    let effects = site.canary.command(Command::Abort, ANA, site.now).unwrap();
    assert_eq!(effects[..2], [Effect::SetShare(0.0), Effect::Finished(Ending::RolledBack)]);
    assert_eq!(
        site.say(),
        "v2 was rolled back: errors in 0 of 1 260 requests (0 %), v1 in 0 of 23 940 (0 %), in 11 min. \
         Aborted by ana: lunch. v1 serves all; `evener canary start chat` tries again."
    );
    let refused = site.canary.command(Command::Promote, ANA, site.now).unwrap_err();
    assert_eq!(refused, "v2 was rolled back already; `evener canary start chat` begins anew");
    let mut idle = RollOut::idle(plan(), judged(), "v1".into(), Moment::ZERO);
    assert_eq!(idle.sentence(Moment::ZERO), "v2 waits: `evener canary start chat` begins.");
    assert!(idle.command(Command::Pause, ANA, Moment::ZERO).is_err());
}

#[test]
fn an_aa_test_changes_nothing() {
    let aa = CanaryPlan { aa: true, candidate: "v1".into(), ..plan() };
    let mut site = Site::of(aa, 0.0);
    site.pass(3600, 20, 20);
    assert!(!site.effects.iter().any(|effect| !matches!(effect, Effect::Announce { .. })));
    assert_eq!(
        site.say(),
        "v2 is compared with itself, request by request at random: errors in 3 581 of 71 381 requests (5 %), the other \
         half in 3 559 of 71 419 (5 %), in 1 h. The statistics see no difference."
    );
    assert!(site.canary.command(Command::Promote, ANA, site.now).is_err());
    site.canary.command(Command::Abort, ANA, site.now).unwrap();
    assert_eq!(site.state(), State::RolledBack);
}

#[test]
fn a_restart_resumes_the_stage_and_the_evidence() {
    let mut site = Site::of(plan(), 0.25);
    site.pass(100, 30, 100);
    let text = serde_json::to_string(&site.canary.snapshot(site.now)).unwrap();
    let read = || serde_json::from_str(&text).unwrap();
    let begun = Moment::from_millis(5);
    let again = RollOut::restore(read(), plan(), &judged(), begun).unwrap();
    assert_eq!(again.sentence(begun), site.say());
    assert_eq!(again.step(), site.canary.step());
    assert!((again.evidence() - site.canary.evidence()).abs() < 1e-9);
    let changed = CanaryPlan { hold: Duration::from_secs(7), ..plan() };
    assert_eq!(RollOut::restore(read(), changed, &judged(), begun).unwrap_err(), Unusable::Changed);
    let other = text.replace("\"version\":3", "\"version\":1");
    let other = serde_json::from_str(&other).unwrap();
    assert_eq!(RollOut::restore(other, plan(), &judged(), begun).unwrap_err(), Unusable::Version);
}

#[derive(Clone, Debug)]
enum Event {
    Traffic { seconds: u8, bad: u8, others_bad: u8 },
    Silence(u16),
    Unusable,
    Say(Command),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let command = prop::sample::select(vec![
        Command::Pause,
        Command::Resume,
        Command::Promote,
        Command::Abort,
    ]);
    prop_oneof![
        12 => (1_u8..120, 0_u8..20, 0_u8..20)
            .prop_map(|(seconds, bad, others_bad)| Event::Traffic { seconds, bad, others_bad }),
        6 => (1_u8..120).prop_map(|seconds| Event::Traffic { seconds, bad: 0, others_bad: 0 }),
        3 => (1_u16..9000).prop_map(Event::Silence),
        1 => Just(Event::Unusable),
        2 => command.prop_map(Event::Say),
        1 => Just(Event::Restart),
    ]
}

/// May a canary go from one state to the other, by itself or by this command?
fn allowed(from: State, to: State, by: Option<Command>) -> bool {
    use State::{Collecting, Failing, Idle, Passing, Paused, Promoted, RolledBack, Undecided};
    match (from, to) {
        (from, to) if from == to => true,
        (Promoted | RolledBack | Idle, _) | (_, Idle) => false,
        (_, Promoted) if by == Some(Command::Promote) => true,
        (_, RolledBack) if by == Some(Command::Abort) => true,
        (Collecting | Passing | Failing | Undecided, Paused) if by == Some(Command::Pause) => true,
        (Paused | Undecided, Collecting | Passing | Failing) => by == Some(Command::Resume),
        (Paused | Undecided, Undecided | Promoted) | (Paused, Paused) => false,
        // Nobody may be hurt while it waits for a person.
        (Paused | Undecided | Collecting | Passing | Failing, _) => by.is_none(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_events_break_the_rules(
        events in prop::collection::vec(event(), 1..30),
        confirm in any::<bool>(), pause in any::<bool>(), give_up in any::<bool>(),
    ) {
        let plan = CanaryPlan {
            confirm,
            on_failure: if pause { OnFailure::Pause } else { OnFailure::Rollback },
            on_undecided: OnUndecided {
                after: Duration::from_mins(30),
                act: if give_up { DoWhenUndecided::Rollback } else { DoWhenUndecided::Pause },
            },
            hold: Duration::from_secs(20),
            ..plan()
        };
        let mut site = Site::of(plan.clone(), 0.01);
        for event in events {
            let seconds = match event {
                Event::Traffic { seconds, .. } => u16::from(seconds),
                Event::Silence(seconds) => seconds,
                Event::Unusable | Event::Say(_) | Event::Restart => 1,
            };
            for _ in 0..seconds {
                let (before, step, share) = (site.state(), site.canary.step(), site.canary.share());
                let mut by = None;
                match event {
                    Event::Traffic { bad, others_bad, .. } => {
                        site.pass(1, bad.into(), others_bad.into());
                    }
                    Event::Silence(_) => site.idle(1),
                    Event::Unusable => site.tick(&World { candidate_usable: false, ..USABLE }),
                    Event::Say(command) => {
                        by = Some(command);
                        let _refused = site.canary.command(command, ANA, site.now);
                    }
                    Event::Restart => {
                        let saved = site.canary.snapshot(site.now);
                        site.canary =
                            RollOut::restore(saved, plan.clone(), &judged(), site.now).unwrap();
                    }
                }
                let (after, canary) = (site.state(), &site.canary);
                prop_assert!(allowed(before, after, by), "{before:?} to {after:?} by {by:?}");
                let up = canary.step() > step && by.is_none();
                prop_assert!(!up || before == State::Passing || before == State::Collecting);
                let most = plan.steps[canary.step()] / 100.0;
                prop_assert!(canary.share() <= most + 1e-12, "{} at {}", canary.share(), canary.step());
                if before == State::Failing && after == State::Failing {
                    prop_assert!(canary.share() <= share, "no more while it fails");
                }
                if matches!(event, Event::Silence(_)) {
                    prop_assert!(canary.step() == step || before == State::Passing, "silence proves nothing");
                }
                prop_assert!(canary.evidence().is_finite());
                prop_assert!(!site.say().is_empty());
            }
        }
        // Every state has an exit.
        if site.canary.is_live() {
            site.canary.command(Command::Resume, ANA, site.now).unwrap();
            site.canary.command(Command::Abort, ANA, site.now).unwrap();
        }
        prop_assert!(matches!(site.state(), State::RolledBack | State::Promoted));
    }
}
