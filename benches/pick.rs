//! What a pick costs, by policy and number of replicas.
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use evener::balance::{Policy, Pool, Segments, hash_point, score, spread};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

/// A replica as the fleet keeps it: behind a pointer, in-flight and slowness in atomics.
struct Replica {
    in_flight: AtomicU32,
    slow: AtomicU32,
    identity: u64,
}

struct Replicas(Vec<std::sync::Arc<Replica>>);

impl Pool for Replicas {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn usable(&self, i: usize) -> bool {
        self.0[i].slow.load(Ordering::Relaxed) != 0
    }
    fn has_room(&self, i: usize) -> bool {
        self.0[i].in_flight.load(Ordering::Relaxed) < 64
    }
    fn load(&self, i: usize) -> f32 {
        let slow = f32::from_bits(self.0[i].slow.load(Ordering::Relaxed));
        score(self.0[i].in_flight.load(Ordering::Relaxed), 0.0, slow, 1.0, 1.0)
    }
    fn weight(&self, _: usize) -> f32 {
        1.0
    }
    fn identity(&self, i: usize) -> u64 {
        self.0[i].identity
    }
}

fn replicas(n: usize) -> Replicas {
    let replica = |i: usize| Replica {
        in_flight: AtomicU32::new((i * 7 % 11) as u32),
        slow: AtomicU32::new((1.0 + (i % 13) as f32 / 100.0).to_bits()),
        identity: hash_point("", &i.to_le_bytes()),
    };
    Replicas((0..n).map(|i| replica(i).into()).collect())
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for (policy, name) in [
        (Policy::LeastLoad, "least_load"),
        (Policy::P2c, "p2c"),
        (Policy::RoundRobin, "round_robin"),
        (Policy::Random, "random"),
        (Policy::Hash, "hash"),
    ] {
        for n in [3, 30, 128, 10_000] {
            let pool = replicas(n);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
            let mut turn = 0_u64;
            group.bench_function(BenchmarkId::new(name, n), |b| {
                b.iter(|| {
                    turn += 1;
                    policy.pick(&pool, turn, Some(turn), &mut rng)
                });
            });
        }
    }
    group.finish();
}

fn split(c: &mut Criterion) {
    let segments = Segments::new(&[("v1", 0.95), ("v2", 0.05)]);
    let mut turn = 0_u64;
    c.bench_function("split/spread", |b| {
        b.iter(|| {
            turn += 1;
            segments.version(spread::point(turn, 1))
        });
    });
    c.bench_function("split/sticky", |b| {
        b.iter(|| segments.version(hash_point("chat", black_box(b"user-1234567890"))));
    });
}

criterion_group!(benches, pick, split);
criterion_main!(benches);
