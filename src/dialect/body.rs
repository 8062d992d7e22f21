//! Reads what routing needs from a JSON body, and checks that the whole of it is JSON.
//!
//! Nothing is built in memory: values that are not wanted are skipped by the parser.
use super::RefusalCode;
use super::grpc::MessageProblem;
use super::name::Named;
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// What a JSON body says at its top level; nothing when it is not an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// The field `model`; the range holds the JSON string with its quotes.
    pub model: Option<Named>,
    /// `"stream": true`.
    pub stream: bool,
    /// The wanted fields that were there: strings decoded, other scalars as written, no `null`.
    pub fields: Vec<(String, String)>,
}

/// Why a body cannot name its model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyProblem {
    #[error("the body is not JSON: {message} at line {line} column {column}")]
    NotJson { message: String, line: usize, column: usize },
    #[error("the body has two fields `model`: send one")]
    TwoModels,
    #[error("`model` is {found}, but names a model only as a string")]
    ModelNotText { found: &'static str },
    #[error(transparent)]
    Message(MessageProblem),
}

impl BodyProblem {
    /// The code of the refusal.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::NotJson { .. } => RefusalCode::InvalidJson,
            Self::TwoModels => RefusalCode::BadRequest,
            Self::ModelNotText { .. } => RefusalCode::ModelRequired,
            Self::Message(problem) => problem.code(),
        }
    }

    /// The field to blame.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::NotJson { .. } | Self::Message(_) => None,
            Self::TwoModels | Self::ModelNotText { .. } => Some("model"),
        }
    }
}

/// A byte order mark, which parsers may ignore (RFC 8259, section 8.1).
pub(super) const BOM: char = '\u{feff}';

/// Does an object begin here?
pub(super) fn begins_object(body: &[u8]) -> bool {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    body.trim_ascii_start().starts_with(b"{")
}

/// Reads a complete body. Of a wanted field that is written twice the last counts, as JSON parsers
/// have it; of `model` that would be a way around whoever checked the first, so two are an error.
pub fn peek(body: &[u8], wanted: &[impl AsRef<str>]) -> Result<BodyFacts, BodyProblem> {
    let whole = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    let text = whole.strip_prefix(BOM).unwrap_or(whole);
    let mut fields = Fields::new(whole, wanted);
    let mut json = serde_json::Deserializer::from_str(text);
    let read = if text.trim_ascii_start().starts_with('{') {
        json.deserialize_map(Top(&mut fields))
    } else {
        json.deserialize_ignored_any(IgnoredAny).map(drop)
    };
    read.and_then(|()| json.end()).map_err(|error| not_json(&error))?;
    fields.finish()
}

/// The top-level fields as they come by; shared with the reader of prefixes.
pub(super) struct Fields<'a, W> {
    text: &'a str,
    wanted: &'a [W],
    models: u32,
    model: Option<&'a str>,
    stream: bool,
    values: Vec<Option<&'a str>>,
}

impl<'a, W: AsRef<str>> Fields<'a, W> {
    pub(super) fn new(text: &'a str, wanted: &'a [W]) -> Self {
        let values = vec![None; wanted.len()];
        Self { text, wanted, models: 0, model: None, stream: false, values }
    }

    pub(super) fn which(&self, key: &str) -> Key {
        let wanted = self.wanted.iter().position(|wanted| wanted.as_ref() == key);
        let none = Key { model: false, alike: false, stream: false, wanted };
        match key {
            "model" => Key { model: true, ..none },
            "stream" => Key { stream: true, ..none },
            // Servers written in Go take it for the same.
            _ => Key { alike: key.eq_ignore_ascii_case("model"), ..none },
        }
    }

    /// Takes the raw text of a field's value, which is part of `text`.
    pub(super) fn take(&mut self, key: Key, raw: &'a str) {
        if key.model {
            self.model = Some(raw);
        }
        self.models += u32::from(key.model || key.alike);
        if key.stream {
            self.stream = raw == "true";
        }
        if let Some(i) = key.wanted {
            self.values[i] = Some(raw);
        }
    }

    pub(super) fn finish(self) -> Result<BodyFacts, BodyProblem> {
        if self.models > 1 {
            return Err(BodyProblem::TwoModels);
        }
        let model = match self.model {
            None | Some("null") => None,
            Some(raw) if raw.starts_with('"') => {
                let name = serde_json::from_str(raw).map_err(|error| not_json(&error))?;
                let start = raw.as_ptr().addr() - self.text.as_ptr().addr();
                Some(Named { name, range: start..start + raw.len() })
            }
            Some(raw) => return Err(BodyProblem::ModelNotText { found: kind(raw) }),
        };
        let pairs = self.wanted.iter().zip(self.values);
        let fields = pairs
            .filter_map(|(name, raw)| Some((name.as_ref().to_owned(), as_text(raw?)?)))
            .collect();
        Ok(BodyFacts { model, stream: self.stream, fields })
    }
}

/// What a top-level key is wanted for.
#[derive(Clone, Copy)]
pub(super) struct Key {
    model: bool,
    /// `Model`, which is another key to some readers only.
    alike: bool,
    stream: bool,
    wanted: Option<usize>,
}

impl Key {
    pub(super) fn matters(self) -> bool {
        self.model || self.alike || self.stream || self.wanted.is_some()
    }
}

fn as_text(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(raw.to_owned()),
    }
}

pub(super) fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

pub(super) fn not_json(error: &serde_json::Error) -> BodyProblem {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default().to_owned();
    BodyProblem::NotJson { message, line: error.line(), column: error.column() }
}

