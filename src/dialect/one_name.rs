//! Reads the one name of a model in a body so strictly that no server can read another one, and says where to write it.
//!
//! A key that may use some models must not reach another by a name that a replica reads and Evener did not. Servers differ
//! in what they take: Go's `encoding/json` knows keys without their case and takes the last of two, Python's `json` reads
//! UTF-16, form parsers differ in half of what RFC 7578 leaves open. What is read here is refused unless it has one meaning,
//! and the name is written back as it was understood.
use super::RefusalCode;
use super::body::{BodyProblem, not_json};
use super::encoding::{JsonText, json_text};
use super::media::{essence, is_coded};
use super::naming::NAMING_FIELDS;
use super::prompt::names::folded;
use super::rewrite::Edit;
use super::sole_form::{FormProblem, parameters, sole_model};
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// Where the name stands, or is to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameSpot {
    /// A JSON value.
    Value(Range<usize>),
    /// Behind this place in an object without a name. `alone`: it has no other field.
    Missing { at: usize, alone: bool },
    /// The part of a form, its head too.
    Part(Range<usize>),
}

/// The name, if there is one, and where to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneName {
    pub name: Option<String>,
    pub spot: NameSpot,
}

/// Why it cannot be told which model a body names to every server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    #[error(transparent)]
    Body(#[from] BodyProblem),
    #[error("{0}")]
    Encoding(&'static str),
    #[error("the body is compressed: send it uncompressed")]
    Sealed,
    #[error("the body has a field `{0}`, which some servers take for `model`: write it as `model`")]
    Alike(String),
    #[error(
        "the body has a field `{0}`, which some servers take for the name of a model: leave it out"
    )]
    Beside(&'static str),
    #[error("the body is neither a JSON object nor a form")]
    Unreadable,
    #[error("the body is a JSON object, and its content type says a form: send `application/json`")]
    Mistyped,
    #[error("its content type says another encoding than UTF-8")]
    Charset,
    #[error("the form {0}")]
    Form(FormProblem),
}

impl NameProblem {
    /// The code of the refusal.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Body(problem) => problem.code(),
            Self::Encoding(_) | Self::Charset | Self::Unreadable => RefusalCode::InvalidJson,
            Self::Sealed => RefusalCode::ModelUnreadable,
            Self::Form(FormProblem::Nameless) => RefusalCode::ModelRequired,
            Self::Alike(_) | Self::Beside(_) | Self::Mistyped | Self::Form(_) => {
                RefusalCode::BadRequest
            }
        }
    }
}

impl NameSpot {
    /// Writes the name there.
    pub fn edit(&self, name: &str) -> Edit {
        match self {
            Self::Value(range) => Edit::json(range.clone(), name),
            Self::Missing { at, alone } => {
                let comma = if *alone { "" } else { "," };
                let name = Edit::json(0..0, name).new;
                Edit::insert(*at, format!("\"model\":{name}{comma}"))
            }
            Self::Part(range) => {
                let head = "Content-Disposition: form-data; name=\"model\"\r\n\r\n";
                Edit::bare(range.clone(), &format!("{head}{name}"))
            }
        }
    }
}

/// Reads a whole body.
pub fn one_name(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    body: &[u8],
) -> Result<OneName, NameProblem> {
    if is_coded(content_encoding) {
        return Err(NameProblem::Sealed);
    }
    let kind = content_type.unwrap_or_default();
    let essence = essence(kind).to_ascii_lowercase();
    let is_form = essence.starts_with("multipart/");
    let is_urlencoded = essence == "application/x-www-form-urlencoded";
    match json_text(content_type, body) {
        JsonText::Unusual(what) => Err(NameProblem::Encoding(what)),
        JsonText::Utf8(_) if is_form || is_urlencoded => Err(NameProblem::Mistyped),
        JsonText::Utf8(text) => {
            if !charset_is_plain(kind) {
                return Err(NameProblem::Charset);
            }
            in_json(text)
        }
        JsonText::No if is_form => {
            let (name, part) = sole_model(kind, body).map_err(NameProblem::Form)?;
            Ok(OneName { name: Some(name), spot: NameSpot::Part(part) })
        }
        JsonText::No => Err(NameProblem::Unreadable),
    }
}

/// Can no server read UTF-8 as something else by this type? (`aiohttp` decodes JSON by the `charset`, UTF-7 too.)
fn charset_is_plain(content_type: &str) -> bool {
    let Some(parameters) = parameters(content_type) else { return false };
    let mut charsets = parameters.iter().filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
    charsets.all(|(_, value)| {
        ["utf-8", "utf8", "us-ascii"].iter().any(|plain| value.eq_ignore_ascii_case(plain))
    })
}

