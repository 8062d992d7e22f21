//! How long a request may take.
use super::Refusal;
use crate::dialect::RefusalCode;
use crate::stats::Moment;
use crate::table::Timeouts;
use std::time::Duration;

/// When a request has to be done. The file says how long any may take, and its client may give it less.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When its first byte came.
    pub began: Moment,
    /// What its client gives the whole exchange, counted from then.
    pub own: Option<Duration>,
}

impl Deadline {
    /// What is left of the time for the whole exchange. `converses`: it lasts as long as both sides like, so that what the
    /// file limits is each silence.
    pub fn left(&self, timeouts: &Timeouts, converses: bool, now: Moment) -> Duration {
        if converses && self.own.is_none() {
            return timeouts.tunnel;
        }
        self.at_most(timeouts.total).saturating_sub(now.since(self.began))
    }

    /// The shorter of this limit and the client's own.
    pub fn at_most(&self, limit: Duration) -> Duration {
        self.own.map_or(limit, |own| own.min(limit))
    }

    /// Does the client give it less time than the file does?
    pub fn is_of_client(&self, timeouts: &Timeouts) -> bool {
        self.own.is_some_and(|own| own < timeouts.total)
    }

    /// The time for the whole exchange, in words: the client is told its own where that is shorter.
    pub fn given(&self, timeouts: &Timeouts) -> String {
        match self.own.filter(|_| self.is_of_client(timeouts)) {
            Some(own) => format!("{own:?}, the deadline that came with the request"),
            None => format!("{:?}", timeouts.total),
        }
    }

    /// The whole exchange took too long, and no replica is to blame.
    pub fn passed(&self, timeouts: &Timeouts) -> Refusal {
        let message = format!("the request was not done within {}", self.given(timeouts));
        Refusal::new(RefusalCode::TotalTimeout, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_millis(1000);
    const NOW: Moment = Moment::from_millis(4000);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_shorter_limit_counts_from_the_first_byte() {
        let timeouts = Timeouts { total: secs(10), tunnel: secs(60), ..Timeouts::default() };
        let of = |own| Deadline { began: START, own };
        assert_eq!(of(None).left(&timeouts, false, NOW), secs(7));
        assert_eq!(of(Some(secs(5))).left(&timeouts, false, NOW), secs(2));
        assert_eq!(of(Some(secs(2))).left(&timeouts, false, NOW), Duration::ZERO);
        assert_eq!(of(Some(secs(50))).left(&timeouts, false, NOW), secs(7));
        // A conversation has no end of its own, but for its client's.
        assert_eq!(of(None).left(&timeouts, true, NOW), secs(60));
        assert_eq!(of(Some(secs(5))).left(&timeouts, true, NOW), secs(2));
    }

    #[test]
    fn a_client_is_told_its_own_limit_where_that_was_the_shorter() {
        let timeouts = Timeouts { total: secs(10), ..Timeouts::default() };
        let of = |own| Deadline { began: START, own };
        let told = |own| of(own).passed(&timeouts).message;
        assert_eq!(told(None), "the request was not done within 10s");
        assert_eq!(told(Some(secs(20))), told(None));
        let own = "the request was not done within 5s, the deadline that came with the request";
        assert_eq!(told(Some(secs(5))), own);
        assert!(of(Some(secs(5))).is_of_client(&timeouts));
        assert!(!of(Some(secs(10))).is_of_client(&timeouts));
    }
}
