//! Who is sent to which version: exact shares, sticky keys and pins.
use crate::client::{Client, Request};
use crate::site::{Setup, Site};
use crate::upstream::Mock;
use std::collections::BTreeMap;

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
