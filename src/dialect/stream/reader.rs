//! Reads what one JSON document says of a failure while its bytes pass.
//!
//! Nothing is kept but a few short words, however long the document is, and it does not matter where it is cut. Looked at
//! are `error`, `type`, `code`, `status`, `error_type` and `object` at the top and inside `error`, `response` and
//! `response.error`.
use super::failure::{Failure, LONGEST, meaning, together};
use memchr::memchr2;

/// Objects whose fields are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top,
    Error,
    Response,
    ResponseError,
}

/// Fields that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Error,
    Response,
    Type,
    Code,
    Status,
    ErrorType,
    Object,
    Other,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The document.
    Document,
    /// A key, a comma, or the end of the object.
    Key,
    InKey,
    Colon,
    Value,
    /// Within a string that is kept.
    InString,
    /// Within a number or a word.
    InScalar,
    /// Within a value that is not looked at, so deep.
    Skipped(u32),
    /// Within a string of such a value.
    SkippedString(u32),
    /// The document is over, or is no object.
    Done,
}

/// Reads one document.
#[derive(Debug)]
pub(super) struct ErrorReader {
    next: Next,
    /// A backslash stands before the next byte.
    escaped: bool,
    /// The object that is read, with those around it.
    places: [Place; 3],
    depth: usize,
    field: Field,
    /// The key or value that is read.
    word: Word,
    /// It says that something failed.
    failed: bool,
    /// Code, type and status inside an error; then those at the top, and `error_type`. The first that is known counts.
    words: [Word; 7],
}

/// The beginning of a key or value.
#[derive(Clone, Copy, Debug)]
struct Word {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Word {
    const EMPTY: Self = Self { bytes: [0; LONGEST], length: 0 };

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Default for ErrorReader {
    fn default() -> Self {
        Self {
            next: Next::Document,
            escaped: false,
            places: [Place::Top; 3],
            depth: 0,
            field: Field::Other,
            word: Word::EMPTY,
            failed: false,
            words: [Word::EMPTY; 7],
        }
    }
}

impl ErrorReader {
    /// Takes the next bytes of the document.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            // Long texts are passed over at once.
            if let Next::SkippedString(_) = self.next
                && !self.escaped
            {
                let Some(end) = memchr2(b'"', b'\\', rest) else { return };
                rest = &rest[end..];
                self.byte(rest[0]);
                rest = &rest[1..];
                continue;
            }
            if self.next == Next::Done {
                return;
            }
            self.byte(byte);
            rest = after;
        }
    }

    /// The document is over. What it says; `failed`: something beside it says that it is an error.
    pub(super) fn finish(&mut self, failed: bool) -> Option<Failure> {
        let read = std::mem::take(self);
        let said = || together(read.words.iter().map(|word| meaning(word.text())));
        (failed || read.failed).then(|| said().unwrap_or(Failure::Server))
    }

    /// Nothing of a document was read.
    pub(super) fn is_empty(&self) -> bool {
        self.next == Next::Document
    }

    fn byte(&mut self, byte: u8) {
        match self.next {
            Next::Document => match byte {
                b'{' => self.next = Next::Key,
                b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => self.next = Next::Done,
            },
            Next::Key => match byte {
                b'"' => (self.next, self.word.length) = (Next::InKey, 0),
                b'}' => self.close(),
                _ => {}
            },
            Next::InKey => {
                if self.string(byte) {
                    self.field = field(self.word.text());
                    self.next = Next::Colon;
                    // An error that is an object says something.
                    let place = self.places[self.depth];
                    self.failed |= matches!(place, Place::Error | Place::ResponseError);
                }
            }
            Next::Colon if byte == b':' => self.next = Next::Value,
            Next::Colon | Next::Done => {}
            Next::Value => self.begin(byte),
            Next::InString => {
                if self.string(byte) {
                    self.value(true);
                }
            }
            Next::InScalar => match byte {
                b',' | b'}' | b' ' | b'\t' | b'\n' | b'\r' => {
                    self.value(false);
                    if byte == b'}' {
                        self.close();
                    }
                }
                _ => self.word.push(byte),
            },
            Next::Skipped(depth) => match byte {
                b'"' => self.next = Next::SkippedString(depth),
                b'{' | b'[' => self.next = Next::Skipped(depth.saturating_add(1)),
                b'}' | b']' if depth <= 1 => self.next = Next::Key,
                b'}' | b']' => self.next = Next::Skipped(depth - 1),
                _ => {}
            },
            Next::SkippedString(depth) => {
                if self.ends_string(byte) {
                    self.next = if depth == 0 { Next::Key } else { Next::Skipped(depth) };
                }
            }
        }
    }

