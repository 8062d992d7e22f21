//! How many tokens an answer took and made, without parsing it: `usage` stands at its end, in OpenAI's dialect and those
//! that follow it (vLLM, `SGLang`, TGI, Anthropic). A stream that tells none is counted by its events.
use super::output::OutputForm;
use memchr::memchr;
use memchr::memmem::{find, rfind};

/// Bytes at the end of an answer in which `usage` is looked for.
const TAIL: usize = 2048;
const DATA: &[u8] = b"data:";
const DONE: &[u8] = b"data: [DONE]";

/// An answer whose tokens are counted as it passes.
#[derive(Debug)]
pub struct UsageScan {
    tail: Vec<u8>,
    stream: bool,
    /// Lines that begin with `data:`.
    events: u64,
    /// How much of that the present line began with; `None`: it begins with something else, or was counted.
    matched: Option<usize>,
}

/// Tokens as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: Option<u64>,
    pub completion: Option<u64>,
}

impl UsageScan {
    /// `None` where the answer cannot be read.
    pub fn new(form: OutputForm) -> Option<Self> {
        let stream = match form {
            OutputForm::Json => false,
            OutputForm::Events => true,
            OutputForm::Text | OutputForm::Opaque => return None,
        };
        Some(Self { tail: Vec::new(), stream, events: 0, matched: Some(0) })
    }

    /// Takes the next bytes of the body.
    pub fn chunk(&mut self, bytes: &[u8]) {
        if self.stream {
            self.count(bytes);
        }
        if bytes.len() >= TAIL {
            self.tail.clear();
        } else if self.tail.len() + bytes.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
    }

    fn count(&mut self, mut bytes: &[u8]) {
        loop {
            if let Some(matched) = self.matched {
                let wanted = &DATA[matched..];
                let n = wanted.len().min(bytes.len());
                self.matched = (bytes[..n] == wanted[..n]).then_some(matched + n);
                if self.matched == Some(DATA.len()) {
                    self.events += 1;
                    self.matched = None;
                }
            }
            let Some(end) = memchr(b'\n', bytes) else { return };
            bytes = &bytes[end + 1..];
            self.matched = Some(0);
        }
    }

    /// What is known by now: of an answer that broke off, too.
    pub fn usage(&self) -> Usage {
        let told = rfind(&self.tail, b"\"usage\"").map_or(&[][..], |at| &self.tail[at..]);
        let number = |names: [&[u8]; 2]| names.iter().find_map(|name| number(told, name));
        let completion = number([b"\"completion_tokens\"", b"\"output_tokens\""]);
        let done = rfind(&self.tail, DONE).is_some();
        let counted = self.stream.then(|| self.events.saturating_sub(u64::from(done)));
        Usage {
            prompt: number([b"\"prompt_tokens\"", b"\"input_tokens\""]),
            completion: completion.or(counted),
        }
    }
}

/// The number of this name.
fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    let rest = &text[find(text, name)? + name.len()..];
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputForm::{Events, Json};
    use proptest::prelude::*;

    const CASES: &[(OutputForm, &str, Option<u64>, Option<u64>)] = &[
        (
            Json,
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7,"total_tokens":10}}"#,
            Some(3),
            Some(7),
        ),
        (
            Json,
            r#"{"output":[], "usage": {"input_tokens": 12, "output_tokens": 0}, "user": null}"#,
            Some(12),
            Some(0),
        ),
        (
            Json,
            r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#,
            Some(3),
            None,
        ),
        (Json, r#"{"choices":[{"text":"\"usage\":{\"completion_tokens\":9}"}]}"#, None, None),
        (Json, r#"{"usage":null}"#, None, None),
        (Json, "", None, None),
        (Events, "data: {\"a\":1}\n\ndata: {\"a\":2}\n\ndata: [DONE]\n\n", None, Some(2)),
        (Events, ": hi\r\n\r\nevent: x\r\ndata:{}\r\n\r\ndata", None, Some(1)),
        (
            Events,
            "data: {\"usage\":{\"completion_tokens\":1}}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n",
            Some(4),
            Some(9),
        ),
        (Events, "data: {\"usage\":null}\n\n", None, Some(1)),
    ];

    fn usage(form: OutputForm, text: &[u8], piece: usize) -> Usage {
        let mut scan = UsageScan::new(form).unwrap();
        text.chunks(piece).for_each(|piece| scan.chunk(piece));
        scan.usage()
    }

    #[test]
    fn tokens_are_those_that_the_answer_tells_or_its_events() {
        for &(form, text, prompt, completion) in CASES {
            for piece in 1..=text.len().max(1) {
                let wanted = Usage { prompt, completion };
                assert_eq!(usage(form, text.as_bytes(), piece), wanted, "{text} by {piece}");
            }
        }
        assert!(UsageScan::new(OutputForm::Opaque).is_none());
    }

    #[test]
    fn a_long_answer_is_not_kept() {
        let mut scan = UsageScan::new(Json).unwrap();
        for n in [1, 100, 5000, 2047, 2049, 1] {
            for _ in 0..50 {
                scan.chunk(&vec![b'x'; n]);
            }
        }
        assert!(scan.tail.len() <= 2 * TAIL);
        scan.chunk(br#""usage":{"completion_tokens":5}}"#);
        assert_eq!(scan.usage().completion, Some(5));
    }

    proptest! {
        #[test]
        fn events_are_counted_however_they_are_cut(
            lines in proptest::collection::vec("(data: ?|dat|event: |:|)[a-d:]{0,6}", 0..20),
            piece in 1_usize..30,
        ) {
            let text = lines.join("\n");
            let wanted = lines.iter().filter(|line| line.starts_with("data:")).count() as u64;
            prop_assert_eq!(usage(Events, text.as_bytes(), piece).completion, Some(wanted));
        }
    }
}
