//! The shape of JSON: which keys there are, and of what type; a list has the shapes of its items.
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A key with nothing behind it (`null`) is as good as none: servers differ in which they write out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Null,
    Flag,
    Number,
    Text,
    /// Whatever their number and order.
    List(BTreeSet<Self>),
    Object(BTreeMap<String, Self>),
}

impl Shape {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Flag,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::of_any(items),
            Value::Object(fields) => {
                let there = fields.iter().filter(|(_, field)| !field.is_null());
                Self::Object(there.map(|(key, field)| (key.clone(), Self::of(field))).collect())
            }
        }
    }

    pub(super) fn of_any(items: &[Value]) -> Self {
        Self::List(items.iter().map(Self::of).collect())
    }

    /// The first place where two shapes part. `None`: they are one.
    pub(super) fn differs_at(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let (Self::Object(left), Self::Object(right)) = (self, other) else {
            return match (self, other) {
                (Self::List(left), Self::List(right)) if left.len() == 1 && right.len() == 1 => {
                    let inner = left.iter().zip(right).find_map(|(l, r)| l.differs_at(r));
                    inner.map(|inner| format!("[]{inner}"))
                }
                _ => Some(String::new()),
            };
        };
        let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        keys.into_iter().find_map(|key| {
            let inner = match (left.get(key), right.get(key)) {
                (Some(left), Some(right)) => left.differs_at(right)?,
                _ => String::new(),
            };
            Some(format!(".{key}{inner}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn differs(left: &Value, right: &Value) -> Option<String> {
        let place = Shape::of(left).differs_at(&Shape::of(right));
        assert_eq!(place, Shape::of(right).differs_at(&Shape::of(left)));
        place
    }

    #[test]
    fn keys_and_types_make_a_shape_and_values_do_not() {
        assert_eq!(
            differs(&json!({"a": 1, "b": ["x"]}), &json!({"b": ["y", "z"], "a": 2.5})),
            None
        );
        assert_eq!(differs(&json!({"a": null, "b": 1}), &json!({"b": 1})), None);
        assert_eq!(differs(&json!({"a": 1}), &json!({"a": "1"})).unwrap(), ".a");
        assert_eq!(differs(&json!({"a": 1}), &json!({})).unwrap(), ".a");
        assert_eq!(differs(&json!([[1]]), &json!([["x"]])).unwrap(), "[][]");
        let left = json!({"c": [{"m": {"text": "x"}}]});
        let right = json!({"c": [{"m": {"text": null}}]});
        assert_eq!(differs(&left, &right).unwrap(), ".c[].m.text");
        assert!(differs(&json!({"a": []}), &json!({"a": [1]})).is_some());
    }
}
