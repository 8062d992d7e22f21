//! Bodies of known inference paths are kept, so that they are repeated and hashed, whatever their content type says.
use crate::client::{Request, Wire};
use crate::site::{Setup, Site};
use crate::upstream::Upstream;
use bytes::Bytes;
use http::Method;
use std::collections::BTreeSet;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
/// `None`: no content type, as Triton's HTTP client sends it.
const KINDS: [Option<&str>; 6] = [
    None,
    Some("application/octet-stream"),
    Some("application/x-www-form-urlencoded"),
    Some("text/csv"),
    Some("image/png"),
    Some("application/json"),
];

/// One replica answers, another resets each request that it has read.
async fn site(kind: &str) -> (Site, Upstream, Upstream) {
    let good = Upstream::answering(OK).await;
    let bad = Upstream::start(|mut talk| async move {
        talk.request().await;
        talk.reset();
    })
    .await;
    let site = Site::start(format!(
        "models: {{m: {{kind: {kind}, versions: {{v: [\"{}\", \"{}\"]}}, health: false, ejection: false, \
         balance: round_robin, retries: {{budget: 100%}}, max_buffered_body: 128KiB}}}}\n",
        good.url(),
        bad.url()
    ))
    .await;
    (site, good, bad)
}

fn ask(path: &str, kind: Option<&str>, body: &[u8]) -> Request {
    let request = Request::new(Method::POST, path, Bytes::copy_from_slice(body));
    match kind {
        Some(kind) => request.header("content-type", kind),
        None => request,
    }
}

/// Tensors: bytes that are neither JSON nor text.
fn tensors(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 % 251) as u8 | 0x80).collect()
}

#[tokio::test]
async fn no_client_of_an_inference_path_sees_a_reset() {
    let (site, good, bad) = site("auto").await;
    let body = tensors(100_000);
    for path in [
        "/v2/models/m/infer",
        "/v2/models/m/versions/2/infer",
        "/v1/models/m:predict",
        "/invocations",
        "/predictions/m",
        "/endpoints/m/invocations",
    ] {
        for kind in KINDS {
            for wire in [Wire::Sized, Wire::Sized, Wire::Chunked, Wire::H2c] {
                let request = ask(path, kind, &body).wire(wire);
                assert_eq!(site.send(request).await.status, 200, "{path} {kind:?} {wire:?}");
            }
        }
    }
    assert!(bad.seen().len() > 10, "some were repeated");
    assert!(good.seen().iter().all(|seen| seen.body == body), "each arrived whole");
}

#[tokio::test]
async fn other_paths_are_repeated_where_the_model_says_so() {
    for (kind, repeated) in [("auto", false), ("raw", false), ("predict", true), ("llm", true)] {
        let (site, _good, _bad) = site(kind).await;
        for path in ["/orders", "/predict"] {
            let mut failed = 0;
            for number in 0..8 {
                let request = ask(path, KINDS[number % KINDS.len()], &tensors(500));
                failed += u32::from(site.send(request).await.status == 502);
            }
            assert_eq!(failed == 0, repeated, "{kind} {path}: {failed} of 8 failed");
        }
    }
}

#[tokio::test]
async fn a_body_beyond_what_is_kept_streams_through() {
    let (site, good, _bad) = site("auto").await;
    let body = tensors(1_000_000);
    let mut served = 0;
    for wire in [Wire::Sized, Wire::Chunked, Wire::H2c, Wire::Sized] {
        let reply = site.send(ask("/v2/models/m/infer", None, &body).wire(wire)).await;
        served += usize::from(reply.status == 200);
    }
    assert!(served > 0 && good.seen().iter().all(|seen| seen.body == body));
}

#[tokio::test]
async fn json_is_hashed_by_its_bytes_and_tensors_are_not_read() {
    let replica = Upstream::answering(OK).await;
    let text = format!(
        "models: {{m: {{health: false, versions: {{a: [\"{0}\"], b: [\"{0}/\"]}}, split: {{a: 50, b: 50}}, hash_on: [\"json:user\"]}}}}\n",
        replica.url()
    );
    let site = Site::with(Setup::new(text).listener("debug_headers: true")).await;
    let points = async |request: &dyn Fn() -> Request| {
        let mut points = BTreeSet::new();
        for _ in 0..4 {
            let reply = site.send(request()).await;
            let decision = reply.header("x-evener-decision");
            points.insert(decision.split(' ').next().unwrap().to_owned());
        }
        points.len()
    };
    let json = br#"{"inputs": [], "user": "u1"}"#;
    for path in ["/v2/models/m/infer", "/v1/models/m:predict", "/invocations", "/predictions/m"] {
        for kind in KINDS {
            assert_eq!(points(&|| ask(path, kind, json)).await, 1, "{path} {kind:?}");
        }
        assert!(points(&|| ask(path, None, &tensors(100))).await > 1, "{path}");
    }
    let mut binary = json.to_vec();
    binary.extend(tensors(64));
    let length = json.len().to_string();
    let with_tensors = || {
        let request = ask("/v2/models/m/infer", Some("application/json"), &binary);
        request.header("inference-header-content-length", &length)
    };
    assert!(points(&with_tensors).await > 1);
    assert_eq!(replica.seen().pop().unwrap().body, binary);
}
