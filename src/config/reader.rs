//! Reads typed values out of the tree by the key table, and collects every complaint on the way.
use super::diagnostic::Diagnostic;
use super::hints;
use super::keys::{Key, Shape};
use super::scalar::{self, Complaint, Read};
use super::tree::{Entry, Node, Value};
use crate::access::MinRate;
use crate::table::ReplicaUrl;
use std::ops::Range;
use std::time::Duration;

/// The environment, as it is handed in from `cli`.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) struct Reader<'a> {
    pub(super) source: &'a str,
    pub(super) env: Env<'a>,
    pub(super) found: Vec<Diagnostic>,
    /// The replicas that were read, to be compared with the file's own addresses.
    pub(super) replicas: Vec<(ReplicaUrl, Range<usize>)>,
}

/// A mapping with known keys.
#[derive(Clone)]
pub(super) struct Section<'n> {
    /// `models.chat.timeouts`; empty at the top.
    pub(super) path: String,
    pub(super) keys: &'static [Key],
    pub(super) entries: &'n [Entry],
    /// Where to point when something is missing.
    pub(super) span: Range<usize>,
}

impl<'n> Section<'n> {
    pub(super) fn get(&self, name: &str) -> Option<&'n Entry> {
        debug_assert!(self.keys.iter().any(|key| key.name == name), "no key `{name}`");
        self.entries.iter().find(|entry| entry.key == name)
    }

    /// Is it there, with something behind it?
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|entry| !entry.value.is_null())
    }

    /// Where to point when the value of a key is wrong.
    pub(super) fn place_of(&self, name: &str) -> Range<usize> {
        self.get(name).map_or_else(|| self.span.clone(), Entry::place)
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    fn key(&self, name: &str) -> &'static Key {
        self.keys.iter().find(|key| key.name == name).expect("the key table has what is read")
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Reader<'_> {
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    pub(super) fn complain(&mut self, path: &str, span: Range<usize>, complaint: Complaint) {
        let message = format!("`{path}` {}", complaint.what);
        let mut diagnostic =
            Diagnostic::error(complaint.code, span, message).label(complaint.label);
        diagnostic.help = complaint.help;
        self.found.push(diagnostic);
    }

    pub(super) fn wrong_type(
        &mut self,
        path: &str,
        place: Range<usize>,
        node: &Node,
        wanted: &str,
    ) {
        let message = format!("`{path}` is {}; it must be {wanted}", node.noun());
        let diagnostic = Diagnostic::error("wrong-type", place, message);
        self.found.push(diagnostic.label(format!("{} is expected", bare_noun(wanted))));
    }

    pub(super) fn missing(&mut self, section: &Section<'_>, name: &str, example: &str) {
        let owner = if section.path.is_empty() { "the file" } else { section.path.as_str() };
        let message = format!("`{owner}` lacks `{name}`");
        self.found.push(
            Diagnostic::error("missing-key", section.span.clone(), message)
                .label(format!("no `{name}`"))
                .help(format!("add for example `{example}`")),
        );
    }

    /// A mapping whose every key must be in the table.
    pub(super) fn section<'n>(
        &mut self,
        node: &'n Node,
        place: Range<usize>,
        keys: &'static [Key],
        path: String,
    ) -> Section<'n> {
        let mut section = Section { path, keys, entries: &[], span: place };
        match &node.value {
            Value::Map(entries) => {
                section.entries = entries;
                for entry in entries {
                    if !keys.iter().any(|key| key.name == entry.key) {
                        self.unknown_key(entry, keys, &section.path);
                    }
                }
            }
            Value::Scalar(_) | Value::List(_) if node.is_null() => {}
            Value::Scalar(_) | Value::List(_) => {
                let path = if section.path.is_empty() { "the file" } else { &section.path };
                let (path, span) = (path.to_owned(), section.span.clone());
                self.wrong_type(&path, span, node, "a mapping of keys");
            }
        }
        section
    }

    fn unknown_key(&mut self, entry: &Entry, keys: &'static [Key], path: &str) {
        let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
        let (word, owner) = (&entry.key, if path.is_empty() { "the file" } else { path });
        let inherited =
            path == "defaults" && ["aliases", "versions", "split"].contains(&word.as_str());
        let diagnostic = if inherited {
            let message = format!("`{word}` cannot be inherited from `defaults`");
            Diagnostic::error("not-inheritable", entry.key_span.clone(), message)
                .label("belongs to one model")
                .help("write it under each model")
        } else {
            let owner = if path.is_empty() { owner.to_owned() } else { format!("`{owner}`") };
            let message = format!("{owner} has no key `{word}`");
            Diagnostic::error("unknown-key", entry.key_span.clone(), message)
                .label("unknown key")
                .help(hints::unknown_key(word, path, &names))
        };
        self.found.push(diagnostic);
    }

    /// A section inside a section; an empty one when it is not written.
    pub(super) fn inner<'n>(
        &mut self,
        outer: &Section<'n>,
        name: &str,
        keys: &'static [Key],
    ) -> Section<'n> {
        let path = outer.path_of(name);
        match outer.get(name) {
            Some(entry) => self.section(&entry.value, entry.key_span.clone(), keys, path),
            None => Section { path, keys, entries: &[], span: outer.span.clone() },
        }
    }

    /// The items of a list; none when it is not written.
    pub(super) fn list<'n>(&mut self, section: &Section<'n>, name: &str) -> &'n [Node] {
        let Some(entry) = section.get(name) else { return &[] };
        match &entry.value.value {
            Value::List(items) => items,
            Value::Scalar(_) if entry.value.is_null() => &[],
            Value::Scalar(_) | Value::Map(_) => {
                let path = section.path_of(name);
                self.wrong_type(&path, entry.place(), &entry.value, "a list");
                &[]
            }
        }
    }

    /// The entries of a mapping with free keys.
    pub(super) fn map<'n>(&mut self, section: &Section<'n>, name: &str) -> &'n [Entry] {
        let Some(entry) = section.get(name) else { return &[] };
        match &entry.value.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) if entry.value.is_null() => &[],
            Value::Scalar(_) | Value::List(_) => {
                let path = section.path_of(name);
                self.wrong_type(&path, entry.place(), &entry.value, "a mapping");
                &[]
            }
        }
    }

    /// A single value, or a complaint. What failed to expand was already reported.
    pub(super) fn parse<T>(
        &mut self,
        node: &Node,
        place: Range<usize>,
        path: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Read<T>,
    ) -> Option<T> {
        let Value::Scalar(scalar) = &node.value else {
            self.wrong_type(path, place, node, wanted);
            return None;
        };
        if scalar.broken {
            return None;
        }
        if node.is_null() {
            self.wrong_type(path, place, node, wanted);
            return None;
        }
        match read(&scalar.text) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.complain(path, place, complaint);
                None
            }
        }
    }

    /// The value of a key; the table's default when it is absent or wrong.
    fn value<T>(&mut self, section: &Section<'_>, name: &str, read: impl Fn(&str) -> Read<T>) -> T {
        let key = section.key(name);
        let written = section.get(name).and_then(|entry| {
            let path = section.path_of(name);
            self.parse(&entry.value, entry.place(), &path, key.shape.noun(), &read)
        });
        written.unwrap_or_else(|| read(key.default).expect("the table's defaults are good"))
    }

    /// The value of a key that has no default.
    pub(super) fn optional<T>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        read: impl Fn(&str) -> Read<T>,
    ) -> Option<T> {
        let key = section.key(name);
        let entry = section.get(name)?;
        let nullable = key.default == "null";
        if nullable && entry.value.is_null() {
            return None;
        }
        let path = section.path_of(name);
        self.parse(&entry.value, entry.place(), &path, key.shape.noun(), read)
    }

    pub(super) fn text(&mut self, section: &Section<'_>, name: &str) -> Option<String> {
        self.optional(section, name, |text| Ok(text.to_owned()))
    }

    pub(super) fn text_or_default(&mut self, section: &Section<'_>, name: &str) -> String {
        self.value(section, name, |text| Ok(text.to_owned()))
    }

    pub(super) fn parsed_or_default<T>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        read: impl Fn(&str) -> Read<T>,
    ) -> T {
        self.value(section, name, read)
    }

    pub(super) fn flag(&mut self, section: &Section<'_>, name: &str) -> bool {
        self.value(section, name, scalar::flag)
    }

    pub(super) fn duration(&mut self, section: &Section<'_>, name: &str) -> Duration {
        let zero = matches!(section.key(name).shape, Shape::Duration { zero: true });
        self.value(section, name, |text| match scalar::duration(text)? {
            Duration::ZERO if !zero => {
                Err(Complaint::new("out-of-range", "is 0; it must be longer", "too short"))
            }
            duration => Ok(duration),
        })
    }

    pub(super) fn size(&mut self, section: &Section<'_>, name: &str) -> u64 {
        let Shape::Size { least } = section.key(name).shape else {
            unreachable!("`{name}` is not a size")
        };
        self.value(section, name, |text| match scalar::size(text)? {
            bytes if bytes < least => {
                let what = format!("is `{text}`; it must be at least {}", scalar::show_size(least));
                Err(Complaint::new("out-of-range", what, "too small"))
            }
            bytes => Ok(bytes),
        })
    }

    /// A least rate; `null` and 0 are none.
    pub(super) fn min_rate(&mut self, section: &Section<'_>, name: &str) -> Option<MinRate> {
        let off = section.get(name).is_some_and(|entry| entry.value.is_null());
        if off { None } else { MinRate::new(self.value(section, name, scalar::rate)) }
    }

    pub(super) fn count(&mut self, section: &Section<'_>, name: &str) -> u64 {
        let (least, most) = section.key(name).shape.bounds().expect("the key is a count");
        self.value(section, name, |text| scalar::count(text, least, most))
    }

    pub(super) fn optional_count(&mut self, section: &Section<'_>, name: &str) -> Option<u64> {
        let (least, most) = section.key(name).shape.bounds().expect("the key is a count");
        self.optional(section, name, |text| scalar::count(text, least, most))
    }

    /// One of the words the table allows.
    pub(super) fn word(&mut self, section: &Section<'_>, name: &str) -> &'static str {
        let Shape::Word(words) = section.key(name).shape else {
            unreachable!("`{name}` is not a word")
        };
        self.value(section, name, |text| one_of(text, words))
    }

    /// Single values of a list, each with its place.
    pub(super) fn items<T>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        wanted: &str,
        read: impl Fn(&str) -> Read<T>,
    ) -> Vec<(T, Range<usize>)> {
        let path = section.path_of(name);
        let mut all = Vec::new();
        for node in self.list(section, name) {
            if let Some(value) = self.parse(node, node.span.clone(), &path, wanted, &read) {
                all.push((value, node.span.clone()));
            }
        }
        all
    }
}

