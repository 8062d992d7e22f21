//! How long it takes to identify a request, from its raw path and whole body to its facts.
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use evener::dialect::{
    BodyRead, Source, StreamForm, StreamWatch, identify, peek_prefix, read_path,
};
use std::hint::black_box;

/// A chat request of about `size` bytes whose model comes last, behind the messages.
fn chat(size: usize) -> String {
    let turn = r#"{"role":"user","content":"Say \"hello\" in each language you know,\nplease."},"#;
    let turns = turn.repeat(size / turn.len());
    let messages = turns.trim_end_matches(',');
    format!(r#"{{"messages":[{messages}],"stream":true,"user":"u1","model":"gpt-4o-mini"}}"#)
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("read_path");
    for (name, path) in [
        ("chat", "/v1/chat/completions"),
        ("v2", "/v2/models/fraud/versions/3/infer?x=1"),
        ("predict", "/v1/models/fraud:predict"),
        ("escaped", "/v2/models/my%20model/infer"),
        ("unknown", "/some/other/path/of/nobody"),
    ] {
        group.bench_function(name, |b| b.iter(|| read_path(black_box(path))));
    }
    group.finish();
    let token = r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}"#;
    let event = format!("{token}\n\n");
    c.bench_function("watch an event of a stream", |b| {
        let mut watch = StreamWatch::new(StreamForm::Events);
        b.iter(|| watch.take(black_box(event.as_bytes())));
    });
    let mut group = c.benchmark_group("identify");
    for (name, size) in [("1KB", 1_000), ("100KB", 100_000)] {
        let body = chat(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let path = read_path(black_box("/v1/chat/completions")).expect("a good path");
                let read = BodyRead::whole(
                    Some("application/json"),
                    None,
                    black_box(body.as_bytes()),
                    &["user"],
                );
                identify(&path, read, &Source::DEFAULT, |_| true)
            });
        });
    }
    let tokens = vec!["128000"; 16_000].join(",");
    let embed = format!(r#"{{"input":[{tokens}],"model":"embed"}}"#);
    group.throughput(Throughput::Bytes(embed.len() as u64));
    group.bench_function("100KB of numbers", |b| {
        b.iter_batched(
            || read_path("/v1/embeddings").expect("a good path"),
            |path| {
                let read = BodyRead::whole(None, None, black_box(embed.as_bytes()), &["user"]);
                identify(&path, read, &Source::DEFAULT, |_| true)
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("100KB prefix", |b| {
        b.iter(|| peek_prefix(black_box(embed.as_bytes()), &["user"]));
    });
    group.finish();
}

criterion_group!(identification, benches);
criterion_main!(identification);
