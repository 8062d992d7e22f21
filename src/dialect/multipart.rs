//! Finds the field `model` of a multipart form (RFC 7578), as audio and image uploads send it.
use super::name::Named;
use memchr::memmem;

/// The form field `model`, with the byte range of its bare value, in a body or its beginning.
/// Of two fields the first counts only if both agree, so that nobody is routed by one and served by the other.
pub fn peek_multipart(content_type: &str, body: &[u8]) -> Option<Named> {
    let mut found: Option<Named> = None;
    for named in fields(content_type, body) {
        let named = named?;
        match &found {
            Some(first) if first.name != named.name => return None,
            Some(_) => {}
            None => found = Some(named),
        }
    }
    found.filter(|named| !named.name.is_empty())
}

/// Every form field `model` of a body, in order; `None` for one that is not text.
pub(super) fn fields(content_type: &str, body: &[u8]) -> Vec<Option<Named>> {
    let mut all = Vec::new();
    let Some(boundary) = boundary(content_type) else { return all };
    let delimiter = format!("--{boundary}");
    let Some(mut at) = after_first(body, delimiter.as_bytes()) else { return all };
    // A part: the rest of the delimiter's line, its head, an empty line, its content.
    while let Some(head_end) = find(body, at, b"\r\n\r\n") {
        let content = head_end + 4;
        let Some(end) = find(body, content, format!("\r\n{delimiter}").as_bytes()) else { break };
        if names_model(&body[at..head_end]) {
            let name = std::str::from_utf8(&body[content..end]).ok();
            all.push(name.map(|name| Named { name: name.to_owned(), range: content..end }));
        }
        at = end + 2 + delimiter.len();
        if body[at..].starts_with(b"--") {
            break;
        }
    }
    all
}

/// Behind the first delimiter that begins a line.
fn after_first(body: &[u8], delimiter: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = find(body, from, delimiter)?;
        if at == 0 || body[..at].ends_with(b"\r\n") {
            return Some(at + delimiter.len());
        }
        from = at + 1;
    }
}

fn find(body: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    memmem::find(body.get(from..)?, needle).map(|at| from + at)
}

/// The parameter `boundary`, quoted or bare; 1 to 70 characters (RFC 2046).
fn boundary(content_type: &str) -> Option<&str> {
    let value = parameter(content_type, "boundary")?;
    (1..=70).contains(&value.len()).then_some(value)
}

/// Is this the head of a part called `model` that is not a file?
fn names_model(head: &[u8]) -> bool {
    let Ok(head) = std::str::from_utf8(head) else { return false };
    head.split("\r\n").any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("content-disposition")
                && parameter(value, "name") == Some("model")
                && parameter(value, "filename").is_none()
        })
    })
}

/// The value of a `; name=value` parameter; a quoted value with escapes is returned as written.
fn parameter<'a>(header: &'a str, wanted: &str) -> Option<&'a str> {
    let mut rest = &header[header.find(';')?..];
    while let Some(after) = rest.strip_prefix(';') {
        let (name, value) = after.split_once('=')?;
        let value = value.trim_start();
        let (value, behind) = if let Some(quoted) = value.strip_prefix('"') {
            let end = closing_quote(quoted)?;
            (&quoted[..end], quoted[end + 1..].trim_start())
        } else {
            let end = value.find(';').unwrap_or(value.len());
            (value[..end].trim_end(), &value[end..])
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = behind;
    }
    None
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPE: &str = "multipart/form-data; charset=utf-8; boundary=\"xY z\"";

    fn form(parts: &[(&str, &str)]) -> String {
        let part = |(disposition, content): &(&str, &str)| {
            let kind = "Content-Type: text/plain";
            let disposition = format!("content-disposition: form-data; {disposition}");
            format!("--xY z\r\n{kind}\r\n{disposition}\r\n\r\n{content}\r\n")
        };
        parts.iter().map(part).collect::<String>() + "--xY z--\r\n"
    }

    #[test]
    fn the_model_is_found_behind_a_file() {
        let body = form(&[
            ("name=\"file\"; filename=\"a;name=model.wav\"", "RIFF\r\n--xY\r\n\r\nname=\"model\""),
            ("name=\"model\"", "whisper-1"),
        ]);
        let named = peek_multipart(TYPE, body.as_bytes()).unwrap();
        assert_eq!((named.name.as_str(), &body[named.range]), ("whisper-1", "whisper-1"));
    }

    #[test]
    fn a_file_called_model_names_nothing() {
        let body = form(&[("name=model; filename=m", "x"), ("name=\"models\"", "y")]);
        assert_eq!(peek_multipart(TYPE, body.as_bytes()), None);
    }

    #[test]
    fn two_different_models_name_nothing() {
        let body = form(&[("name=model", "a"), ("name=model", "b")]);
        assert_eq!(peek_multipart(TYPE, body.as_bytes()), None);
    }

    #[test]
    fn a_field_counts_once_it_is_complete() {
        let long = "x".repeat(100_000);
        let body = form(&[("name=file; filename=f", &long), ("name=model", "a")]);
        let end = body.rfind("\r\n--xY z--").unwrap() + "\r\n--xY z".len();
        assert_eq!(peek_multipart(TYPE, &body.as_bytes()[..end - 1]), None);
        assert!(peek_multipart(TYPE, &body.as_bytes()[..end]).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned_without_panic(kind in ".*", body: Vec<u8>, text in "[-xY z\r\n:;=\"model]*") {
            drop(peek_multipart(&kind, &body));
            drop(peek_multipart(TYPE, text.as_bytes()));
            drop(peek_multipart(&format!("multipart/form-data; {kind}"), text.as_bytes()));
        }
    }
}
