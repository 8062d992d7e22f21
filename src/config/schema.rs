//! JSON Schema of the file, for editors; made from the key table.
use super::keys::{Key, Shape, TOP};
use super::tree::{self, Node, Value as Written};
use serde_json::{Map, Value, json};

/// Draft 2020-12.
pub fn schema() -> Value {
    let mut root = section(TOP);
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Evener",
        "required": ["listeners", "models"],
        "$defs": definitions(),
    });
    if let (Value::Object(root), Value::Object(head)) = (&mut root, head) {
        root.extend(head);
    }
    root
}

/// Any scalar may be a variable until the file is read.
fn definitions() -> Value {
    let scalar = |kind: &str, pattern: &str| {
        json!({"anyOf": [
            {"type": kind},
            {"type": "string", "pattern": pattern},
            {"$ref": "#/$defs/variable"},
        ]})
    };
    json!({
        "variable": {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"},
        "flag": scalar("boolean", "^(true|false)$"),
        "count": scalar("integer", "^[0-9]+$"),
        "number": scalar("number", r"^-?[0-9.]+([eE][+-]?[0-9]+)?$"),
        "percent": scalar("number", r"^[0-9.]+ ?%?$"),
        "duration": {"anyOf": [
            {"const": 0},
            {"type": "string", "pattern": r"^(0|([0-9.]+(us|ms|s|m|h))+)$"},
            {"$ref": "#/$defs/variable"},
        ]},
        "size": scalar("integer", r"^[0-9.]+ ?(B|KB|MB|GB|KiB|MiB|GiB)?$"),
        "rate": {"anyOf": [
            {"const": 0},
            {"type": "string", "pattern": r"^(0|[0-9.]+ ?(B|KB|MB|GB|KiB|MiB|GiB)? ?/s)$"},
            {"$ref": "#/$defs/variable"},
        ]},
        // Names such as `7` or `1.10` are written without quotes.
        "text": {"type": ["string", "number", "boolean"]},
    })
}

fn section(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    // A key with nothing behind it is an empty mapping.
    json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties})
}

fn property(key: &Key) -> Value {
    let mut value = shape(&key.shape);
    if let Value::Object(fields) = &mut value {
        let note = if key.hot { "" } else { " A change needs a restart." };
        fields.insert("description".to_owned(), format!("{}{note}", key.doc).into());
        if !key.default.is_empty() {
            fields.insert("default".to_owned(), default(key.default));
        }
    }
    value
}

fn shape(shape: &Shape) -> Value {
    let reference = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    match shape {
        Shape::Flag => reference("flag"),
        Shape::Count { least, most } => json!({"anyOf": [
            {"type": "integer", "minimum": least, "maximum": most},
            {"type": "string", "pattern": "^[0-9]+$"},
            {"$ref": "#/$defs/variable"},
        ]}),
        Shape::Number => reference("number"),
        Shape::Percent => reference("percent"),
        Shape::Duration { .. } => reference("duration"),
        Shape::Size { .. } => reference("size"),
        Shape::Rate => reference("rate"),
        Shape::Text | Shape::Secret => reference("text"),
        Shape::Word(words) => json!({"anyOf": [{"enum": words}, {"$ref": "#/$defs/variable"}]}),
        Shape::Null => json!({"type": "null"}),
        Shape::Off => json!({"enum": [false, "false"]}),
        Shape::List(item) => json!({"type": ["array", "null"], "items": self::shape(item)}),
        Shape::Map(value) => {
            json!({"type": ["object", "null"], "additionalProperties": self::shape(value)})
        }
        Shape::Section(keys) => section(keys),
        Shape::OneOf(shapes) => {
            json!({"anyOf": shapes.iter().map(self::shape).collect::<Vec<_>>()})
        }
    }
}

fn default(text: &str) -> Value {
    let root = tree::parse(text, &|_| None).root.expect("the table's defaults are YAML");
    value(&root)
}

fn value(node: &Node) -> Value {
    match &node.value {
        Written::Scalar(_) if node.is_null() => Value::Null,
        Written::Scalar(scalar) => {
            serde_json::from_str(&scalar.text).unwrap_or_else(|_| scalar.text.as_str().into())
        }
        Written::List(items) => items.iter().map(value).collect(),
        Written::Map(entries) => Value::Object(
            entries.iter().map(|entry| (entry.key.clone(), value(&entry.value))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_and_none_may_be_added() {
        let schema = schema();
        assert_eq!(schema["additionalProperties"], false);
        let timeout = &schema["properties"]["listeners"]["items"]["properties"]["client"]["properties"]
            ["header_timeout"];
        assert_eq!(timeout["default"], "10s");
        assert_eq!(timeout["description"], "From the first byte to the end of the head.");
        let model = &schema["properties"]["models"]["additionalProperties"];
        assert_eq!(model["additionalProperties"], false);
        assert_eq!(model["properties"]["fail_open"]["default"], true);
        assert!(schema["properties"]["defaults"]["properties"]["versions"].is_null());
    }
}
