//! That what is explained is what happens: random tables, replicas in every state, and random requests.
use super::explanation::{Explanation, Question};
use super::{Core, explain};
use crate::config::parse_text;
use crate::fleet::Replica;
use crate::proxy::Ask;
use crate::stats::Moment;
use crate::table::{Choice, Model, Overrides, Plan, Version, Wish};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

const TABLES: u64 = 10_000;
const NOW: Moment = Moment::from_millis(600_000);
const BALANCE: [&str; 6] = ["least_load", "least_request", "p2c", "round_robin", "random", "hash"];
const CHAT: &str = "/v1/chat/completions";
const CALL: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A model with versions of these replicas.
fn file(rng: &mut SmallRng, versions: &[Vec<String>], options: &str) -> Arc<Plan> {
    let mut shares: Vec<u32> =
        versions.iter().map(|_| [0, 1, 20, 60][rng.random_range(0..4)]).collect();
    if shares.iter().sum::<u32>() == 0 {
        shares[0] = 1;
    }
    let mut text = "listeners: [{address: 127.0.0.1:0}]\nmodels:\n  m:\n    versions:\n".to_owned();
    for (v, replicas) in versions.iter().enumerate() {
        writeln!(text, "      v{v}: [{}]", replicas.join(", ")).unwrap();
    }
    let total: u32 = shares.iter().sum();
    let shares: Vec<String> = shares
        .iter()
        .enumerate()
        .map(|(v, share)| format!("v{v}: {}", f64::from(share * 100) / f64::from(total)))
        .collect();
    writeln!(text, "    split: {{{}}}\n{options}", shares.join(", ")).unwrap();
    let checked = parse_text(text, "test.yaml", &|_| None);
    Arc::new(checked.unwrap_or_else(|wrong| panic!("{wrong:?}")).plan)
}

/// A table whose replicas stand as chance has it.
fn core(rng: &mut SmallRng) -> Core {
    let mut port = 0;
    let mixed = rng.random_bool(0.2);
    let versions: Vec<Vec<String>> = (0..rng.random_range(1..=4))
        .map(|_| {
            let replicas = rng.random_range(1..=3);
            let replica = |_| {
                port += 1;
                let scheme = if mixed && rng.random_bool(0.5) { "h2c" } else { "http" };
                let slots = if rng.random_bool(0.2) { ", slots: 1" } else { "" };
                let weight = rng.random_range(1..=3);
                format!("{{url: \"{scheme}://a:{port}\", weight: {weight}{slots}}}")
            };
            (0..replicas).map(replica).collect()
        })
        .collect();
    let mut options = format!("    balance: {}\n", BALANCE[rng.random_range(0..BALANCE.len())]);
    for (line, odds) in [
        ("    fail_open: false\n", 0.3),
        ("    allow_pin: true\n", 0.5),
        ("    hash_on: [header:x-user]\n", 0.5),
    ] {
        options += if rng.random_bool(odds) { line } else { "" };
    }
    let full = file(rng, &versions, &options);
    // What comes with a reload has not been probed yet.
    let some: Vec<Vec<String>> = versions.iter().map(|list| list[..1].to_vec()).collect();
    let first = if rng.random_bool(0.3) { file(rng, &some, &options) } else { Arc::clone(&full) };
    let (mut core, _) = Core::start(&first, Overrides::default(), 7, Moment::ZERO);
    core.apply(&full, Moment::from_millis(1000));
    for version in &core.table().models[0].versions {
        let mut on_probation = 0;
        for member in &version.members {
            on_probation += usize::from(stand(rng, &member.replica, version));
        }
        version.state.set_on_probation(on_probation);
        version.state.set_due(usize::from(rng.random_bool(0.2)));
    }
    core
}

/// Puts a replica into some state. Returns whether it is on probation.
fn stand(rng: &mut SmallRng, replica: &Replica, version: &Version) -> bool {
    match rng.random_range(0..8) {
        n @ 0..4 => {
            replica.probed(n < 3, None, Moment::ZERO);
        }
        4 => {
            replica.drain(true, None, Moment::ZERO);
        }
        5 => replica.hold(&version.state, None, "by hand".into(), NOW),
        6 => {
            replica.probed(true, None, Moment::ZERO);
            replica.hold(&version.state, Some(NOW), "by hand".into(), NOW);
            return replica.try_out(false, NOW);
        }
        _ => {}
    }
    false
}

