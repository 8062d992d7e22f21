//! Clients who wait in vain while nothing can be compared: they are spared, and one or two clients pause nobody.
use crate::{GOOD, errors_only, judged};
use evener::canary::{Arm, By, Command, Ended, Load, Observation, RollOut, State, World};
use evener::stats::Moment;
use std::time::Duration;

const ANA: By<'_> = By { who: "ana", reason: Some("lunch") };

/// A canary at a half, with a clock of its own.
struct Site {
    roll_out: RollOut,
    now: Moment,
    requests: u64,
}

impl Site {
    fn new() -> Self {
        let begun = RollOut::begin(errors_only(), judged(), "v1".into(), 0.5, Moment::ZERO);
        let mut roll_out = begun.0;
        roll_out.tick(&CROWDED, Moment::ZERO);
        Self { roll_out, now: Moment::ZERO, requests: 0 }
    }

    fn state(&self) -> State {
        self.roll_out.state(self.now)
    }

    fn say(&self) -> String {
        self.roll_out.sentence(self.now)
    }

    fn percent(&self) -> u32 {
        (self.roll_out.share() * 100.0).round() as u32
    }
}

/// Each replica of the candidate is given more than those of the others: speed is not comparable.
const CROWDED: World = World { stable: Load { weight: 9.0, share: 0.5 }, ..GOOD };

/// Seconds of 20 requests of each side, whose clients leave after so long where the first byte has not come by then.
fn wait(site: &mut Site, seconds: u64, leave: [bool; 2], clients: u64) {
    for _ in 0..seconds {
        for _ in 0..20 {
            site.requests += 1;
            for (arm, leaves) in [(Arm::Candidate, leave[0]), (Arm::Stable, leave[1])] {
                let took = Duration::from_millis(if leaves { 900 } else { 50 });
                let ended = if leaves { Ended::Cancelled } else { Ended::Seen };
                let first_byte = (!leaves).then_some(took);
                let client = (site.requests % clients).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let key = (clients < 5).then_some(client);
                let usual = Observation::of(arm, false, site.now);
                let seen = Observation {
                    ended,
                    latency: Some(took),
                    first_byte,
                    client: Some(client),
                    key,
                    ..usual
                };
                site.roll_out.observe(&seen, site.now);
            }
        }
        site.now = site.now + Duration::from_secs(1);
        site.roll_out.tick(&CROWDED, site.now);
    }
}

#[test]
fn clients_who_wait_in_vain_are_spared_though_nothing_can_be_compared() {
    let at_half = || {
        let mut site = Site::new();
        wait(&mut site, 60, [false; 2], 1000);
        site
    };
    let mut site = at_half();
    wait(&mut site, 170, [true, false], 1000);
    assert_eq!((site.state(), site.percent()), (State::Collecting, 50), "{}", site.say());
    wait(&mut site, 60, [true, false], 1000);
    assert_eq!((site.state(), site.percent()), (State::Paused, 1), "{}", site.say());
    let said = site.say();
    for part in [
        "v2 is paused at 1 % because clients waited for it in vain for 3 min at 50 %: clients left",
        "after a long wait, and 0 of",
        "no verdict is possible, each of its replicas is given more than those of the other side.",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // It is not watched for that any more, and whoever resumes begins anew.
    wait(&mut site, 600, [true, false], 1000);
    assert_eq!((site.state(), site.say().contains("for 3 min")), (State::Paused, true));
    site.roll_out.command(Command::Resume, ANA, site.now).unwrap();
    wait(&mut site, 20, [false; 2], 1000);
    assert!(matches!(site.state(), State::Collecting | State::Passing), "{}", site.say());

    let mut site = at_half();
    site.roll_out.command(Command::Pause, ANA, site.now).unwrap();
    wait(&mut site, 240, [true, false], 1000);
    assert_eq!((site.state(), site.percent()), (State::Paused, 1), "{}", site.say());
    assert!(
        site.say().contains("by ana: lunch, and is at the first step because"),
        "{}",
        site.say()
    );
}

#[test]
fn one_that_is_resumed_proves_itself_anew() {
    let paused = || {
        let mut site = Site::new();
        wait(&mut site, 60, [false; 2], 1000);
        wait(&mut site, 240, [true, false], 1000);
        assert_eq!((site.state(), site.percent()), (State::Paused, 1), "{}", site.say());
        site
    };
    let resume = |site: &mut Site| {
        site.roll_out.command(Command::Resume, ANA, site.now).unwrap();
    };
    // Each step takes its time and its proof, as at the beginning.
    let mut mended = paused();
    resume(&mut mended);
    for (seconds, percent) in [(115, 1), (10, 5), (105, 5), (20, 25), (95, 25), (30, 50)] {
        wait(&mut mended, seconds, [false; 2], 1000);
        assert_eq!(mended.percent(), percent, "{}", mended.say());
    }
    wait(&mut mended, 130, [false; 2], 1000);
    assert_eq!(mended.state(), State::Promoted, "{}", mended.say());

    // What is open, and who has just left, keeps it where it is, until it waits for a person again.
    let mut as_before = paused();
    resume(&mut as_before);
    let mut waited = 0;
    while as_before.state() != State::Paused {
        wait(&mut as_before, 1, [true, false], 1000);
        assert_eq!(as_before.percent(), 1, "{}", as_before.say());
        waited += 1;
    }
    assert!((180..=200).contains(&waited), "{waited} s");
    let said = as_before.say();
    assert!(said.contains("clients waited for it in vain for 3 min at 1 %"), "{said}");

    // One that is well with few requests and not with many does not reach the share at which it was paused.
    let mut at_a_quarter = paused();
    resume(&mut at_a_quarter);
    let mut highest = 1;
    for _ in 0..900 {
        let leaves = at_a_quarter.percent() >= 25;
        wait(&mut at_a_quarter, 1, [leaves, false], 1000);
        highest = highest.max(at_a_quarter.percent());
    }
    assert_eq!((at_a_quarter.state(), highest), (State::Paused, 25), "{}", at_a_quarter.say());
}

#[test]
fn nobody_is_paused_for_what_both_sides_or_two_clients_do() {
    for (leave, clients) in [([true, true], 1000), ([true, false], 2)] {
        let mut site = Site::new();
        wait(&mut site, 60, [false; 2], 1000);
        wait(&mut site, 600, leave, clients);
        assert_ne!(site.state(), State::Paused, "{}", site.say());
        assert!(site.percent() >= 50, "{}", site.say());
    }
}
