//! Situations, second by second: what is listed, what is told, and that nothing is when all is well.
use super::*;
use crate::canary;
use crate::health::Class;
use crate::problems::facts::{
    CanaryFacts, CertificateFacts, ExhaustedFacts, FileFacts, MirrorFacts, ModelFacts, Outcomes,
    PanicFacts, ProcessFacts, RejectedFacts, Replies, Standings, VersionFacts, WebhookFacts,
};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

mod fruitless;
mod names;

/// A fleet, a list, and a clock.
struct Site {
    facts: Facts,
    problems: Problems,
    told: Vec<String>,
}

fn version(name: &str, share: f64) -> VersionFacts {
    VersionFacts {
        name: name.into(),
        share,
        outcomes: Outcomes::default(),
        standings: Standings { all: 3, usable: 3, ..Standings::default() },
        ejections_refused: 0,
        wanted: vec!["chat".to_owned(), "gpt".to_owned()],
        replies: Replies::default(),
        sets_credentials: false,
        answers: Vec::new(),
        tls_fault: None,
    }
}

impl Site {
    /// One model of two versions, and all is well.
    fn new() -> Self {
        let model = ModelFacts {
            name: "chat".into(),
            fail_open: true,
            sticky: false,
            unplaced: Outcomes::default(),
            versions: vec![version("v1", 0.9), version("v2", 0.1)],
            canary: None,
            mirror: None,
            split_by: None,
        };
        let facts = Facts {
            now: Moment::ZERO,
            wall: "2026-11-30T14:00:00Z".parse().unwrap(),
            models: vec![model],
            nameless: Outcomes::default(),
            certificates: Vec::new(),
            file: FileFacts { path: "e.yaml".to_owned(), generation: 3, ..FileFacts::default() },
            process: ProcessFacts::default(),
        };
        Self { facts, problems: Problems::default(), told: Vec::new() }
    }

    fn version(&mut self, i: usize) -> &mut VersionFacts {
        &mut self.facts.models[0].versions[i]
    }

    fn seconds(&mut self, n: u64) {
        for _ in 0..n {
            self.facts.now = self.facts.now + Duration::from_secs(1);
            self.facts.wall += jiff::SignedDuration::from_secs(1);
            for change in self.problems.look(&self.facts) {
                self.told.push(match change {
                    Change::Came(problem) => problem.text,
                    Change::Over(sentence) => sentence,
                });
            }
        }
    }

    fn texts(&self) -> Vec<&str> {
        self.problems.list().iter().map(|problem| problem.text.as_str()).collect()
    }

    fn codes(&self) -> Vec<&str> {
        self.problems.list().iter().map(|problem| problem.code.as_str()).collect()
    }
}

#[test]
fn an_hour_in_which_all_is_well_says_nothing() {
    let mut site = Site::new();
    let mut rng = SmallRng::seed_from_u64(3);
    for second in 0..3600 {
        for i in 0..2 {
            let outcomes = &mut site.version(i).outcomes;
            outcomes.good += rng.random_range(0..100);
            // One in a thousand or so, by chance.
            outcomes.failed[Class::Timeout as usize] += u64::from(rng.random::<f64>() < 0.02);
        }
        // Replicas join and leave, canaries advance, files are reloaded.
        let all = 2 + u32::from(second % 100 > 50);
        site.version(0).standings = Standings { all, usable: all, ..Standings::default() };
        let state = [canary::State::Collecting, canary::State::Passing, canary::State::Promoted];
        let state = state[second % 3];
        site.facts.models[0].canary = Some(CanaryFacts { candidate: "v2".to_owned(), state });
        site.facts.file.generation += 1;
        site.seconds(1);
        assert_eq!(site.texts(), Vec::<&str>::new(), "second {second}");
    }
    assert_eq!(site.told, Vec::<String>::new());
}

const DEAD: Standings = Standings {
    all: 3,
    usable: 0,
    unprobed: 0,
    unhealthy: 3,
    ejected: 0,
    ejected_by_hand: 0,
    probation: 0,
    draining: 0,
};

