//! What ejection does to whole pools: nobody is ejected for what clients or all replicas share, whoever is ill is found
//! soon, and no pool fails more with ejection than without.
//!
//! `EVENER_RUNS=20 cargo test --release --test ejection scenarios -- --nocapture` runs more seeds, and longer.
use crate::world::{Asked, Chance, Fault, World, fails};

/// How much more than in an ordinary test run.
#[expect(clippy::disallowed_methods, reason = "the size of a test is given by whoever starts it")]
pub(crate) fn runs() -> u64 {
    std::env::var("EVENER_RUNS").map_or(1, |runs| runs.parse().expect("a number"))
}

/// Shared bursts: all replicas fail so much, for so long in each minute.
fn bursts(rate: f64, seconds: f64) -> impl Fn(&Asked, &mut Chance) -> Option<Fault> {
    move |asked, chance| fails(chance, if asked.at % 60.0 < seconds { rate } else { 0.001 })
}

fn poison(asked: &Asked, chance: &mut Chance) -> Option<Fault> {
    if asked.client < 1_000 { Some(Fault::Fails(None)) } else { fails(chance, 0.001) }
}

const POLICIES: [&str; 6] = ["least_load", "least_request", "p2c", "round_robin", "random", "hash"];

/// Nobody may be ejected in any of these, whatever the policy and the rate.
pub(crate) fn nobody_is_ejected(what: &str, replicas: usize, world: impl Fn() -> World) {
    let (mut hours, mut ejections) = (0.0, Vec::new());
    for policy in POLICIES {
        for (rate, seconds) in [(1.0, 1_800.0), (10.0, 600.0), (100.0, 60.0)] {
            let world = World {
                replicas,
                options: format!(", balance: {policy}"),
                rate: Box::new(move |_| rate),
                seconds: seconds * runs() as f64,
                ..world()
            };
            for seed in 0..runs() {
                let came = world.run(seed);
                hours += replicas as f64 * world.seconds / 3_600.0;
                ejections
                    .extend(came.sentences.into_iter().map(|s| format!("{policy} at {rate}: {s}")));
            }
        }
    }
    eprintln!("{what}: {} in {hours:.0} replica-hours", ejections.len());
    ejections.retain(|sentence| sentence.contains("is ejected"));
    assert!(ejections.is_empty(), "{what}: {ejections:#?}");
}

#[test]
fn what_all_replicas_share_ejects_nobody() {
    for replicas in [2, 6] {
        for (rate, seconds) in [(0.3, 5.0), (1.0, 2.0), (0.5, 20.0)] {
            let what = format!("{replicas} replicas, {rate} in bursts of {seconds} s");
            nobody_is_ejected(&what, replicas, || World {
                faults: Box::new(bursts(rate, seconds)),
                ..World::default()
            });
        }
    }
}

#[test]
fn a_heavy_tail_that_times_out_ejects_nobody() {
    nobody_is_ejected("7 % time out", 6, || World {
        work: (0.05, 2.0),
        timeout: 1.0,
        ..World::default()
    });
}

#[test]
fn a_few_clients_whose_requests_always_fail_eject_nobody() {
    for (clients, proxied) in
        [(vec![0.02], false), (vec![0.1], false), (vec![0.1], true), (vec![0.1, 0.05, 0.02], false)]
    {
        let what = format!("clients with {clients:?} of the traffic, proxied: {proxied}");
        nobody_is_ejected(&what, 6, || World {
            clients: clients.clone(),
            proxied,
            faults: Box::new(poison),
            ..World::default()
        });
    }
}

#[test]
fn a_client_whose_requests_hang_ejects_nobody() {
    nobody_is_ejected("2 % of one client hang", 6, || World {
        clients: vec![0.02],
        timeout: 5.0,
        faults: Box::new(|asked, _| (asked.client == 0).then_some(Fault::Hangs)),
        ..World::default()
    });
}

#[test]
fn streams_of_minutes_eject_nobody() {
    nobody_is_ejected("streams of two minutes", 4, || World {
        work: (120.0, 0.7),
        faults: Box::new(|_, chance| fails(chance, 0.03)),
        ..World::default()
    });
}

#[test]
fn unequal_weights_eject_nobody_and_each_replica_has_its_turn() {
    let weights = vec![100.0, 10.0, 1.0, 1.0, 1.0, 1.0];
    let world = World {
        replicas: 6,
        weights,
        faults: Box::new(bursts(0.3, 5.0)),
        seconds: 600.0 * runs() as f64,
        ..World::default()
    };
    let came = world.run(7);
    eprintln!("weights 100, 10, 1, 1, 1, 1: {:?}", came.by_replica);
    assert!(came.ejections.is_empty(), "{:#?}", came.sentences);
    let minutes = world.seconds / 60.0;
    assert!(came.by_replica.iter().all(|n| *n as f64 >= minutes - 1.0), "{:?}", came.by_replica);
}

