//! Looks for the model in the first bytes of a JSON body that is too long to keep.
//!
//! Best effort: a field counts when its value is complete within the prefix, and nothing after it is
//! checked. A second `model` beyond the prefix cannot be seen, so a client that wants its long bodies
//! routed without doubt names the model in the path or a header.
use super::body::{BOM, BodyFacts, BodyProblem, Fields};
use std::borrow::Cow;

/// Reads the first bytes of a body. What is cut off is no error; what can never become a JSON object
/// with a readable `model` is one only where it goes wrong before the cut.
pub fn peek_prefix(prefix: &[u8], wanted: &[impl AsRef<str>]) -> Result<BodyFacts, BodyProblem> {
    let text = match std::str::from_utf8(prefix) {
        Ok(text) => text,
        // The cut may fall inside a character.
        Err(error) => std::str::from_utf8(&prefix[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut fields = Fields::new(text, wanted);
    let at = if text.starts_with(BOM) { BOM.len_utf8() } else { 0 };
    let mut cursor = Cursor { text, at };
    // Whatever ends the walk, the fields before it stand.
    let _ = cursor.walk(&mut fields);
    fields.finish()
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// `None` at the end of the object, at the cut, or at what is not JSON.
    fn walk<W: AsRef<str>>(&mut self, fields: &mut Fields<'a, W>) -> Option<()> {
        self.expect(b'{')?;
        loop {
            self.skip_space();
            let key = self.string()?;
            let key: Cow<'_, str> = if key.contains('\\') {
                Cow::Owned(serde_json::from_str(key).ok()?)
            } else {
                Cow::Borrowed(&key[1..key.len() - 1])
            };
            let which = fields.which(&key);
            self.expect(b':')?;
            self.skip_space();
            let raw = self.value()?;
            if which.matters() {
                fields.take(which, raw);
            }
            self.expect(b',')?;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// A complete string, quotes included.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        (self.peek()? == b'"').then(|| self.at += 1)?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    /// A complete value; a scalar is complete when something follows it.
    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        match self.peek()? {
            b'"' => return self.string(),
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match self.peek()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                while !matches!(self.peek()?, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
                    self.at += 1;
                }
            }
        }
        self.text.get(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::peek;
    use proptest::prelude::*;

    const BODY: &str = r#"{"stream": true, "messages": [{"model": "x]\"}"}], "mod\u0065l" : "a\u0062", "user": 7, "text": "é"}"#;

    #[test]
    fn the_model_is_found_as_soon_as_it_is_complete() {
        let whole = peek(BODY.as_bytes(), &["user"]).unwrap();
        let end = whole.model.as_ref().unwrap().range.end;
        for cut in 0..=BODY.len() {
            let seen = peek_prefix(&BODY.as_bytes()[..cut], &["user"]).unwrap();
            assert_eq!(seen.model, whole.model.clone().filter(|_| cut >= end), "{cut}");
        }
        assert_eq!(peek_prefix(BODY.as_bytes(), &["user"]).unwrap(), whole);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let body = format!("\u{feff}{BODY}");
        let named = peek_prefix(body.as_bytes(), &["user"]).unwrap().model.unwrap();
        assert_eq!(&body[named.range], "\"a\\u0062\"");
    }

    #[test]
    fn two_models_within_the_prefix_are_an_error() {
        let seen = peek_prefix(br#"{"model":"a","model":"b", "x"#, &["user"]);
        assert_eq!(seen, Err(BodyProblem::TwoModels));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>, json in "\\{[{}\\[\\]\",:a1\\\\é ]*") {
            drop(peek_prefix(&body, &["user"]));
            drop(peek_prefix(json.as_bytes(), &["a"]));
        }
    }
}