fn in_json(text: &str) -> Result<OneName, NameProblem> {
    let start = text.len() - text.trim_ascii_start().len();
    if !text[start..].starts_with('{') {
        return Err(NameProblem::Unreadable);
    }
    let mut found = Found { top: true, ..Found::default() };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(Fields(&mut found)).and_then(|()| json.end());
    if let Some(problem) = found.problem {
        return Err(problem);
    }
    read.map_err(|error| not_json(&error))?;
    let Some(raw) = found.model else {
        let spot = NameSpot::Missing { at: start + 1, alone: found.fields == 0 };
        return Ok(OneName { name: None, spot });
    };
    let from = raw.as_ptr().addr() - text.as_ptr().addr();
    let name = match raw.as_bytes().first() {
        Some(b'"') => Some(serde_json::from_str(raw).map_err(|error| not_json(&error))?),
        Some(b'n') => None,
        _ => return Err(BodyProblem::ModelNotText { found: super::body::kind(raw) }.into()),
    };
    Ok(OneName { name, spot: NameSpot::Value(from..from + raw.len()) })
}

/// What was found in an object.
#[derive(Debug, Default)]
struct Found<'a> {
    /// It is the body itself; in `parameters` a `model` is none.
    top: bool,
    /// It is `session`, in which OpenAI's realtime API names a model.
    session: bool,
    fields: usize,
    model: Option<&'a str>,
    problem: Option<NameProblem>,
}

struct Fields<'f, 'a>(&'f mut Found<'a>);

impl<'a> Visitor<'a> for Fields<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let found = self.0;
        while let Some(key) = map.next_key_seed(Spelled)? {
            found.fields += 1;
            let problem = match key {
                Spelling::Model if found.top => {
                    let raw: &RawValue = map.next_value()?;
                    let twice = found.model.replace(raw.get()).is_some();
                    twice.then_some(NameProblem::Body(BodyProblem::TwoModels))
                }
                Spelling::Parameters | Spelling::Session if found.top => {
                    let raw: &RawValue = map.next_value()?;
                    if raw.get().starts_with('{') {
                        let session = matches!(key, Spelling::Session);
                        let mut inner = Found { session, ..Found::default() };
                        let mut json = serde_json::Deserializer::from_str(raw.get());
                        let read = json.deserialize_map(Fields(&mut inner));
                        if inner.problem.is_none() {
                            read.map_err(A::Error::custom)?;
                        }
                        inner.problem
                    } else {
                        None
                    }
                }
                Spelling::Alike(key) if found.top => Some(NameProblem::Alike(key)),
                Spelling::Beside(key) => Some(NameProblem::Beside(key)),
                Spelling::Model | Spelling::Alike(_) if found.session => {
                    Some(NameProblem::Beside("session.model"))
                }
                Spelling::Model
                | Spelling::Alike(_)
                | Spelling::Parameters
                | Spelling::Session
                | Spelling::Other => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
            };
            if problem.is_some() {
                found.problem = problem;
                return Err(A::Error::custom("more than one name"));
            }
        }
        Ok(())
    }
}

