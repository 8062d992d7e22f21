//! What operators read and order over the admin listener of a running Evener.
use crate::client::{Request, send};
use crate::site::{Setup, Site, eventually, text_of};
use crate::upstream::{Mock, Upstream};
use serde_json::{Value, json};

fn models(url: &str) -> Setup {
    Setup::new(format!("models: {{m: {{versions: {{v: [\"{url}\"]}}}}}}\n"))
}

async fn status(site: &Site) -> Value {
    site.ask(Request::get("/api/v1/status")).await.json()
}

fn replica(status: &Value) -> &Value {
    &status["models"][0]["versions"][0]["replicas"][0]
}

#[tokio::test]
async fn the_status_counts_what_is_in_flight_and_what_was_served() {
    let upstream = Upstream::hanging_where_asked().await;
    let site = Site::with(models(&upstream.url())).await;
    for _ in 0..5 {
        site.send(Request::get("/p")).await;
    }
    let address = site.address;
    let running = tokio::spawn(async move { send(address, Request::get("/hang")).await });
    eventually("one is in flight", async || {
        (replica(&status(&site).await)["in_flight"] == 1).then_some(())
    })
    .await;
    running.abort();
    let last = eventually("none is in flight", async || {
        let status = status(&site).await;
        (replica(&status)["in_flight"] == 0).then_some(status)
    })
    .await;
    assert_eq!(replica(&last)["requests_total"], 6);
    assert_eq!(replica(&last)["failures_total"], 0, "a client that leaves is no failure");
    assert_eq!(last["models"][0]["versions"][0]["share"], json!(100.0));
}

#[tokio::test]
async fn a_reload_is_reported_as_applied_unchanged_or_rejected() {
    let mocks = [Mock::version("a").await, Mock::version("b").await];
    let site = Site::with(models(&mocks[0].url())).await;
    let order = async || site.ask(Request::post("/api/v1/reload", "{}")).await;
    let result = async || status(&site).await["config"]["last_reload"]["result"].clone();
    assert_eq!(order().await.status, 200);
    assert_eq!(result().await, "unchanged");
    site.reload(&models(&mocks[1].url())).await;
    let now = status(&site).await;
    assert_eq!((&now["generation"], &result().await), (&json!(2), &json!("applied")));
    site.reload_rejected(&text_of(&models("gopher://x"))).await;
    assert_eq!(result().await, "rejected");
    let now = status(&site).await;
    assert!(now["config"]["last_reload"]["diagnostics"][0]["line"].is_u64(), "{now}");
    let metrics = site.ask(Request::get("/metrics")).await.text();
    assert!(metrics.contains("\nevener_config_last_reload_successful 0"), "{metrics}");
    site.write(&models(&mocks[1].url()));
    eventually("the running text heals", async || (result().await == "unchanged").then_some(()))
        .await;
    let metrics = site.ask(Request::get("/metrics")).await.text();
    assert!(metrics.contains("\nevener_config_last_reload_successful 1"), "{metrics}");
    assert_eq!(status(&site).await["generation"], 2);
}

#[tokio::test]
async fn a_drained_replica_gets_nothing_and_stays_drained_over_reload_and_restart() {
    let mocks = [Mock::version("a").await, Mock::version("b").await];
    let setup = |more: &str| {
        let [a, b] = &mocks;
        Setup::new(format!(
            "models: {{m: {{slow_start: 0s, versions: {{v: [\"{}\", \"{}\"]}}{more}}}}}\n",
            a.url(),
            b.url()
        ))
    };
    let mut site = Site::with(setup("")).await;
    let order = |verb: &str| {
        let body = json!({"model": "m", "version": "v", "replica": mocks[0].url()});
        Request::post(&format!("/api/v1/replicas/{verb}"), body.to_string())
    };
    let only_b = async |site: &Site| {
        for _ in 0..30 {
            assert_eq!(site.send(Request::get("/headers")).await.version(), "b");
        }
    };
    assert_eq!(site.ask(order("drain")).await.status, 200);
    only_b(&site).await;
    site.reload(&setup(", fail_open: false")).await;
    only_b(&site).await;
    site.restart().await;
    only_b(&site).await;
    assert_eq!(site.ask(order("undrain")).await.status, 200);
    eventually("it serves again", async || {
        (site.send(Request::get("/headers")).await.version() == "a").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_order_to_stop_drains_and_ends() {
    let mock = Mock::version("v").await;
    let mut site = Site::with(models(&mock.url())).await;
    assert_eq!(site.ask(Request::get("/readyz")).await.status, 200);
    let reply = site.ask(Request::post("/api/v1/stop", "{}")).await;
    assert!(reply.status < 300, "{}", reply.text());
    assert!(site.ended().await.success());
}

#[tokio::test]
async fn metrics_count_requests_by_what_became_of_them() {
    let mock = Mock::version("v").await;
    let site = Site::with(models(&mock.url())).await;
    for _ in 0..3 {
        site.send(Request::post("/v1/chat/completions", r#"{"model":"m"}"#)).await;
    }
    site.send(Request::post("/v1/chat/completions", r#"{"model":"x"}"#)).await;
    let wanted = [
        r#"evener_requests_total{model="m",version="v",code="200",outcome="success"} 3"#,
        r#"code="model_not_found""#,
    ];
    eventually("they are counted", async || {
        let metrics = site.ask(Request::get("/metrics")).await.text();
        wanted.iter().all(|line| metrics.contains(line)).then_some(())
    })
    .await;
    let metrics = site.ask(Request::get("/metrics")).await.text();
    assert!(!metrics.contains("model=\"x\""), "an unknown model is never a label");
}

#[tokio::test]
async fn a_page_of_another_site_is_turned_away_and_the_log_says_so() {
    let mock = Mock::version("v").await;
    let site = Site::with(models(&mock.url())).await;
    let order = || Request::post("/api/v1/reload?x=hush", "{}");
    for (name, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        let reply = site.ask(order().header(name, value)).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (403, &json!("origin_not_allowed"))
        );
    }
    // Of a flood one is told of.
    site.said_times("turned away from the admin API: a page of another origin", 1).await;
    assert_eq!(site.count_said("hush"), 0, "a query may hold a key");
    assert_eq!(site.ask(order()).await.status, 200);
}
