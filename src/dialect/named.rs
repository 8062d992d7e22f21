//! Every model that a body names, wherever routing looked: a key that may use only some models must not reach another by
//! a name that the replica reads and routing did not.
use super::body::{BodyProblem, peek};
use super::facts::Unidentified;
use super::media::is_coded;
use super::multipart::fields;
use super::path::PathFacts;
use super::rows::ModelAt;

/// The models that a whole body names; an error where that cannot be told.
///
/// A body that looks like JSON is read as JSON whatever its type says, for there are servers that do the same.
pub fn models_named(
    path: &PathFacts,
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    body: &[u8],
) -> Result<Vec<String>, Unidentified> {
    if is_coded(content_encoding) {
        return if path.row.model == ModelAt::Body {
            Err(Unidentified::Sealed)
        } else {
            Ok(Vec::new())
        };
    }
    let kind = content_type.unwrap_or_default();
    let forms = fields(kind, body).into_iter().map(|field| field.map(|named| named.name));
    let mut names: Vec<String> =
        forms.collect::<Option<_>>().ok_or(BodyProblem::ModelNotText { found: "not UTF-8" })?;
    if body.trim_ascii_start().starts_with(b"{") {
        names.extend(peek(body, &[""; 0])?.model.map(|named| named.name));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::dialect::read_path;

    const FORM: &str = "multipart/form-data; boundary=x";

    fn named(kind: &str, body: &str) -> Result<Vec<String>, Unidentified> {
        let chat = read_path("/v1/chat/completions").unwrap();
        models_named(&chat, Some(kind), None, body.as_bytes())
    }

    #[test]
    fn json_is_found_whatever_its_type_says() {
        for kind in ["application/json", "text/plain", FORM] {
            let body = r#" {"x": 1, "mod\u0065l": "a"}"#;
            assert_eq!(named(kind, body), Ok(vec!["a".to_owned()]), "{kind}");
            let twice = named(kind, r#"{"model":"a","Model":"b"}"#);
            assert_eq!(twice, Err(Unidentified::Body(BodyProblem::TwoModels)), "{kind}");
            assert!(named(kind, r#"{"model":"a","temperature":NaN}"#).is_err(), "{kind}");
        }
        assert_eq!(named("text/plain", "no json"), Ok(Vec::new()));
    }

    #[test]
    fn all_fields_of_a_form_are_found_behind_a_long_file_too() {
        let part = |name: &str, value: &str| {
            format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = part("model", "a")
            + &part("file", &"z".repeat(100_000))
            + &part("model", "b")
            + "--x--\r\n";
        assert_eq!(named(FORM, &body), Ok(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn what_is_compressed_cannot_be_told_where_it_would_count() {
        let sealed =
            |path| models_named(&read_path(path).unwrap(), None, Some("gzip"), b"\x1f\x8b");
        assert_eq!(sealed("/v1/embeddings"), Err(Unidentified::Sealed));
        assert_eq!(sealed("/score-me"), Ok(Vec::new()));
    }
}
