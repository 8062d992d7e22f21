//! What makes an answer bad.
use serde::{Deserialize, Serialize};

/// What makes an answer bad; any rule that is met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent rules, not states")]
pub struct OutputRules {
    /// Nothing was said: it has no text, and none of the shapes of an answer, or reports an error.
    pub empty: bool,
    /// The body, or what the model was asked to write as JSON, is none.
    pub json_invalid: bool,
    /// It ended at its length limit, or a stream without its end.
    pub truncated: bool,
    /// A regular expression that a good answer does not meet.
    pub matches: Option<String>,
    /// A pointer into the answer, with the value that is expected there.
    pub json: Vec<(String, String)>,
    /// Of the usual checks: passed over while no answer of either side can be read. One that was asked for is waited for.
    pub optional: bool,
}

impl OutputRules {
    pub fn usual() -> Self {
        Self { empty: true, json_invalid: true, truncated: true, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
