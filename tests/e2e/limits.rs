//! How much a key may use: requests and tokens by the minute, reserved before, settled after, told truthfully.
use crate::client::{Client, Reply, Request, Wire, send};
use crate::keys::{WithKey as _, chat, entry, refused};
use crate::site::{Setup, Site, eventually};
use crate::upstream::{Mock, Upstream};
use evener::mock::Knobs;
use std::time::Duration;

pub(crate) const SECRET: &str = "sk-evener-limited";

pub(crate) fn limited(url: &str, limits: &str) -> Setup {
    let keys =
        entry("few", SECRET, &format!(", limits: {{{limits}}}")) + &entry("free", "sk-free", "");
    Setup::new(format!(
        "models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false}}}}\nkeys:\n{keys}"
    ))
}

pub(crate) fn number(reply: &Reply, header: &str) -> u64 {
    reply.header(header).parse().unwrap_or_else(|_| panic!("{header}: {reply:?}"))
}

/// What is left of the tokens, asked for without taking any.
pub(crate) async fn tokens_left(site: &Site) -> u64 {
    let reply = site.send(Request::get("/v1/models").key(SECRET)).await;
    number(&reply, "x-ratelimit-remaining-tokens")
}

/// Sees that these requests take so many tokens together, give or take three for each, once they are settled.
pub(crate) async fn take(site: &Site, tokens: u64, requests: &[Request]) {
    let before = tokens_left(site).await;
    for request in requests {
        assert_eq!(site.send(request.clone()).await.status, 200);
    }
    let slack = 3 * requests.len() as u64;
    eventually(&format!("{tokens} of {before} are taken"), async || {
        let left = tokens_left(site).await;
        (left.abs_diff(before - tokens) <= slack).then_some(())
    })
    .await;
}

