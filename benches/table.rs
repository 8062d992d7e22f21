//! Building a table of ten thousand replicas, and finding a request's model in it.
use criterion::{Criterion, criterion_group, criterion_main};
use evener::config::parse_text;
use evener::control::Core;
use evener::dialect::{BodyRead, read_path};
use evener::stats::Moment;
use evener::table::{Asked, Overrides, Plan};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

/// `models` models of two versions, `replicas` replicas in each version, all on `port`.
fn plan(models: usize, replicas: usize, port: u16) -> Arc<Plan> {
    let mut text = String::from("listeners:\n  - address: 127.0.0.1:0\nmodels:\n");
    for m in 0..models {
        write!(text, "  model-{m}:\n    split: {{v1: 90, v2: 10}}\n    versions:\n")
            .expect("a string");
        for v in ["v1", "v2"] {
            writeln!(text, "      {v}:").expect("a string");
            for r in 0..replicas {
                writeln!(text, "        - http://10.{m}.{}.{}:{port}", r / 250, r % 250)
                    .expect("a string");
            }
        }
    }
    let checked = parse_text(text, "bench.yaml", &|_| None).expect("a correct file");
    Arc::new(checked.plan)
}

struct Ask;

impl Asked for Ask {
    fn method(&self) -> &'static str {
        "POST"
    }

    fn host(&self) -> &'static str {
        "api.example.com"
    }

    fn path(&self) -> &'static str {
        "/v1/chat/completions"
    }

    fn header(&self, _: &str) -> Option<&str> {
        None
    }

    fn cookie(&self, _: &str) -> Option<&str> {
        None
    }

    fn target(&self) -> &'static str {
        "/v1/chat/completions"
    }

    fn upgrades(&self) -> bool {
        false
    }
}

fn build(c: &mut Criterion) {
    let (large, other) = (plan(1, 5000, 8000), plan(1, 5000, 9000));
    let (mut core, _) = Core::start(&large, Overrides::default(), 7, Moment::ZERO);
    c.bench_function("build/10000 replicas, as before", |b| {
        b.iter(|| core.apply(&large, Moment::ZERO));
    });
    let mut turns = [&other, &large].into_iter().cycle();
    c.bench_function("build/10000 replicas, all others", |b| {
        b.iter(|| core.apply(turns.next().expect("a cycle"), Moment::ZERO));
    });
}

fn route(c: &mut Criterion) {
    let (core, _) = Core::start(&plan(100, 2, 8000), Overrides::default(), 7, Moment::ZERO);
    let table = Arc::clone(core.table());
    let path = read_path("/v1/chat/completions").expect("a path");
    let body = br#"{"model":"model-57","messages":[{"role":"user","content":"hello"}]}"#;
    c.bench_function("route/100 models, body", |b| {
        b.iter(|| {
            let read = BodyRead::whole(Some("application/json"), None, body, &[] as &[&str]);
            let routed = table.route(None, &Ask, &path, read).expect("a known model");
            black_box(routed.model.name.len())
        });
    });
}

criterion_group!(benches, build, route);
criterion_main!(benches);
