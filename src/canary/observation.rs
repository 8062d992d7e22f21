//! What one request came to, and what one that is still open has come to so far.
use crate::stats::Moment;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The side that served a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arm {
    Candidate,
    Stable,
}

/// What one first attempt of a request came to, whose version was drawn or follows from its sticky key.
/// Pinned and repeated requests are none: nothing is learned from what was chosen for another reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    pub arm: Arm,
    /// When its version was chosen: what began before a canary did, or in its warm-up, does not speak of it.
    pub began: Moment,
    pub ended: Ended,
    /// Of [`Open`], where it was open for so long that it was reported; 0: it has none.
    pub id: u64,
    /// The sticky key that chose its side, as a hash. `None`: the request itself was drawn.
    pub key: Option<u64>,
    /// Its API key, or its address: see [`client_of_key`](super::client_of_key) and
    /// [`client_of_address`](super::client_of_address). `None`: unknown, and taken for a client of its own.
    pub client: Option<u64>,
    /// Any number that tells the replicas of this process apart; 0: unknown.
    pub replica: u64,
    /// Requests that its replica had already, by weight: of one that may carry twice what the lightest does, half of them.
    pub beside: u32,
    pub error: bool,
    pub client_error: bool,
    /// `None`: not looked at.
    pub bad_output: Option<Finding>,
    /// From its start to its end, or to the moment at which nobody waited any more.
    pub latency: Option<Duration>,
    pub first_byte: Option<Duration>,
    /// The longest silence of a stream after its first byte.
    pub chunk_gap: Option<Duration>,
    /// Tokens a second of a stream after its first byte.
    pub tokens_per_second: Option<f32>,
    pub tokens: Option<u32>,
    /// The beginning of its conversation, as a hash.
    pub prefix: Option<u64>,
    /// The part of its prompt that the replica had in its prefix cache, as the answer says: 0 to 1.
    pub cached: Option<f32>,
}

impl Observation {
    /// One of which only this is known.
    pub const fn of(arm: Arm, error: bool, began: Moment) -> Self {
        Self {
            arm,
            began,
            ended: Ended::Seen,
            id: 0,
            key: None,
            client: None,
            replica: 0,
            beside: 0,
            error,
            client_error: false,
            bad_output: None,
            latency: None,
            first_byte: None,
            chunk_gap: None,
            tokens_per_second: None,
            tokens: None,
            prefix: None,
            cached: None,
        }
    }
}

/// Did anybody wait for its end? If not, its times are what was waited, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    Seen,
    /// Its client left, or its own deadline was over.
    Cancelled,
    /// A hedge was faster.
    Outrun,
}

/// A request that is not over yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open {
    /// Never 0, and of no other request of this process.
    pub id: u64,
    pub arm: Arm,
    pub began: Moment,
    pub key: Option<u64>,
    pub client: Option<u64>,
    pub replica: u64,
    pub beside: u32,
    pub prefix: Option<u64>,
    /// `None`: nothing has come yet.
    pub first_byte: Option<Duration>,
    /// For so long, at least, a stream has said nothing since its last piece.
    pub silent: Option<Duration>,
}

impl Open {
    /// What it has come to so far, as an observation without an end.
    pub(super) fn so_far(&self, now: Moment) -> Observation {
        Observation {
            ended: Ended::Cancelled,
            id: self.id,
            key: self.key,
            client: self.client,
            replica: self.replica,
            beside: self.beside,
            latency: Some(now.since(self.began)),
            first_byte: self.first_byte,
            chunk_gap: self.silent.filter(|_| self.first_byte.is_some()),
            prefix: self.prefix,
            ..Observation::of(self.arm, false, self.began)
        }
    }
}

/// What a look at an answer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Finding {
    Good,
    Truncated,
    Empty,
    JsonInvalid,
    /// A JSON pointer does not lead to what it should.
    Unexpected,
    /// Its text has in it what it must not.
    Matches,
    /// It reports an error, whatever its status.
    Reported,
    /// It has none of the shapes that answers to such a request have.
    Shapeless,
}

impl Finding {
    /// The bad ones, in the order of their counts.
    pub(super) const BAD: [Self; 7] = [
        Self::Truncated,
        Self::Empty,
        Self::JsonInvalid,
        Self::Unexpected,
        Self::Matches,
        Self::Reported,
        Self::Shapeless,
    ];

    /// In sentences: "3 empty".
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::JsonInvalid => "with broken JSON",
            Self::Unexpected => "with unexpected JSON",
            Self::Matches => "with the pattern",
            Self::Reported => "with an error inside",
            Self::Shapeless => "that are no answer of a model",
        }
    }
}