fn not_utf8(body: &[u8], at: usize) -> BodyProblem {
    let (mut line, mut column) = (1, 1);
    for &byte in &body[..at] {
        (line, column) = if byte == b'\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    BodyProblem::NotJson { message: "bytes that are not UTF-8".to_owned(), line, column }
}

struct Top<'f, 'a, W>(&'f mut Fields<'a, W>);

impl<'a, W: AsRef<str>> Visitor<'a> for Top<'_, 'a, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = self.0;
        while let Some(key) = map.next_key_seed(WhichKey(fields))? {
            if key.matters() {
                let raw: &RawValue = map.next_value()?;
                fields.take(key, raw.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Compares keys as they are decoded, without keeping them.
struct WhichKey<'f, 'a, W>(&'f Fields<'a, W>);

impl<'de, W: AsRef<str>> DeserializeSeed<'de> for WhichKey<'_, '_, W> {
    type Value = Key;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Key, D::Error> {
        key.deserialize_str(self)
    }
}

impl<W: AsRef<str>> Visitor<'_> for WhichKey<'_, '_, W> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(self.0.which(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const NONE: [&str; 0] = [];

    fn problem(body: &str) -> BodyProblem {
        peek(body.as_bytes(), &NONE).unwrap_err()
    }

    #[test]
    fn the_model_is_found_with_its_place() {
        let body = "{ \"messages\": [{\"model\":\"inner\"}],\n \"model\" : \"a\\u0062\" , \"x\":1}";
        let named = peek(body.as_bytes(), &NONE).unwrap().model.unwrap();
        assert_eq!((named.name.as_str(), &body[named.range]), ("ab", "\"a\\u0062\""));
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let body = "\u{feff} {\"model\":\"a\"}";
        let named = peek(body.as_bytes(), &NONE).unwrap().model.unwrap();
        assert_eq!((named.name.as_str(), &body[named.range]), ("a", "\"a\""));
        assert!(matches!(problem("\u{feff}\u{feff}{}"), BodyProblem::NotJson { .. }));
    }

    #[test]
    fn two_models_are_an_error_however_they_are_spelled() {
        assert_eq!(problem(r#"{"model":"a","model":"a"}"#), BodyProblem::TwoModels);
        assert_eq!(problem(r#"{"model":"a","\u006dodel":null}"#), BodyProblem::TwoModels);
        assert_eq!(problem(r#"{"model":"a","MODEL":"b"}"#), BodyProblem::TwoModels);
        assert_eq!(peek(br#"{"Model":"a"}"#, &NONE).unwrap().model, None);
    }

    #[test]
    fn what_is_not_json_is_located() {
        let BodyProblem::NotJson { line, column, .. } = problem("{\n \"model\": \"a\",}") else {
            panic!("not JSON")
        };
        assert_eq!((line, column), (2, 15));
        assert!(matches!(problem(r#"{"model":"a"} x"#), BodyProblem::NotJson { .. }));
        assert!(matches!(problem(r#"{"a":[1,}"#), BodyProblem::NotJson { .. }));
        let latin = peek(b"{\"a\":\n\"\xe9\"}", &NONE).unwrap_err();
        assert!(latin.to_string().ends_with("not UTF-8 at line 2 column 2"), "{latin}");
    }

    #[test]
    fn a_model_that_is_no_string_is_a_problem_but_null_names_none() {
        assert_eq!(problem(r#"{"model":[1]}"#), BodyProblem::ModelNotText { found: "an array" });
        assert_eq!(problem(r#"{"model":7}"#), BodyProblem::ModelNotText { found: "a number" });
        assert_eq!(peek(br#"{"model":null}"#, &NONE).unwrap().model, None);
    }

    #[test]
    fn what_is_no_object_names_none() {
        for body in ["[1,{\"model\":\"a\"}]", "\"model\"", "3", "null"] {
            assert_eq!(peek(body.as_bytes(), &NONE), Ok(BodyFacts::default()));
        }
    }

    #[test]
    fn wanted_fields_come_as_text() {
        let body = r#"{"user":"a\n","n":1.50,"t":true,"o":{},"z":null,"user":"b\n"}"#;
        let facts = peek(body.as_bytes(), &["user", "n", "t", "o", "z", "absent"]).unwrap();
        let pairs: Vec<_> = facts.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("user", "b\n"), ("n", "1.50"), ("t", "true")]);
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(peek(deep.as_bytes(), &NONE).is_ok());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        let key = || prop_oneof![Just("model".to_owned()), Just("stream".to_owned()), ".{0,6}"];
        leaf.prop_recursive(3, 24, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(key(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn peek_sees_what_a_full_parse_sees(value in any_json(), pretty: bool) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let facts = peek(text.as_bytes(), &["stream"]);
            match value.get("model") {
                None | Some(Value::Null) => prop_assert_eq!(facts.unwrap().model, None),
                Some(Value::String(name)) => {
                    let facts = facts.unwrap();
                    let named = facts.model.unwrap();
                    prop_assert_eq!(&named.name, name);
                    let raw: Value = serde_json::from_str(&text[named.range]).unwrap();
                    prop_assert_eq!(raw.as_str(), Some(name.as_str()));
                    prop_assert_eq!(facts.stream, value["stream"] == Value::Bool(true));
                }
                Some(_) => {
                    let refused = matches!(facts, Err(BodyProblem::ModelNotText { .. }));
                    prop_assert!(refused);
                }
            }
        }

        #[test]
        fn any_bytes_are_peeked_without_panic(body: Vec<u8>, json in "[{}\\[\\]\",:a1\\\\u model]*") {
            drop(peek(&body, &["user"]));
            let agrees = serde_json::from_str::<Value>(&json).is_ok();
            let refused = matches!(peek(json.as_bytes(), &NONE), Err(BodyProblem::NotJson { .. }));
            prop_assert!(!(agrees && refused));
        }
    }
}
