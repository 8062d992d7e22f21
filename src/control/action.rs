//! What follows from a decision of the control path: what is to be done about it, and in which order.
use crate::canary::Occasion;
use crate::fleet::Replica;
use crate::health::Cause;
use crate::observe::Level;
use crate::table::Held;
use std::sync::Arc;
use std::time::Duration;

/// Something to do that the decision itself did not do.
#[derive(Clone, Debug)]
pub enum Action {
    /// A new generation is to serve.
    Swap,
    /// The table lists it now: its connections are kept.
    Join(Arc<Replica>),
    /// No table lists it any more: its connections close.
    Retire(Arc<Replica>),
    /// Evener ruled so by itself, and tells of it.
    Rule(Ruling),
    Tell(CanaryNews),
    /// What was ordered is done, and is told. `split`: of this model, by which its split moved.
    Confirm {
        kind: &'static str,
        message: String,
        split: Option<String>,
    },
}

impl Action {
    /// The model whose requests are divided otherwise by it.
    pub(super) fn moves(&self) -> Option<&str> {
        match self {
            Self::Rule(Ruling::SplitEnded { model, .. })
            | Self::Confirm { split: Some(model), .. } => Some(model),
            Self::Tell(news) => Some(&news.model),
            Self::Swap | Self::Join(_) | Self::Retire(_) | Self::Rule(_) | Self::Confirm { .. } => {
                None
            }
        }
    }

    /// What a canary does that gives its candidate more.
    pub(super) fn raises(&self) -> Option<&CanaryNews> {
        match self {
            Self::Tell(news) if gives_share(news.occasion) => Some(news),
            Self::Tell(_)
            | Self::Swap
            | Self::Join(_)
            | Self::Retire(_)
            | Self::Rule(_)
            | Self::Confirm { .. } => None,
        }
    }
}

/// Does a candidate get more by it than it had?
const fn gives_share(occasion: Occasion) -> bool {
    match occasion {
        Occasion::Began
        | Occasion::Advanced
        | Occasion::Recovered
        | Occasion::Resumed
        | Occasion::Promoted => true,
        Occasion::RolledBack | Occasion::Failing | Occasion::Paused | Occasion::Undecided => false,
    }
}

/// Something that happened to a canary, for events, log and journal.
#[derive(Clone, Debug)]
pub struct CanaryNews {
    pub model: String,
    pub occasion: Occasion,
    pub sentence: String,
}

/// What was decided about a replica.
#[derive(Clone, Debug)]
pub enum Ruling {
    Ejected {
        replica: Arc<Replica>,
        lasts: Duration,
        evidence: String,
    },
    /// It deserves it, but too many are out already.
    Refused {
        replica: Arc<Replica>,
        why: String,
        evidence: String,
    },
    OnProbation {
        replica: Arc<Replica>,
    },
    FailedProbation {
        replica: Arc<Replica>,
        lasts: Duration,
        cause: Cause,
    },
    /// It failed on probation, but no more may be out.
    Kept {
        replica: Arc<Replica>,
        why: String,
    },
    /// It passed its probation.
    Reinstated {
        replica: Arc<Replica>,
    },
    /// The file says `ejection: false` now.
    Pardoned {
        replica: Arc<Replica>,
    },
    /// A drain for a while is over.
    Undrained {
        held: Held,
    },
    /// A split that an operator set is over.
    SplitEnded {
        model: String,
        why: String,
    },
}

impl Ruling {
    /// The kind of its event.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Undrained { .. } => "drain",
            Self::SplitEnded { .. } => "split",
            Self::Ejected { .. }
            | Self::Refused { .. }
            | Self::OnProbation { .. }
            | Self::FailedProbation { .. }
            | Self::Kept { .. }
            | Self::Reinstated { .. }
            | Self::Pardoned { .. } => "ejection",
        }
    }

    pub const fn level(&self) -> Level {
        match self {
            Self::Ejected { .. }
            | Self::Refused { .. }
            | Self::FailedProbation { .. }
            | Self::Kept { .. } => Level::Warning,
            Self::OnProbation { .. }
            | Self::Reinstated { .. }
            | Self::Pardoned { .. }
            | Self::Undrained { .. }
            | Self::SplitEnded { .. } => Level::Info,
        }
    }
}

impl std::fmt::Display for Ruling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ejected { replica, lasts, evidence } => {
                write!(f, "{} is ejected for {lasts:.1?}: it {evidence}", replica.id)
            }
            Self::Refused { replica, why, evidence } => {
                write!(f, "{} is not ejected, {why}: it {evidence}", replica.id)
            }
            Self::OnProbation { replica } => write!(f, "{} is on probation", replica.id),
            Self::FailedProbation { replica, lasts, cause } => {
                let (id, cause) = (&replica.id, cause.name());
                write!(f, "{id} failed on probation ({cause}), and is ejected for {lasts:.1?}")
            }
            Self::Kept { replica, why } => {
                write!(f, "{} failed on probation, and serves all the same: {why}", replica.id)
            }
            Self::Reinstated { replica } => {
                write!(f, "{} passed its probation and serves again", replica.id)
            }
            Self::Pardoned { replica } => {
                write!(f, "{} serves again: ejection is switched off", replica.id)
            }
            Self::Undrained { held: (model, version, url) } => {
                write!(f, "{model}/{version}")?;
                url.iter().try_for_each(|url| write!(f, "/{url}"))?;
                f.write_str(" serves again: its drain is over")
            }
            Self::SplitEnded { model, why } => {
                write!(f, "the split that was set for `{model}` is over: {why}")
            }
        }
    }
}