pub(crate) fn ask(tokens: u64, more: &str) -> Request {
    let body = format!(r#"{{"model":"m","messages":[],"max_tokens":{tokens}{more}}}"#);
    Request::post("/v1/chat/completions", body).key(SECRET)
}

pub(crate) const STREAM: &str = r#","stream":true"#;

#[tokio::test]
async fn requests_are_counted_down_and_refused_with_the_time_to_wait() {
    let mock = Mock::version("v").await;
    let site = Site::with(limited(&mock.url(), "requests_per_minute: 3")).await;
    for left in [2, 1, 0] {
        let reply = site.send(chat("m").key(SECRET)).await;
        assert_eq!(reply.status, 200);
        let told = ["limit", "remaining"]
            .map(|what| number(&reply, &format!("x-ratelimit-{what}-requests")));
        assert_eq!(told, [3, left]);
        let reset = reply.header("x-ratelimit-reset-requests");
        assert!(near(reset, 60), "{reset}");
        assert_eq!(reply.header("x-ratelimit-limit-tokens"), "", "it has no such limit");
        // What goes nowhere takes nothing.
        let lost = site.send(chat("unknown").key(SECRET)).await;
        if left > 0 {
            assert_eq!(lost.status, 404);
        }
    }
    for wire in [Wire::Sized, Wire::H2c] {
        let reply = site.send(chat("m").key(SECRET).wire(wire)).await;
        assert_eq!(refused(&reply), (429, "rate_limited"));
        assert!((50..=60).contains(&number(&reply, "retry-after")), "{reply:?}");
        assert_eq!(number(&reply, "x-ratelimit-remaining-requests"), 0);
        let error = &reply.json()["error"];
        assert_eq!(error["type"], "rate_limit_error");
        assert!(error["message"].as_str().unwrap().contains("3 requests a minute"), "{error}");
    }
    let free = site.send(chat("m").key("sk-free")).await;
    assert!(free.status == 200 && free.header("x-ratelimit-limit-requests").is_empty());
    let metrics = site.ask(Request::get("/metrics")).await.text();
    assert!(metrics.contains("code=\"rate_limited\"} "), "{metrics}");
}

/// `19s`, `1m0s`: no longer than so many seconds, and no more than ten shorter.
fn near(written: &str, seconds: u64) -> bool {
    let plain = written.replace("1m0s", "60s");
    plain.trim_end_matches('s').parse::<u64>().is_ok_and(|s| s <= seconds && s + 10 >= seconds)
}

#[tokio::test]
async fn a_limit_is_seen_before_a_body_is_read_and_what_is_refused_is_given_back() {
    let mock = Mock::version("v").await;
    let site =
        Site::with(limited(&mock.url(), "requests_per_minute: 2, tokens_per_minute: 1000")).await;
    for _ in 0..5 {
        assert_eq!(refused(&site.send(ask(2000, "")).await), (400, "exceeds_token_limit"));
        assert_eq!(
            site.send(Request::post("/v1/chat/completions", "{").key(SECRET)).await.status,
            400
        );
    }
    assert_eq!(site.send(ask(900, "")).await.status, 200);
    let reply = site.send(ask(990, "")).await;
    assert_eq!(refused(&reply), (429, "tokens_limited"));
    assert_eq!(number(&reply, "x-ratelimit-remaining-requests"), 1, "that one was given back");
    assert_eq!(site.send(ask(9, "")).await.status, 200);
    assert_eq!(refused(&site.send(ask(9, "")).await), (429, "rate_limited"));
}

#[tokio::test]
async fn what_was_used_survives_reloads() {
    let mock = Mock::version("v").await;
    let with = |limit: &str| limited(&mock.url(), limit);
    let site = Site::with(with("requests_per_minute: 2")).await;
    for _ in 0..2 {
        assert_eq!(site.send(chat("m").key(SECRET)).await.status, 200);
    }
    site.reload(&with("requests_per_minute: 3")).await;
    assert_eq!(site.send(chat("m").key(SECRET)).await.status, 200);
    assert_eq!(site.send(chat("m").key(SECRET)).await.status, 429);
    let without = format!(
        "models: {{m: {{versions: {{v: [\"{}\"]}}, health: false}}}}\nkeys:\n{}",
        mock.url(),
        entry("free", "sk-free", "")
    );
    site.reload(&Setup::new(without)).await;
    assert_eq!(site.send(chat("m").key(SECRET)).await.status, 401);
    site.reload(&with("requests_per_minute: 3")).await;
    assert_eq!(
        site.send(chat("m").key(SECRET)).await.status,
        429,
        "out and in again gives nothing"
    );
}

/// Sends so many at once. Returns the answers that were served, and the refusals.
async fn at_once(site: &Site, n: usize, request: &Request) -> (Vec<Reply>, Vec<Reply>) {
    let all: Vec<_> = (0..n).map(|_| tokio::spawn(send(site.address, request.clone()))).collect();
    let mut replies = Vec::new();
    for one in all {
        replies.push(one.await.unwrap().unwrap());
    }
    replies.into_iter().partition(|reply| reply.status == 200)
}

fn tokens_of(replies: &[Reply]) -> usize {
    replies.iter().map(|reply| reply.text().matches("\"content\":\"").count()).sum()
}

#[tokio::test]
async fn fifty_streams_at_once_take_no_more_than_the_limit() {
    let knobs = Knobs { tokens: 480, token_interval: Duration::from_millis(2), ..Knobs::default() };
    let mock = Mock::start(knobs).await;
    let site = Site::with(limited(&mock.url(), "tokens_per_minute: 10000")).await;
    let (served, others) = at_once(&site, 50, &ask(480, STREAM)).await;
    let tokens = tokens_of(&served);
    assert!((9000..=10_000 + 480).contains(&tokens), "{tokens} in {} streams", served.len());
    for reply in &others {
        assert_eq!(refused(reply), (429, "tokens_limited"), "{reply:?}");
        assert!((1..=60).contains(&number(reply, "retry-after")), "{reply:?}");
        assert!(number(reply, "x-ratelimit-remaining-tokens") <= 10_000);
    }
    assert!(tokens_left(&site).await < 2500);
}

#[tokio::test]
async fn answers_that_nobody_bounds_are_not_underestimated() {
    let knobs =
        Knobs { tokens: 1500, token_interval: Duration::from_millis(1), ..Knobs::default() };
    let mock = Mock::start(knobs).await;
    let site = Site::with(limited(&mock.url(), "tokens_per_minute: 10000")).await;
    let unbounded =
        Request::post("/v1/chat/completions", r#"{"model":"m","messages":[],"stream":true}"#);
    let (served, _) = at_once(&site, 50, &unbounded.key(SECRET)).await;
    let tokens = tokens_of(&served);
    assert!((1500..=10_000 + 1500).contains(&tokens), "{tokens}");
}

#[tokio::test]
async fn usage_corrects_what_was_reserved() {
    let mock = Mock::start(Knobs { tokens: 100, ..Knobs::default() }).await;
    let site = Site::with(limited(&mock.url(), "tokens_per_minute: 6000")).await;
    let reply = site.send(ask(4000, "")).await;
    assert!(number(&reply, "x-ratelimit-remaining-tokens") < 3000, "reserved at first: {reply:?}");
    take(&site, 101, &[ask(4000, "")]).await;
    // A stream that tells its usage, and one whose events are counted.
    take(&site, 101, &[ask(4000, r#","stream":true,"stream_options":{"include_usage":true}"#)])
        .await;
    take(&site, 101, &[ask(4000, STREAM)]).await;
}

#[tokio::test]
async fn what_fails_takes_nothing_and_a_client_that_leaves_takes_what_it_got() {
    let mock = Mock::start(Knobs {
        tokens: 1000,
        token_interval: Duration::from_millis(20),
        ..Knobs::default()
    })
    .await;
    let setup = limited(&mock.url(), "tokens_per_minute: 6000");
    let site = Site::with(setup).await;
    let mut client = Client::connect(site.address, false).await.unwrap();
    let begun = client.begin(ask(5000, STREAM)).await.unwrap();
    assert_eq!(begun.status(), 200);
    assert!(tokens_left(&site).await < 1100);
    drop((begun, client));
    eventually("it is settled", async || (tokens_left(&site).await > 5800).then_some(())).await;
    site.in_flight(0).await;
    // It is settled once: nothing is given back twice.
    let full = tokens_left(&site).await;
    assert!(full <= 6000, "{full}");
    let broken = Upstream::answering("HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno").await;
    site.reload(&limited(&broken.url(), "tokens_per_minute: 6000")).await;
    let before = tokens_left(&site).await;
    assert_eq!(site.send(ask(3000, "")).await.status, 500);
    // A request is settled when it is logged, which its client does not wait for.
    site.logged("the 500 is settled", |line| line["status"] == 500).await;
    assert!(tokens_left(&site).await >= before);
    drop(broken);
    site.reload(&limited("http://127.0.0.1:1", "tokens_per_minute: 6000")).await;
    assert_eq!(site.send(ask(3000, "")).await.status, 502);
    site.logged("the 502 is settled", |line| line["status"] == 502).await;
    assert!(tokens_left(&site).await >= before);
}

#[tokio::test]
async fn a_retried_request_takes_its_tokens_once() {
    let good = Mock::start(Knobs { tokens: 100, ..Knobs::default() }).await;
    let bad = Upstream::answering("HTTP/1.1 503 Oh\r\ncontent-length: 2\r\n\r\nno").await;
    let keys = entry("few", SECRET, ", limits: {tokens_per_minute: 6000}");
    let site = Site::start(format!(
        "models: {{m: {{versions: {{v: [\"{}\", \"{}\"]}}, health: false, balance: round_robin, ejection: false}}}}\nkeys:\n{keys}",
        bad.url(),
        good.url()
    ))
    .await;
    take(&site, 4 * 101, &[(); 4].map(|()| ask(1000, ""))).await;
    assert!(!bad.seen().is_empty(), "one of them was retried");
}

#[tokio::test]
async fn predictions_take_no_tokens() {
    let mock = Mock::version("v").await;
    let site = Site::with(limited(&mock.url(), "tokens_per_minute: 10")).await;
    assert_eq!(refused(&site.send(ask(11, "")).await), (400, "exceeds_token_limit"));
    for _ in 0..5 {
        let infer = Request::post("/v2/models/m/infer", r#"{"inputs":[]}"#).key(SECRET);
        let reply = site.send(infer).await;
        assert_eq!((reply.status, number(&reply, "x-ratelimit-remaining-tokens")), (200, 10));
    }
}

#[tokio::test]
async fn a_replicas_own_limits_are_not_told_to_a_limited_client() {
    let answer = "HTTP/1.1 200 OK\r\nx-ratelimit-limit-requests: 99999\r\nx-ratelimit-remaining-tokens: 5\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::answering(answer).await;
    let site = Site::with(limited(&upstream.url(), "requests_per_minute: 7")).await;
    let reply = site.send(chat("m").key(SECRET)).await;
    assert_eq!(reply.header("x-ratelimit-limit-requests"), "7");
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), "");
    let free = site.send(chat("m").key("sk-free")).await;
    assert_eq!(free.header("x-ratelimit-limit-requests"), "99999");
}
