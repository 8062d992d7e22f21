//! The secret that keys the points of a model's sticky keys.
use super::plan::ModelPlan;
use crate::balance::keyed_point;

/// Never shown: whoever knows it can choose keys for the side on which they lie.
#[derive(Clone, PartialEq, Eq)]
pub struct SplitSecret(pub Box<str>);

impl std::fmt::Debug for SplitSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SplitSecret(…)")
    }
}

impl ModelPlan {
    /// Where a sticky key lies in the split, as a fraction of 2⁶⁴.
    pub fn point_of(&self, key: &[u8]) -> u64 {
        keyed_point(self.split_secret.as_ref().map(|secret| &*secret.0), &self.name, key)
    }
}
