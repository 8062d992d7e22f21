//! What `evener diff` foretells is what a reload does.
use crate::client::Request;
use crate::set_split::{on_v2, setup};
use crate::site::{Setup, Site, text_of};
use crate::upstream::Mock;
use serde_json::{Value, json};
use std::process::Command;

const KEYS: usize = 2000;

/// Of the keys, the fractions that went from `v1` to `v2` and back.
fn moved(before: &[bool], after: &[bool]) -> [f64; 2] {
    let count =
        |from: bool| before.iter().zip(after).filter(|(b, a)| **b == from && b != a).count();
    [count(false), count(true)].map(|n| n as f64 / KEYS as f64)
}

async fn diff(site: &Site, new: &Setup, flags: &[&str]) -> (Option<i32>, String) {
    let file = site.path().join("new.yaml");
    std::fs::write(&file, text_of(new)).unwrap();
    let (code, said, why) =
        site.evener(&[&["diff", file.to_str().unwrap(), "--live"], flags].concat()).await;
    assert!(!said.is_empty(), "{why}");
    (code, said)
}

/// The percents that the diff says go from `v1` to `v2` and back.
fn foretold(said: &str) -> [f64; 2] {
    let json: Value = serde_json::from_str(said).unwrap();
    let moves = json["models"][0]["moves"].as_array().unwrap();
    let of = |from: &str| {
        let one = moves.iter().find(|one| one["from"] == from);
        one.unwrap_or_else(|| panic!("{said}"))["percent"].as_f64().unwrap() / 100.0
    };
    [of("v1"), of("v2")]
}

/// As chance allows: the fraction that is meant is exact, the keys that are asked are a sample.
fn agree(foretold: [f64; 2], measured: [f64; 2]) -> bool {
    foretold.iter().zip(measured).all(|(a, b)| {
        let sigma = (a * (1.0 - a) / KEYS as f64).sqrt();
        (a - b).abs() <= 5.0 * sigma
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measured_reload_agrees_with_what_was_foretold() {
    let mocks = [Mock::version("v1").await, Mock::version("v2").await];
    let site = Site::with(setup(&mocks, 10, "")).await;
    let before = on_v2(&site, KEYS).await;
    let grown = setup(&mocks, 20, "    timeouts: {total: 10m}\n");
    let (code, said) = diff(&site, &grown, &[]).await;
    assert_eq!(code, Some(0));
    let expected = "\
chat
  split  v1=90 v2=10 → v1=80 v2=20
  10.0% of keys move v1 → v2
  0% of keys move v2 → v1
  timeouts.total  30m → 10m
";
    assert_eq!(said, expected);
    site.reload(&grown).await;
    let after = on_v2(&site, KEYS).await;
    let measured = moved(&before, &after);
    assert!(agree([0.1, 0.0], measured), "{measured:?}");
    // What operators set counts: it is from there that keys move.
    let path = "/api/v1/models/chat/split";
    let set = json!({"shares": {"v1": 40, "v2": 60}}).to_string();
    assert_eq!(site.ask(Request::post(path, set)).await.status, 200);
    let before = on_v2(&site, KEYS).await;
    let next = setup(&mocks, 35, "    timeouts: {total: 10m}\n");
    let (code, said) = diff(&site, &next, &["--format", "json"]).await;
    let foretold = foretold(&said);
    assert_eq!((code, foretold), (Some(0), [0.0, 0.25]), "{said}");
    assert!(said.contains("\"ends_split_override\": true"), "{said}");
    site.reload(&next).await;
    let measured = moved(&before, &on_v2(&site, KEYS).await);
    assert!(agree(foretold, measured), "{measured:?}");
    let (code, said) = diff(&site, &next, &[]).await;
    assert_eq!((code, said.as_str()), (Some(0), "nothing changes\n"));
}

#[tokio::test]
async fn what_a_reload_would_reject_is_an_error() {
    let mocks = [Mock::version("v1").await, Mock::version("v2").await];
    let site = Site::with(setup(&mocks, 10, "")).await;
    let (code, said) = diff(&site, &setup(&mocks, 10, "threads: 3\n"), &[]).await;
    assert_eq!(code, Some(1));
    assert!(said.starts_with("`threads` needs a restart"), "{said}");
    let file = site.path().join("broken.yaml");
    std::fs::write(&file, "listeners: 5\n").unwrap();
    let file = file.to_str().unwrap();
    let (code, said, why) = site.evener(&["diff", file, "--live"]).await;
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(why.contains("error["), "{why}");
    let (code, ..) = site.evener(&["diff", file]).await;
    assert_eq!(code, Some(2), "one file alone is compared with nothing");
}

/// Runs `evener check` on a file, where the Evener that runs was started.
async fn check(site: &Site, setup: &Setup) -> String {
    std::fs::write(site.path().join("new.yaml"), text_of(setup)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evener"));
    command.args(["check", "../new.yaml"]).current_dir(site.path().join("conf"));
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_warns_of_what_takes_requests_from_who_was_promoted_and_so_it_comes() {
    let mocks = [Mock::version("v1").await, Mock::version("v2").await];
    let canary = "    canary: {candidate: v2, steps: [25, 100]}\n";
    let file = setup(&mocks, 0, canary);
    let site = Site::with(file.clone()).await;
    let code = "warning[promoted-split]: `v2` was promoted and serves all of `chat`; by this file, whose split is another, ";
    let of_v2 = async || on_v2(&site, KEYS).await.iter().filter(|v2| **v2).count();
    assert!(
        !check(&site, &setup(&mocks, 60, canary)).await.contains(code),
        "it was not promoted yet"
    );
    let (ended, _, why) = site.evener(&["canary", "promote", "chat"]).await;
    assert_eq!(ended, Some(0), "{why}");
    let gone = mocks[1].url();
    let gone = |setup: Setup| Setup {
        rest: setup.rest.replace(&format!(", v2: [\"{gone}\"]"), "").replace(", v2: 0", ""),
        ..setup
    };
    for (new, warns) in [
        (setup(&mocks, 0, "    retries: false\n"), None),
        (setup(&mocks, 100, ""), None),
        (setup(&mocks, 60, ""), Some("it gets 60 %")),
        (gone(setup(&mocks, 0, "")), Some("there is no such version")),
    ] {
        let said = check(&site, &new).await;
        let told = warns.map(|gets| said.contains(&format!("{code}{gets}\n")));
        assert!(told.unwrap_or(!said.contains(code)), "{said}");
    }
    for (more, percent) in
        [(file.rest.replace("steps: [25", "steps: [20"), 100), (setup(&mocks, 60, "").rest, 60)]
    {
        site.reload(&Setup::new(more)).await;
        assert!(of_v2().await.abs_diff(KEYS * percent / 100) < 100, "{percent} %");
    }
}
