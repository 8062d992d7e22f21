//! Changes a few places of a request, such as the model's name, and leaves every other byte alone.
use bytes::Bytes;
use std::ops::Range;

/// A change of a body: these bytes become others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub range: Range<usize>,
    pub new: String,
}

impl Edit {
    pub fn insert(at: usize, new: String) -> Self {
        Self { range: at..at, new }
    }

    /// The bare text at `range`, as of a field of a form, becomes this one.
    pub fn bare(range: Range<usize>, new: &str) -> Self {
        Self { range, new: new.to_owned() }
    }

    /// The JSON string at `range` (quotes included) becomes this one.
    pub fn json(range: Range<usize>, new: &str) -> Self {
        Self { range, new: serde_json::to_string(new).expect("a string is JSON") }
    }
}

/// The body with these changes, which do not overlap.
pub fn edited(body: &Bytes, mut edits: Vec<Edit>) -> Bytes {
    edits.sort_by_key(|edit| edit.range.start);
    let longer: usize = edits.iter().map(|edit| edit.new.len()).sum();
    let mut out = Vec::with_capacity(body.len() + longer);
    let mut from = 0;
    for Edit { range, new } in &edits {
        out.extend_from_slice(&body[from..range.start]);
        out.extend_from_slice(new.as_bytes());
        from = range.end;
    }
    out.extend_from_slice(&body[from..]);
    out.into()
}

/// Replaces the name at `range` by `new`, percent-encoded so that it stays one segment.
pub fn rename_in_path(raw_path_and_query: &str, range: Range<usize>, new: &str) -> String {
    let (before, after) = (&raw_path_and_query[..range.start], &raw_path_and_query[range.end..]);
    [before, &encoded_name(new), after].concat()
}

/// Replaces the value at `range` of a query by `new`, percent-encoded.
pub fn rename_in_query(target: &str, range: Range<usize>, new: &str) -> String {
    // RFC 3986, `unreserved`: `+`, `&`, `=` and the like mean something in a query.
    let new = encoded(new, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    [&target[..range.start], &new, &target[range.end..]].concat()
}

/// A name as a segment of a path.
pub fn encoded_name(name: &str) -> String {
    // RFC 3986, `pchar` without `%`; a dot alone could become a dot segment.
    let dots = matches!(name, "." | "..");
    encoded(name, |byte| {
        !dots && (byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte))
    })
}

fn encoded(text: &str, plain: impl Fn(u8) -> bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{model_in_query, peek, peek_multipart, read_path};
    use proptest::prelude::*;

    #[test]
    fn a_slash_in_a_new_name_stays_within_its_segment() {
        let path = "/v2/models/m/infer?m=1";
        let range = read_path(path).unwrap().model.unwrap().range;
        let renamed = rename_in_path(path, range, "meta-llama/L 3:é");
        assert_eq!(renamed, "/v2/models/meta-llama%2FL%203:%C3%A9/infer?m=1");
    }

    #[test]
    fn a_form_is_renamed_in_place() {
        let kind = "multipart/form-data; boundary=b";
        let part = |name| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n--b--\r\n"
            )
        };
        let body = Bytes::from(part("w"));
        let range = peek_multipart(kind, &body).unwrap().range;
        assert_eq!(edited(&body, vec![Edit::bare(range, "whisper-1")]), part("whisper-1"));
    }

    proptest! {
        #[test]
        fn renaming_a_body_keeps_the_rest(old in ".*", new in ".*", before in ".*", after in ".*") {
            let json = |s: &str| serde_json::to_string(s).unwrap();
            let head = format!("{{ \"a{}: 1.0, \"model\" : ", &json(&before)[1..]);
            let tail = format!(" , \"messages\":{}\n}}", json(&after));
            let body = Bytes::from(format!("{head}{}{tail}", json(&old)));
            let range = peek(&body, &["user"]).unwrap().model.unwrap().range;
            let renamed = edited(&body, vec![Edit::json(range, &new)]);
            prop_assert!(renamed.starts_with(head.as_bytes()) && renamed.ends_with(tail.as_bytes()));
            let named = peek(&renamed, &["user"]).unwrap().model.unwrap();
            prop_assert_eq!(named.name, new);
        }

        #[test]
        fn a_renamed_query_is_read_back(new in ".{1,8}") {
            let target = "/v1/realtime?a=1&model=old&b=model";
            let range = model_in_query(target, "model").unwrap().unwrap().range;
            let renamed = rename_in_query(target, range, &new);
            prop_assert!(renamed.starts_with("/v1/realtime?a=1&model=") && renamed.ends_with("&b=model"));
            prop_assert_eq!(model_in_query(&renamed, "model").unwrap().unwrap().name, new);
        }

        #[test]
        fn a_renamed_path_is_read_back(new in "[^/\0]{1,8}") {
            let path = "/v1/models/old:predict?x=%20";
            let range = read_path(path).unwrap().model.unwrap().range;
            let renamed = rename_in_path(path, range, &new);
            prop_assert!(renamed.ends_with(":predict?x=%20"));
            prop_assert_eq!(read_path(&renamed).unwrap().model.unwrap().name, new);
        }
    }
}
