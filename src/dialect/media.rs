//! What a body's head says of it: `content-type` and `content-encoding`.

/// The media type without its parameters, spelled as it was sent (RFC 9110 §8.3.1).
pub fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Is the body compressed, or coded otherwise?
pub(super) fn is_coded(content_encoding: Option<&str>) -> bool {
    let coding = content_encoding.unwrap_or_default().trim();
    !(coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
}

/// How a body of some media type is cut into JSON documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonForm {
    /// One document.
    Document,
    /// A document a line.
    Lines,
    /// Server-sent events, whose data are documents.
    Events,
}

impl JsonForm {
    /// From a content type in any spelling. `None`: it says something else than JSON.
    pub(super) fn of(content_type: Option<&str>) -> Option<Self> {
        let kind = essence(content_type?).to_ascii_lowercase();
        match kind.as_str() {
            "text/event-stream" => Some(Self::Events),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines"
            | "application/json-lines"
            | "application/stream+json" => Some(Self::Lines),
            "application/json" => Some(Self::Document),
            kind if kind.starts_with("application/") && kind.ends_with("+json") => {
                Some(Self::Document)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_type_in_any_spelling() {
        for (kind, form) in [
            ("application/json", Some(JsonForm::Document)),
            ("Application/Problem+JSON; charset=utf-8", Some(JsonForm::Document)),
            ("application/x-ndjson", Some(JsonForm::Lines)),
            ("application/NDJSON", Some(JsonForm::Lines)),
            ("application/jsonl", Some(JsonForm::Lines)),
            ("application/x-jsonlines", Some(JsonForm::Lines)),
            ("application/jsonlines;a=b", Some(JsonForm::Lines)),
            ("application/json-lines", Some(JsonForm::Lines)),
            ("application/stream+json", Some(JsonForm::Lines)),
            (" TEXT/Event-Stream ;a=b", Some(JsonForm::Events)),
            ("text/plain", None),
            ("text/plain; a=application/json", None),
            ("image/svg+json", None),
        ] {
            assert_eq!(JsonForm::of(Some(kind)), form, "{kind}");
        }
        assert_eq!(JsonForm::of(None), None);
    }

    #[test]
    fn parameters_and_blanks_are_no_part_of_a_type() {
        for kind in ["text/html", " text/html ", "text/html;charset=x", " text/html ; a=b;c"] {
            assert_eq!(essence(kind), "text/html");
        }
        assert_eq!([essence(""), essence(";a")], [""; 2]);
    }

    #[test]
    fn nothing_and_identity_are_no_coding() {
        for plain in [None, Some(""), Some(" "), Some("identity"), Some(" Identity ")] {
            assert!(!is_coded(plain), "{plain:?}");
        }
        assert!(is_coded(Some("gzip")) && is_coded(Some("identity, gzip")));
    }
}
