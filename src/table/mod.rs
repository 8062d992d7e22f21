//! One immutable generation of routing: the checked plan, and the table built from it.
mod access;
mod asked_path;
mod assign;
mod build;
mod certificates;
mod changes;
mod choices;
mod generation;
mod holds;
mod jwt;
mod kept_canary;
mod key_plan;
mod model;
mod none_left;
mod pattern;
mod place;
mod plan;
mod reshare;
mod route;
mod route_plan;
mod set_split;
mod split_secret;
mod told;
mod wish;

pub use access::{Access, Key, Stranger};
pub use asked_path::AskedPath;
pub use assign::{Choice, Prospect, Way};
pub use build::{KeptWebhook, Overrides};
pub use changes::Changes;
pub use choices::{Answers, KeySource, Kind};
pub use generation::{Current, Table};
pub use holds::{Ends, Held, Hold, Holds};
pub use jwt::{Jwt, Sight};
pub use kept_canary::{Ended, KeptCanary, is_split_of};
pub use key_plan::{JwtPlan, KeyPlan, Limits};
pub use model::{Member, Model, PoolView, Reach, Tier, Version};
pub use none_left::why_none;
pub use place::host_and_ip;
pub use plan::*;
pub use route::{Asked, Routed, Unrouted};
pub use route_plan::{NameSource, PathPattern, PathSegment, RoutePlan, RouteTarget};
pub use set_split::{
    SetSplit, Shares, in_percent, shares_in_file, shares_in_words, shares_of_percents,
};
pub use split_secret::SplitSecret;
pub use told::{Candidate, RouteUsed, Share, Telling};
pub use wish::{NoVersion, Wish};
