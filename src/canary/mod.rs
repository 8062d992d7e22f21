//! Is a candidate as good as the stable version? What is seen, what it proves, and what follows.
//!
//! Pure: requests and ticks go in with their moment, effects come out. `rollout` is the life of one canary,
//! `proof` what one check knows, `evidence` the statistics under both.
mod account;
mod burst;
mod change;
mod command;
mod evidence;
mod metric;
mod plan;
mod proof;
mod rollout;
mod saved;
mod sentence;
mod sketch;
mod view;
pub mod words;
mod world;

pub use command::{By, Command};
pub use evidence::{Block, Harm, Safe, margin_of_step};
pub use metric::{Arm, Ended, Finding, Metric, Observation};
pub use plan::{
    CanaryPlan, Check, DoWhenUndecided, Judged, Margin, Notify, OnFailure, OnUndecided,
    OutputRules, Start,
};
pub use rollout::{Effect, Ending, Occasion, RollOut, State};
pub use saved::{Snapshot, Unusable};
pub use sketch::Sketch;
pub use view::{CheckView, Count};
pub use world::{Load, World};
