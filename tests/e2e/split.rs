//! Who is sent to which version: exact shares, sticky keys and pins.
use crate::client::{Client, Request};
use crate::site::{Setup, Site};
use crate::upstream::Mock;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

async fn two_versions() -> [Mock; 2] {
    [Mock::version("v1").await, Mock::version("v2").await]
}

fn split(mocks: &[Mock; 2], share: u32, more: &str) -> Setup {
    let [v1, v2] = mocks;
    Setup::new(format!(
        "models:\n  chat:\n    versions: {{v1: [\"{}\"], v2: [\"{}\"]}}\n    split: {{v1: {}, v2: {share}}}\n{more}",
        v1.url(),
        v2.url(),
        100 - share
    ))
}

/// Which version each of these keys is served by.
async fn served(site: &Site, keys: usize) -> Vec<String> {
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut versions = Vec::new();
    for key in 0..keys {
        let request = Request::get("/headers").header("x-user-id", &format!("user-{key}"));
        let reply = client.send(request).await.unwrap();
        assert_eq!(reply.status, 200);
        versions.push(reply.version().to_owned());
    }
    versions
}

fn count(versions: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for version in versions {
        *counts.entry(version.as_str()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_split_is_kept_exactly_without_keys() {
    let mocks = two_versions().await;
    let site = Site::with(split(&mocks, 5, "")).await;
    let versions = served(&site, 2000).await;
    let small = count(&versions)["v2"];
    assert!((92..=108).contains(&small), "{small} of 2000");
    // The promise holds for any window, not for the sum alone.
    for window in versions.windows(1000).step_by(100) {
        let small = count(window)["v2"];
        assert!((40..=60).contains(&small), "{small} of 1000");
    }
}

#[tokio::test]
async fn a_share_of_zero_is_none_at_all() {
    let mocks = two_versions().await;
    let site = Site::with(split(&mocks, 0, "    hash_on: [\"header:x-user-id\"]\n")).await;
    assert_eq!(count(&served(&site, 500).await), BTreeMap::from([("v1", 500)]));
    let mut client = Client::connect(site.address, true).await.unwrap();
    for _ in 0..300 {
        let reply = client.send(Request::get("/headers").wire(crate::client::Wire::H2c)).await;
        assert_eq!(reply.unwrap().version(), "v1");
    }
}

#[tokio::test]
async fn a_growing_share_moves_no_key_back_and_a_restart_moves_none() {
    const KEYS: usize = 1500;
    let mocks = two_versions().await;
    let sticky = "    hash_on: [\"header:x-user-id\"]\n";
    let mut site = Site::with(split(&mocks, 5, sticky)).await;
    let small = served(&site, KEYS).await;
    let n = count(&small)["v2"];
    assert!((40..=115).contains(&n), "{n} of {KEYS} keys at 5 %");
    assert_eq!(small, served(&site, KEYS).await, "the same key, the same version");
    site.reload(&split(&mocks, 20, sticky)).await;
    let grown = served(&site, KEYS).await;
    let back = small.iter().zip(&grown).filter(|(a, b)| *a == "v2" && *b == "v1").count();
    assert_eq!(back, 0, "keys moved back");
    let n = count(&grown)["v2"];
    assert!((230..=370).contains(&n), "{n} of {KEYS} keys at 20 %");
    // Shrinking leaves those who were on v2 first: state that a fresh start would not know.
    site.reload(&split(&mocks, 60, sticky)).await;
    site.reload(&split(&mocks, 20, sticky)).await;
    let shrunk = served(&site, KEYS).await;
    site.restart().await;
    assert_eq!(shrunk, served(&site, KEYS).await, "a restart keeps everyone's version");
}

#[tokio::test]
async fn an_empty_sticky_key_gives_way_to_the_next_of_its_name() {
    let mocks = two_versions().await;
    let sources = "    hash_on: [\"header:x-user\", \"cookie:user\", \"query:user\"]\n";
    let site = Site::with(split(&mocks, 50, sources)).await;
    let ask = async |request: Request| site.send(request).await.version().to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..20 {
        let one = ask(Request::get("/a").header("x-user", &format!("u{user}"))).await;
        let user = format!("u{user}");
        let first = |value| Request::get("/a").header("x-user", value).and_header("x-user", &user);
        for request in [
            first(""),
            first(" ").and_header("x-user", "z"),
            Request::get("/a").header("cookie", &format!("user=; user={user}")),
            Request::get(&format!("/a?user=&user={user}")),
        ] {
            assert_eq!(ask(request.clone()).await, one, "{request:?}");
        }
        seen.insert(one);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_sticky_key_may_come_from_the_body() {
    let mocks = two_versions().await;
    let site = Site::with(split(&mocks, 50, "    hash_on: [\"json:user\"]\n")).await;
    let mut seen = BTreeMap::new();
    for round in 0..3 {
        for user in 0..40 {
            let body = format!(r#"{{"model":"chat","n":{round},"user":"u{user}"}}"#);
            let reply = site.send(Request::post("/v1/chat/completions", body)).await;
            let version = reply.version().to_owned();
            assert_eq!(*seen.entry(user).or_insert_with(|| version.clone()), version);
        }
    }
    assert!(seen.values().any(|v| v == "v1") && seen.values().any(|v| v == "v2"));
}

#[tokio::test]
async fn a_pin_is_honoured_where_it_is_allowed_and_ignored_elsewhere() {
    let mocks = two_versions().await;
    let site = Site::with(split(&mocks, 0, "    allow_pin: true\n")).await;
    let pin = |version: &str| Request::get("/headers").header("x-evener-version", version);
    for version in ["v1", "v2"] {
        assert_eq!(site.send(pin(version)).await.version(), version);
    }
    let reply = site.send(pin("v9")).await;
    assert_eq!((reply.status, reply.header("x-evener-error")), (404, "version_not_found"));
    site.reload(&split(&mocks, 0, "    allow_pin: false\n")).await;
    assert_eq!(site.send(pin("v2")).await.version(), "v1");
    assert_eq!(site.send(pin("v9")).await.version(), "v1");
}

#[tokio::test]
async fn a_trusted_proxy_may_always_pin() {
    let mocks = two_versions().await;
    let trusting = split(&mocks, 0, "").listener("trusted_proxies: [\"127.0.0.0/8\"]");
    let site = Site::with(trusting).await;
    let reply = site.send(Request::get("/headers").header("x-evener-version", "v2")).await;
    assert_eq!(reply.version(), "v2");
}

/// Where each of these keys is served, by an Evener whose split has this secret, from a file.
async fn served_with(mocks: &[Mock; 2], secret: Option<&str>, keys: &[String]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("split");
    let secret = secret.map(|secret| {
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        format!("    split_secret: file:{}\n", file.display())
    });
    let hash_on = "    hash_on: [\"header:x-user-id\"]\n".to_owned() + &secret.unwrap_or_default();
    let site = Site::with(split(mocks, 20, &hash_on)).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let mut versions = Vec::new();
    for key in keys {
        let reply = client.send(Request::get("/headers").header("x-user-id", key)).await.unwrap();
        versions.push(reply.version().to_owned());
    }
    versions
}

/// The point of a key, as conf/README.md publishes it: `secret` is that, if any, and a 0 byte.
fn point(secret: &str, key: &str) -> f64 {
    xxh3_64(format!("{secret}chat\0{key}").as_bytes()) as f64 / 2_f64.powi(64)
}

#[tokio::test]
async fn who_does_not_know_the_secret_of_a_split_cannot_choose_keys_for_a_side() {
    let mocks = two_versions().await;
    // What `v2` has is the end of [0, 1).
    let aimed = |secret: &'static str| {
        let keys = (0..).map(|n| format!("user-{n}"));
        keys.filter(move |key| point(secret, key) > 0.81).take(300).collect::<Vec<_>>()
    };
    let keys = aimed("");
    assert_eq!(count(&served_with(&mocks, None, &keys).await), BTreeMap::from([("v2", 300)]));
    let (one, other) = (Some("first"), Some("second"));
    let with_one = served_with(&mocks, one, &keys).await;
    let with_other = served_with(&mocks, other, &keys).await;
    for versions in [&with_one, &with_other] {
        let hit = count(versions)["v2"];
        assert!((30..=95).contains(&hit), "a fifth by chance, not {hit} of 300");
    }
    assert_eq!(with_one, served_with(&mocks, one, &keys).await, "two Eveners agree");
    let apart = with_one.iter().zip(&with_other).filter(|(a, b)| a != b).count();
    assert!((55..=140).contains(&apart), "a third by chance, not {apart} of 300");
    let known = aimed("first\0");
    assert_eq!(count(&served_with(&mocks, one, &known).await), BTreeMap::from([("v2", 300)]));
}
