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

#[cfg(test)]
mod tests {
    use super::*;

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