    /// A value begins.
    fn begin(&mut self, byte: u8) {
        let wanted = self.field != Field::Other;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'"' if wanted => (self.next, self.word.length) = (Next::InString, 0),
            b'"' => self.next = Next::SkippedString(0),
            b'{' => match self.inner() {
                Some(place) => {
                    self.depth += 1;
                    self.places[self.depth] = place;
                    self.next = Next::Key;
                }
                None => self.next = Next::Skipped(1),
            },
            b'[' => self.next = Next::Skipped(1),
            _ => {
                (self.next, self.word.length) = (Next::InScalar, 0);
                self.word.push(byte);
            }
        }
    }

    /// The object that the field holds, if it is looked into.
    fn inner(&self) -> Option<Place> {
        match (self.places[self.depth], self.field) {
            (Place::Top, Field::Error) => Some(Place::Error),
            (Place::Top, Field::Response) => Some(Place::Response),
            (Place::Response, Field::Error) => Some(Place::ResponseError),
            _ => None,
        }
    }

    fn close(&mut self) {
        match self.depth.checked_sub(1) {
            Some(depth) => (self.depth, self.next) = (depth, Next::Key),
            None => self.next = Next::Done,
        }
    }

    /// A string or scalar is over.
    fn value(&mut self, text: bool) {
        self.next = Next::Key;
        let word = self.word.text();
        let place = match (self.places[self.depth], self.field) {
            (Place::Error | Place::ResponseError, Field::Code) => 0,
            (Place::Error | Place::ResponseError, Field::Type) => 1,
            (Place::Error | Place::ResponseError, Field::Status) => 2,
            (Place::Top, Field::Code) => 3,
            (Place::Top, Field::Type) => {
                self.failed |= matches!(word, b"error" | b"response.failed");
                4
            }
            (Place::Top, Field::Status) => 5,
            (Place::Top, Field::ErrorType) => 6,
            (Place::Top | Place::Response, Field::Error) => {
                let said = if text { !word.is_empty() } else { !is_false(word) };
                self.failed |= said;
                return;
            }
            (Place::Top, Field::Object) => {
                self.failed |= word == b"error";
                return;
            }
            (Place::Response, Field::Status) => {
                self.failed |= word == b"failed";
                return;
            }
            _ => return,
        };
        self.words[place] = self.word;
    }

    /// Takes a byte of a string that is kept. `true`: it is over.
    fn string(&mut self, byte: u8) -> bool {
        if self.ends_string(byte) {
            return true;
        }
        self.word.push(byte);
        false
    }

    fn ends_string(&mut self, byte: u8) -> bool {
        let ends = byte == b'"' && !self.escaped;
        self.escaped = byte == b'\\' && !self.escaped;
        ends
    }
}

fn field(key: &[u8]) -> Field {
    match key {
        b"error" => Field::Error,
        b"response" => Field::Response,
        b"type" => Field::Type,
        b"code" => Field::Code,
        b"status" | b"status_code" | b"http_status" | b"http_code" => Field::Status,
        b"error_type" => Field::ErrorType,
        b"object" => Field::Object,
        _ => Field::Other,
    }
}

fn is_false(word: &[u8]) -> bool {
    matches!(word, b"null" | b"false" | b"0" | b"")
}

#[cfg(test)]
mod tests;
