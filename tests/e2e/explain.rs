//! What `evener explain` says is what happens.
use crate::client::Request;
use crate::site::{Setup, Site};
use crate::upstream::Mock;
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";
const BODY: &str = r#"{"model":"m","prompt":"x"}"#;

async fn explain(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let (code, said, why) = site.evener(&[&["explain"], arguments].concat()).await;
    (code, said + &why)
}

#[tokio::test]
async fn a_thousand_live_requests_go_where_explain_says() {
    let (v1, v2) = (Mock::version("v1").await, Mock::version("v2").await);
    let text = format!(
        "models:\n  m: {{versions: {{v1: [\"{}\"], v2: [\"{}\"]}}, split: {{v1: 60, v2: 40}}, hash_on: [header:x-user]}}\n",
        v1.url(),
        v2.url()
    );
    let site = Site::with(Setup::new(text)).await;
    let mut served = [0, 0];
    for n in 0..1000 {
        let user = format!("user-{n}");
        let question = json!({"path": PATH, "body": BODY, "headers": {"x-user": user}});
        let told = site.ask(Request::post("/api/v1/explain", question.to_string())).await;
        let told: Value = told.json();
        let reply = site.send(Request::post(PATH, BODY).header("x-user", &user)).await;
        assert_eq!(told["version"], reply.version(), "{told:#}");
        served[usize::from(reply.version() == "v2")] += 1;
    }
    assert!((550..=650).contains(&served[0]), "{served:?}");
    let question = json!({"path": PATH, "model": "nope"}).to_string();
    let lost = site.ask(Request::post("/api/v1/explain", question)).await;
    assert_eq!(lost.status, 422);
    assert!(lost.text().contains("names model `nope`"), "{}", lost.text());
}

#[tokio::test]
async fn the_command_tells_it_by_a_file_and_by_the_running_table() {
    let (v1, v2) = (Mock::version("v1").await, Mock::version("v2").await);
    let text = format!(
        "models:\n  m: {{versions: {{v1: [\"{}\"], v2: [\"{}\"]}}, split: {{v1: 100, v2: 0}}, health: false}}\n",
        v1.url(),
        v2.url()
    );
    let site = Site::with(Setup::new(text)).await;
    let file = site.path().join("conf/evener.yaml");
    let by_file = ["-c", file.to_str().unwrap()];
    let asked = ["--path", PATH, "--model", "m"];
    let file = explain(&site, &[&asked[..], &by_file].concat()).await;
    let live = explain(&site, &[&asked[..], &["--live"]].concat()).await;
    for (code, text) in [&file, &live] {
        assert_eq!(*code, Some(0), "{text}");
        for said in ["m, named in the body", "v1: it has everything", &format!("> {}", v1.url())] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
    let order = json!({"model": "m", "version": "v1", "reason": "test"}).to_string();
    site.ask(Request::post("/api/v1/replicas/drain", order)).await;
    let json = ["--live", "--format", "json"];
    let (_, text) = explain(&site, &[&asked[..], &json].concat()).await;
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["replicas"][0]["state"], "draining", "{told:#}");
    assert_eq!(told["picked"], Value::Null);
    let (code, text) =
        explain(&site, &[&["--path", PATH, "--model", "x"][..], &by_file].concat()).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("the request goes nowhere: it names model `x`"), "{text}");
}

#[tokio::test]
async fn why_no_replica_takes_a_call_is_told() {
    let mock = Mock::version("v").await;
    let site =
        Site::start(format!("models: {{m: {{versions: {{v: [\"{}\"]}}}}}}\n", mock.url())).await;
    let call = "/inference.GRPCInferenceService/ModelInfer";
    let (code, said) = explain(&site, &["--live", "--path", call, "--model", "m"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("gRPC needs a replica that speaks HTTP/2"), "{said}");
    let (_, said) = explain(&site, &["--live", "--path", PATH, "--model", "m"]).await;
    assert!(!said.contains("gRPC"), "{said}");
}
