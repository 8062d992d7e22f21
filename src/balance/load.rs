//! How loaded a replica is: what it holds, times how slow it is, over what it can bear.
//!
//! Slowness is learned from the geometric mean of latencies ([`Slowness`](super::Slowness)); a peak average in a full
//! scan makes all proxies flee and return together (simulated: p99 × 200).
use std::time::Duration;

/// The load of a replica as [`Policy`](super::Policy) compares it: the smaller, the better.
///
/// `in_flight`: requests of this proxy not yet finished there. `phantom`:
/// [`Phantom::level`](super::Phantom::level). `slow`: [`Slowness::factor`](super::Slowness::factor), 1 for a policy that ignores speed. `weight`: declared capacity.
/// `ramp`: [`ramp`]. The request to come counts, so an idle replica's load is above 0.
pub fn score(in_flight: u32, phantom: f32, slow: f32, weight: f32, ramp: f32) -> f32 {
    (in_flight as f32 + phantom + 1.0) * slow / (weight * ramp)
}

/// What silence adds to slowness: 1 as long as a replica that lets somebody wait was heard of lately, then more, to 8.
///
/// A replica that hangs never ends a request, so nothing would be learned of it until a timeout. `usual`: the
/// median time to the first byte in its pool.
pub fn silent(silence: Duration, usual: Option<Duration>) -> f32 {
    let Some(usual) = usual else { return 1.0 };
    (silence.as_secs_f32() / (4.0 * usual.as_secs_f32())).clamp(1.0, 8.0)
}

/// Slow start: the part of its weight that counts for a replica ready since `since_ready`, 0.1 to 1.
pub fn ramp(since_ready: Duration, slow_start: Duration) -> f32 {
    if since_ready >= slow_start {
        return 1.0;
    }
    (since_ready.as_secs_f32() / slow_start.as_secs_f32()).clamp(0.1, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn near(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-4
    }

    proptest! {
        #[test]
        fn load_rises_with_requests_and_falls_with_weight(
            n in 0_u32..1_000, phantom in 0.0_f32..100.0, slow in 0.125_f32..8.0,
            weight in 0.1_f32..100.0, ramp in 0.1_f32..1.0,
        ) {
            let load = score(n, phantom, slow, weight, ramp);
            prop_assert!(load > 0.0);
            prop_assert!(load < score(n + 1, phantom, slow, weight, ramp));
            prop_assert!(load < score(n, phantom + 1.0, slow, weight, ramp));
            prop_assert!(load < score(n, phantom, slow * 1.1, weight, ramp));
            prop_assert!(load > score(n, phantom, slow, weight * 1.1, ramp));
            prop_assert!(load > score(n, phantom, slow, weight, ramp * 1.1));
        }
    }

    #[test]
    fn a_replica_ramps_up_from_a_tenth() {
        let start = 30 * SECOND;
        assert!(near(ramp(Duration::ZERO, start), 0.1));
        assert!(near(ramp(15 * SECOND, start), 0.5));
        assert!(near(ramp(30 * SECOND, start), 1.0));
        assert!(near(ramp(Duration::ZERO, Duration::ZERO), 1.0), "no slow start");
    }
}
