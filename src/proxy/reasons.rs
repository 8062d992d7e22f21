//! Why a request went where it went: how it was assigned, and what its attempts found.
use crate::balance::fraction;
use crate::observe::{Assignment, Interest};
use crate::stats::Moment;
use crate::table::{Candidate, Model, RouteUsed, Share};
use std::sync::Arc;

/// How a request was assigned, and what its attempts found.
#[derive(Debug)]
pub(super) struct Reasons {
    /// `None`: only its client asks, by a header.
    pub(super) interest: Option<Interest>,
    pub(super) generation: u64,
    pub(super) route: Option<RouteUsed>,
    /// The entry of `hash_on` whose key it brought.
    pub(super) key: Option<String>,
    pub(super) point: u64,
    pub(super) pinned: bool,
    pub(super) model: Arc<Model>,
    pub(super) picks: Vec<Pick>,
}

#[derive(Debug)]
pub(super) struct Pick {
    pub(super) began: Moment,
    pub(super) candidates: Vec<Candidate>,
}

impl Reasons {
    fn owner(&self) -> &str {
        &self.model.versions[self.model.segments.version(self.point)].name
    }

    pub(super) fn assignment(&self) -> Assignment {
        Assignment {
            generation: self.generation,
            route: self.route.clone(),
            key: self.key.clone(),
            hash: format!("{:#018x}", self.point),
            point: fraction(self.point),
            segment: self.model.segments.segment(self.point),
            owner: self.owner().to_owned(),
            pinned: self.pinned,
            shares: Share::all_of(&self.model),
            balance: self.model.plan.balance.name().to_owned(),
        }
    }

    pub(super) fn candidates(&self, began: Moment) -> &[Candidate] {
        let pick = self.picks.iter().find(|pick| pick.began == began);
        pick.map_or(&[], |pick| &pick.candidates)
    }

    /// In a few words of ASCII, for a header: `point=0.4213 key=header:x-user-id owner=v1 least_load=0.25 of=3`.
    pub(super) fn in_brief(&self, replica: Option<&str>) -> String {
        let point = format!("point={:.4}", fraction(self.point));
        let key = self.key.as_ref().map(|key| format!("key={key}"));
        let owner = format!("owner={}", self.owner());
        let pinned = self.pinned.then(|| "pinned".to_owned());
        let balance = self.model.plan.balance.name();
        let picked = self.picks.last().map(|pick| {
            let picked = pick.candidates.iter().find(|c| Some(&*c.url) == replica);
            let score = picked.and_then(|candidate| candidate.score);
            let score = score.map(|score| format!("={score:.4}")).unwrap_or_default();
            let usable = pick.candidates.iter().filter(|c| c.usable).count();
            format!("{balance}{score} of={usable}")
        });
        let parts = [Some(point), key, Some(owner), pinned, picked];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}
