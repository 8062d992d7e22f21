//! Who is asked, with replicas in every state.
use super::super::build::Overrides;
use super::super::none_left::why_none;
use super::*;
use crate::config::parse_text;
use crate::control::Core;
use crate::health::{Class, Outcome};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::sync::Arc;

const NOW: Moment = Moment::from_millis(60_000);

fn model(options: &str) -> Arc<Model> {
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0}}]\nmodels:\n  m:\n    versions: {{v1: [http://a:1, http://a:2], v2: [http://b:1]}}\n    split: {{v1: 90, v2: 10}}\n{options}"
    );
    let plan = Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan);
    let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
    Arc::clone(&core.table().models[0])
}

fn choose<'m>(model: &'m Model, wish: Wish<'_>, now: Moment) -> Result<Choice<'m>, &'m Version> {
    model.choose(wish, now, &mut SmallRng::seed_from_u64(wish.point))
}

fn all(model: &Model, version: usize, healthy: bool) {
    for member in &model.versions[version].members {
        member.replica.probed(healthy, None, Moment::ZERO);
    }
}

/// Served requests of a thousand, by version; `None` when one was refused.
fn served(model: &Model) -> Option<(u32, u32)> {
    let mut served = (0, 0);
    for _ in 0..1000 {
        let choice = choose(model, Wish::new(model, None, None), NOW).ok()?;
        if &*choice.version.name == "v1" { served.0 += 1 } else { served.1 += 1 }
    }
    Some(served)
}

#[test]
fn a_version_without_a_usable_replica_is_served_by_the_other() {
    let model = model("");
    all(&model, 0, true);
    all(&model, 1, false);
    assert_eq!(served(&model), Some((1000, 0)));
    let missed = model.versions[1].state.missed.load(Relaxed);
    assert!((90..=110).contains(&missed), "{missed}");
}

#[test]
fn with_nothing_usable_the_owner_fails_open_and_says_so() {
    let model = model("");
    all(&model, 0, false);
    all(&model, 1, false);
    let choice = choose(&model, Wish::new(&model, None, Some(1)), NOW).unwrap();
    assert!(choice.fail_open);
    assert_eq!(&*choice.version.name, "v2");
    let (v1, v2) = served(&model).unwrap();
    assert!((880..=920).contains(&v1), "{v1} {v2}");
}

#[test]
fn without_fail_open_nothing_usable_is_a_refusal_that_counts_the_reasons() {
    let model = model("    fail_open: false\n");
    all(&model, 0, false);
    all(&model, 1, false);
    let owner = choose(&model, Wish::new(&model, None, Some(0)), NOW).unwrap_err();
    assert_eq!(why_none(owner, false), "2 replicas: 2 failing their health check");
}

#[test]
fn what_is_drained_never_serves_even_when_failing_open() {
    let model = model("");
    all(&model, 0, false);
    for member in &model.versions[1].members {
        member.replica.drain(true, None, Moment::ZERO);
    }
    assert_eq!(served(&model), Some((1000, 0)));
}

/// Takes the first replica of the first version out, and its time is over.
fn on_probation(model: &Model) {
    let version = &model.versions[0];
    let replica = &version.members[0].replica;
    replica.hold(&version.state, Some(NOW), "by hand".into(), NOW);
    assert!(replica.try_out(false, NOW));
    version.state.set_on_probation(1);
}

#[test]
fn a_replica_on_probation_gets_the_next_request_and_only_one() {
    let model = model("");
    all(&model, 0, true);
    on_probation(&model);
    let first = &model.versions[0].members[0].replica;
    let picked = |repeatable, now| {
        let wish = Wish { repeatable, ..Wish::new(&model, None, Some(0)) };
        Arc::ptr_eq(&choose(&model, wish, now).unwrap().member.replica, first)
    };
    assert!(!picked(false, NOW), "one that can be repeated may come yet");
    assert!(picked(true, NOW));
    let trial = first.begin(&model.versions[0].state, NOW);
    for _ in 0..100 {
        assert!(!picked(true, NOW + Duration::from_mins(1)));
    }
    drop(trial);
    assert!(picked(false, NOW + Duration::from_secs(1)), "none came");
}