/// How a key is spelled.
enum Spelling {
    /// As `model`, to the letter.
    Model,
    /// In another way that some servers take for it.
    Alike(String),
    Beside(&'static str),
    Parameters,
    Session,
    Other,
}

impl Spelling {
    fn of(key: &str, to_the_letter: bool) -> Self {
        let bare = key.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        match &*folded(bare) {
            "model" if to_the_letter && key == "model" => Self::Model,
            "model" => Self::Alike(key.chars().take(20).collect()),
            "parameters" => Self::Parameters,
            "session" => Self::Session,
            other => {
                let beside = NAMING_FIELDS.into_iter().find(|known| *known == other);
                beside.map_or(Self::Other, Self::Beside)
            }
        }
    }
}

struct Spelled;

impl<'de> DeserializeSeed<'de> for Spelled {
    type Value = Spelling;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Spelling, D::Error> {
        key.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Spelled {
    type Value = Spelling;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    /// A key without escapes.
    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Spelling, E> {
        Ok(Spelling::of(key, true))
    }

    fn visit_str<E>(self, key: &str) -> Result<Spelling, E> {
        Ok(Spelling::of(key, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::rewrite::edited;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::Value;

    const JSON: Option<&str> = Some("application/json");

    /// The name, and the body with another one.
    fn read(body: &str) -> Result<(Option<String>, String), NameProblem> {
        let OneName { name, spot } = one_name(JSON, None, body.as_bytes())?;
        let new = edited(&Bytes::copy_from_slice(body.as_bytes()), vec![spot.edit("n\"é")]);
        Ok((name, String::from_utf8(new.to_vec()).unwrap()))
    }

    #[test]
    fn the_one_name_is_read_and_written_back() {
        for (body, name, written) in [
            (r#"{"model":"a","x":1}"#, Some("a"), r#"{"model":"n\"é","x":1}"#),
            (r#" { "x":1, "model" : "\u0061b" } "#, Some("ab"), r#" { "x":1, "model" : "n\"é" } "#),
            (r#"{"model":null}"#, None, r#"{"model":"n\"é"}"#),
            (
                r#"{"messages":[{"Model":"b"}]}"#,
                None,
                r#"{"model":"n\"é","messages":[{"Model":"b"}]}"#,
            ),
            ("{}", None, r#"{"model":"n\"é"}"#),
            (" {\n}", None, " {\"model\":\"n\\\"é\"\n}"),
            (
                r#"{"parameters":{"model":"b"}}"#,
                None,
                r#"{"model":"n\"é","parameters":{"model":"b"}}"#,
            ),
        ] {
            let name = name.map(str::to_owned);
            assert_eq!(read(body), Ok((name, written.to_owned())), "{body}");
        }
    }

    #[test]
    fn what_some_server_reads_otherwise_is_refused() {
        for body in [
            r#"{"model":"a","model":"a"}"#,
            r#"{"model":"a","Model":"b"}"#,
            r#"{"Model":"b"}"#,
            r#"{"MODEL":"b"}"#,
            r#"{"mod\u0065l":"b"}"#,
            r#"{"model":"a","mod\u0065l":"b"}"#,
            "{\"model\":\"a\"}\n{\"model\":\"b\"}",
            r#"{"model":"a","t":NaN}"#,
            r#"{"model":"a",}"#,
            r#"{"model":["b"]}"#,
            r#"[{"model":"b"}]"#,
            r#""b""#,
            r#"{"model":"a","models":["b"]}"#,
            r#"{"model":"a","Lora_Path":"b"}"#,
            r#"{"model":"a","parameters":{"adapter_id":"b"}}"#,
            r#"{"model":"a","lora":[{"id":1,"scale":1}]}"#,
            r#"{"model":"a","parameters":{"merged_adapters":{"ids":["b"]}}}"#,
            r#"{"model":"a","session":{"type":"realtime","model":"b"}}"#,
            r#"{"model":"a","context_window_fallbacks":[{"a":["b"]}]}"#,
            r#"{"model":"a","model ":"b"}"#,
            r#"{"model":"a","model\u0000":"b"}"#,
            "\u{feff}{\"model\":\"a\"}",
            "{'model':'a'}",
            "model=b",
            "",
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        let body = br#"{"model":"a","x":"+ACI-,+ACI-model+ACI-:+ACI-b"}"#;
        for kind in [
            "multipart/form-data; boundary=b",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-7",
            "application/json; charset=\"utf-16\"",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; x; charset=utf-7",
        ] {
            assert!(one_name(Some(kind), None, body).is_err(), "{kind}");
        }
        for kind in
            ["application/json; charset=utf-8", "text/plain", "application/json ;CHARSET=\"UTF-8\""]
        {
            assert!(one_name(Some(kind), None, body).is_ok(), "{kind}");
        }
        assert_eq!(one_name(JSON, Some("gzip"), body), Err(NameProblem::Sealed));
    }

    proptest! {
        #[test]
        fn whatever_is_read_any_parser_reads_the_name_that_was_written(
            json in "\\{[{}\\[\\]\",:a1\\\\u model]{0,40}\\}", name in "[a-zé\"\\\\]{1,5}",
        ) {
            let Ok(OneName { spot, .. }) = one_name(JSON, None, json.as_bytes()) else { return Ok(()) };
            let body = edited(&Bytes::from(json), vec![spot.edit(&name)]);
            let whole: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(whole["model"].as_str(), Some(&*name));
            let alike = whole.as_object().unwrap().keys().filter(|key| key.eq_ignore_ascii_case("model"));
            prop_assert_eq!(alike.count(), 1);
        }
    }
}
