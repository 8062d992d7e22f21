//! Does another version answer the same? Copies of requests go to it, and its answers are compared.
mod agreement;
mod compare;
mod numbers;
mod pairs;
mod plan;
mod shape;
#[cfg(test)]
mod tests;
mod words;

pub use agreement::{Agreement, Rate, Report};
pub use compare::{Answer, CompareSpec, Comparison, compare};
pub use pairs::{Pair, Redaction, ShownPair, WorstPairs};
pub use plan::{Facet, MirrorPlan, Terms};
