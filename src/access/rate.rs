//! The minimum rate of a request body: a client that sends too slowly holds memory and a connection for nothing.
use std::num::NonZeroU64;
use std::time::Duration;

/// A body may take so long before its rate counts.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate(NonZeroU64);

impl MinRate {
    /// `None` for 0, which is no minimum.
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_second).map(Self)
    }

    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// How long a client that sent `bytes` may have been waited for, all waits together. Each byte buys time, as with
    /// `MinRate` of Apache's `mod_reqtimeout`.
    pub fn allows(self, bytes: u64) -> Duration {
        // No body is so long that its milliseconds overflow.
        GRACE + Duration::from_millis(bytes.saturating_mul(1000) / self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_buys_time_beyond_the_grace() {
        let rate = MinRate::new(1024).unwrap();
        assert_eq!(rate.allows(0), Duration::from_secs(10));
        assert_eq!(rate.allows(512), Duration::from_millis(10_500));
        assert_eq!(rate.allows(10 * 1024), Duration::from_secs(20));
        assert!(rate.allows(u64::MAX) > Duration::from_hours(1));
        assert_eq!(MinRate::new(0), None);
    }
}
