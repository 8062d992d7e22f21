//! Replicas that are all alike, in bursts and timeouts that they share.
use super::*;

/// Its last failures of a burst end while its peers answer what began after it.
#[test]
fn late_failures_of_a_shared_burst_convict_nobody() {
    let mut pool = Pool::of(10);
    let at = Moment::from_millis;
    for step in 0..20 {
        (0..10).for_each(|i| pool.end(i, FAILED, at(step * 50)));
    }
    for step in 0..20 {
        (1..10).for_each(|i| pool.end(i, FAILED, at(1_000 + step * 50)));
    }
    for step in 0..20 {
        let now = at(2_000 + step * 50);
        for i in 1..10 {
            pool.end(i, None, now);
            pool.end(i, None, now);
        }
        pool.end_of(0, FAILED, at(1_000 + step * 50), now);
        assert_eq!(pool.conviction(0), None, "{step}");
    }
}

/// It is asked in the bursts alone, where three in ten fail everywhere; its peers are asked all the time.
#[test]
fn one_that_is_asked_in_shared_bursts_alone_is_not_convicted() {
    let mut pool = Pool::of(3);
    for second in 0..600_u64 {
        let now = Moment::from_millis(second * 1_000);
        let bursts = second % 60 < 5;
        for request in 0..40 {
            let failure = if bursts && request % 10 < 3 { FAILED } else { None };
            pool.end(1 + request % 2, failure, now);
        }
        for request in 0..if bursts { 10 } else { 0 } {
            pool.end(0, if request % 10 < 3 { FAILED } else { None }, now);
            assert_eq!(pool.conviction(0), None, "{second} s");
        }
        // What fades by the tick.
        let keeps = Faded::keeps(Duration::from_secs(1));
        let left: Vec<_> =
            pool.members.iter_mut().map(|m| m.fade(keeps, &pool.counts, now)).collect();
        pool.counts.recent = Faded {
            requests: left.iter().map(|left| left.requests).sum(),
            failures: left.iter().map(|left| left.failures).sum(),
        };
    }
}

/// Where some requests time out everywhere, those of one replica may end one after the other, while it is not asked.
#[test]
fn good_answers_to_requests_that_began_among_those_that_time_out_count() {
    let mut pool = Pool::of(3);
    let at = Moment::from_millis;
    pool.counts.recent = Faded { requests: 1_000.0, failures: 70.0 };
    for request in 1..=24 {
        pool.end(0, None, at(request * 40));
        (0..20).for_each(|i| pool.end(1 + i % 2, None, at(request * 40)));
    }
    for request in 0..11 {
        pool.end_of(0, Some(Cause::Timeout), at(request * 40), at(1_000 + request * 40));
        assert_eq!(pool.conviction(0), None, "{request}");
    }
}

/// All fail from late in one second until late in another. By the second, peers look as if they had failed a quarter
/// of the first one.
#[test]
fn an_outage_that_begins_late_in_a_second_convicts_nobody() {
    let mut pool = Pool::of(10);
    let at = Moment::from_millis;
    for now in (0..6_000).step_by(50) {
        let out = (750..4_800).contains(&now);
        let failure = if out { FAILED } else { None };
        (1..10).for_each(|i| pool.end(i, failure, at(now)));
        // Two more of its own fail by chance, while it is asked no more than that.
        if now < 4_800 || now == 5_300 || now == 5_900 {
            pool.end(0, if now < 750 { None } else { FAILED }, at(now));
        }
        assert_eq!(pool.conviction(0), None, "{now} ms");
    }
}

/// What is sent to it in half a second is more than the last successes that are kept.
#[test]
fn good_answers_among_timeouts_count_however_many_they_are() {
    let mut pool = Pool::of(10);
    let at = Moment::from_millis;
    pool.counts.recent = Faded { requests: 1_000.0, failures: 70.0 };
    for request in 0..400 {
        pool.end(1 + request % 9, None, at(2_000 + request as u64));
    }
    // Seven in eight are answered at once, and one times out after a second.
    for request in 0..160 {
        if request % 8 != 0 {
            pool.end(0, None, at(2_000 + request * 3));
        }
    }
    for request in (0..160).step_by(8) {
        let began = 2_000 + request * 3;
        (1..10).for_each(|i| (0..4).for_each(|_| pool.end(i, None, at(1_000 + began))));
        pool.end_of(0, Some(Cause::Timeout), at(began), at(1_000 + began));
        assert_eq!(pool.conviction(0), None, "{request}");
    }
}