#[test]
fn a_total_outage_is_listed_first_and_told_once() {
    let mut site = Site::new();
    site.seconds(60);
    site.version(0).standings = DEAD;
    site.version(1).standings = DEAD;
    site.facts.file.rejected = Some(RejectedFacts { errors: 1, needs_restart: Vec::new() });
    site.seconds(90);
    let expected = [
        "chat/v1 has no usable replica and serves by those that fail (3 of 3 fail their health check) \
         since 14:01 UTC: look at `evener status chat`",
        "chat/v2 has no usable replica and serves by those that fail (3 of 3 fail their health check) \
         since 14:01 UTC: look at `evener status chat`",
        "The file on disk has 1 error; generation 3 keeps serving since 14:01 UTC: `evener check e.yaml` \
         shows each",
    ];
    assert_eq!(site.texts(), expected);
    assert_eq!(site.told, expected[..2]);
    let well = Standings { all: 3, usable: 1, unhealthy: 2, ..Standings::default() };
    site.version(0).standings = well;
    site.seconds(4);
    assert_eq!(site.codes()[0], "no_usable_replica", "it may waver");
    site.seconds(2);
    let codes = site.codes();
    assert!(!codes.contains(&"no_usable_replica"), "{codes:?}");
    assert_eq!(codes, ["replicas_unhealthy", "version_without_replica", "file_rejected"]);
    assert!(
        site.told.contains(&"chat/v1 works again: a replica is usable (it lasted 89 s)".to_owned())
    );
    assert!(site.texts()[1].starts_with("chat/v2 has a share of 10 % and no usable replica"));
}

#[test]
fn a_wavering_replica_does_not_flicker() {
    let mut site = Site::new();
    for second in 0..120 {
        let out = u32::from(second % 3 == 0);
        site.version(0).standings =
            Standings { all: 3, usable: 3 - out, ejected: out, ..Standings::default() };
        site.seconds(1);
        assert_eq!(site.codes(), ["replicas_ejected"], "second {second}");
    }
    site.seconds(5);
    assert_eq!(site.codes(), Vec::<&str>::new());
}

#[test]
fn who_drains_what_serves_is_told_how_to_take_it_back() {
    let mut site = Site::new();
    site.version(1).standings =
        Standings { all: 3, usable: 2, draining: 1, ..Standings::default() };
    site.seconds(1);
    let notice = &site.problems.list()[0];
    assert_eq!((notice.code.as_str(), notice.is_wrong()), ("replicas_by_hand", false));
    assert!(
        notice.text.starts_with("1 of 3 replicas of chat/v2 drains by an operator's order since")
    );
    let all = Standings { all: 3, draining: 3, ..Standings::default() };
    site.version(0).standings = all;
    site.version(1).standings = all;
    site.seconds(1);
    let text = site.texts()[0];
    assert!(text.contains("refuses its requests with 503 (3 of 3 drain)"), "{text}");
    assert!(text.ends_with(": `evener undrain chat/v1` lets them serve"), "{text}");
}

#[test]
fn a_version_that_nobody_asks_may_be_away() {
    let mut site = Site::new();
    (site.version(0).share, site.version(1).share) = (1.0, 0.0);
    site.version(1).standings = DEAD;
    site.seconds(5);
    assert!(site.problems.list().iter().all(|problem| !problem.is_wrong()), "{:?}", site.texts());
    site.facts.models[0].mirror = Some(MirrorFacts { to: "v2".to_owned(), answered: 0, failed: 0 });
    site.seconds(1);
    assert!(site.problems.list().iter().any(Problem::is_wrong), "a mirror needs it");
}

#[test]
fn failing_requests_are_those_of_each_version() {
    let mut site = Site::new();
    for _ in 0..60 {
        site.version(0).outcomes.good += 99;
        site.version(1).outcomes.failed[Class::ServerError as usize] += 1;
        site.seconds(1);
    }
    let [problem] = site.problems.list() else { panic!("{:?}", site.texts()) };
    assert_eq!((problem.subject.as_str(), problem.severity), ("chat/v2", Severity::Critical));
    for _ in 0..10 {
        site.version(0).outcomes.failed[Class::ConnectFailure as usize] += 99;
        site.seconds(1);
    }
    let [problem, other] = site.problems.list() else { panic!("{:?}", site.texts()) };
    assert_eq!((problem.subject.as_str(), other.subject.as_str()), ("chat/v1", "chat/v2"));
    let text = &problem.text;
    assert!(text.starts_with(
        "100 % of the requests for chat/v1 fail (990 of 990 in the last 10 s, most by "
    ));
    assert!(
        text.ends_with("since 14:01 UTC: look at `evener tap --model chat --errors`"),
        "{text}"
    );
}

