//! The percentiles of page, API and `evener status` are those of the access log.
use crate::client::{Client, Request};
use crate::live::Page;
use crate::site::{Site, eventually};
use crate::upstream::Mock;
use evener::mock::Knobs;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A model, and how it is asked.
struct Asked {
    model: &'static str,
    path: &'static str,
    latency: &'static str,
    clients: usize,
    /// Of each client.
    requests: usize,
    pause: Duration,
}

const NONE: Duration = Duration::ZERO;
const ASKED: [Asked; 4] = [
    // 4, 100 and 2 000 requests a second, or as many as the machine can do.
    Asked {
        model: "seldom",
        path: "/v1/chat/completions",
        latency: "lognormal:60ms,0.3",
        clients: 1,
        requests: 36,
        pause: Duration::from_millis(150),
    },
    Asked {
        model: "often",
        path: "/v1/chat/completions",
        latency: "lognormal:60ms,0.3",
        clients: 10,
        requests: 80,
        pause: Duration::from_millis(25),
    },
    Asked {
        model: "busy",
        path: "/v1/chat/completions",
        latency: "lognormal:12ms,0.5",
        clients: 40,
        requests: 200,
        pause: NONE,
    },
    Asked {
        model: "embeddings",
        path: "/v1/embeddings",
        latency: "lognormal:25ms,0.4",
        clients: 4,
        requests: 100,
        pause: Duration::from_millis(5),
    },
];

impl Asked {
    fn total(&self) -> usize {
        self.clients * self.requests
    }

    async fn run(&'static self, site: &Site) {
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let address = site.address;
            clients.spawn(async move {
                let mut client = Client::connect(address, false).await.unwrap();
                let messages = json!([{"role": "user", "content": "hi"}]);
                let body = json!({"model": self.model, "messages": messages, "input": "hi"});
                for _ in 0..self.requests {
                    let request = Request::post(self.path, body.to_string());
                    assert_eq!(client.send(request).await.unwrap().status, 200);
                    sleep(self.pause).await;
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    }
}

/// As method 7 of Hyndman and Fan has it, which spreadsheets and `NumPy` use.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

/// Each percentile beside what the log says; they are within 3 %.
fn compare(whose: &str, now: &Value, lines: &[&Value]) {
    for (figure, field) in [("", "duration_ms"), ("first_byte_", "first_byte_ms")] {
        let mut took: Vec<f64> = lines.iter().map(|line| line[field].as_f64().unwrap()).collect();
        took.sort_unstable_by(f64::total_cmp);
        for (name, q) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            let found = now[format!("{figure}{name}_ms")].as_f64().unwrap();
            let logged = quantile(&took, q);
            assert!(
                (found / logged - 1.0).abs() < 0.03,
                "{whose}: {figure}{name} is {found} and {logged} in the log of {}",
                took.len()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn percentiles_are_those_of_the_access_log() {
    let (mut mocks, mut models) = (Vec::new(), String::from("models:\n"));
    for asked in &ASKED {
        let knobs = Knobs { latency: asked.latency.parse().unwrap(), ..Knobs::default() };
        let mock = Mock::start(knobs).await;
        writeln!(models, "  {}: {{versions: {{v1: [\"{}\"]}}}}", asked.model, mock.url()).unwrap();
        mocks.push(mock);
    }
    let site = Site::start(models).await;
    let [seldom, often, busy, embeddings] = &ASKED;
    tokio::join!(seldom.run(&site), often.run(&site), busy.run(&site), embeddings.run(&site));
    let all: usize = ASKED.iter().map(Asked::total).sum();
    let log = eventually("all is in the log", async || {
        let log = site.log();
        (log.len() >= all).then_some(log)
    })
    .await;
    let mut page = Page::open(&site, "?model=busy").await;
    // Everything is looked at within two seconds.
    let counted = |tick: &Value| {
        let models = tick["models"].as_array().unwrap();
        models
            .iter()
            .zip(&ASKED)
            .all(|(model, asked)| model["versions"][0]["requests_total"] == asked.total())
    };
    let shown = async {
        let mut tick = page.next("tick").await;
        while !counted(&tick) {
            tick = page.next("tick").await;
        }
        let mut spread = page.next("model").await["versions"][0]["latency"].clone();
        while spread["requests"] != busy.total() {
            spread = page.next("model").await["versions"][0]["latency"].clone();
        }
        tick
    };
    // What is older than five minutes is in no percentile: a machine that is too slow for this test never gets there.
    let tick = tokio::time::timeout(Duration::from_mins(1), shown).await.expect("all is shown");
    let status: Value = site.ask(Request::get("/api/v1/status")).await.json();
    let (code, told, _) = site.evener(&["status"]).await;
    assert_eq!(code, Some(0), "{told}");
    for (i, asked) in ASKED.iter().enumerate() {
        let lines: Vec<&Value> = log.iter().filter(|line| line["model"] == asked.model).collect();
        assert_eq!(lines.len(), asked.total());
        for (whose, shown) in [("page", &tick), ("status", &status)] {
            let model = &shown["models"][i];
            compare(&format!("{whose}, {}", asked.model), &model["now"], &lines);
            compare(&format!("{whose}, {}/v1", asked.model), &model["versions"][0]["now"], &lines);
        }
        let p95 = status["models"][i]["versions"][0]["now"]["p95_ms"].as_f64().unwrap();
        assert!(told.contains(&format!("p95 {p95:.0} ms")), "{p95} in\n{told}");
    }
}
