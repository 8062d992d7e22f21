//! Keys: who is let in, what becomes of a key on its way, and where it must never be seen.
use crate::client::{Client, Raw, Reply, Request, Wire, status_of};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Mock, Upstream};
use bytes::Bytes;
use evener::access::Digest;
use http::Method;
use std::process::Command;

/// An entry of `keys` for this secret.
pub(crate) fn entry(name: &str, secret: &str, more: &str) -> String {
    format!("  - {{name: {name}, hash: \"{}\"{more}}}\n", Digest::of(secret.as_bytes()))
}

pub(crate) fn refused(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("x-evener-error"))
}

pub(crate) fn chat(model: &str) -> Request {
    let body = format!(r#"{{"model":"{model}","messages":[],"max_tokens":4}}"#);
    Request::post("/v1/chat/completions", body)
}

pub(crate) trait WithKey {
    fn key(self, secret: &str) -> Self;
}

impl WithKey for Request {
    fn key(self, secret: &str) -> Self {
        self.header("authorization", &format!("Bearer {secret}"))
    }
}

const SECRET: &str = "sk-evener-aQ7xT2";
const OTHER: &str = "sk-evener-zz91bB";

fn two_keys() -> String {
    format!("keys:\n{}{}", entry("mobile", SECRET, ""), entry("web", OTHER, ""))
}

fn one_model(url: &str, more: &str) -> String {
    format!("models: {{m: {{versions: {{v: {{replicas: [\"{url}\"]{more}}}}}, health: false}}}}\n")
}

async fn guarded(more: &str) -> (Site, Upstream) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(one_model(&upstream.url(), more) + &two_keys()).await;
    (site, upstream)
}

#[tokio::test]
async fn without_a_key_that_is_known_nobody_is_let_in() {
    let (site, upstream) = guarded("").await;
    let bare = || chat("m");
    let strangers = [
        bare(),
        bare().header("authorization", SECRET),
        bare().header("authorization", &format!("Basic {SECRET}")),
        bare().header("authorization", "Bearer "),
        bare().header("x-api-key", ""),
        bare().key("sk-evener-aQ7xT"),
        bare().key("sk-evener-aQ7xT2 x"),
        bare().key(&Digest::of(SECRET.as_bytes()).to_string()),
        bare().header("x-api-key", &format!("Bearer {SECRET}")),
        bare().header("cookie", SECRET),
        Request::post(&format!("/v1/chat/completions?api_key={SECRET}"), "{}"),
        Request::get("/v1/models"),
        Request::get("/v2"),
        Request::get("/v2/models/m/ready"),
        Request::get("/anything"),
    ];
    for (i, stranger) in strangers.into_iter().enumerate() {
        for wire in [Wire::Sized, Wire::H2c] {
            let reply = site.send(stranger.clone().wire(wire)).await;
            assert_eq!(refused(&reply), (401, "invalid_api_key"), "{i} {wire:?}");
            assert_eq!(reply.header("www-authenticate"), "Bearer", "{i}");
            assert!(!reply.text().contains("aQ7xT"), "{}", reply.text());
        }
    }
    let reply = site.send(bare()).await;
    let error = &reply.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&"authentication_error".into(), &"invalid_api_key".into())
    );
    assert!(upstream.seen().is_empty());
    for open in ["/healthz", "/v2/health/live", "/v2/health/ready", "/v2/health/live/"] {
        assert_eq!(site.send(Request::get(open)).await.status, 200, "{open}");
    }
    let posts = Request::new(Method::POST, "/healthz", Bytes::new());
    assert_eq!(site.send(posts).await.status, 401, "only a GET of it is Evener's own");
}

