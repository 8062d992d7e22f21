//! The key `mirror`: how much is copied, where to, and what counts as the same answer.
use std::time::Duration;

/// Copying a share of a model's requests to another of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorPlan {
    /// The version that gets the copies.
    pub to: String,
    /// Of the requests, 0 to 100.
    pub percent: f64,
    /// Of [`Facet::WORDS`], in this order.
    pub compare: Vec<Facet>,
    /// How far two numbers may be apart: absolutely when both are below 1, else in proportion.
    pub tolerance: f64,
    /// Copies that run at once; a further one is not made.
    pub concurrency: u32,
    /// For a whole copy.
    pub timeout: Duration,
    /// Pairs of answers that are kept for the report, those that differ most.
    pub keep_worst: usize,
    /// Dotted paths of JSON fields that are not kept.
    pub redact: Vec<String>,
}

/// On what terms two answers were compared: what was found on other ones does not count together.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    to: String,
    /// What `to` is called at its replicas: another name is another model.
    upstream_model: Option<String>,
    compare: Vec<Facet>,
    tolerance: f64,
}

impl MirrorPlan {
    /// `upstream_model`: that of the version `to`.
    pub fn terms(&self, upstream_model: Option<&str>) -> Terms {
        Terms {
            to: self.to.clone(),
            upstream_model: upstream_model.map(str::to_owned),
            compare: self.compare.clone(),
            tolerance: self.tolerance,
        }
    }
}

/// One thing in which two answers agree or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Facet {
    Status,
    JsonShape,
    Numeric,
    TextSimilarity,
    /// The label or the class with the highest score; judged along with [`Self::Numeric`].
    Label,
}

impl Facet {
    pub const ALL: [Self; 5] =
        [Self::Status, Self::JsonShape, Self::Numeric, Self::TextSimilarity, Self::Label];

    /// The words of `mirror.compare`.
    pub const WORDS: [&'static str; 4] = ["status", "json_shape", "numeric", "text_similarity"];

    /// From a word of [`Self::WORDS`].
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|facet| facet.word() == word && *facet != Self::Label)
    }

    /// In the file and in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::JsonShape => "json_shape",
            Self::Numeric => "numeric",
            Self::TextSimilarity => "text_similarity",
            Self::Label => "label",
        }
    }
}
