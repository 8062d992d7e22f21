//! How long requests of the stable side usually take: what a client who leaves is measured by.
use super::observation::{Ended, Observation};
use super::sketch::Sketch;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A client has waited long after so many times what is usual. Replicas are blamed for timeouts by the same measure.
const LONG: f64 = 8.0;
/// Who leaves earlier than after so many times what is usual did not wait.
const WAITED: f64 = 2.0;
/// The medians are read anew after so many seconds.
const KEPT: f64 = 5.0;

/// The median times of the stable side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Typical {
    first_byte: Sketch,
    latency: Sketch,
    /// Seconds; `None` while too few are known.
    medians: [Option<f64>; 2],
    read_at: f64,
}

impl Typical {
    /// Takes in a request of the stable side that ended well. `at`: seconds.
    pub(super) fn learn(&mut self, seen: &Observation, at: f64) {
        if seen.error || seen.client_error || seen.ended != Ended::Seen {
            return;
        }
        let Some(latency) = seen.latency else { return };
        self.latency.add(latency.as_secs_f64(), at);
        self.first_byte.add(seen.first_byte.unwrap_or(latency).as_secs_f64(), at);
        if self.medians[0].is_none() || at - self.read_at >= KEPT {
            self.medians = [&self.first_byte, &self.latency].map(|sketch| sketch.quantile(0.5));
            self.read_at = at;
        }
    }

    /// Seconds after which a wait for the first byte is a long one; `None`: not known yet.
    pub(super) fn long_silence(&self) -> Option<f64> {
        self.medians[0].map(|median| LONG * median)
    }

    pub(super) fn is_long_silence(&self, waited: Option<Duration>) -> bool {
        let long = self.long_silence();
        long.zip(waited).is_some_and(|(long, waited)| waited.as_secs_f64() >= long)
    }

    /// Has a client who left waited for longer than is usual?
    pub(super) fn has_waited(&self, seen: &Observation) -> bool {
        let median = if seen.first_byte.is_none() { self.medians[0] } else { self.medians[1] };
        let long = median.map(|median| WAITED * median);
        long.zip(seen.latency).is_some_and(|(long, waited)| waited.as_secs_f64() >= long)
    }

    /// Is it long for a whole exchange?
    pub(super) fn is_long(&self, took: Option<Duration>) -> bool {
        let long = self.medians[1].map(|median| LONG * median);
        long.zip(took).is_some_and(|(long, took)| took.as_secs_f64() >= long)
    }
}
