//! Which text of a file is secret, so that no diagnostic ever quotes it.
use super::render::MASK;
use super::tree::{Entry, Node, Value};
use crate::dialect;
use std::ops::Range;

/// A key of its own: what a collector wants for a password has many names.
const COLLECTOR: &str = "otlp";

/// What may be shown of an entry of `keys`: whatever else is written there may be the key itself.
const SHOWN: [&str; 3] = ["name", "models", "limits"];

/// May a value under this key be a secret?
fn sensitive(name: &str) -> bool {
    const PARTS: [&str; 9] = [
        "token",
        "secret",
        "password",
        "authorization",
        "api_key",
        "apikey",
        "credential",
        "cookie",
        "webhook",
    ];
    let name = name.to_ascii_lowercase().replace('-', "_");
    if name.ends_with("_per_minute") {
        return false;
    }
    // A misspelt `token` is still a token.
    PARTS.iter().any(|part| name.contains(part)) || strsim::osa_distance(&name, "token") == 1
}

/// May a header, a parameter of a query or a cookie of this name hold a secret?
pub fn is_secret_name(name: &str) -> bool {
    sensitive(name) || dialect::is_secret_name(name)
}

/// The value of a header, a parameter or a cookie as it may be shown.
pub(super) fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret_name(name) { MASK } else { value }
}

/// Is the value written out, rather than kept in a file or in the environment?
pub(super) fn literal(raw: &str) -> bool {
    let raw = raw.trim_matches(['"', '\'']);
    let variable = raw.starts_with("${") && raw.ends_with('}') && !raw.contains(":-");
    !raw.is_empty() && !variable && !raw.starts_with("file:") && !matches!(raw, "null" | "~")
}

/// The secrets of one entry of a mapping.
pub(super) fn of_entry(entry: &Entry, source: &str, found: &mut Vec<Range<usize>>) {
    if sensitive(&entry.key) {
        all_of(&entry.value, source, found);
    }
    if entry.key == "keys" {
        of_keys(&entry.value, source, found);
    }
    if let ("headers", Value::Map(keys)) = (entry.key.as_str(), &entry.value.value) {
        let set = keys.iter().filter(|entry| entry.key == "set");
        set.for_each(|entry| all_of(&entry.value, source, found));
    }
    if let ("headers" | "query" | "cookies", Value::Map(pairs)) = (&*entry.key, &entry.value.value)
    {
        let named = pairs.iter().filter(|pair| dialect::is_secret_name(&pair.key));
        named.for_each(|pair| all_of(&pair.value, source, found));
    }
    if let (COLLECTOR, Value::Map(keys)) = (entry.key.as_str(), &entry.value.value) {
        let headers = keys.iter().filter(|entry| entry.key == "headers");
        headers.for_each(|entry| all_of(&entry.value, source, found));
    }
}

/// The secrets of `keys`, also where they are written as no key should be.
fn of_keys(node: &Node, source: &str, found: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::List(keys) => keys.iter().for_each(|key| of_keys(key, source, found)),
        Value::Map(entries) => {
            let hidden = entries.iter().filter(|entry| !SHOWN.contains(&entry.key.as_str()));
            hidden.for_each(|entry| all_of(&entry.value, source, found));
        }
        // `jwt.keys` is the path of a file.
        Value::Scalar(scalar) if scalar.text.contains(['.', '/']) => {}
        Value::Scalar(_) => all_of(node, source, found),
    }
}

fn all_of(node: &Node, source: &str, found: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Scalar(_) => {
            if literal(&source[node.span.clone()]) {
                found.push(node.span.clone());
            }
        }
        Value::List(items) => {
            for item in items {
                all_of(item, source, found);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                all_of(&entry.value, source, found);
            }
        }
    }
}

/// The user and password of a URL.
pub(super) fn of_url(span: &Range<usize>, source: &str) -> Option<Range<usize>> {
    let raw = &source[span.clone()];
    let start = raw.find("://")? + 3;
    let end = start + raw[start..].find('@')?;
    Some(span.start + start..span.start + end)
}

/// The secrets of a value of several lines: a stray `>` or quote makes one of what were keys.
pub(super) fn of_lines(span: &Range<usize>, source: &str) -> Vec<Range<usize>> {
    let raw = &source[span.clone()];
    let found = if raw.contains('\n') { of_text(raw) } else { Vec::new() };
    found.into_iter().map(|secret| span.start + secret.start..span.start + secret.end).collect()
}

/// The secrets of a text that cannot be parsed: generous, since nothing is certain.
pub(super) fn of_text(source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    // Lines deeper than this belong to a secret.
    let mut below: Option<usize> = None;
    for line in source.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let end = start + line.trim_end().len();
        if below.is_some_and(|depth| indent > depth) {
            found.push(start + indent..end.max(start + indent));
        } else {
            below = None;
            let secret = line.match_indices(':').find(|(at, _)| {
                let key = line[..*at].trim_end_matches(['"', '\'']);
                let is_border = |c: char| !c.is_alphanumeric() && c != '_' && c != '-';
                let key = key.rsplit(is_border).next().unwrap_or_default();
                sensitive(key) || [COLLECTOR, "hash", "key", "set"].contains(&key)
            });
            if let Some((at, _)) = secret {
                below = Some(indent);
                found.push((start + at + 1).min(end)..end);
            }
        }
        start += line.len();
    }
    found
}

/// The secrets of comments, which may be lines that once held.
pub(super) fn of_comments(source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let sign = line
            .match_indices('#')
            .find(|(at, _)| line[..*at].chars().next_back().is_none_or(char::is_whitespace));
        if let Some((at, _)) = sign {
            let begins = start + at;
            let within = of_text(&line[at..]).into_iter();
            found.extend(within.map(|secret| begins + secret.start..begins + secret.end));
        }
        start += line.len();
    }
    found
}
