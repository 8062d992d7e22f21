//! Requests that come round: a replica that leads back to this Evener is answered at once, and chains of Eveners serve.
use crate::client::{Request, exchange, status_of};
use crate::grpc_client::{Calls, INFER, naming};
use crate::site::{Setup, Site, until};
use crate::upstream::Upstream;

fn models(url: &str) -> String {
    format!("models: {{m: {{versions: {{v: [\"{url}\"]}}, health: false, ejection: false}}}}\n")
}

const BODY: &str = r#"{"model":"m"}"#;

/// A site whose replica is its own listener.
async fn circle(scheme: &str) -> Site {
    let site = Site::start(models("http://127.0.0.1:1")).await;
    let own = Setup::new(models(&format!("{scheme}://{}", site.address)));
    site.reload(&own).await;
    site
}

#[tokio::test]
async fn a_request_that_comes_round_is_answered_at_its_second_passage() {
    for scheme in ["http", "h2c"] {
        let site = circle(scheme).await;
        let reply = site.send(Request::post("/v1/completions", BODY)).await;
        assert_eq!(reply.status, 508);
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "loop_detected");
        let message = error["message"].as_str().unwrap().to_owned();
        assert!(message.contains("passed this Evener before"), "{message}");
        assert_eq!(site.refused("loop_detected").await, 1, "{scheme}");
        until("both passages are logged", || site.log().len() == 2).await;
        site.in_flight(0).await;
    }
}

#[tokio::test]
async fn a_call_that_comes_round_is_unavailable() {
    let site = circle("h2c").await;
    let calls = Calls::connect(site.address).await;
    let ended = calls.call(INFER, &naming("m", b"")).await;
    assert_eq!(ended.status(), "14", "{ended:?}");
    assert!(ended.message().contains("passed this Evener before"), "{ended:?}");
    // UNAVAILABLE is asked again, and no passage leads to another.
    assert_eq!(site.refused("loop_detected").await, 3);
}

#[tokio::test]
async fn two_eveners_that_lead_to_each_other_end_it_too() {
    let first = Site::start(models("http://127.0.0.1:1")).await;
    let second = Site::start(models(&format!("http://{}", first.address))).await;
    first.reload(&Setup::new(models(&format!("http://{}", second.address)))).await;
    let reply = first.send(Request::post("/v1/completions", BODY)).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (508, &"loop_detected".into()));
    assert_eq!(first.refused("loop_detected").await, 1);
    until("it passed the second once", || second.log().len() == 1).await;
}

#[tokio::test]
async fn eveners_in_a_row_serve() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let last = Site::start(models(&upstream.url())).await;
    let middle = Site::start(models(&format!("http://{}", last.address))).await;
    let first = Site::start(models(&format!("h2c://{}", middle.address))).await;
    let reply = first.send(Request::post("/v1/completions", BODY).header("via", "1.1 nginx")).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    let seen = upstream.only();
    assert_eq!(seen.head.matches("1.1 evener").count(), 3, "{}", seen.head);
    assert!(seen.has("cdn-loop"), "{}", seen.head);
}

#[tokio::test]
async fn a_client_can_have_its_own_requests_refused_and_no_others() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let site = Site::start(models(&upstream.url())).await;
    for (field, status) in [
        ("Via: 1.1 evener", 200),
        ("Via: 1.1 evener\r\nCDN-Loop: evener; id=0123456789abcdef", 200),
        ("CDN-Loop: evener; id=0123456789abcdef", 200),
        ("Via: 1.1 evener, 1.1 evener", 508),
        // What names the process may not be named away.
        ("Connection: close, cdn-loop, via\r\nVia: 1.1 evener", 200),
    ] {
        let request = format!("GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{field}\r\n\r\n");
        assert_eq!(status_of(&exchange(site.address, request).await), status, "{field}");
    }
    for seen in upstream.seen() {
        assert!(seen.has("cdn-loop") && seen.has("via"), "{}", seen.head);
    }
}
