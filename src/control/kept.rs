//! How what operators ordered for a while is written in the state: drains, ejections and splits.
use crate::stats::Moment;
use crate::table::{Ends, Held, Hold, Holds, SetSplit, Shares};
use serde::{Deserialize, Serialize};

/// One hold.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Kept {
    Layout1(String, String, Option<String>),
    Layout2 {
        model: String,
        version: String,
        replica: Option<String>,
        until: Option<jiff::Timestamp>,
        reason: Option<String>,
    },
}

/// One split that was set.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptSplit {
    shares: Shares,
    file: Shares,
    who: String,
    since: jiff::Timestamp,
    until: Option<jiff::Timestamp>,
    reason: Option<String>,
}

pub(super) fn kept_split(set: &SetSplit) -> KeptSplit {
    let SetSplit { shares, file, who, since, hold } = set.clone();
    let until = hold.ends.map(|ends| ends.wall);
    KeptSplit { shares, file, who, since, until, reason: hold.reason }
}

/// `now` and `wall` are the same moment.
pub(super) fn set_split(kept: KeptSplit, now: Moment, wall: jiff::Timestamp) -> SetSplit {
    let KeptSplit { shares, file, who, since, until, reason } = kept;
    let ends = until.map(|until| ends(until, now, wall));
    SetSplit { shares, file, who, since, hold: Hold { ends, reason } }
}

fn ends(until: jiff::Timestamp, now: Moment, wall: jiff::Timestamp) -> Ends {
    // What ended while no process ran ends now.
    let left = std::time::Duration::try_from(until.duration_since(wall));
    Ends { at: now + left.unwrap_or_default(), wall: until }
}

pub(super) fn kept(holds: &Holds) -> Vec<Kept> {
    let each = |((model, version, replica), hold): (&Held, &Hold)| Kept::Layout2 {
        model: model.clone(),
        version: version.clone(),
        replica: replica.clone(),
        until: hold.ends.map(|ends| ends.wall),
        reason: hold.reason.clone(),
    };
    holds.0.iter().map(each).collect()
}

/// `now` and `wall` are the same moment.
pub(super) fn held(kept: Vec<Kept>, now: Moment, wall: jiff::Timestamp) -> Holds {
    let each = |kept| match kept {
        Kept::Layout1(model, version, replica) => ((model, version, replica), Hold::default()),
        Kept::Layout2 { model, version, replica, until, reason } => {
            let ends = until.map(|until| ends(until, now, wall));
            ((model, version, replica), Hold { ends, reason })
        }
    };
    Holds(kept.into_iter().map(each).collect())
}
