//! Is a candidate as good as the stable version? What is seen, what it proves, and what follows.
//!
//! Pure: requests and ticks go in with their moment, effects come out. `rollout` is the life of one canary,
//! `proof` what one check knows, `evidence` the statistics under both.
mod account;
mod amounts;
mod arrivals;
mod blocks;
mod burst;
mod change;
mod clients;
mod command;
mod count;
mod evidence;
mod fading;
mod fall;
mod falls;
mod in_vain;
mod keys;
mod lately;
mod loud;
mod metric;
mod observation;
mod once;
mod output_rules;
mod plan;
mod prefixes;
mod proof;
mod replicas;
mod rollout;
mod safe;
mod saved;
mod seen;
mod sentence;
mod sketch;
mod spare;
mod spread;
mod state;
mod steps;
mod typical;
mod usual;
mod view;
mod waiting;
mod witness;
pub mod words;
mod world;

pub use clients::{client_of_address, client_of_key};
pub use command::{By, Command};
pub use count::Count;
pub use evidence::{Block, Harm};
pub use loud::Whose;
pub use metric::Metric;
pub use observation::{Arm, Ended, Finding, Observation, Open};
pub use output_rules::OutputRules;
pub use plan::{
    CanaryPlan, Check, DoWhenUndecided, Judged, Margin, Notify, OnFailure, OnUndecided, Start,
};
pub use rollout::RollOut;
pub use safe::{Safe, margin_of_step};
pub use saved::{Snapshot, Unusable};
pub use sketch::Sketch;
pub use state::{Effect, Ending, Occasion, State};
pub use view::CheckView;
pub use world::{Load, World};
