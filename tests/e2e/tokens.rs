//! Signed tokens in the place of keys, and the file of the keys that sign them.
use crate::client::{Raw, Request, status_of};
use crate::keys::{WithKey as _, chat, entry, refused};
use crate::site::{Setup, Site, eventually};
use crate::upstream::Upstream;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn issuer(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn jwks(seed: u8) -> String {
    let x = base64(issuer(seed).public_key());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "x": x}]})
        .to_string()
}

/// Holds for an hour.
fn token(seed: u8, name: &str, change: &Value) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({"iss": "https://id", "aud": "evener", "sub": name, "exp": now + 3600});
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let header = json!({"alg": "EdDSA", "kid": "k"}).to_string();
    let message = format!("{}.{}", base64(header), base64(claims.to_string()));
    format!("{message}.{}", base64(issuer(seed).sign(message.as_bytes())))
}

async fn trusting(seed: u8) -> (Site, Upstream, std::path::PathBuf, tempfile::TempDir) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, jwks(seed)).unwrap();
    let site = Site::with(Setup::new(format!(
        "models:\n  m: {{versions: {{v: [\"{0}\"]}}, health: false}}\n  vip: {{versions: {{v: [\"{0}\"]}}, health: false}}\n\
         keys:\n  - {{name: alice, models: [m], limits: {{requests_per_minute: 4}}}}\n{1}\
         jwt: {{keys: \"{2}\", issuer: \"https://id\", audience: evener}}\n",
        upstream.url(),
        entry("bob", "sk-bob", ""),
        file.display()
    )));
    (site.await, upstream, file, dir)
}

#[tokio::test]
async fn a_token_is_as_good_as_the_key_that_it_names() {
    let (site, upstream, _, _dir) = trusting(1).await;
    let alice = token(1, "alice", &json!({}));
    let reply = site.send(chat("m").key(&alice)).await;
    assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, "3"));
    assert_eq!(site.send(chat("m").header("x-api-key", &alice)).await.status, 200);
    assert_eq!(refused(&site.send(chat("vip").key(&alice)).await), (403, "model_not_allowed"));
    assert!(upstream.seen().iter().all(|seen| !seen.head.contains("eyJ")), "it stays behind");
    site.logged("its name", |line| line["key"] == "alice" && line["status"] == 200).await;
    assert_eq!(site.send(chat("m").key("sk-bob")).await.status, 200, "keys serve beside it");
    let hour = jiff::Timestamp::now().as_second() - 3600;
    for (stranger, why) in [
        (token(2, "alice", &json!({})), "signed"),
        (token(1, "carol", &json!({})), "no key here is called `carol`"),
        (token(1, "alice", &json!({"exp": hour})), "expired"),
        (token(1, "alice", &json!({"aud": "other"})), "audience"),
        (token(1, "alice", &json!({"iss": "https://evil"})), "issuer"),
        ("alice".to_owned(), "not known"),
    ] {
        let reply = site.send(chat("m").key(&stranger)).await;
        assert_eq!(refused(&reply), (401, "invalid_api_key"));
        assert!(reply.text().contains(why), "{why}: {}", reply.text());
    }
    let none = format!("{}.{}.", base64(r#"{"alg":"none"}"#), alice.split('.').nth(1).unwrap());
    assert_eq!(site.send(chat("m").key(&none)).await.status, 401);
    for _ in 0..2 {
        site.send(chat("m").key(&alice)).await;
    }
    assert_eq!(refused(&site.send(chat("m").key(&alice)).await), (429, "rate_limited"));
}

#[tokio::test]
async fn the_file_of_keys_is_followed_and_a_broken_one_changes_nothing() {
    let (site, _upstream, file, _dir) = trusting(1).await;
    let [old, new] = [1, 2].map(|seed| token(seed, "bob", &json!({})));
    assert_eq!(site.send(chat("m").key(&old)).await.status, 200);
    for broken in ["{", "", r#"{"keys": []}"#] {
        std::fs::write(&file, broken).unwrap();
    }
    let told = |text: &'static str| {
        let site = &site;
        eventually(text, async move || {
            let events = site.ask(Request::get("/api/v1/events")).await.text();
            events.contains(text).then_some(())
        })
    };
    told("the old keys hold").await;
    assert_eq!(site.send(chat("m").key(&old)).await.status, 200);
    std::fs::write(&file, jwks(2)).unwrap();
    told("can be used again").await;
    eventually("the new key counts", async || {
        (site.send(chat("m").key(&new)).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(site.send(chat("m").key(&old)).await.status, 401, "and the old one does not");
    std::fs::remove_file(&file).unwrap();
    eventually("it is missed", async || {
        (site.count_said("there is no such file") > 0).then_some(())
    })
    .await;
    assert_eq!(site.send(chat("m").key(&new)).await.status, 200);
}

#[tokio::test]
async fn a_token_that_was_taken_before_is_refused_once_its_time_is_over() {
    let (site, _upstream, _, _dir) = trusting(1).await;
    // What is left of its leeway.
    let soon = jiff::Timestamp::now().as_second() - 57;
    let token = token(1, "bob", &json!({"exp": soon}));
    assert_eq!(site.send(chat("m").key(&token)).await.status, 200);
    let reply = eventually("it is over", async || {
        let reply = site.send(chat("m").key(&token)).await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!(refused(&reply), (401, "invalid_api_key"));
    assert!(reply.text().contains("expired"), "{reply:?}");
}

#[tokio::test]
async fn of_each_header_the_first_secret_counts_and_no_long_one_is_looked_at() {
    let (site, upstream, _, _dir) = trusting(1).await;
    let (good, bad) = (token(1, "bob", &json!({})), token(2, "bob", &json!({})));
    let ask = async |lines: &[String]| {
        let mut raw = Raw::connect(site.address).await;
        let body = r#"{"model":"m"}"#;
        raw.write(format!(
            "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n{body}",
            lines.concat(),
            body.len()
        ))
        .await;
        raw.read_to_end().await.0
    };
    let key = |secret: &str| format!("x-api-key: {secret}\r\n");
    let many = |first: &str, then: &str| {
        let rest = std::iter::repeat_n(key(then), 80);
        std::iter::once(key(first)).chain(rest).collect::<Vec<_>>()
    };
    assert_eq!(status_of(&ask(&many(&bad, &good)).await), 401);
    let answer = ask(&many(&good, &bad)).await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    let seen = upstream.seen().pop().unwrap();
    assert!(!seen.has("x-api-key"), "all of them stay behind: {}", seen.head);
    // Either header will do, and both are looked at.
    let both = [format!("authorization: Bearer {bad}\r\n"), key(&good)];
    assert_eq!(status_of(&ask(&both).await), 200);
    let long = ask(&[key(&"x.".repeat(5000))]).await;
    assert!(status_of(&long) == 401 && long.contains("longer than 8192 bytes"), "{long}");
}