/// Lets the first replica of the first version time out, and its turn come.
fn timed_out(model: &Model) {
    let version = &model.versions[0];
    let (class, latency) = (Class::Timeout, Duration::from_secs(30));
    let outcome = Outcome { class, latency, first_byte: None, tunnel: false };
    let began = NOW - latency;
    let replica = &version.members[0].replica;
    replica.begin(&version.state, began).finish(504, &outcome, began);
    let (speed, pool) = (version.state.speed(), version.state.pool());
    let left = replica.fade(&speed, &pool, Duration::from_secs(1), NOW);
    version.state.set_due(usize::from(left.due));
}

#[test]
fn a_replica_that_timed_out_gets_one_request_in_its_turn() {
    for (options, key) in [("", None), ("    balance: hash\n", Some(7))] {
        let model = model(options);
        all(&model, 0, true);
        timed_out(&model);
        let first = &model.versions[0].members[0].replica;
        let picked = |key| {
            let choice = choose(&model, Wish::new(&model, key, Some(0)), NOW).unwrap();
            Arc::ptr_eq(&choice.member.replica, first)
        };
        assert!(picked(key), "its turn");
        assert!((0..100).all(|key| !picked(Some(key))), "there is another one");
        model.versions[0].members[1].replica.drain(true, None, NOW);
        assert!(picked(key), "there is none");
    }
}

#[test]
fn a_request_that_a_key_binds_is_no_turn_of_another_replica() {
    let model = model("    balance: hash\n");
    all(&model, 0, true);
    let version = &model.versions[0];
    let (speed, pool) = (version.state.speed(), version.state.pool());
    let due = version
        .members
        .iter()
        .filter(|member| member.replica.fade(&speed, &pool, Duration::from_secs(1), NOW).due);
    let due = due.count();
    assert_eq!(due, 2);
    version.state.set_due(due);
    let picked = |key| {
        let choice = choose(&model, Wish::new(&model, key, Some(0)), NOW).unwrap();
        choice.member.replica.identity
    };
    let home = picked(Some(5));
    assert!((0..50).all(|_| picked(Some(5)) == home));
    // Without a key, each has its turn.
    let mut asked: Vec<_> = (0..8).map(|_| picked(None)).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 2);
}

#[test]
fn with_nothing_else_usable_whatever_comes_is_the_trial() {
    let model = model("");
    all(&model, 0, true);
    on_probation(&model);
    model.versions[0].members[1].replica.drain(true, None, NOW);
    let wish = Wish { repeatable: false, ..Wish::new(&model, None, Some(0)) };
    let choice = choose(&model, wish, NOW).unwrap();
    assert!(!choice.fail_open && &*choice.version.name == "v1");
    assert_eq!(why_none(choice.version, false), "2 replicas: 1 on probation, 1 draining");
}

#[test]
fn a_version_with_both_ports_of_its_servers_gives_each_request_its_own() {
    let served = |version: &str, is_call| {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nmodels: {{m: {{versions: {{v: {version}}}, health: false}}}}\n"
        );
        let plan = Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan);
        let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
        let model = &core.table().models[0];
        let mut urls = Vec::new();
        for _ in 0..50 {
            let wish = Wish { is_call, ..Wish::new(model, None, None) };
            let choice = choose(model, wish, NOW).map_err(|owner| why_none(owner, is_call))?;
            urls.push(choice.member.replica.id.url.to_string());
        }
        urls.sort_unstable();
        urls.dedup();
        Ok::<_, String>(urls.join(" "))
    };
    let both = "[http://a:1, h2c://a:2, grpcs://b:3]";
    let tls = "[https://a:1, http://a:2]";
    let said = |text: &str| Ok(text.to_owned());
    assert_eq!(served("[http://a:1, h2c://a:2, h2c://b:2]", true), said("h2c://a:2 h2c://b:2"));
    assert_eq!(served("[http://a:1, h2c://a:2]", false), said("http://a:1"));
    assert_eq!(served("[h2c://a:1, h2c://a:2]", false), said("h2c://a:1 h2c://a:2"));
    assert_eq!(served(both, true), said("grpcs://b:3 h2c://a:2"));
    assert_eq!(served(tls, true), said("https://a:1"));
    assert_eq!(served(tls, false), said("http://a:2 https://a:1"));
    assert!(served("[http://a:1]", true).unwrap_err().contains("`h2c://HOST:PORT`"));
}

#[test]
fn a_pin_is_kept_while_its_version_can_serve() {
    let model = model("");
    all(&model, 0, true);
    all(&model, 1, true);
    for _ in 0..100 {
        let choice = choose(&model, Wish::new(&model, None, Some(1)), NOW).unwrap();
        assert_eq!(&*choice.version.name, "v2");
    }
}
