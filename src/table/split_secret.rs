//! The secret that keys the points of a model's sticky keys.
/// Never shown: whoever knows it can choose keys for the side on which they lie.
#[derive(Clone, PartialEq, Eq)]
pub struct SplitSecret(pub Box<str>);

impl std::fmt::Debug for SplitSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SplitSecret(…)")
    }
}
