//! Routes that capture a segment of the path, match query and cookies, and sticky keys from both.
use crate::client::Request;
use crate::site::{Setup, Site};
use crate::upstream::Upstream;
use std::collections::BTreeSet;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

async fn routed(routes: &str) -> (Site, [Upstream; 2]) {
    let replicas = [Upstream::answering(OK).await, Upstream::answering(OK).await];
    let site = Site::start(format!(
        "defaults: {{health: false}}\nmodels:\n  chat: {{versions: {{v: [\"{}\"]}}}}\n  \
         my model: {{versions: {{v: {{replicas: [\"{}\"], upstream_model: up/2}}}}}}\nroutes:\n{routes}",
        replicas[0].url(),
        replicas[1].url()
    ))
    .await;
    (site, replicas)
}

fn last(replica: &Upstream) -> String {
    let line = replica.seen().pop().unwrap().line().to_owned();
    line.trim_end_matches(" HTTP/1.1").to_owned()
}

#[tokio::test]
async fn a_captured_segment_names_the_model() {
    let (site, [chat, other]) = routed(
        "  - {match: {path: \"/serve/{model}\"}, model: \"{model}\"}\n  \
         - {match: {path: \"/t/{tenant}/{m}/*\"}, model: \"{m}\", rewrite: {path: \"/v2/models/{m}/*\"}}\n",
    )
    .await;
    let post = |path: &str| Request::post(path, r#"{"model":"my model"}"#);
    assert_eq!(site.send(post("/serve/chat?x=/serve/y")).await.status, 200);
    assert_eq!(last(&chat), "POST /serve/chat?x=/serve/y");
    assert_eq!(site.send(post("/serve/my%20model")).await.status, 200);
    assert_eq!(last(&other), "POST /serve/up%2F2");
    assert_eq!(site.send(post("/t/a%20b/chat/infer?q=1")).await.status, 200);
    assert_eq!(last(&chat), "POST /v2/models/chat/infer?q=1");
    assert_eq!(site.send(post("/t/a/my%20model/infer")).await.status, 200);
    assert_eq!(last(&other), "POST /v2/models/up%2F2/infer");
    for (path, status, code) in [
        ("/serve/chatt", 404, "model_not_found"),
        ("/serve/a%2Fb", 400, "bad_request"),
        ("/serve/a%zz", 400, "bad_request"),
        ("/serve/", 404, "no_route"),
        ("/serve/chat/more", 404, "no_route"),
    ] {
        let reply = site.send(post(path)).await;
        assert_eq!((reply.status, reply.header("x-evener-error")), (status, code), "{path}");
    }
}

#[tokio::test]
async fn a_parameter_names_the_model_where_a_route_says_so() {
    let (site, [chat, other]) = routed("  - {model_from: [\"query:m\", body]}\n").await;
    assert_eq!(site.send(Request::post("/x?m=my+model", r#"{"model":"chat"}"#)).await.status, 200);
    assert_eq!(last(&other), "POST /x?m=up%2F2");
    assert_eq!(site.send(Request::post("/x?m=", r#"{"model":"chat"}"#)).await.status, 200);
    assert_eq!(last(&chat), "POST /x?m=");
    let two = site.send(Request::get("/x?m=chat&m=my%20model")).await;
    assert_eq!((two.status, two.header("x-evener-error")), (400, "bad_request"));
    assert_eq!(site.send(Request::get("/x?m=nobody")).await.status, 404);
}

#[tokio::test]
async fn query_and_cookies_choose_a_route() {
    let (site, [chat, other]) = routed(
        "  - {match: {query: {beta: \"1 2\"}, cookies: {lab: blue}}, model: my model}\n  - {model: chat}\n",
    )
    .await;
    let ask = |path: &str, cookie: &str| Request::get(path).header("cookie", cookie);
    for (path, cookie, taken) in [
        ("/?beta=1+2", "a=b; lab=blue", &other),
        ("/?beta=1%202", "lab=\"blue\"", &other),
        ("/?beta=1+2", "lab=Blue", &chat),
        ("/?beta=1", "lab=blue", &chat),
        ("/", "lab=blue", &chat),
    ] {
        let before = taken.seen().len();
        assert_eq!(site.send(ask(path, cookie)).await.status, 200);
        assert_eq!(taken.seen().len(), before + 1, "{path} {cookie}");
    }
}

/// The points of the split that some requests take.
async fn points(site: &Site, mut ask: impl FnMut() -> Request) -> BTreeSet<String> {
    let mut points = BTreeSet::new();
    for _ in 0..4 {
        let reply = site.send(ask()).await;
        let decision = reply.header("x-evener-decision");
        points.insert(decision.split(' ').next().unwrap().to_owned());
    }
    points
}

#[tokio::test]
async fn a_sticky_key_comes_from_cookie_or_query_and_an_empty_one_is_none() {
    let replica = Upstream::answering(OK).await;
    let start = async |sources: &str| {
        let text = format!(
            "models: {{m: {{health: false, versions: {{a: [\"{0}\"], b: [\"{0}/\"]}}, split: {{a: 50, b: 50}}, hash_on: {sources}}}}}\n",
            replica.url()
        );
        Site::with(Setup::new(text).listener("debug_headers: true")).await
    };
    let site = start("[\"cookie:id\", \"query:user\", \"json:user\"]").await;
    let post = |path: &str, body: &str| Request::post(path, body.to_owned());
    let cookie = || post("/v1/embeddings?user=x", "{}").header("cookie", "id=7");
    assert_eq!(points(&site, cookie).await.len(), 1);
    let query = || post("/v1/embeddings?user=x", "{}").header("cookie", "id=");
    let by_query = points(&site, query).await;
    assert_eq!(by_query.len(), 1);
    assert_ne!(by_query, points(&site, cookie).await);
    let json = || post("/v1/embeddings?user=", r#"{"user":"x"}"#).header("cookie", "id=  ");
    assert_eq!(points(&site, json).await, by_query, "the same key, wherever it stands");
    let none = || post("/v1/embeddings?user=+", r#"{"user":" "}"#).header("cookie", "id=\"\"");
    assert!(points(&site, none).await.len() > 1, "an empty key is none");
    let site = start("[\"header:x-user\"]").await;
    let blank = || post("/v1/embeddings", "{}").header("x-user", " ");
    assert!(points(&site, blank).await.len() > 1);
}

#[tokio::test]
async fn explain_says_where_a_name_was_captured() {
    let (site, _replicas) =
        routed("  - {match: {path: \"/serve/{model}\", query: {v: \"1\"}}, model: \"{model}\"}\n  - {model_from: [\"query:m\"]}\n").await;
    for (path, found_in, takes) in [
        ("/serve/my%20model?v=1", "path", "path /serve/{model}, query v=1"),
        ("/x?m=my%20model", "query:m", "everything"),
    ] {
        let (code, said, _) =
            site.evener(&["explain", "--live", "--path", path, "--format", "json"]).await;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, &said["model"]), (Some(0), &"my model".into()), "{said}");
        assert_eq!(
            (&said["named"]["found_in"], &said["route"]["takes"]),
            (&found_in.into(), &takes.into())
        );
    }
}
