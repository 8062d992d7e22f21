//! Choosing a replica from a pool.
//!
//! Three sieves, the same for every policy: a replica that is not usable is never picked; one whose
//! slots are full is passed over while another usable one has room; when all are full, the least
//! loaded is picked anyway (holding a request back is admission's business, not ours).
//!
//! A pool is read while others change it, so no policy trusts two readings to agree: whatever a
//! policy fails to find, the scan of [`least`] looks for again.
use super::pool::Pool;
use super::{least, lottery, rendezvous, rotation};
use rand::Rng;

/// How a replica is chosen (key `balance`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// The smallest learned load: in-flight × slowness / weight ([`score`](super::score)).
    #[default]
    LeastLoad,
    /// The same with every replica taken as equally fast; the pool's `load` leaves slowness out.
    LeastRequest,
    /// The less loaded of two at random (Mitzenmacher 2001).
    P2c,
    /// In turn, in proportion to weight.
    RoundRobin,
    /// At random, in proportion to weight.
    Random,
    /// The same key, the same replica, in proportion to weight (Thaler and Ravishankar 1998).
    Hash,
}

impl Policy {
    /// The value of `balance`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeastLoad => "least_load",
            Self::LeastRequest => "least_request",
            Self::P2c => "p2c",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::Hash => "hash",
        }
    }

    /// The index of the replica to use; `None` when none is usable.
    ///
    /// `turn` counts the picks of this pool (read by [`Policy::RoundRobin`] alone); `key` is what
    /// [`Policy::Hash`] is faithful to, and without it that policy falls back to the least load.
    pub fn pick(
        self,
        pool: &impl Pool,
        turn: u64,
        key: Option<u64>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        match self {
            Self::LeastLoad | Self::LeastRequest => None,
            Self::P2c => least::of_two(pool, rng),
            Self::RoundRobin => rotation::pick(pool, turn),
            Self::Random => lottery::pick(pool, rng),
            Self::Hash => key.and_then(|key| rendezvous::pick(pool, key)),
        }
        .or_else(|| least::pick(pool, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    const ALL: [Policy; 6] = [
        Policy::LeastLoad,
        Policy::LeastRequest,
        Policy::P2c,
        Policy::RoundRobin,
        Policy::Random,
        Policy::Hash,
    ];

    #[derive(Clone, Copy, Debug)]
    struct Seen {
        usable: bool,
        room: bool,
        load: f32,
        weight: f32,
        identity: u64,
    }

    const IDLE: Seen = Seen { usable: true, room: true, load: 1.0, weight: 1.0, identity: 0 };

    impl Pool for Vec<Seen> {
        fn len(&self) -> usize {
            self.as_slice().len()
        }
        fn usable(&self, i: usize) -> bool {
            self[i].usable
        }
        fn has_room(&self, i: usize) -> bool {
            self[i].room
        }
        fn load(&self, i: usize) -> f32 {
            self[i].load
        }
        fn weight(&self, i: usize) -> f32 {
            self[i].weight
        }
        fn identity(&self, i: usize) -> u64 {
            self[i].identity
        }
    }

    fn rng() -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(7)
    }

    /// Idle replicas with these weights.
    fn weighing(weights: &[f32]) -> Vec<Seen> {
        let of = |(i, &weight)| Seen { weight, identity: i as u64 * 0x9E37_79B9, ..IDLE };
        weights.iter().enumerate().map(of).collect()
    }

    /// How often each was picked in `picks` picks, each with its own turn and key.
    fn counts(policy: Policy, pool: &Vec<Seen>, picks: u64) -> Vec<u64> {
        let mut rng = rng();
        let mut counts = vec![0; Pool::len(pool)];
        for turn in 0..picks {
            counts[policy.pick(pool, turn, Some(turn), &mut rng).unwrap()] += 1;
        }
        counts
    }

    /// How far the counts of round robin stray from the weights at any prefix of `turns`.
    fn strays(pool: &Vec<Seen>, turns: u64) -> f64 {
        let open = |s: &Seen| if s.usable { f64::from(s.weight) } else { 0.0 };
        let total: f64 = pool.iter().map(open).sum();
        let mut counts = vec![0.0; Pool::len(pool)];
        let mut worst = 0.0_f64;
        for turn in 0..turns {
            counts[Policy::RoundRobin.pick(pool, turn, None, &mut rng()).unwrap()] += 1.0;
            for (seen, count) in pool.iter().zip(&counts) {
                worst = worst.max((count - (turn + 1) as f64 * open(seen) / total).abs());
            }
        }
        worst
    }

    fn any_pool() -> impl Strategy<Value = Vec<Seen>> {
        let seen = (any::<bool>(), any::<bool>(), 1_u8..5, 1_u8..5, any::<u64>());
        let seen = seen.prop_map(|(usable, room, load, weight, identity)| Seen {
            usable,
            room,
            load: load.into(),
            weight: weight.into(),
            identity,
        });
        prop_oneof![
            prop::collection::vec(seen.clone(), 0..6),
            prop::collection::vec(seen, 120..300)
        ]
    }

    proptest! {
        #[test]
        fn a_usable_replica_with_room_is_picked_if_there_is_one(
            pool in any_pool(), turn: u64, key: Option<u64>, seed: u64,
        ) {
            for policy in ALL {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
                let picked = policy.pick(&pool, turn, key, &mut rng).map(|i| pool[i]);
                prop_assert_eq!(picked.is_some(), pool.iter().any(|s| s.usable));
                prop_assert!(picked.is_none_or(|s| s.usable));
                if pool.iter().any(|s| s.usable && s.room) {
                    prop_assert!(picked.unwrap().room);
                }
            }
        }

        #[test]
        fn when_all_are_full_the_least_loaded_is_picked(
            mut pool in any_pool(), turn: u64, key: Option<u64>,
        ) {
            for s in &mut pool {
                s.room = false;
            }
            let least = pool.iter().filter(|s| s.usable).map(|s| s.load).reduce(f32::min);
            for policy in ALL {
                let picked = policy.pick(&pool, turn, key, &mut rng());
                prop_assert_eq!(picked.map(|i| pool[i].load), least);
            }
        }

        #[test]
        fn a_scan_finds_the_least_loaded(pool in any_pool().prop_filter("small", |p| p.len() < 9)) {
            let open = pool.iter().filter(|s| s.usable && s.room);
            if let Some(least) = open.map(|s| s.load).reduce(f32::min) {
                let picked = Policy::LeastLoad.pick(&pool, 0, None, &mut rng());
                prop_assert_eq!(picked.map(|i| pool[i].load), Some(least));
            }
        }

        #[test]
        fn a_leaving_replica_moves_only_its_own_keys(
            mut pool in any_pool(), gone: prop::sample::Index, keys: [u64; 32],
        ) {
            for s in &mut pool {
                s.room = true;
            }
            prop_assume!(pool.iter().filter(|s| s.usable).count() > 1);
            let pick = |pool: &Vec<Seen>, key| Policy::Hash.pick(pool, 0, Some(key), &mut rng());
            let before = keys.map(|key| pick(&pool, key));
            let gone = gone.index(pool.as_slice().len());
            pool[gone].usable = false;
            for (key, before) in keys.into_iter().zip(before).filter(|&(_, b)| b != Some(gone)) {
                prop_assert_eq!(pick(&pool, key), before);
            }
        }

        #[test]
        fn a_heavier_replica_only_gains_keys(
            mut pool in any_pool(), heavier: prop::sample::Index, keys: [u64; 32],
        ) {
            prop_assume!(pool.iter().any(|s| s.usable && s.room));
            let pick = |pool: &Vec<Seen>, key| Policy::Hash.pick(pool, 0, Some(key), &mut rng());
            let before = keys.map(|key| pick(&pool, key));
            let heavier = heavier.index(pool.as_slice().len());
            pool[heavier].weight += 3.0;
            for (key, before) in keys.into_iter().zip(before) {
                let after = pick(&pool, key);
                prop_assert!(after == before || after == Some(heavier));
            }
        }

        #[test]
        fn turns_stay_within_a_few_of_any_weights(weights in prop::collection::vec(0.1_f32..20.0, 1..12)) {
            // Each of the at most four levels of halving rounds once; the weights are rounded to 1/1024.
            prop_assert!(strays(&weighing(&weights), 400) < 4.5);
        }
    }

    #[test]
    fn equals_share_idle_picks_within_five_sigma() {
        for policy in [Policy::LeastLoad, Policy::LeastRequest] {
            let mut pool = weighing(&[1.0; 5]);
            pool[1].load = 9.0; // not an equal: ties must be fair around it
            for (i, count) in counts(policy, &pool, 10_000).into_iter().enumerate() {
                let expected: u64 = if i == 1 { 0 } else { 2_500 };
                assert!(count.abs_diff(expected) < 217, "{policy:?} picked {i} {count} times");
            }
        }
    }

    #[test]
    fn of_two_the_most_loaded_never_wins() {
        let mut pool = weighing(&[1.0; 5]);
        pool[2].load = 2.0;
        let counts = counts(Policy::P2c, &pool, 10_000);
        assert_eq!(counts[2], 0);
        assert!(counts.iter().all(|&c| c == 0 || c.abs_diff(2_500) < 217), "{counts:?}");
    }

    #[test]
    fn of_two_one_open_replica_is_enough() {
        let mut pool = weighing(&[1.0; 5]);
        for s in &mut pool {
            s.usable = false;
        }
        pool[3].usable = true;
        assert_eq!(counts(Policy::P2c, &pool, 100)[3], 100);
    }

    #[test]
    fn the_only_usable_of_ten_thousand_is_found() {
        let mut pool = weighing(&vec![1.0; 10_000]);
        for s in &mut pool {
            s.usable = false;
        }
        pool[7_777].usable = true;
        for policy in ALL {
            assert_eq!(policy.pick(&pool, 3, Some(5), &mut rng()), Some(7_777), "{policy:?}");
        }
    }

    #[test]
    fn sixteen_draws_avoid_the_loaded_half_of_ten_thousand() {
        let mut pool = weighing(&vec![1.0; 10_000]);
        for s in pool.iter_mut().step_by(2) {
            s.load = 2.0;
        }
        let counts = counts(Policy::LeastLoad, &pool, 10_000);
        assert!(counts.iter().step_by(2).sum::<u64>() <= 2, "(1/2)^16 of the picks expected");
    }

    #[test]
    fn equals_rotate_exactly() {
        for n in 1..=20 {
            assert!(strays(&weighing(&vec![1.0; n]), 200) < 1.0, "{n} replicas");
            let mut pool = weighing(&vec![2.5; n + 1]);
            pool[n / 2].usable = false;
            assert!(strays(&pool, 200) < 1.0, "{n} usable replicas of {}", n + 1);
        }
    }

    #[test]
    fn two_replicas_stay_within_one_turn_of_their_weights() {
        for weights in [[1.0, 1.0], [5.0, 1.0], [1.0, 2.0], [0.5, 7.25], [99.0, 1.0]] {
            assert!(strays(&weighing(&weights), 2_000) < 1.0, "{weights:?}");
        }
    }

    #[test]
    fn a_late_turn_is_as_good_as_an_early_one() {
        let pool = weighing(&[3.0, 1.0]);
        let turns = (u64::MAX - 3)..=u64::MAX;
        let picks = turns.map(|turn| Policy::RoundRobin.pick(&pool, turn, None, &mut rng()));
        assert_eq!(picks.filter(|&p| p == Some(0)).count(), 3);
    }

    #[test]
    fn lots_fall_in_proportion_to_weight() {
        for policy in [Policy::Random, Policy::Hash] {
            let counts = counts(policy, &weighing(&[1.0, 3.0, 4.0]), 16_000);
            for (count, expected) in counts.into_iter().zip([2_000_u64, 6_000, 8_000]) {
                assert!(count.abs_diff(expected) < 320, "{policy:?}: {count} of {expected}");
            }
        }
    }

    #[test]
    fn without_a_key_hash_takes_the_least_loaded() {
        let mut pool = weighing(&[1.0; 5]);
        pool[4].load = 0.5;
        assert_eq!(Policy::Hash.pick(&pool, 0, None, &mut rng()), Some(4));
    }
}