#[test]
fn a_certificate_is_told_anew_as_its_end_nears() {
    let mut site = Site::new();
    let wall = site.facts.wall.as_second();
    site.facts.certificates = vec![CertificateFacts {
        owner: "listener `edge`".to_owned(),
        name: "localhost".to_owned(),
        not_before: 0,
        not_after: wall + 3 * 86_400 + 30,
        fault: None,
    }];
    site.seconds(60);
    assert_eq!(site.told.len(), 2, "{:?}", site.told);
    site.facts.certificates[0].not_after = site.facts.wall.as_second() + 1;
    site.seconds(3);
    assert_eq!(site.problems.list()[0].rank, 0);
    assert!(site.told.last().unwrap().starts_with("The certificate `localhost` of listener `edge` ended on 2026-11-30 14:01 UTC, and clients refuse it: put"));
    site.facts.certificates[0].not_after += 90 * 86_400;
    site.seconds(1);
    assert!(
        site.told
            .last()
            .unwrap()
            .starts_with("The certificate `localhost` of listener `edge` works again")
    );
    assert_eq!(site.codes(), Vec::<&str>::new());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of problems")]
fn everything_else_is_listed_while_it_is_so() {
    let mut site = Site::new();
    site.seconds(1);
    site.facts.models[0].canary =
        Some(CanaryFacts { candidate: "v2".to_owned(), state: canary::State::Paused });
    site.facts.models[0].mirror = Some(MirrorFacts { to: "v2".to_owned(), answered: 0, failed: 0 });
    site.facts.models[0].split_by = Some("api".to_owned());
    site.facts.file.rejected =
        Some(RejectedFacts { errors: 1, needs_restart: vec!["threads".to_owned()] });
    site.facts.file.keys_fault = Some("it is empty".to_owned());
    let webhook = WebhookFacts {
        receiver: "hooks.example".to_owned(),
        waiting: 2,
        why: "it answered 503".to_owned(),
    };
    site.facts.process = ProcessFacts {
        ends: true,
        state_fault: Some("No space left on device".to_owned()),
        lost: vec![("lines of the access log", 0)],
        exhausted: vec![ExhaustedFacts {
            name: "ports",
            words: "no local ports are left".to_owned(),
            remedy: "widen the range",
            count: 3,
        }],
        panics: vec![PanicFacts { task: "probe", count: 1, what: "x (y.rs:1)".to_owned() }],
        webhooks: vec![webhook],
        descriptors: Some((900, 1000)),
    };
    site.seconds(1);
    site.facts.process.lost = vec![("lines of the access log", 7)];
    site.facts.models[0].mirror = Some(MirrorFacts { to: "v2".to_owned(), answered: 1, failed: 5 });
    site.version(1).ejections_refused = 1;
    site.version(1).tls_fault = Some("`a.crt` is empty".to_owned());
    site.seconds(1);
    let mut codes = site.codes();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "canary_paused",
            "certificate_rejected",
            "descriptors",
            "ejections_refused",
            "exhausted",
            "keys_rejected",
            "lines_lost",
            "mirror_fails",
            "panicked",
            "restart_needed",
            "shutting_down",
            "split_by_hand",
            "state_unwritable",
            "webhooks_undelivered",
        ]
    );
    let ranks: Vec<u8> = site.problems.list().iter().map(|problem| problem.rank).collect();
    assert!(ranks.is_sorted());
    for problem in site.problems.list() {
        let text = &problem.text;
        assert!(problem.sentence.len() > 10 && problem.what_to_do.len() > 5, "{text}");
        assert!(!text.ends_with('.') && !text.contains("  "), "{text}");
    }
    let calm = Site::new();
    site.facts = Facts { now: site.facts.now, wall: site.facts.wall, ..calm.facts };
    site.facts.process.lost = vec![("lines of the access log", 7)];
    site.seconds(10);
    assert_eq!(site.codes(), ["lines_lost"], "what was lost is told for a while");
    site.seconds(300);
    assert_eq!(site.codes(), Vec::<&str>::new());
    let over = site.told.iter().filter(|text| text.contains("it lasted")).count();
    assert_eq!(over, 5, "{:?}", site.told);
}
