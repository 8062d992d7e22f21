//! Reads the one name of a model in a body so strictly that no server can read another one, and says where to write it.
//!
//! A key that may use some models must not reach another by a name that a replica reads and Evener did not. Servers differ
//! in what they take: Go's `encoding/json` knows keys without their case and takes the last of two, Python's `json` reads
//! UTF-16, form parsers differ in half of what RFC 7578 leaves open. What is read here is refused unless it has one meaning,
//! and the name is written back as it was understood.
use super::RefusalCode;
use super::body::{BodyProblem, not_json};
use super::dialects::Dialect;
use super::encoding::{JsonText, is_json, json_text};
use super::media::{essence, is_coded};
use super::name_fields::{FieldProblem, Names, OtherName, Top, names};
use super::rewrite::Edit;
use super::sole_form::{FormProblem, parameters, sole_model};
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
    /// Names beside it, which must be the same.
    pub others: Vec<OtherName>,
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
    #[error(transparent)]
    Field(#[from] FieldProblem),
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
            Self::Field(_) | Self::Mistyped | Self::Form(_) => RefusalCode::BadRequest,
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
    dialect: Dialect,
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
            // Its servers took `name` for `model` once.
            let top = if dialect == Dialect::Ollama { Top::NamesTwice } else { Top::Names };
            in_json(text, top)
        }
        JsonText::No if is_form => {
            let (name, part) = sole_model(kind, body).map_err(NameProblem::Form)?;
            Ok(OneName { name: Some(name), spot: NameSpot::Part(part), others: Vec::new() })
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

fn in_json(text: &str, top: Top) -> Result<OneName, NameProblem> {
    let start = text.len() - text.trim_ascii_start().len();
    if !text[start..].starts_with('{') {
        return Err(NameProblem::Unreadable);
    }
    let found = names(text, top).map_err(|error| not_json(&error))??;
    let Names { model, fields, others } = found;
    let Some(raw) = model else {
        let spot = NameSpot::Missing { at: start + 1, alone: fields == 0 };
        return Ok(OneName { name: None, spot, others });
    };
    let from = raw.as_ptr().addr() - text.as_ptr().addr();
    let name = match raw.as_bytes().first() {
        Some(b'"') => Some(serde_json::from_str(raw).map_err(|error| not_json(&error))?),
        Some(b'n') => None,
        _ => return Err(BodyProblem::ModelNotText { found: super::body::kind(raw) }.into()),
    };
    Ok(OneName { name, spot: NameSpot::Value(from..from + raw.len()), others })
}

/// Reads what a body says of models beside a path of V1 or V2, which has named the one. `json_length`: how much of it is JSON,
/// where binary tensors follow that. Numbers that are none (`NaN`) are let pass, as their servers do.
pub fn names_beside_path(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    json_length: Option<usize>,
    body: &[u8],
) -> Result<Vec<OtherName>, NameProblem> {
    if is_coded(content_encoding) {
        return Err(NameProblem::Sealed);
    }
    let says_json = content_type.is_none_or(is_json) || json_length.is_some();
    let json = body.get(..json_length.unwrap_or(body.len())).ok_or(NameProblem::Unreadable)?;
    let text = match json_text(content_type, json) {
        JsonText::Utf8(text) if text.trim_ascii_start().starts_with('{') => text,
        JsonText::Unusual(what) if says_json => return Err(NameProblem::Encoding(what)),
        // Tensors, images and lists have no place for a name.
        JsonText::Utf8(_) | JsonText::Unusual(_) | JsonText::No => return Ok(Vec::new()),
    };
    if content_type.is_some_and(|kind| !charset_is_plain(kind)) {
        return Err(NameProblem::Charset);
    }
    let others = match names(text, Top::Tensors) {
        Ok(found) => found?.others,
        Err(error) => match names(&without_odd_numbers(text), Top::Tensors) {
            Ok(found) => found?.others,
            Err(_) if !says_json => Vec::new(),
            Err(_) => return Err(not_json(&error).into()),
        },
    };
    Ok(others)
}

/// `NaN` and `Infinity` outside of texts, which JSON does not have and writers of tensors use, become zeros.
fn without_odd_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'N', 'I']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('"') {
            let end = end_of_text(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(after) = ["NaN", "Infinity"].iter().find_map(|w| rest.strip_prefix(w)) {
            out.push('0');
            rest = after;
        } else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out + rest
}

/// Behind the quote that ends the string at the beginning of this text.
fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    text.len()
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
        let OneName { name, spot, others } =
            one_name(Dialect::OpenAi, JSON, None, body.as_bytes())?;
        let another = |other: &OtherName| Some(&other.name) != name.as_ref();
        if let Some(other) = others.into_iter().find(another) {
            return Err(FieldProblem::Beside(other.field).into());
        }
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
            assert!(one_name(Dialect::OpenAi, Some(kind), None, body).is_err(), "{kind}");
        }
        for kind in
            ["application/json; charset=utf-8", "text/plain", "application/json ;CHARSET=\"UTF-8\""]
        {
            assert!(one_name(Dialect::OpenAi, Some(kind), None, body).is_ok(), "{kind}");
        }
        assert_eq!(one_name(Dialect::OpenAi, JSON, Some("gzip"), body), Err(NameProblem::Sealed));
    }

    proptest! {
        #[test]
        fn whatever_is_read_any_parser_reads_the_name_that_was_written(
            json in "\\{[{}\\[\\]\",:a1\\\\u model]{0,40}\\}", name in "[a-zé\"\\\\]{1,5}",
        ) {
            let Ok(OneName { spot, .. }) = one_name(Dialect::OpenAi, JSON, None, json.as_bytes()) else { return Ok(()) };
            let body = edited(&Bytes::from(json), vec![spot.edit(&name)]);
            let whole: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(whole["model"].as_str(), Some(&*name));
            let alike = whole.as_object().unwrap().keys().filter(|key| key.eq_ignore_ascii_case("model"));
            prop_assert_eq!(alike.count(), 1);
        }
    }
}
