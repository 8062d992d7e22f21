//! A model's name where a request spells it.
use std::ops::Range;

/// A model's name and the bytes that spelled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Decoded.
    pub name: String,
    /// As sent: percent-encoded in a path; a JSON string with its quotes in a body; bare in a form.
    pub range: Range<usize>,
}
