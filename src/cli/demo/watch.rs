//! The line of numbers that appears each second.
use super::counts::Counts;
use super::stage::{MODEL, Stage};
use super::traffic::Traffic;
use super::voice::Voice;
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::Current;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Sees what the table counts and what the clients saw.
#[derive(Debug)]
pub(super) struct Watch {
    current: Current,
    clock: MonotonicClock,
    traffic: Arc<Traffic>,
    began: Moment,
}

impl Watch {
    pub(super) fn new(stage: &Stage, traffic: Arc<Traffic>) -> Self {
        let proxy = &stage.started.proxy;
        let (current, clock) = (Arc::clone(&proxy.current), proxy.clock);
        Self { current, clock, traffic, began: stage.now() }
    }

    /// A line each second, for as long as somebody reads them.
    pub(super) async fn murmur(self, voice: Voice) -> io::Error {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        second.tick().await;
        let mut counts = self.counts();
        let mut seen = self.traffic.seen();
        let mut at = self.clock.now();
        loop {
            second.tick().await;
            let (counts_now, seen_now, now) =
                (self.counts(), self.traffic.seen(), self.clock.now());
            let ended = (seen_now.answered + seen_now.failed) - (seen.answered + seen.failed);
            let line = line(&Second {
                elapsed: now.since(self.began),
                rate: ended as f64 / now.since(at).as_secs_f64(),
                failed: seen_now.failed - seen.failed,
                percentiles: self.traffic.take_percentiles(),
                counts: counts_now.since(&counts),
            });
            if let Err(error) = voice.murmur(line) {
                return error;
            }
            (counts, seen, at) = (counts_now, seen_now, now);
        }
    }

    fn counts(&self) -> Counts {
        Counts::read(&self.current.load(), MODEL)
    }
}

struct Second {
    elapsed: Duration,
    rate: f64,
    failed: u64,
    percentiles: Option<(f64, f64)>,
    counts: Counts,
}

fn line(second: &Second) -> String {
    let Second { elapsed, rate, failed, percentiles, counts } = second;
    let shares = counts.0.iter().map(|v| (counts.share(&v.name) * 100.0).round().to_string());
    let in_flight = counts.0.iter().map(|version| {
        let each = version.replicas.iter().map(|replica| replica.in_flight.to_string());
        format!("{} {}", version.name, each.collect::<Vec<_>>().join(" "))
    });
    let (names, shares): (Vec<_>, Vec<_>) =
        (counts.0.iter().map(|v| v.name.as_str()).collect(), shares.collect());
    let times = percentiles.map_or_else(
        || "no answers".to_owned(),
        |(p50, p99)| format!("p50 {p50:.0} ms  p99 {p99:.0} ms"),
    );
    format!(
        "{:>4} s  {rate:>3.0} req/s  {failed} failed  {} {}  {times}  in flight {}",
        elapsed.as_secs(),
        names.join("/"),
        shares.join("/"),
        in_flight.collect::<Vec<_>>().join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::super::counts::{ReplicaCounts, VersionCounts};
    use super::*;

    #[test]
    fn a_second_is_one_line() {
        let version = |name: &str, served, in_flight| VersionCounts {
            name: name.to_owned(),
            served,
            replicas: vec![ReplicaCounts { in_flight, ..ReplicaCounts::default() }; 2],
        };
        let counts = Counts(vec![version("v1", 91, 3), version("v2", 9, 0)]);
        let elapsed = Duration::from_millis(7_400);
        let percentiles = Some((61.7, 340.2));
        let second = Second { elapsed, rate: 99.6, failed: 2, percentiles, counts };
        assert_eq!(
            line(&second),
            "   7 s  100 req/s  2 failed  v1/v2 91/9  p50 62 ms  p99 340 ms  in flight v1 3 3, v2 0 0"
        );
    }
}
