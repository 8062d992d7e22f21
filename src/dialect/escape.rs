//! Percent-encoding (RFC 3986, section 2.1) of paths and queries.
use std::borrow::Cow;

/// What becomes of an encoded slash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slash {
    /// It stays, spelled `%2F`.
    Kept,
    Decoded,
}

/// Decodes escapes; and whether all were well-formed.
pub(super) fn decode(raw: &str, slash: Slash) -> (Cow<'_, str>, bool) {
    if memchr::memchr(b'%', raw.as_bytes()).is_none() {
        return (Cow::Borrowed(raw), true);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut sound = true;
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, escape(after)) {
            (b'%', Some(b'/')) if slash == Slash::Kept => {
                bytes.extend_from_slice(b"%2F");
                rest = &after[2..];
            }
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            (b'%', None) => {
                sound = false;
                bytes.push(byte);
            }
            _ => bytes.push(byte),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => (Cow::Owned(text), sound),
        Err(error) => (Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()), false),
    }
}

/// The byte that two hexadecimal digits after a `%` stand for.
fn escape(after: &[u8]) -> Option<u8> {
    let digit = |i: usize| after.get(i).and_then(|&b| char::from(b).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// How many raw bytes spell the first `decoded` bytes of a sound segment without encoded slashes.
pub(super) fn raw_len(raw: &str, decoded: usize) -> usize {
    let bytes = raw.as_bytes();
    (0..decoded).fold(0, |at, _| if bytes.get(at) == Some(&b'%') { at + 3 } else { at + 1 })
}