/// One user has a quarter of the traffic, and the replica that has him answers 503 when it is full.
#[test]
fn a_replica_that_is_full_because_of_a_hot_key_is_not_ejected() {
    let world = |ejection: &str| World {
        replicas: 6,
        options: format!(", balance: hash{ejection}"),
        seconds: 120.0 * runs() as f64,
        work: (0.04, 0.3),
        slots: Some((1, 4)),
        clients: vec![0.25],
        faults: Box::new(|_, _| None),
        ..World::default()
    };
    let (with, without) = (world("").run(7), world(", ejection: false").run(7));
    let (a, b) = (with.failed_percent(), without.failed_percent());
    eprintln!("hot key: {a:.1} % fail with ejection, {b:.1} % without");
    assert!(with.ejections.is_empty(), "{:#?}", with.sentences);
}

/// Requests a second, by seconds since the start.
type Rate = fn(f64) -> f64;

/// Queues that grow until nearly everything times out, at servers that work on what timed out as well.
#[test]
fn a_pool_beyond_its_capacity_fails_no_more_with_ejection_than_without() {
    let slow = || vec![0.5, 1.0, 1.0, 1.0];
    let scenes: [(&str, Vec<f64>, Rate); 3] = [
        ("110 %, one at half speed", slow(), |_| 154.0),
        ("95 %, one at half speed", slow(), |_| 133.0),
        ("80 %, after a minute of 120 %", Vec::new(), |at| {
            if (60.0..120.0).contains(&at) { 192.0 } else { 128.0 }
        }),
    ];
    for (what, speed, rate) in scenes {
        let run = |options: &str| {
            let world = World {
                replicas: 4,
                options: options.to_owned(),
                rate: Box::new(rate),
                seconds: 600.0,
                work: (0.1, 0.3),
                speed: speed.clone(),
                slots: Some((4, 1_000)),
                timeout: 2.0,
                faults: Box::new(|_, _| None),
                ..World::default()
            };
            let came: Vec<_> = (0..runs()).map(|seed| world.run(seed)).collect();
            let ejections = came.iter().map(|came| came.ejections.len()).sum::<usize>();
            let failed = came.iter().map(crate::world::Came::failed_percent).sum::<f64>();
            (failed / runs() as f64, ejections)
        };
        let ((with, ejections), (without, _)) = (run(""), run(", ejection: false"));
        eprintln!("{what}: {with:.1} % fail with ejection ({ejections}), {without:.1} % without");
        assert!(with <= without + 3.0, "{what}: {with} and {without}");
    }
}

