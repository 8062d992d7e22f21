//! A canary as it is written to the journal, and read back after a restart.
use super::plan::{CanaryPlan, Judged};
use super::proof::Proof;
use super::rollout::{Memory, RollOut};
use super::state::{Ending, Stage};
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
            memory: self.memory.to_keep(),
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
        let Snapshot { stable, age, mut memory, .. } = saved;
        let sound = memory.proofs.len() == plan.checks.len()
            && memory.step < plan.steps.len()
            && (0.0..=1.0).contains(&memory.share)
            && age.is_finite()
            && age >= 0.0
            && memory.first < plan.steps.len()
            && memory.returning.is_none_or(|step| step < plan.steps.len())
            && memory.proofs.iter().all(|proof| proof.raw_harm().is_finite());
        if !sound {
            return Err(Unusable::Broken);
        }
        let minute = (age / 60.0) as u16;
        memory.keys.restored_in(minute);
        memory.prefixes.restored_in(minute);
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

impl RollOut {
    /// One that ended long ago, and of which only that is known. `because`: what it says of itself.
    pub fn ended(
        plan: CanaryPlan,
        judged: Judged,
        ending: Ending,
        because: String,
        now: Moment,
    ) -> Self {
        let stable = "the others".to_owned();
        let mut ended = Self::idle(plan, judged, stable, now);
        ended.end(ending, "", now);
        ended.memory.because = because;
        ended
    }

    /// How it ended, if it did.
    pub fn ending(&self) -> Option<Ending> {
        match self.memory.stage {
            Stage::Promoted => Some(Ending::Promoted),
            Stage::RolledBack => Some(Ending::RolledBack),
            Stage::Idle | Stage::Running | Stage::Paused | Stage::Undecided => None,
        }
    }

    /// What it says of itself for good, once it ended.
    pub fn because(&self) -> &str {
        &self.memory.because
    }
}

impl Memory {
    /// What outlives a restart. The tables of keys, clients and prompts are large: of them only keys that failed do.
    fn to_keep(&self) -> Self {
        Self { proofs: self.proofs.iter().map(Proof::to_keep).collect(), ..self.clone() }
    }
}
