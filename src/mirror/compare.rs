//! Compares two answers to one request, facet by facet.
use super::numbers::{self, Gap};
use super::plan::Facet;
use super::shape::Shape;
use super::words;
use crate::dialect::{AnswerFormat, Dialect, OutputForm, answer_text, event_values};
use serde_json::Value;

/// Answers whose words overlap by at least this F1 say the same.
const ALIKE: f64 = 0.7;

/// One answer, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    pub form: OutputForm,
    pub body: &'a [u8],
}

/// What is compared, and how closely.
#[derive(Clone, Copy, Debug)]
pub struct CompareSpec<'a> {
    /// Of the request.
    pub dialect: Dialect,
    pub facets: &'a [Facet],
    pub tolerance: f64,
}

/// In what two answers agree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Only what both answers have: two texts have no numbers to compare.
    pub by: Vec<(Facet, bool)>,
    /// How far apart they are: facets that differ, and a fraction for how much.
    pub distance: f64,
    /// Where the first difference is, without what is there: it may be secret.
    pub difference: Option<String>,
}

impl Comparison {
    /// `None`: nothing could be compared.
    pub fn agrees(&self) -> Option<bool> {
        (!self.by.is_empty()).then(|| self.by.iter().all(|(_, same)| *same))
    }

    fn judge(&mut self, facet: Facet, same: bool, how_far: f64, place: impl FnOnce() -> String) {
        self.by.push((facet, same));
        if !same {
            self.distance += 1.0 + how_far.clamp(0.0, 1.0) / 10.0;
            self.difference.get_or_insert_with(place);
        }
    }
}

/// Compares an answer of the stable version with the candidate's to a copy of the same request. The order of the
/// two does not matter. What differs between any two answers (ids, times, `usage`, names of models) is ignored.
pub fn compare(stable: &Answer<'_>, candidate: &Answer<'_>, spec: &CompareSpec<'_>) -> Comparison {
    let mut found = Comparison::default();
    let wanted = |facet| spec.facets.contains(&facet);
    if wanted(Facet::Status) {
        let same = stable.status == candidate.status;
        found.judge(Facet::Status, same, 1.0, || "the statuses differ".to_owned());
    }
    // Of bodies that cannot be read is known only whether they are the same.
    let opaque = [stable, candidate].iter().any(|answer| answer.form == OutputForm::Opaque);
    let unknown = opaque && stable.body != candidate.body && spec.facets != [Facet::Status];
    if unknown && found.agrees() == Some(true) {
        return Comparison::default();
    }
    let (left, right) = (Content::of(stable, spec.dialect), Content::of(candidate, spec.dialect));
    if wanted(Facet::JsonShape)
        && let Some((same, place)) = same_shape(&left, &right)
    {
        found.judge(Facet::JsonShape, same, 1.0, || place);
    }
    if wanted(Facet::Numeric)
        && let (Content::Json(left), Content::Json(right)) = (&left, &right)
    {
        let gap = numbers::gap(left, right, spec.tolerance);
        found.numeric(&gap);
    }
    if wanted(Facet::TextSimilarity) {
        let left = left.text(stable, spec.dialect);
        let right = right.text(candidate, spec.dialect);
        if left.is_some() || right.is_some() {
            let alike = words::similarity(&left.unwrap_or_default(), &right.unwrap_or_default());
            let place = || format!("the texts share {:.0} % of their words", alike * 100.0);
            found.judge(Facet::TextSimilarity, alike >= ALIKE, 1.0 - alike, place);
        }
    }
    found
}

impl Comparison {
    fn numeric(&mut self, gap: &Gap) {
        if gap.numbers > 0 {
            let place = || format!("the numbers differ at `{}`", gap.place());
            self.judge(Facet::Numeric, !gap.beyond, gap.widest, place);
        }
        if gap.labels > 0 {
            let place = || format!("the labels differ at `{}`", gap.place());
            self.judge(Facet::Label, !gap.other_label, 1.0, place);
        }
    }
}

/// A body, read as its form says.
enum Content {
    Json(Value),
    Events(Vec<Value>),
    /// No JSON, or it claims to be and is not.
    Other,
}

impl Content {
    fn of(answer: &Answer<'_>, dialect: Dialect) -> Self {
        match answer.form {
            OutputForm::Json => serde_json::from_slice(answer.body)
                .map_or(Self::Other, |value| Self::Json(without_noise(dialect, value))),
            OutputForm::Events => {
                let values = event_values(answer.body);
                Self::Events(values.into_iter().map(|v| without_noise(dialect, v)).collect())
            }
            OutputForm::Text | OutputForm::Html | OutputForm::Opaque => Self::Other,
        }
    }

    /// What is said in words.
    fn text(&self, answer: &Answer<'_>, dialect: Dialect) -> Option<String> {
        match self {
            // In a format nobody knows, every string may be what matters.
            Self::Json(value) if dialect.answer_format() == AnswerFormat::Unknown => {
                let mut text = String::new();
                strings(value, &mut text);
                (!text.is_empty()).then_some(text)
            }
            Self::Json(_) | Self::Events(_) | Self::Other => {
                answer_text(dialect, answer.form, answer.body)
            }
        }
    }
}

/// `None`: neither is JSON.
fn same_shape(left: &Content, right: &Content) -> Option<(bool, String)> {
    let shapes = match (left, right) {
        (Content::Json(left), Content::Json(right)) => (Shape::of(left), Shape::of(right)),
        (Content::Events(left), Content::Events(right)) => {
            (Shape::of_any(left), Shape::of_any(right))
        }
        (Content::Other, Content::Other) => return None,
        _ => return Some((false, "only one of them is JSON of its kind".to_owned())),
    };
    let place = shapes.0.differs_at(&shapes.1);
    Some(match place {
        None => (true, String::new()),
        Some(place) => (false, format!("keys or types differ at `{place}`")),
    })
}

fn strings(value: &Value, text: &mut String) {
    match value {
        Value::String(own) => {
            text.push_str(own);
            text.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, text)),
        Value::Object(fields) => fields.values().for_each(|field| strings(field, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What no two answers share, whoever gives them.
const NOISE: [&str; 14] = [
    "id",
    "created",
    "created_at",
    "completed_at",
    "timestamp",
    "request_id",
    "usage",
    "system_fingerprint",
    "service_tier",
    "model",
    "model_name",
    "model_version",
    "item_id",
    "response_id",
];

/// Without noise; V2's outputs in the order of their names.
fn without_noise(dialect: Dialect, mut value: Value) -> Value {
    // Elsewhere a nested `id` may be the class that was found.
    strip(&mut value, dialect.answer_format() == AnswerFormat::OpenAi);
    if dialect == Dialect::KServeV2
        && let Some(outputs) = value.get_mut("outputs").and_then(Value::as_array_mut)
    {
        let name = |output: &Value| output["name"].as_str().unwrap_or_default().to_owned();
        outputs.sort_by_cached_key(name);
    }
    value
}

fn strip(value: &mut Value, deep: bool) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !NOISE.contains(&key.as_str()));
            if deep {
                fields.values_mut().for_each(|field| strip(field, deep));
            }
        }
        Value::Array(items) if deep => items.iter_mut().for_each(|item| strip(item, deep)),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
