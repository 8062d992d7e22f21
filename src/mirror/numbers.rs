//! How far the numbers of two answers are apart, and whether they name the same label.
use serde_json::Value;

/// Scores closer than this are a tie: which of them is the highest is chance.
const TIE: f64 = 1e-6;
/// A longer string in a prediction is text, and no label.
const LONGEST_LABEL: usize = 64;

/// What was found between two JSON values.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// Numbers that were compared, or had nothing to be compared with.
    pub(super) numbers: usize,
    /// Some are further apart than they may be.
    pub(super) beyond: bool,
    /// The largest distance, in proportion.
    pub(super) widest: f64,
    pub(super) labels: usize,
    pub(super) other_label: bool,
    /// Where the first difference is.
    first: Option<String>,
}

impl Gap {
    pub(super) fn place(&self) -> &str {
        self.first.as_deref().unwrap_or_default().trim_start_matches('.')
    }

    fn number(&mut self, apart: f64, tolerance: f64, path: &[Step<'_>]) {
        self.numbers += 1;
        self.widest = self.widest.max(apart);
        if apart > tolerance {
            self.beyond = true;
            self.first.get_or_insert_with(|| spelled(path));
        }
    }

    fn label(&mut self, same: bool, path: &[Step<'_>]) {
        self.labels += 1;
        if !same {
            self.other_label = true;
            self.first.get_or_insert_with(|| spelled(path));
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step<'v> {
    Key(&'v str),
    Index(usize),
}

fn spelled(path: &[Step<'_>]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        Step::Key(key) => format!("{text}.{key}"),
        Step::Index(index) => format!("{text}[{index}]"),
    })
}

/// Compares every number with the one at the same place. Below `predictions` (V1) and `outputs` (V2) short strings
/// and flags are labels, and of each row of scores in a batch the highest must be the same one.
pub(super) fn gap(left: &Value, right: &Value, tolerance: f64) -> Gap {
    let mut gap = Gap::default();
    walk(left, right, tolerance, &mut Vec::new(), &mut gap);
    tensors(left, right, &mut gap);
    gap
}

/// 0: the same; absolute below 1 and relative above, the same both ways (as Python's `math.isclose` is).
fn apart(left: f64, right: f64) -> f64 {
    if left.to_bits() == right.to_bits() {
        return 0.0;
    }
    (left - right).abs() / left.abs().max(right.abs()).max(1.0)
}

fn walk<'v>(
    left: &'v Value,
    right: &'v Value,
    tolerance: f64,
    path: &mut Vec<Step<'v>>,
    gap: &mut Gap,
) {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            // Whole numbers beyond 2^53 would be rounded.
            let same = a == b;
            let far = apart(a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
            gap.number(if same { 0.0 } else { far }, tolerance, path);
        }
        (Value::Array(a), Value::Array(b)) => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                path.push(Step::Index(index));
                walk(a, b, tolerance, path, gap);
                path.pop();
            }
            let longer = if a.len() > b.len() { a } else { b };
            if a.len() != b.len() && longer.iter().any(has_number) {
                gap.number(f64::INFINITY, tolerance, path);
            }
            // A list of lists is a batch: each inner one is a row of scores.
            let in_batch = matches!(path.as_slice(), [.., Step::Index(_)]);
            if in_batch && a.len() == b.len() && is_prediction(path) {
                row(a, b, path, gap);
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            for (key, a) in a {
                path.push(Step::Key(key));
                match b.get(key) {
                    Some(b) => walk(a, b, tolerance, path, gap),
                    None if has_number(a) => gap.number(f64::INFINITY, tolerance, path),
                    None => {}
                }
                path.pop();
            }
            for (key, _) in b.iter().filter(|(key, b)| !a.contains_key(*key) && has_number(b)) {
                path.push(Step::Key(key));
                gap.number(f64::INFINITY, tolerance, path);
                path.pop();
            }
        }
        (Value::String(a), Value::String(b))
            if is_prediction(path) && a.len().max(b.len()) <= LONGEST_LABEL =>
        {
            gap.label(a == b, path);
        }
        (Value::Bool(a), Value::Bool(b)) if is_prediction(path) => gap.label(a == b, path),
        (a, b) if has_number(a) || has_number(b) => gap.number(f64::INFINITY, tolerance, path),
        _ => {}
    }
}

/// Are we below `predictions`, or in the data of an output?
fn is_prediction(path: &[Step<'_>]) -> bool {
    match path {
        [Step::Key("outputs"), Step::Index(_), Step::Key(key), ..] => *key == "data",
        [Step::Key("outputs" | "predictions"), ..] => true,
        _ => false,
    }
}

fn has_number(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Array(items) => items.iter().any(has_number),
        Value::Object(fields) => fields.values().any(has_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn row(left: &[Value], right: &[Value], path: &[Step<'_>], gap: &mut Gap) {
    let numbers = |row: &[Value]| row.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
    if let (Some(left), Some(right)) = (numbers(left), numbers(right))
        && left.len() > 1
    {
        gap.label(same_highest(&left, &right), path);
    }
}

/// V2 sends tensors flat, beside their shape: the last dimension is a row.
fn tensors(left: &Value, right: &Value, gap: &mut Gap) {
    let (Some(left), Some(right)) = (left["outputs"].as_array(), right["outputs"].as_array())
    else {
        return;
    };
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        let shape = left["shape"].as_array().filter(|shape| shape.len() > 1);
        let width = shape.and_then(|shape| shape.last()?.as_u64()).unwrap_or(0) as usize;
        let (Some(a), Some(b)) = (left["data"].as_array(), right["data"].as_array()) else {
            continue;
        };
        let flat = a.first().is_some_and(Value::is_number);
        if width < 2 || !flat || a.len() != b.len() || left["shape"] != right["shape"] {
            continue;
        }
        for (number, (a, b)) in a.chunks(width).zip(b.chunks(width)).enumerate() {
            let path =
                [Step::Key("outputs"), Step::Index(index), Step::Key("data"), Step::Index(number)];
            row(a, b, &path, gap);
        }
    }
}

/// Is the highest of each also the highest, or as good as it, of the other?
fn same_highest(left: &[f64], right: &[f64]) -> bool {
    let highest = |row: &[f64]| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(index, _)| index)
    };
    let (a, b) = (highest(left), highest(right));
    a == b || apart(left[a], left[b]) <= TIE || apart(right[a], right[b]) <= TIE
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(left: &Value, right: &Value, tolerance: f64) -> (bool, bool) {
        let found = gap(left, right, tolerance);
        (!found.beyond, !found.other_label)
    }

    #[test]
    fn numbers_may_differ_by_the_tolerance() {
        let (a, b) =
            (json!({"predictions": [0.5, 2000.0]}), json!({"predictions": [0.5005, 2001.9]}));
        assert_eq!(found(&a, &b, 1e-3), (true, true));
        assert_eq!(found(&a, &b, 1e-4), (false, true));
        assert_eq!(gap(&a, &b, 1e-4).place(), "predictions[0]");
        let long = json!([9_007_199_254_740_993_u64]);
        assert_eq!(found(&long, &long, 0.0), (true, true));
    }

    #[test]
    fn a_number_without_its_like_is_a_difference() {
        for (a, b) in [
            (json!([1, 2]), json!([1])),
            (json!({"a": 1}), json!({})),
            (json!({"a": 1}), json!({"a": "x"})),
            (json!({"a": null}), json!({"a": 1})),
        ] {
            assert_eq!((found(&a, &b, 1.0).0, found(&b, &a, 1.0).0), (false, false), "{a} {b}");
        }
    }

    #[test]
    fn another_label_is_told_within_any_tolerance() {
        let scores = |a: f64, b: f64| json!({"predictions": [[0.0, a, b]]});
        assert_eq!(found(&scores(0.51, 0.49), &scores(0.49, 0.51), 0.1), (true, false));
        assert_eq!(found(&scores(0.6, 0.4), &scores(0.7, 0.3), 0.01), (false, true));
        assert_eq!(found(&scores(0.5, 0.5), &scores(0.5, 0.5 + 1e-9), 1e-6), (true, true));
        let named = |name: &str| json!({"predictions": [{"label": name, "score": 0.5}]});
        assert_eq!(found(&named("cat"), &named("dog"), 0.1), (true, false));
    }

    #[test]
    fn flat_tensors_have_rows_by_their_shape() {
        let tensor = |data: Value| json!({"outputs": [{"name": "p", "shape": [2, 2], "datatype": "FP32", "data": data}]});
        let a = tensor(json!([0.9, 0.1, 0.45, 0.55]));
        let b = tensor(json!([0.9, 0.1, 0.55, 0.45]));
        assert_eq!(found(&a, &b, 0.2), (true, false));
        assert_eq!(gap(&a, &b, 0.2).place(), "outputs[0].data[1]");
    }
}
