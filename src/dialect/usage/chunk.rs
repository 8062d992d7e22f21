//! Asks a server for the usage of a stream whose client did not ask, and takes the chunk out that comes of it.
//!
//! OpenAI's `stream_options.include_usage` has the server send one more chunk behind the last: no choices, and `usage`.
use crate::dialect::rewrite::Edit;
use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use memchr::memmem::find;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// No chunk of usage is longer: a longer event is passed on as it comes.
const LONGEST: usize = 16 << 10;

/// The top of a request's body, as far as it matters.
#[derive(Deserialize)]
struct Request<'a> {
    stream: Option<bool>,
    messages: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    #[serde(borrow, default, deserialize_with = "as_written")]
    stream_options: Option<&'a RawValue>,
}

/// `null` is a value here: a second field beside it would be one too many.
fn as_written<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// What makes a request for a stream ask for its usage; `None` where it asks already, is for no stream, or cannot be told.
/// `shaped`: it must have OpenAI's shape, for its path takes others too.
pub fn ask_for_usage(body: &[u8], shaped: bool) -> Option<Edit> {
    const ASK: &str = "\"include_usage\":true";
    let text = std::str::from_utf8(body).ok()?;
    let start = text.len() - text.trim_ascii_start().len();
    let request: Request<'_> = serde_json::from_str(text).ok()?;
    let has_shape = request.messages.is_some() || request.prompt.is_some();
    let fits = has_shape || !shaped;
    if request.stream != Some(true) || !fits || !text[start..].starts_with('{') {
        return None;
    }
    let range_of = |value: &RawValue| {
        let from = value.get().as_ptr().addr() - text.as_ptr().addr();
        from..from + value.get().len()
    };
    let Some(options) = request.stream_options else {
        return Some(Edit::insert(start + 1, format!("\"stream_options\":{{{ASK}}},")));
    };
    if options.get() == "null" {
        return Some(Edit { range: range_of(options), new: format!("{{{ASK}}}") });
    }
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(options.get()).ok()?;
    match fields.get("include_usage") {
        Some(value) if value.get() == "true" => None,
        Some(value) => Some(Edit { range: range_of(value), new: "true".to_owned() }),
        None => {
            let comma = if fields.is_empty() { "" } else { "," };
            Some(Edit::insert(range_of(options).start + 1, format!("{ASK}{comma}")))
        }
    }
}

/// Passes an event stream on without chunks of usage. Whole events leave at once; of one that is not whole yet nothing is
/// lost by waiting for its rest, for no client can read it before.
#[derive(Debug, Default)]
pub struct UsageChunks {
    held: BytesMut,
    /// In an event that is too long to be held.
    passing: bool,
}

impl UsageChunks {
    /// Takes what the server sent, and gives what the client gets.
    pub fn take(&mut self, bytes: Bytes) -> Bytes {
        let bytes = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(&bytes);
            std::mem::take(&mut self.held).freeze()
        };
        let (mut from, mut out) = (0, BytesMut::new());
        // What is passed on of `bytes` and not in `out` yet.
        let mut kept = 0..0;
        while let Some(end) = end_of_event(&bytes, from) {
            let dropped = !std::mem::take(&mut self.passing) && is_usage(&bytes[from..end]);
            if dropped {
                out.extend_from_slice(&bytes[kept.clone()]);
                kept = end..end;
            } else {
                kept.end = end;
            }
            from = end;
        }
        let rest = &bytes[from..];
        self.passing |= rest.len() > LONGEST;
        if self.passing {
            kept.end = bytes.len();
        } else {
            self.held.extend_from_slice(rest);
        }
        if out.is_empty() {
            return bytes.slice(kept);
        }
        out.extend_from_slice(&bytes[kept]);
        out.freeze()
    }

    /// The stream is over: what was held of its last event.
    pub fn finish(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held).freeze();
        if is_usage(&held) { Bytes::new() } else { held }
    }
}

/// Behind the empty line that ends the event which begins at `from`.
fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut line, mut cr_alone) = (from, false);
    loop {
        let end = line + memchr2(b'\n', b'\r', &bytes[line..])?;
        let next = match (bytes[end], bytes.get(end + 1)) {
            (b'\r', Some(b'\n')) => end + 2,
            // LF may follow, unless lines end so here.
            (b'\r', None) if !cr_alone => return None,
            _ => end + 1,
        };
        cr_alone = bytes[end] == b'\r' && next == end + 1;
        if end == line {
            return Some(next);
        }
        line = next;
    }
}

/// A chunk of an answer.
#[derive(Deserialize)]
struct Chunk<'a> {
    choices: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// Is this event a chunk that has usage and nothing else?