/// How soon replica 0 is out: (seconds, requests it got, failures among them), sorted by seconds.
fn found(world: &World, from: f64) -> Vec<(f64, usize, usize)> {
    let mut all: Vec<_> = (0..10 * runs())
        .map(|seed| {
            let came = world.run(seed);
            let (at, _) =
                came.ejections.iter().find(|(_, i)| *i == 0).copied().unwrap_or((f64::MAX, 0));
            assert!(came.ejections.iter().all(|(_, i)| *i == 0), "{:#?}", came.sentences);
            (at - from, came.by_replica[0], came.failed_by[0])
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

#[test]
fn whoever_is_ill_is_found() {
    type Ill = fn(f64, &mut Chance) -> Option<Fault>;
    let always: Ill = |_, _| Some(Fault::Fails(Some(0.002)));
    // What it does, requests a second of ten replicas, their work, and within how many seconds and requests it is out.
    let cases: [(&str, f64, f64, Ill, f64, usize); 8] = [
        ("always fails", 100.0, 0.05, always, 2.0, 6),
        ("always fails, 1/s", 1.0, 0.05, always, 180.0, 6),
        ("always fails, 1 in 10 s", 0.1, 0.05, always, 1_500.0, 10),
        ("always fails at once, requests of 40 s, 1 in 2 s", 0.5, 40.0, always, 300.0, 10),
        ("always fails at once, requests of 40 s, 1.5/s", 1.5, 40.0, always, 300.0, 20),
        ("fails 30 %", 100.0, 0.05, |_, chance| fails(chance, 0.3), 8.0, 80),
        ("fails 10 %", 100.0, 0.05, |_, chance| fails(chance, 0.1), 60.0, 500),
        (
            "fails for 0.3 s of each 5",
            100.0,
            0.05,
            |at, _| (at % 5.0 < 0.3).then_some(Fault::Fails(None)),
            300.0,
            3_000,
        ),
    ];
    for (what, rate, work, ill, seconds, requests) in cases {
        let world = World {
            rate: Box::new(move |_| rate),
            seconds: 3_600.0 * if rate < 1.0 { 4.0 } else { 1.0 },
            work: (work, 0.5),
            faults: Box::new(move |asked, chance| {
                if asked.replica == 0 { ill(asked.at, chance) } else { fails(chance, 0.001) }
            }),
            until_out: Some(0),
            ..World::default()
        };
        let all = found(&world, 0.0);
        let (median, worst) = (all[all.len() / 2], all[all.len() - 1]);
        eprintln!("{what}: median {median:.1?}, worst {worst:.1?}");
        assert!(median.0 <= seconds && median.1 <= requests, "{what}: {all:.1?}");
        assert!(worst.0 <= 3.0 * seconds, "{what}: {all:.1?}");
    }
}

#[test]
fn with_hash_a_dead_replica_is_out_after_six_failures() {
    for clients in [vec![], vec![0.1, 0.05]] {
        let world = World {
            replicas: 6,
            options: ", balance: hash".to_owned(),
            clients,
            faults: Box::new(|asked, _| {
                (asked.replica == 0 && asked.at > 30.0).then_some(Fault::Fails(Some(0.002)))
            }),
            until_out: Some(0),
            ..World::default()
        };
        let all = found(&world, 30.0);
        let failures = all.iter().map(|(_, _, failed)| *failed).max();
        eprintln!("hash, dead: {failures:?} failures at most");
        assert!(all.iter().filter(|(_, _, failed)| *failed <= 6).count() > all.len() / 2);
        // What was under way and goes well makes it more now and then.
        assert!(failures <= Some(15), "{all:.1?}");
    }
}

#[test]
fn a_hiccup_takes_a_replica_out_for_seconds_and_a_long_illness_for_long() {
    let hiccups = World {
        seconds: 1_800.0,
        faults: Box::new(|asked, _| {
            let mine = asked.at - 30.0 * asked.replica as f64;
            (mine.rem_euclid(300.0) < 1.0).then_some(Fault::Fails(None))
        }),
        ..World::default()
    };
    let came = hiccups.run(7);
    let each = came.out / came.ejections.len() as f64;
    eprintln!("hiccups: {} ejections of {each:.1} s", came.ejections.len());
    assert!(!came.ejections.is_empty() && each < 4.0, "{:#?}", came.sentences);
    let dead = World {
        seconds: 1_200.0,
        faults: Box::new(|asked, _| {
            let ill = asked.replica == 0 && (60.0..660.0).contains(&asked.at);
            ill.then_some(Fault::Fails(Some(0.002)))
        }),
        ..World::default()
    };
    let came = dead.run(7);
    let back = came.returns.last().map(|(at, _)| at - 660.0);
    eprintln!("dead for ten minutes: {} failed, back after {back:?} s", came.failed);
    assert!(came.failed <= 30 && back.is_some_and(|back| (0.0..400.0).contains(&back)));
}

/// One may be out; the other would get a third of the requests, all of which fail.
#[test]
fn a_dead_replica_that_may_not_be_ejected_gets_next_to_nothing() {
    let world = World {
        replicas: 3,
        rate: Box::new(|_| 30.0),
        faults: Box::new(|asked, _| {
            let ill = asked.replica < 2 && asked.at < 300.0;
            ill.then_some(Fault::Fails(Some(0.002)))
        }),
        seconds: 900.0,
        ..World::default()
    };
    let came = world.run(7);
    eprintln!("two of three dead: {:.2} % fail, {:?}", came.failed_percent(), came.by_replica);
    assert!(came.failed_percent() < 1.5, "{}", came.failed_percent());
    // Well again, all three serve.
    assert!(came.by_replica.iter().all(|n| *n > 1_500), "{:?}", came.by_replica);
}

/// Each is away for ten seconds, one after the other.
#[test]
fn a_rolling_restart_costs_few_requests() {
    let world = World {
        replicas: 4,
        seconds: 300.0,
        faults: Box::new(|asked, _| {
            let begins = 60.0 + 40.0 * asked.replica as f64;
            let away = (begins..begins + 10.0).contains(&asked.at);
            away.then_some(Fault::Fails(Some(0.001)))
        }),
        ..World::default()
    };
    let came = world.run(7);
    eprintln!("rolling restart: {} of {} failed", came.failed, came.sent);
    assert!(came.failed <= 60, "{:#?}", came.sentences);
    assert!((0..4).all(|i| came.returns.iter().any(|(_, k)| *k == i)), "{:#?}", came.sentences);
}

/// It takes requests and answers none.
#[test]
fn a_hung_replica_at_low_traffic_costs_five_requests() {
    for policy in POLICIES {
        let world = World {
            replicas: 3,
            options: format!(", balance: {policy}"),
            rate: Box::new(|_| 0.2),
            seconds: 7_200.0,
            timeout: 30.0,
            faults: Box::new(|asked, chance| {
                if asked.replica == 0 && asked.at > 600.0 {
                    return Some(Fault::Hangs);
                }
                fails(chance, 0.0005)
            }),
            until_out: Some(0),
            ..World::default()
        };
        let all = found(&world, 600.0);
        let hung = all.iter().map(|(_, _, failed)| *failed).max();
        eprintln!("hung, {policy}: {hung:?} at most, after {:.0} s", all[all.len() - 1].0);
        assert!(all[all.len() / 2].2 <= 6 && hung <= Some(8), "{policy}: {all:.1?}");
        assert!(all.iter().all(|(at, ..)| *at < 1_200.0), "{policy}: {all:.1?}");
    }
}
