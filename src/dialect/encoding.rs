//! Is a body JSON, and in which encoding? Servers differ in what they take: Python's `json` reads UTF-16 and UTF-32 (it
//! looks for zero bytes, RFC 4627 §3) and a byte order mark, others refuse them (RFC 8259 §8.1 asks for UTF-8 alone).
use super::media::essence;

/// A body, as far as it is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonText<'a> {
    /// It is something else, by its type and its first bytes.
    No,
    Utf8(&'a str),
    /// Some servers read it as JSON, and others do not; this says why, after "and".
    Unusual(&'static str),
}

/// Reads a body that is JSON by its type, or that begins as JSON does: many servers do not look at the type.
pub fn json_text<'a>(content_type: Option<&str>, body: &'a [u8]) -> JsonText<'a> {
    const GRPC: &str = "application/grpc";
    let kind = content_type.unwrap_or_default();
    if kind.get(..GRPC.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(GRPC)) {
        return JsonText::No;
    }
    if let Some(unusual) = mark_of(body) {
        return JsonText::Unusual(unusual);
    }
    let begins = body.trim_ascii_start().first().is_some_and(|byte| b"{[".contains(byte));
    if !(begins || is_json(kind)) {
        return JsonText::No;
    }
    match std::str::from_utf8(body) {
        Ok(text) => JsonText::Utf8(text),
        Err(_) => JsonText::Unusual("the body has bytes that are not UTF-8: send it as UTF-8"),
    }
}

/// What the first bytes say of an encoding other than plain UTF-8.
pub(super) fn mark_of(body: &[u8]) -> Option<&'static str> {
    const WIDE: &str = "the body is UTF-16 or UTF-32: send it as UTF-8";
    let begins = |byte: &u8| b"{[ \t\r\n".contains(byte);
    match body {
        [0xef, 0xbb, 0xbf, ..] => {
            Some("the body begins with a byte order mark (BOM): send it without")
        }
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, 0, 0xfe, 0xff, ..] => Some(WIDE),
        // No JSON in UTF-8 has a zero byte.
        [0, byte, ..] | [byte, 0, ..] | [0, 0, 0, byte, ..] if begins(byte) => Some(WIDE),
        _ => None,
    }
}

/// Does a content type say JSON?
pub fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    let is_suffix = |end: &str| end.eq_ignore_ascii_case("+json");
    essence.eq_ignore_ascii_case("application/json")
        || essence.get(essence.len().saturating_sub(5)..).is_some_and(is_suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str, unit: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn json_is_known_by_its_type_or_its_first_bytes() {
        let text = r#" {"model":"é"}"#;
        assert_eq!(json_text(None, text.as_bytes()), JsonText::Utf8(text));
        assert_eq!(json_text(Some("text/plain"), b"[1]"), JsonText::Utf8("[1]"));
        assert_eq!(json_text(Some("application/json; charset=x"), b"7"), JsonText::Utf8("7"));
        for no in [
            &b""[..],
            b"model=m",
            b"--b\r\n",
            b"\0\0\0\0\x05\x0a",
            b"\x01\0",
            b"\0\x05",
            b"RIFF\0\0",
        ] {
            assert_eq!(json_text(Some("multipart/form-data"), no), JsonText::No, "{no:?}");
        }
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        for yes in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"]
        {
            assert!(is_json(yes), "{yes}");
        }
        for no in ["text/plain", "application/octet-stream", "application/jsonl", ""] {
            assert!(!is_json(no), "{no:?}");
        }
    }

    #[test]
    fn what_only_some_servers_read_is_unusual() {
        let text = r#"{"model":"m"}"#;
        let utf32 = |unit: u16| u32::from(unit);
        let bodies = [
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            wide(text, |unit| unit.to_le_bytes().into()),
            wide(text, |unit| unit.to_be_bytes().into()),
            wide(&format!("\u{feff}{text}"), |unit| unit.to_le_bytes().into()),
            wide(&format!("\u{feff}{text}"), |unit| unit.to_be_bytes().into()),
            wide(text, |unit| utf32(unit).to_le_bytes().into()),
            wide(text, |unit| utf32(unit).to_be_bytes().into()),
            wide(&format!("\u{feff}{text}"), |unit| utf32(unit).to_be_bytes().into()),
            b"{\"a\":\"\xff\"}".to_vec(),
        ];
        for body in bodies {
            assert!(matches!(json_text(None, &body), JsonText::Unusual(_)), "{body:?}");
        }
    }
}