#[tokio::test]
async fn a_stranger_is_answered_before_its_body_is_read() {
    let (site, upstream) = guarded("").await;
    for extra in ["", "Expect: 100-continue\r\n"] {
        let mut raw = Raw::connect(site.address).await;
        raw.write(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: 8000000\r\n{extra}\r\n"
        ))
        .await;
        let answer = raw.read_until("invalid_api_key").await;
        assert_eq!(status_of(&answer), 401, "{answer}");
        assert!(!answer.contains("100 Continue"), "{answer}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_key_lets_in_and_stays_behind() {
    let (site, upstream) = guarded("").await;
    let sent = [
        chat("m").key(SECRET),
        chat("m").header("authorization", &format!("bearer   {SECRET}")),
        chat("m").header("x-api-key", SECRET),
        // Either will do; what is no key of ours is the replica's.
        chat("m").key(SECRET).header("x-api-key", "the replica's own"),
        chat("m").header("authorization", "Bearer of-the-replica").header("x-api-key", OTHER),
        chat("m").key(SECRET).header("x-api-key", OTHER),
    ];
    for wire in [Wire::Sized, Wire::H2c] {
        for request in &sent {
            let reply = site.send(request.clone().wire(wire)).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        }
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 12);
    for (i, seen) in seen.iter().enumerate() {
        assert!(!seen.head.contains(SECRET) && !seen.head.contains(OTHER), "{}", seen.head);
        let kept = (seen.header("authorization"), seen.header("x-api-key"));
        let expected = match i % 6 {
            3 => ("", "the replica's own"),
            4 => ("Bearer of-the-replica", ""),
            _ => ("", ""),
        };
        assert_eq!(kept, expected, "{i}");
    }
}

#[tokio::test]
async fn two_headers_of_one_name_are_no_way_to_pass_a_key_on() {
    let (site, upstream) = guarded("").await;
    let ask = async |lines: [(&str, &str); 4]| {
        let mut raw = Raw::connect(site.address).await;
        let lines = lines.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        raw.write(format!("GET /x HTTP/1.1\r\nHost: x\r\nconnection: close\r\n{lines}\r\n")).await;
        status_of(&raw.read_to_end().await.0)
    };
    let (wrong, other) = ("Bearer wrong", &*format!("Bearer {OTHER}"));
    let (key, bearer) = ("x-api-key", "Authorization");
    // Of each header the first counts.
    assert_eq!(ask([(key, "wrong"), (key, SECRET), (bearer, wrong), (bearer, other)]).await, 401);
    assert_eq!(ask([(key, SECRET), (key, "wrong"), (bearer, wrong), (bearer, other)]).await, 200);
    assert_eq!(ask([(key, "wrong"), (key, SECRET), (bearer, other), (bearer, wrong)]).await, 200);
    assert_eq!(upstream.seen().len(), 2);
    for seen in upstream.seen() {
        let head = seen.head.to_ascii_lowercase();
        assert!(!head.contains("x-api-key") && !head.contains("authorization"), "{head}");
    }
}

#[tokio::test]
async fn a_version_sets_its_own_authorization() {
    let more = ", headers: {set: {authorization: \"Bearer upstream\"}}";
    let (site, upstream) = guarded(more).await;
    assert_eq!(site.send(chat("m").key(SECRET)).await.status, 200);
    assert_eq!(upstream.seen()[0].header("authorization"), "Bearer upstream");
}

#[tokio::test]
async fn without_keys_the_clients_authorization_is_the_replicas() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(one_model(&upstream.url(), "")).await;
    assert_eq!(site.send(chat("m").key("any")).await.status, 200);
    assert_eq!(upstream.seen()[0].header("authorization"), "Bearer any");
}

