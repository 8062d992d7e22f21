//! The table of keys in conf/README.md, made from the key table.
use super::keys::{Key, Shape, TOP};
use super::scalar::show_size;
use std::fmt::Write as _;

/// Markdown: one table for each top-level key.
pub fn reference() -> String {
    let mut out = String::new();
    for key in TOP {
        let mut rows = Vec::new();
        collect(key, "", &mut rows);
        let _ = write!(
            out,
            "### `{}`\n\n| key | type | default | hot | |\n| --- | --- | --- | --- | --- |\n",
            key.name
        );
        for (path, key) in rows {
            let default =
                if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
            let hot = if key.hot { "yes" } else { "restart" };
            let kind = kind(&key.shape).replace('|', "\\|");
            let _ = writeln!(out, "| `{path}` | {kind} | {default} | {hot} | {} |", key.doc);
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Every key with its path, `models.*.timeouts.connect`.
pub(super) fn rows() -> Vec<(String, &'static Key)> {
    let mut rows = Vec::new();
    for key in TOP {
        collect(key, "", &mut rows);
    }
    rows
}

fn collect(key: &'static Key, prefix: &str, rows: &mut Vec<(String, &'static Key)>) {
    let path =
        if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
    rows.push((path.clone(), key));
    // What `defaults` holds is described under `models`.
    if key.name != "defaults" {
        below(&key.shape, &path, rows);
    }
}

fn below(shape: &'static Shape, path: &str, rows: &mut Vec<(String, &'static Key)>) {
    match shape {
        Shape::Section(keys) => keys.iter().for_each(|key| collect(key, path, rows)),
        Shape::List(item) => below(item, &format!("{path}[]"), rows),
        Shape::Map(value) => below(value, &format!("{path}.*"), rows),
        Shape::OneOf(shapes) => shapes.iter().for_each(|shape| {
            // A version is also a list of replicas: those are described once, under `replicas`.
            if !matches!(shape, Shape::List(_)) {
                below(shape, path, rows);
            }
        }),
        Shape::Flag
        | Shape::Count { .. }
        | Shape::Number
        | Shape::Percent
        | Shape::Duration { .. }
        | Shape::Size { .. }
        | Shape::Rate
        | Shape::Text
        | Shape::Secret
        | Shape::Word(_)
        | Shape::Null
        | Shape::Off => {}
    }
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::Count { least, most } => format!("{least} to {most}"),
        Shape::Number => "number above 0".to_owned(),
        Shape::Percent => "percent".to_owned(),
        Shape::Duration { zero: false } => "duration".to_owned(),
        Shape::Duration { zero: true } => "duration or `0s`".to_owned(),
        Shape::Size { least: 0 } => "size".to_owned(),
        Shape::Size { least } => format!("size, at least {}", show_size(*least)),
        Shape::Rate => "size per second".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Secret => "secret".to_owned(),
        Shape::Word(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Shape::Null => "`null`".to_owned(),
        Shape::Off => "`false`".to_owned(),
        Shape::List(item) => {
            if matches!(item, Shape::Section(_)) {
                "list of mappings".to_owned()
            } else {
                format!("list of ({})", kind(item))
            }
        }
        Shape::Map(value) => {
            if matches!(value, Shape::Section(_)) {
                "name to mapping".to_owned()
            } else {
                format!("name to ({})", kind(value))
            }
        }
        Shape::Section(_) => "mapping".to_owned(),
        Shape::OneOf(shapes) => shapes.iter().map(kind).collect::<Vec<_>>().join(" or "),
    }
}