/// `text`, if it is one of `words`.
pub(super) fn one_of(text: &str, words: &[&'static str]) -> Read<&'static str> {
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Ok(word);
    }
    let what = format!("is `{text}`, which is not one of its values");
    let foreign = hints::foreign_value(text).filter(|word| words.contains(word));
    let help = match foreign {
        Some(word) => format!("called `{word}` here; values: {}", words.join(", ")),
        None => hints::choices(text, "values", words),
    };
    Err(Complaint::new("unknown-value", what, "unknown value").help(help))
}

/// "a list" → "a list": the label says only the first words of what is wanted.
fn bare_noun(wanted: &str) -> &str {
    wanted.split([':', '(', ',']).next().unwrap_or(wanted).trim()
}

impl Shape {
    /// What it is, for people.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Shape::Flag => "`true` or `false`",
            Shape::Count { .. } => "a whole number",
            Shape::Number => "a number",
            Shape::Percent => "a percentage",
            Shape::Duration { .. } => "a duration",
            Shape::Size { .. } => "a size",
            Shape::Rate => "a size per second",
            Shape::Text => "text",
            Shape::Secret => "text, or `file:PATH`",
            Shape::Word(_) => "a word",
            Shape::Null => "`null`",
            Shape::Off => "`false`",
            Shape::List(_) => "a list",
            Shape::Map(_) | Shape::Section(_) => "a mapping",
            Shape::OneOf(shapes) => shapes[0].noun(),
        }
    }

    fn bounds(&self) -> Option<(u64, u64)> {
        match self {
            Shape::Count { least, most } => Some((*least, *most)),
            Shape::OneOf(shapes) => shapes.iter().find_map(Shape::bounds),
            Shape::Flag
            | Shape::Number
            | Shape::Percent
            | Shape::Duration { .. }
            | Shape::Size { .. }
            | Shape::Rate
            | Shape::Text
            | Shape::Secret
            | Shape::Word(_)
            | Shape::Null
            | Shape::Off
            | Shape::List(_)
            | Shape::Map(_)
            | Shape::Section(_) => None,
        }
    }
}
