//! Nothing on the way from a request to its replica allocates.
use allocation_counter::measure;
use evener::balance::{Policy, Pool, Segments, hash_point, spread};
use evener::config::parse_text;
use evener::control::Core;
use evener::health::{Class, Outcome};
use evener::stats::Moment;
use evener::table::Overrides;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// So many replicas, of which every third is not usable, and every second has no room.
struct Replicas(usize);

impl Pool for Replicas {
    fn len(&self) -> usize {
        self.0
    }
    fn usable(&self, i: usize) -> bool {
        !i.is_multiple_of(3)
    }
    fn has_room(&self, i: usize) -> bool {
        !i.is_multiple_of(2)
    }
    fn load(&self, i: usize) -> f32 {
        (i % 5) as f32 + 1.0
    }
    fn weight(&self, i: usize) -> f32 {
        (i % 4) as f32 + 1.0
    }
    fn identity(&self, i: usize) -> u64 {
        i as u64
    }
}

#[test]
fn no_policy_allocates() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    for policy in [
        Policy::LeastLoad,
        Policy::LeastRequest,
        Policy::P2c,
        Policy::RoundRobin,
        Policy::Random,
        Policy::Hash,
    ] {
        for n in [0, 1, 3, 128, 1_000] {
            let allocated = measure(|| {
                for turn in 0..20 {
                    black_box(policy.pick(&Replicas(n), turn, Some(turn), &mut rng));
                }
            });
            assert_eq!(allocated.count_total, 0, "{policy:?} among {n}");
        }
    }
}

#[test]
fn no_split_allocates() {
    let segments = Segments::new(&[("v1", 0.9), ("v2", 0.05), ("v3", 0.05)]);
    let key = [b'k'; 4_096];
    let allocated = measure(|| {
        for turn in 0..20 {
            for point in [spread::point(turn, 1), hash_point("chat", &key[..turn as usize * 200])] {
                black_box(segments.version(point));
                black_box(segments.without(point, |i| i > 0));
            }
        }
    });
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn no_ending_of_a_request_allocates() {
    let text = "listeners: [{address: 127.0.0.1:0}]\nmodels: {m: {versions: {v: [http://a:1, http://a:2]}}}\n";
    let plan = Arc::new(parse_text(text.to_owned(), "test.yaml", &|_| None).unwrap().plan);
    let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
    let version = &core.table().models[0].versions[0];
    // Both alike: a replica that is worse than its peers makes news, and news may allocate.
    let all = || {
        for (class, member) in
            Class::ALL.iter().flat_map(|c| version.members.iter().map(move |m| (*c, m)))
        {
            let latency = Duration::from_millis(5);
            let outcome = Outcome { class, latency, first_byte: None, tunnel: false };
            let in_flight = member.replica.begin(&version.state, Moment::ZERO);
            in_flight.finish(500, &outcome, Moment::ZERO);
        }
    };
    // The first of each class makes room for its counts.
    all();
    assert_eq!(measure(all).count_total, 0);
}