fn question(rng: &mut SmallRng) -> Question {
    let is_call = rng.random_bool(0.2);
    let mut question = Question {
        method: "POST".into(),
        path: if is_call { CALL } else { CHAT }.into(),
        model: Some("m".into()),
        ..Question::default()
    };
    let mut header = |name: &str, value: String| question.headers.insert(name.into(), value);
    if is_call {
        header("content-type", "application/grpc".into());
    }
    if rng.random_bool(0.3) {
        header("x-evener-version", format!("v{}", rng.random_range(0..5)));
    }
    if rng.random_bool(0.5) {
        header("x-user", format!("u{}", rng.random_range(0..1000)));
    }
    question
}

/// What the data path does with a request whose model is known.
fn served<'m>(
    model: &'m Model,
    question: &Question,
    rng: &mut SmallRng,
) -> Result<Choice<'m>, String> {
    let head = question.head().unwrap();
    let ask = Ask::new(&head);
    let pinned = model.pinned(&ask, false).map_err(|none| none.to_string())?;
    let facts = crate::dialect::Facts::default();
    let key = model.sticky_key(&ask, &facts, None, None).map(|(_, point)| point);
    let is_call = question.call().is_some();
    let wish = Wish { is_call, ..Wish::new(model, key, pinned) };
    model.choose(wish, NOW, rng).map_err(|_| "503".to_owned())
}

fn compare(told: &Explanation, choice: Choice<'_>, policy_draws: bool) -> Result<(), String> {
    let (version, url) = (&*choice.version.name, &*choice.member.replica.id.url);
    let wrong = |what: &str| Err(format!("{what}: {version} {url}"));
    if told.version.as_deref().is_some_and(|told| told != version) {
        return wrong("another version");
    }
    // One that is asked whatever its load is told in words.
    let words = [
        format!("goes to `{url}`"),
        format!("tries out `{url}`"),
        format!("`{url}` is on probation"),
    ];
    let is_named = words.iter().any(|words| told.reason.contains(words));
    let score = |url: &str| told.replicas.iter().find(|c| c.url == url).and_then(|c| c.score);
    let listed = told.replicas.iter().any(|c| c.url == url && c.version == version);
    if !listed {
        return wrong("a version that is not told");
    }
    match &told.picked {
        Some(picked) if picked == url => {}
        Some(picked) if score(picked) != score(url) || score(url).is_none() => {
            return wrong("another replica");
        }
        Some(_) if !policy_draws => return wrong("another replica than its key's"),
        None if score(url).is_none() && !is_named => {
            return wrong("a replica that is no candidate");
        }
        Some(_) | None => {}
    }
    if choice.fail_open && !told.reason.contains("fail_open") {
        return wrong("fail open, untold");
    }
    Ok(())
}

#[test]
fn what_is_explained_is_what_the_proxy_does() {
    let (mut refused, mut failed_open, mut tried_out, mut told_one) = (0, 0, 0, 0);
    for seed in 0..TABLES {
        let mut rng = SmallRng::seed_from_u64(seed);
        let core = core(&mut rng);
        let model = &core.table().models[0];
        let question = question(&mut rng);
        let mut in_flight = Vec::new();
        for _ in 0..3 {
            let told = explain(core.table(), &question, NOW);
            let choice = served(model, &question, &mut rng);
            let (told, choice) = match (told, choice) {
                (Ok(told), Ok(choice)) => (told, choice),
                (Ok(told), Err(_)) => {
                    refused += 1;
                    assert!(told.reason.contains("no_replicas"), "seed {seed}: {told:#?}");
                    continue;
                }
                (Err(told), Err(why)) if told == why => break,
                (told, choice) => panic!("seed {seed}: {told:#?} {choice:#?}"),
            };
            // When all are full, the least loaded is asked, key or not.
            let by_key = model.plan.balance.name() == "hash" && told.key.is_some();
            let by_key = by_key && choice.member.has_room();
            let right = compare(&told, choice, !by_key);
            assert_eq!(right, Ok(()), "seed {seed}: {told:#?}");
            failed_open += u32::from(choice.fail_open);
            tried_out += u32::from(told.reason.contains("probation"));
            told_one += u32::from(told.picked.is_some());
            let began = NOW + Duration::from_millis(rng.random_range(0..10));
            in_flight.push(choice.member.replica.begin(&choice.version.state, began));
        }
    }
    for (what, n) in [
        ("refused", refused),
        ("failed open", failed_open),
        ("tried out", tried_out),
        ("told one", told_one),
    ] {
        assert!(n > 500, "too few were {what}: {n}");
    }
}
