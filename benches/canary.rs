//! What one request costs a canary: on the data path, and where it is judged.
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use evener::canary::{Arm, CanaryPlan, Finding, Judged, Load, Observation, Open, RollOut, World};
use evener::dialect::{Dialect, OutputForm, OutputScan, OutputWish};
use evener::fleet::{Gather, UnderWay};
use evener::stats::{Clock as _, Moment, MonotonicClock};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const LOAD: Load = Load { weight: 1.0, share: 0.5 };
const WORLD: World = World { candidate_usable: true, candidate: LOAD, stable: LOAD };

fn request(n: u64, each: u64) -> Observation {
    let took = Duration::from_micros(50_000 + n * 7919 % 100_000);
    let arm = if n.is_multiple_of(each) { Arm::Candidate } else { Arm::Stable };
    let began = Moment::from_nanos(n * 1_000_000);
    Observation {
        client: Some((n % 1000).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        replica: 1 + n % 6,
        bad_output: Some(Finding::Good),
        latency: Some(took),
        first_byte: Some(took / 2),
        tokens: Some(100),
        ..Observation::of(arm, n.is_multiple_of(211), began)
    }
}

/// Opens and testifies to `requests`; each ten thousandth request finds that the control path has taken all.
fn testify(seen: &Gather<Observation>, under_way: &UnderWay, requests: u64) {
    for n in 0..requests {
        if seen.is_open() {
            let one = request(n, 20);
            let ticket = under_way.begin(&Open {
                id: 0,
                arm: one.arm,
                began: one.began,
                key: one.key,
                client: one.client,
                replica: one.replica,
                beside: one.beside,
                prefix: one.prefix,
                first_byte: None,
                silent: None,
            });
            ticket.answers(one.began);
            seen.add(black_box(one));
        }
        if n.is_multiple_of(10_000) {
            for one in seen.take() {
                black_box(one);
            }
        }
    }
}

/// The data path, with as many threads: time of each for one request.
fn data_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("canary/testify");
    for threads in [1, 2] {
        let (seen, under_way) = (Gather::default(), UnderWay::default());
        seen.set_open(true);
        let clock = MonotonicClock::new();
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter_custom(|requests| {
                let began = clock.now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| testify(&seen, &under_way, requests));
                    }
                });
                clock.now().since(began)
            });
        });
    }
    group.finish();
}

/// The control path: a canary takes a request in, at a small and at a large share.
fn observe(c: &mut Criterion) {
    let mut group = c.benchmark_group("canary/observe");
    for percent in [1_u64, 50] {
        let judged = Judged { model: "chat".into(), candidate: "v2".into(), upstream_model: None };
        let plan =
            CanaryPlan { candidate: "v2".into(), warmup: Duration::ZERO, ..CanaryPlan::default() };
        let share = percent as f64 / 100.0;
        let (mut roll_out, _) = RollOut::begin(plan, judged, "v1".into(), share, Moment::ZERO);
        roll_out.tick(&WORLD, Moment::ZERO);
        let mut n = 0_u64;
        group.bench_function(BenchmarkId::new("percent", percent), |b| {
            b.iter(|| {
                n += 1;
                let now = Moment::from_nanos(n * 1_000_000);
                roll_out.observe(&request(n, 100 / percent), now);
            });
        });
    }
    group.finish();
}

/// The data path, within its budget: looks at a chat answer of 1 KB, and at one of 100 tokens as a stream.
fn look(c: &mut Criterion) {
    let wish =
        OutputWish { empty: true, json_invalid: true, truncated: true, ..OutputWish::default() };
    let wish = Arc::new(wish);
    let text = "the quick brown fox ".repeat(40);
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"completion_tokens":200}}}}"#
    );
    let event = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" fox"},"finish_reason":null}]}"#;
    let event = format!("{event}\n\n");
    let mut group = c.benchmark_group("canary/look");
    group.bench_function("json of 1 KB", |b| {
        b.iter(|| {
            let mut scan = OutputScan::new(Dialect::OpenAi, OutputForm::Json, Arc::clone(&wish));
            scan.chunk(black_box(body.as_bytes()));
            scan.finish(true)
        });
    });
    group.bench_function("stream of 100 events", |b| {
        b.iter(|| {
            let mut scan = OutputScan::new(Dialect::OpenAi, OutputForm::Events, Arc::clone(&wish));
            for _ in 0..100 {
                scan.chunk(black_box(event.as_bytes()));
            }
            scan.chunk(b"data: [DONE]\n\n");
            scan.finish(true)
        });
    });
    group.finish();
}

criterion_group!(benches, data_path, look, observe);
criterion_main!(benches);