#[tokio::test]
async fn a_preflight_needs_no_key_and_only_a_preflight() {
    let (site, upstream) = guarded("").await;
    let options = |path| Request::new(Method::OPTIONS, path, Bytes::new());
    let preflight = options("/v1/chat/completions")
        .header("origin", "https://page.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    assert_eq!(site.send(preflight.clone()).await.status, 200);
    assert_eq!(upstream.seen()[0].line(), "OPTIONS /v1/chat/completions HTTP/1.1");
    let others = [
        options("/v1/chat/completions"),
        options("/x").header("origin", "https://page.example"),
        options("/x").header("access-control-request-method", "POST"),
        Request::get("/x")
            .header("origin", "https://page.example")
            .header("access-control-request-method", "GET"),
        Request::new(Method::OPTIONS, "/v1/chat/completions", Bytes::from_static(b"{}"))
            .header("origin", "https://page.example")
            .header("access-control-request-method", "POST"),
    ];
    for other in others {
        assert_eq!(site.send(other.clone()).await.status, 401, "{other:?}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_key_is_named_where_it_was_used_and_shown_nowhere() {
    let [v1, v2] = [Mock::version("v1").await, Mock::version("v2").await];
    let copies = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let site = Site::with(
        Setup::new(format!(
            "models: {{m: {{versions: {{v1: [\"{}\"], v2: [\"{}\"], shadow: [\"{}\"]}}, \
             split: {{v1: 50, v2: 50, shadow: 0}}, hash_on: [api_key], health: false, \
             mirror: {{to: shadow, percent: 100, keep_worst: 5}}}}}}\n{}\
             telemetry: {{decision_log: {{file: ../decisions.jsonl}}}}\n",
            v1.url(),
            v2.url(),
            copies.url(),
            two_keys()
        ))
        .listener("debug_headers: true"),
    )
    .await;
    let mut versions = Vec::new();
    for _ in 0..6 {
        let reply = site.send(chat("m").key(SECRET)).await;
        versions.push(reply.version().to_owned());
        assert!(reply.header("x-evener-decision").contains("key=api_key"), "{reply:?}");
        site.send(chat("m").header("x-api-key", SECRET)).await;
        site.send(chat("m").key("sk-evener-wrong-one")).await;
    }
    versions.dedup();
    assert_eq!(versions.len(), 1, "the key's name is what its requests stay by");
    eventually("all copies came", async || (copies.seen().len() == 12).then_some(())).await;
    let logged = site.logged("one of the key", |line| line["key"] == "mobile").await;
    assert_eq!(logged["status"], 200);
    let stranger = site.logged("a stranger", |line| line["error"] == "invalid_api_key").await;
    assert!(stranger.get("key").is_none(), "{stranger}");
    let id = logged["request_id"].as_str().unwrap();
    let told = eventually("it is in the decision log", async || {
        let text = std::fs::read_to_string(site.path().join("decisions.jsonl")).unwrap_or_default();
        text.contains(id).then_some(text)
    })
    .await;
    assert!(told.contains(r#""key":"mobile""#), "{told}");
    let (code, explained, _) = site.evener(&["explain", "--id", id]).await;
    assert!(code == Some(0) && explained.contains("asked by key mobile"), "{explained}");
    let mut everywhere = told + &explained;
    for page in [
        "/metrics",
        "/api/v1/status",
        "/api/v1/decisions",
        "/api/v1/events",
        "/api/v1/config",
        "/api/v1/models/m/mirror",
    ] {
        everywhere += &site.ask(Request::get(page)).await.text();
    }
    everywhere += &site.log().iter().map(ToString::to_string).collect::<String>();
    everywhere += &copies.seen().iter().map(|seen| seen.head.clone()).collect::<String>();
    assert!(!everywhere.contains("aQ7xT2") && !everywhere.contains("wrong-one"));
    assert_eq!(site.count_said("aQ7xT2") + site.count_said("wrong-one"), 0);
    assert!(
        everywhere.contains(r#"evener_refusals_total{model="",code="invalid_api_key"} 6"#),
        "{everywhere}"
    );
}

#[tokio::test]
async fn a_key_that_is_taken_out_is_refused_from_the_next_request_on() {
    let upstream = Mock::version("v").await;
    let model = one_model(&upstream.url(), "");
    let site = Site::start(model.clone() + &two_keys()).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    assert_eq!(client.send(chat("m").key(SECRET)).await.unwrap().status, 200);
    site.reload(&Setup::new(model.clone() + "keys:\n" + &entry("web", OTHER, ""))).await;
    let reply = client.send(chat("m").key(SECRET)).await.unwrap();
    assert_eq!(refused(&reply), (401, "invalid_api_key"));
    assert_eq!(site.send(chat("m").key(OTHER)).await.status, 200);
    site.reload(&Setup::new(model)).await;
    assert_eq!(site.send(chat("m")).await.status, 200, "without `keys` everybody is let in");
    assert_eq!(site.count_said("no request needs a key any more"), 1);
}

#[tokio::test]
async fn a_new_key_is_let_in_by_its_entry() {
    let made = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evener"));
        let ran = command.args(["key", "new", "my phone"]).output().unwrap();
        assert!(ran.status.success());
        String::from_utf8(ran.stdout).unwrap()
    };
    let text = made();
    assert_ne!(text, made());
    let (secret, entry) = text.split_once("\n\n").unwrap();
    assert!(secret.starts_with("sk-evener-") && !entry.contains(secret), "{text}");
    let mock = Mock::version("v").await;
    let site = Site::start(one_model(&mock.url(), "") + entry).await;
    assert_eq!(site.send(chat("m").key(secret)).await.status, 200);
    site.logged("its name", |line| line["key"] == "my phone").await;
}

#[tokio::test]
async fn an_operators_test_needs_no_key_and_sees_what_one_is_worth() {
    let (site, upstream) = guarded("").await;
    let test = async |headers: &str| {
        let order = format!(r#"{{"method":"GET","path":"/x","headers":{headers}}}"#);
        site.ask(Request::post("/api/v1/test", order)).await.json()
    };
    assert_eq!(test("{}").await["status"], 200);
    assert_eq!(test(r#"{"x-api-key":"wrong"}"#).await["status"], 401);
    assert_eq!(test(&format!(r#"{{"x-api-key":"{SECRET}"}}"#)).await["status"], 200);
    assert!(upstream.seen().iter().all(|seen| !seen.has("x-api-key")));
}

#[tokio::test]
async fn explain_goes_by_the_name_of_a_key() {
    let mock = Mock::version("v").await;
    let keys = entry("mobile", SECRET, ", models: [m]");
    let site = Site::start(format!(
        "models:\n  m: {{versions: {{v1: [\"{0}\"], v2: [\"{0}\"]}}, split: {{v1: 50, v2: 50}}, hash_on: [api_key], health: false}}\n  \
         vip: {{versions: {{v: [\"{0}\"]}}, health: false}}\nkeys:\n{keys}",
        mock.url()
    ))
    .await;
    let ask = async |more: &[&str]| {
        let base = ["explain", "--live", "--path", "/v1/chat/completions"];
        site.evener(&[&base[..], more].concat()).await
    };
    let (code, found, _) = ask(&["--model", "m", "--key", "mobile", "--format", "json"]).await;
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((code, &found["api_key"]), (Some(0), &"mobile".into()), "{found}");
    assert_eq!(found["key"]["source"], "api_key");
    let header = format!("authorization: Bearer {SECRET}");
    let (code, words, _) = ask(&["--model", "m", "-H", &header]).await;
    assert!(code == Some(0) && words.contains("asked by key mobile"), "{words}");
    for (more, why) in [
        (&["--model", "vip", "--key", "mobile"][..], "may not use model `vip`"),
        (&["--model", "m", "--key", "mobil"], "did you mean `mobile`?"),
        (&["--model", "m", "-H", "x-api-key: no"], "the key is not known here"),
    ] {
        let (code, _, said) = ask(more).await;
        assert!(code == Some(1) && said.contains(why), "{said}");
    }
}
