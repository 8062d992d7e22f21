//! An error inside a stream that began well: model servers report it as an event, after status 200.

/// So much of a line tells whether it is an error.
const ENOUGH: usize = 40;

/// Looks for an error event in an event stream as its chunks pass, wherever they are cut.
#[derive(Debug)]
pub struct ErrorEvents {
    line: [u8; ENOUGH],
    /// How much of the present line is kept.
    kept: usize,
}

impl Default for ErrorEvents {
    fn default() -> Self {
        Self { line: [0; ENOUGH], kept: 0 }
    }
}

impl ErrorEvents {
    /// Takes the next chunk. `true`: an error event was in it.
    pub fn passes(&mut self, chunk: &[u8]) -> bool {
        let mut found = false;
        let mut lines = chunk.split(|byte| *byte == b'\n' || *byte == b'\r').peekable();
        while let Some(part) = lines.next() {
            let taken = part.len().min(ENOUGH - self.kept);
            self.line[self.kept..self.kept + taken].copy_from_slice(&part[..taken]);
            self.kept += taken;
            let ended = lines.peek().is_some();
            if ended || self.kept == ENOUGH {
                found |= is_error(&self.line[..self.kept]);
            }
            if ended {
                self.kept = 0;
            }
        }
        found
    }
}

/// `event: error`, or `data: {"error": …}` with something other than `null`.
fn is_error(line: &[u8]) -> bool {
    if let Some(name) = line.strip_prefix(b"event:") {
        return name.trim_ascii() == b"error";
    }
    let Some(data) = line.strip_prefix(b"data:") else { return false };
    let object = data.trim_ascii().strip_prefix(b"{");
    let value = object.and_then(|inside| inside.trim_ascii_start().strip_prefix(b"\"error\""));
    let value = value.and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"));
    value.is_some_and(|value| {
        let value = value.trim_ascii_start();
        !value.is_empty() && !value.starts_with(b"null")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "event: message\ndata: {\"choices\":[{\"text\":\"{\\\"error\\\":1}\"}]}\n\n\
                        data: {\"error\":null,\"x\":1}\n\n: error\n\ndata: [DONE]\n\n";

    #[test]
    fn errors_are_told_from_text_about_errors() {
        for bad in [
            "data: {\"error\":{\"message\":\"CUDA out of memory\"}}\n\n",
            "data:{ \"error\" : \"x\"}\r\n\r\n",
            "event: error\ndata: x\n\n",
        ] {
            assert!(ErrorEvents::default().passes(bad.as_bytes()), "{bad}");
        }
        assert!(!ErrorEvents::default().passes(GOOD.as_bytes()));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_chunks_are_cut(cuts in prop::collection::vec(0_usize..200, 0..9)) {
            let bad = format!("{GOOD}data: {{\"error\":{{\"code\":500}}}}\n\n");
            for (text, expected) in [(GOOD, false), (bad.as_str(), true)] {
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % text.len()).collect();
                cuts.extend([0, text.len()]);
                cuts.sort_unstable();
                let mut events = ErrorEvents::default();
                let chunks = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]);
                let found = chunks.fold(false, |found, chunk| events.passes(chunk) | found);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
