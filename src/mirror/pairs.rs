//! The pairs of answers that differ most, kept for people to read: bounded, and without what must not be kept.
use super::compare::{Answer, Comparison};
use crate::dialect::OutputForm;
use serde_json::{Value, json};
use std::sync::Arc;

/// Of each body so much is kept.
const LONGEST: usize = 16 << 10;
const MASK: &str = "***";

/// A request with both its answers.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub request_id: &'a str,
    /// The version that the client was served by.
    pub from: &'a str,
    pub request: &'a [u8],
    pub stable: Answer<'a>,
    pub candidate: Answer<'a>,
}

/// Which fields are not kept: each a path of keys.
#[derive(Debug, Default)]
pub struct Redaction(Vec<Vec<String>>);

/// A pair as it is kept.
#[derive(Clone, Debug)]
pub struct ShownPair {
    distance: f64,
    pair: Value,
    by: Arc<Redaction>,
}

/// The worst pairs so far.
#[derive(Clone, Debug, Default)]
pub struct WorstPairs {
    keep: usize,
    redaction: Arc<Redaction>,
    /// The worst first; of equals the older.
    kept: Vec<ShownPair>,
}

impl WorstPairs {
    /// `redact`: dotted paths of JSON fields. Lists are passed through, and `*` is every key.
    pub fn new(keep: usize, redact: &[String]) -> Self {
        let keys = |path: &String| path.split('.').map(str::to_owned).collect();
        let redaction = Arc::new(Redaction(redact.iter().map(keys).collect()));
        Self { keep, redaction, kept: Vec::new() }
    }

    /// How to show a pair that is so far apart; `None`: it would not be kept.
    pub fn wants(&self, comparison: &Comparison) -> Option<Arc<Redaction>> {
        let full = self.kept.len() >= self.keep;
        let beats = self.kept.last().is_none_or(|least| comparison.distance > least.distance);
        let wanted = self.keep > 0 && comparison.agrees() == Some(false) && (!full || beats);
        wanted.then(|| Arc::clone(&self.redaction))
    }

    /// Keeps a pair, unless it was shown by rules that do not hold any more.
    pub fn add(&mut self, shown: ShownPair) {
        if !Arc::ptr_eq(&shown.by, &self.redaction) {
            return;
        }
        let place = self.kept.partition_point(|other| other.distance >= shown.distance);
        self.kept.insert(place, shown);
        self.kept.truncate(self.keep);
    }

    /// The worst first.
    pub fn shown_pairs(&self) -> Vec<Value> {
        self.kept.iter().map(|shown| shown.pair.clone()).collect()
    }
}

impl Redaction {
    /// Megabytes may be read for it: nobody should wait meanwhile.
    pub fn show(self: &Arc<Self>, comparison: &Comparison, pair: &Pair<'_>) -> ShownPair {
        let side = |answer: &Answer<'_>| {
            let body = self.shown(answer.form == OutputForm::Json, answer.body);
            json!({"status": answer.status, "body": body})
        };
        let differs = comparison.by.iter().filter(|(_, same)| !same);
        let shown = json!({
            "request_id": pair.request_id,
            "from": pair.from,
            "differs": differs.map(|(facet, _)| facet.word()).collect::<Vec<_>>(),
            "difference": comparison.difference,
            "request": self.shown(true, pair.request),
            "stable": side(&pair.stable),
            "candidate": side(&pair.candidate),
        });
        ShownPair { distance: comparison.distance, pair: shown, by: Arc::clone(self) }
    }

    /// Text of a body. With fields to redact, what is not JSON is not kept: they could not be found in it.
    fn shown(&self, may_be_json: bool, body: &[u8]) -> Value {
        let value = may_be_json.then(|| serde_json::from_slice::<Value>(body).ok()).flatten();
        let text = match value {
            Some(mut value) if !self.0.is_empty() => {
                self.0.iter().for_each(|path| mask(&mut value, path));
                value.to_string()
            }
            None if !self.0.is_empty() && !body.is_empty() => return Value::Null,
            Some(_) | None => {
                // A character may be cut in two here; it is replaced.
                String::from_utf8_lossy(&body[..body.len().min(LONGEST)]).into_owned()
            }
        };
        let end = text.floor_char_boundary(LONGEST);
        Value::from(&text[..end])
    }
}

fn mask(value: &mut Value, path: &[String]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, path)),
        Value::Object(fields) => {
            let Some((key, rest)) = path.split_first() else { return };
            for (name, field) in fields.iter_mut() {
                if key == "*" || key == name {
                    if rest.is_empty() {
                        *field = Value::from(MASK);
                    } else {
                        mask(field, rest);
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
