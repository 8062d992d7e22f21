//! The names of what a canary is, does and tells.
use serde::{Deserialize, Serialize};

/// What a canary is, for the API and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Idle,
    Collecting,
    Passing,
    Failing,
    Paused,
    Promoted,
    RolledBack,
    Undecided,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Collecting,
        Self::Passing,
        Self::Failing,
        Self::Paused,
        Self::Promoted,
        Self::RolledBack,
        Self::Undecided,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Collecting => "collecting",
            Self::Passing => "passing",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Undecided => "undecided",
        }
    }
}

/// What is remembered of the state; the rest follows from the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    Idle,
    Running,
    Paused,
    Undecided,
    Promoted,
    RolledBack,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Give the candidate this fraction of the requests; the others keep their proportions.
    SetShare(f64),
    /// The canary is over.
    Finished(Ending),
    /// Tell: log, events, webhook.
    Announce { occasion: Occasion, sentence: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ending {
    Promoted,
    RolledBack,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Occasion {
    Began,
    Advanced,
    Failing,
    Recovered,
    Paused,
    Resumed,
    Undecided,
    Promoted,
    RolledBack,
}

impl Occasion {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Began => "canary_began",
            Self::Advanced => "canary_advanced",
            Self::Failing => "canary_failing",
            Self::Recovered => "canary_recovered",
            Self::Paused => "canary_paused",
            Self::Resumed => "canary_resumed",
            Self::Undecided => "canary_undecided",
            Self::Promoted => "canary_promoted",
            Self::RolledBack => "canary_rolled_back",
        }
    }
}
