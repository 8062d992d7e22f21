//! The live view that pages follow.
use crate::client::{Client, Request};
use crate::site::{Setup, Site, eventually};
use crate::upstream::Mock;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

/// A reader of the live view.
pub(crate) struct Page {
    body: Incoming,
    text: String,
}

impl Page {
    pub(crate) async fn open(site: &Site, query: &str) -> Self {
        let mut client = Client::connect(site.admin, false).await.unwrap();
        let request = Request::get(&format!("/api/v1/live{query}")).header("host", "localhost");
        let response = client.begin(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event of this name, whatever comes before.
    pub(crate) async fn next(&mut self, name: &str) -> Value {
        loop {
            while let Some((event, _)) = self.text.split_once("\n\n") {
                let (head, data) = event.split_once('\n').unwrap();
                let found = (head == format!("event: {name}")).then(|| data.to_owned());
                let whole = event.len() + 2;
                self.text.drain(..whole);
                if let Some(data) = found {
                    return serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                }
            }
            let frame = self.body.frame().await.unwrap().unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }
}

async fn two() -> (Site, [Mock; 2]) {
    let mocks = [Mock::version("a").await, Mock::version("b").await];
    let [a, b] = [mocks[0].url(), mocks[1].url()];
    let text = format!(
        "models:\n  m: {{versions: {{v: [\"{a}\"]}}}}\n  other: {{versions: {{v: [\"{b}\"]}}}}\n"
    );
    (Site::with(Setup::new(text)).await, mocks)
}

#[tokio::test]
async fn a_page_learns_what_was_what_is_and_what_comes() {
    let (site, mocks) = two().await;
    let mut page = Page::open(&site, "?model=m").await;
    let lines = page.next("history").await;
    assert_eq!(lines["models"][0]["versions"][0]["name"], "v", "{lines}");
    let first = page.next("tick").await;
    let names: Vec<_> = [0, 1].map(|i| first["models"][i]["name"].clone()).into();
    assert_eq!(names, ["m", "other"]);
    let replicas = page.next("model").await;
    assert_eq!(replicas["versions"][0]["replicas"][0]["url"], mocks[0].url());
    let body = json!({"model": "m"}).to_string();
    for _ in 0..20 {
        site.send(Request::post("/v1/chat/completions", body.clone())).await;
        site.send(Request::post("/v1/chat/completions", r#"{"model":"nobody"}"#)).await;
    }
    let tick = eventually("the requests are counted", async || {
        let tick = page.next("tick").await;
        let refused = tick["refusals"][0]["count"] == 20;
        let model = &tick["models"][0];
        let counted =
            model["versions"][0]["requests_total"] == 20 && model["now"]["p95_ms"].is_f64();
        (refused && counted).then_some(tick)
    })
    .await;
    let now = &tick["models"][0]["now"];
    assert!(now["requests_per_second"].as_f64().unwrap() > 0.0, "{now}");
    assert_eq!(now["errors_percent"], json!(0.0), "{now}");
    assert_eq!(tick["models"][1]["now"]["p95_ms"], Value::Null);
    assert_eq!(tick["refusals"][0]["what"], "model_not_found");
    let replica = page.next("model").await["versions"][0]["replicas"][0].clone();
    assert_eq!(replica["last_outcomes"], "ssssssssssssssssssss");
    let order = json!({"model": "m", "version": "v", "reason": "new disk"}).to_string();
    assert_eq!(site.ask(Request::post("/api/v1/replicas/drain", order)).await.status, 200);
    let news = eventually("the event comes", async || {
        let news = page.next("events").await;
        news.as_array().unwrap().iter().find(|event| event["kind"] == "drain").cloned()
    })
    .await;
    assert_eq!(news["reason"], "new disk");
}

#[tokio::test]
async fn who_looks_at_one_model_is_not_told_of_the_replicas_of_another() {
    let (site, _mocks) = two().await;
    let mut both = [Page::open(&site, "?model=m").await, Page::open(&site, "?model=other").await];
    for (page, name) in both.iter_mut().zip(["m", "other"]) {
        for _ in 0..2 {
            assert_eq!(page.next("model").await["name"], name);
        }
    }
    let mut all = Page::open(&site, "").await;
    let lines = all.next("history").await;
    assert_eq!(lines["models"].as_array().map(Vec::len), Some(2));
    all.next("tick").await;
    all.next("tick").await;
    assert!(!all.text.contains("event: model"), "{}", all.text);
    let wrong = site.ask(Request::get("/api/v1/live?modle=m")).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text());
}

#[tokio::test]
async fn of_very_many_replicas_those_that_are_not_healthy_are_told_first() {
    let urls: Vec<String> = (1..=1002).map(|port| format!("http://127.0.0.1:{port}")).collect();
    let text = format!("models: {{m: {{health: false, versions: {{v: {urls:?}}}}}}}\n");
    let site = Site::with(Setup::new(text)).await;
    let order = json!({"model": "m", "version": "v", "replica": urls[1001]}).to_string();
    assert_eq!(site.ask(Request::post("/api/v1/replicas/drain", order)).await.status, 200);
    let told = Page::open(&site, "?model=m").await.next("model").await;
    let replicas = told["versions"][0]["replicas"].as_array().unwrap();
    assert_eq!((replicas.len(), &told["left_out"]), (1000, &json!(2)));
    assert_eq!(replicas[999]["state"], "draining");
    assert_eq!(replicas[998]["url"], urls[998]);
}
