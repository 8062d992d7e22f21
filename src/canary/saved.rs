//! A canary as it is written to the journal, and read back after a restart.
use super::plan::{CanaryPlan, Judged};
use super::rollout::{Memory, RollOut};
use super::view::weights;
use crate::stats::Moment;
use serde::{Deserialize, Serialize};

/// Of the format. A journal of another one is not read: evidence misread would be worse than none.
const VERSION: u32 = 3;

/// All that a canary is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    plan: CanaryPlan,
    judged: Judged,
    stable: String,
    /// Seconds since it began.
    age: f64,
    memory: Memory,
}

/// Why a snapshot is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("the journal has another format, of a newer or older Evener")]
    Version,
    #[error("the canary was changed in the file")]
    Changed,
    #[error("the journal contradicts itself")]
    Broken,
}

impl RollOut {
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        Snapshot {
            version: VERSION,
            plan: self.plan.deciding(),
            judged: self.judged.clone(),
            stable: self.stable.clone(),
            age: self.age(now),
            memory: self.memory.clone(),
        }
    }

    /// Goes on where the snapshot was taken, if the file still asks for the same.
    pub fn restore(
        saved: Snapshot,
        plan: CanaryPlan,
        judged: &Judged,
        now: Moment,
    ) -> Result<Self, Unusable> {
        if saved.version != VERSION {
            return Err(Unusable::Version);
        }
        if saved.plan != plan.deciding() || saved.judged != *judged {
            return Err(Unusable::Changed);
        }
        let Snapshot { stable, age, memory, .. } = saved;
        let sound = memory.proofs.len() == plan.checks.len()
            && memory.step < plan.steps.len()
            && (0.0..=1.0).contains(&memory.share)
            && age.is_finite()
            && age >= 0.0
            && memory.proofs.iter().all(|proof| proof.harm().is_finite());
        if !sound {
            return Err(Unusable::Broken);
        }
        let weights = weights(&plan.checks);
        Ok(Self { weights, plan, judged: judged.clone(), stable, epoch: now, before: age, memory })
    }
}

impl Snapshot {
    /// What the verdict in it is about.
    pub fn judged(&self) -> &Judged {
        &self.judged
    }
}