fn is_usage(event: &[u8]) -> bool {
    if find(event, b"\"usage\"").is_none() {
        return false;
    }
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    let data: Vec<&[u8]> = lines.filter_map(|line| line.strip_prefix(b"data:")).collect();
    let data = data.join(&b'\n');
    let chunk: Option<Chunk<'_>> = serde_json::from_slice(&data).ok();
    chunk.is_some_and(|chunk| {
        chunk.choices.is_some_and(|choices| choices.is_empty())
            && chunk.usage.is_some_and(|usage| usage.get().starts_with('{'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::rewrite::edited;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn a_stream_is_asked_for_its_usage_whatever_its_options_are() {
        for body in [
            r#"{"stream":true}"#,
            r#" {"model":"m", "stream" : true}"#,
            r#"{"stream":true,"stream_options":null}"#,
            r#"{"stream_options" : null,"stream":true,"x":"\"stream_options\""}"#,
            r#"{"stream":true,"stream_options":{}}"#,
            r#"{"stream":true,"stream_options": {"include_obfuscation":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage": false}}"#,
            r#"{"stream":true,"stream_options":{"a":{"include_usage":true},"include_usage":null}}"#,
        ] {
            let edit = ask_for_usage(body.as_bytes(), false).unwrap_or_else(|| panic!("{body}"));
            let asked = edited(&Bytes::from(body), vec![edit]);
            let (mut before, after): (Value, Value) =
                (serde_json::from_str(body).unwrap(), serde_json::from_slice(&asked).unwrap());
            assert_eq!(after["stream_options"]["include_usage"], true, "{asked:?}");
            if !before["stream_options"].is_object() {
                before["stream_options"] = json!({});
            }
            before["stream_options"]["include_usage"] = true.into();
            assert_eq!(before, after);
        }
    }

    #[test]
    fn nothing_is_asked_for_where_it_is_asked_already_or_cannot_be() {
        for body in [
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":false}"#,
            r#"{"messages":[{"stream":true}]}"#,
            r#"{"stream":true,"stream_options":"all"}"#,
            r#"{"stream":true,"stream_options":{},"stream_options":{}}"#,
            r#"{"stream":true"#,
            "[true]",
            "",
        ] {
            assert_eq!(ask_for_usage(body.as_bytes(), false), None, "{body}");
        }
    }

    #[test]
    fn behind_a_path_of_any_kind_the_body_must_be_openais() {
        let asked = |body: &str| ask_for_usage(body.as_bytes(), true).is_some();
        assert!(asked(r#"{"messages":[],"stream":true}"#));
        assert!(asked(r#"{"prompt":"x","stream":true}"#));
        assert!(!asked(r#"{"inputs":"x","stream":true}"#));
        assert!(!asked(r#"{"messages":[]}"#));
    }

    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
    const REST: [&str; 6] = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        ": comment\n\n",
        "event: x\r\ndata: {\"usage\":null,\"choices\":[]}\r\n\r\n",
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\r\r",
        "data: [DONE]\n\n",
        "data: \"usage\" and no JSON\n\n",
    ];

    fn passed(stream: &[u8], piece: usize) -> Vec<u8> {
        let mut chunks = UsageChunks::default();
        let mut out = Vec::new();
        for piece in stream.chunks(piece) {
            out.extend_from_slice(&chunks.take(Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&chunks.finish());
        out
    }

    #[test]
    fn whole_events_leave_at_once_and_the_last_one_without_its_end() {
        let mut chunks = UsageChunks::default();
        let two = Bytes::from([REST[0], REST[0], "data: {\"us"].concat());
        assert_eq!(chunks.take(two), [REST[0], REST[0]].concat());
        assert_eq!(chunks.take(Bytes::from_static(b"age\":1}")), "");
        assert_eq!(chunks.finish(), "data: {\"usage\":1}");
        chunks.take(Bytes::from(USAGE.trim_end()));
        assert_eq!(chunks.finish(), "");
    }

    #[test]
    fn a_long_event_is_not_held() {
        let long = format!("data: \"{}\"\n\n", "x".repeat(3 * LONGEST));
        let stream = [&long, USAGE, REST[0]].concat();
        assert_eq!(passed(stream.as_bytes(), 1000), [&long, REST[0]].concat().into_bytes());
        let mut chunks = UsageChunks::default();
        assert!(chunks.take(Bytes::from(long[..2 * LONGEST].to_owned())).len() == 2 * LONGEST);
    }

    proptest! {
        #[test]
        fn the_chunks_of_usage_are_missing_and_every_other_byte_is_there(
            events in prop::collection::vec(0_usize..8, 0..12), piece in 1_usize..40,
        ) {
            let crlf = USAGE.replace('\n', "\r\n");
            let of = |n: usize| REST.get(n).copied().unwrap_or(if n == 6 { USAGE } else { &crlf });
            let all: String = events.iter().map(|n| of(*n)).collect();
            let kept: String = events.iter().filter(|n| **n < 6).map(|n| of(*n)).collect();
            prop_assert_eq!(String::from_utf8(passed(all.as_bytes(), piece)).unwrap(), kept);
        }

        #[test]
        fn any_bytes_pass(stream in "[a-c\r\n:\\[\\]{}\"]*", piece in 1_usize..9) {
            prop_assert_eq!(passed(stream.as_bytes(), piece), stream.into_bytes());
        }
    }
}
