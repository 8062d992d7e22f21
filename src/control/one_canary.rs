//! One canary: what it goes on under, what is kept of it, and how it is taken up again.
use super::canary_shares::{judged_of, split_with};
use crate::canary::{CanaryPlan, Ending, RollOut, Unusable};
use crate::stats::Moment;
use crate::table::{Ended, KeptCanary, ModelPlan, is_split_of};

/// A canary, and the file's split that it began with: another one begins it anew.
#[derive(Debug)]
pub(super) struct Canary {
    pub(super) rollout: RollOut,
    pub(super) split: Vec<(String, f64)>,
    /// The shares of the others are in proportion to these: the file's, or those of who was promoted before.
    pub(super) base: Vec<(String, f64)>,
}

impl Canary {
    /// Does it move the shares by itself?
    pub(super) fn is_running(&self) -> bool {
        self.rollout.is_running()
    }

    /// Was its candidate promoted under the split that the file still has? Then it keeps its share, whatever else in the
    /// file is edited.
    pub(super) fn keeps(&self, plan: &ModelPlan) -> bool {
        let candidate = &self.rollout.judged().candidate;
        self.rollout.ending() == Some(Ending::Promoted)
            && !self.rollout.plan().aa
            && is_split_of(&self.split, plan)
            && plan.versions.iter().any(|version| version.name == *candidate)
    }

    /// Does it go on under this plan?
    pub(super) fn goes_on(&self, plan: &ModelPlan) -> bool {
        let candidate = &self.rollout.judged().candidate;
        let Some(canary) = &plan.canary else { return self.keeps(plan) };
        let same = self.split == plan.split_by_name()
            && *self.rollout.judged() == judged_of(plan, &canary.candidate)
            && self.rollout.plan().deciding() == canary.deciding();
        same || (*candidate == canary.candidate && self.keeps(plan))
    }

    pub(super) fn to_keep(&self, now: Moment) -> KeptCanary {
        let ended = self.rollout.ending().map(|ending| Ended {
            ending,
            judged: self.rollout.judged().clone(),
            because: self.rollout.because().to_owned(),
        });
        let base = (self.base != self.split).then(|| self.base.clone());
        let snapshot = Some(self.rollout.snapshot(now));
        KeptCanary { split: self.split.clone(), base, ended, snapshot }
    }

    /// Those of all versions, with its candidate's. `None`: it moves nothing.
    pub(super) fn shares(&self) -> Option<Vec<(String, f64)>> {
        let live = split_with(&self.rollout, &self.base)?;
        let names = self.base.iter().map(|(version, _)| version.clone());
        Some(names.map(|name| (name.clone(), live.get(&name).copied().unwrap_or(0.0))).collect())
    }
}

/// What the last process left of a model's canary; `None`: the file was edited since. `Err`: why it cannot be used.
pub(super) fn restored(
    saved: KeptCanary,
    plan: &ModelPlan,
    now: Moment,
) -> Result<Option<Canary>, String> {
    let KeptCanary { split, base, ended, snapshot } = saved;
    if !is_split_of(&split, plan) {
        return Ok(None);
    }
    let base = base.unwrap_or_else(|| split.clone());
    let mut unusable = None;
    if let (Some(snapshot), Some(canary)) = (snapshot, &plan.canary) {
        let judged = judged_of(plan, &canary.candidate);
        match RollOut::restore(snapshot, canary.clone(), &judged, now) {
            Ok(rollout) if split == plan.split_by_name() => {
                return Ok(Some(Canary { rollout, split, base }));
            }
            // An edit wins.
            Ok(_) | Err(Unusable::Changed) => {}
            Err(why @ (Unusable::Version | Unusable::Broken)) => unusable = Some(why.to_string()),
        }
    }
    // A verdict outlives what it was made of.
    let Some(Ended { ending, judged, because }) = ended else {
        return unusable.map_or(Ok(None), Err);
    };
    let same = plan.canary.as_ref().filter(|canary| canary.candidate == judged.candidate);
    let known = CanaryPlan { candidate: judged.candidate.clone(), ..CanaryPlan::default() };
    let canary = same.cloned().unwrap_or(known);
    let unread = unusable.is_some() || ending == Ending::Promoted;
    let rollout = RollOut::ended(canary, judged, ending, because, now);
    Ok(unread.then_some(Canary { rollout, split, base }))
}
