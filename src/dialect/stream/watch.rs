//! Follows a stream as it passes: where a piece ends, and whether one says that something failed.
use super::StreamForm;
use super::failure::Failure;
use super::reader::ErrorReader;
use memchr::{memchr, memchr2};

/// The longest name of a field of an event that means something, `event`, and of an event, `response.failed`.
const LONGEST_FIELD: usize = 5;
const LONGEST_NAME: usize = 15;
const BOM: &[u8] = "\u{feff}".as_bytes();

/// What the line that passes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Its name is being read.
    Name,
    /// Of `data`, or a document of its own.
    Data,
    /// The name of the event.
    Event,
    /// A comment, or a field that nobody looks at.
    Other,
}

/// Follows a stream. It takes the same memory whatever comes, and says the same however that is cut.
#[derive(Debug)]
pub struct StreamWatch {
    form: StreamForm,
    line: Line,
    /// What the line began with, until it is known what it is; then the name of the event.
    field: Short<LONGEST_FIELD>,
    name: Short<LONGEST_NAME>,
    /// The line holds nothing.
    empty: bool,
    /// The last byte was a carriage return, to which a line feed belongs.
    after_return: bool,
    /// Bytes of a byte order mark that the stream began with; past it, more.
    mark: usize,
    /// The event has a field.
    open: bool,
    data: ErrorReader,
    pieces: u64,
}

/// The beginning of a text.
#[derive(Clone, Copy, Debug)]
struct Short<const N: usize> {
    bytes: [u8; N],
    /// How long the text is; it may be more than is kept.
    length: usize,
}

impl<const N: usize> Short<N> {
    const EMPTY: Self = Self { bytes: [0; N], length: 0 };

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
            }
            self.length = self.length.saturating_add(1);
        }
    }

    /// The text; nothing where it is longer than what is kept.
    fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl StreamWatch {
    pub fn new(form: StreamForm) -> Self {
        Self {
            form,
            line: Self::beginning(form),
            field: Short::EMPTY,
            name: Short::EMPTY,
            empty: true,
            after_return: false,
            mark: 0,
            open: false,
            data: ErrorReader::default(),
            pieces: 0,
        }
    }

    pub fn form(&self) -> StreamForm {
        self.form
    }

    /// Takes the next bytes. What the first piece in them says that failed.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Failure> {
        let mut rest = bytes;
        let mut failure = None;
        while self.mark < BOM.len() {
            let Some((byte, after)) = rest.split_first() else { return failure };
            if *byte != BOM[self.mark] {
                // What looked like a mark and is none belongs to the first line.
                let begun = self.mark;
                self.mark = BOM.len();
                self.within(&BOM[..begun]);
                break;
            }
            self.mark += 1;
            rest = after;
        }
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = match self.form {
                StreamForm::Events => memchr2(b'\n', b'\r', rest),
                StreamForm::Lines => memchr(b'\n', rest),
            };
            let Some(end) = end else {
                self.within(rest);
                break;
            };
            self.within(&rest[..end]);
            self.after_return = rest[end] == b'\r';
            failure = failure.or(self.end_of_line());
            rest = &rest[end + 1..];
        }
        failure
    }

    /// The stream is over as it should be: what has no end behind it is a piece too.
    pub fn finish(&mut self) -> Option<Failure> {
        let line = if self.empty { None } else { self.end_of_line() };
        line.or_else(|| self.piece())
    }

    /// Is everything between two pieces that passed so far? Only there may something be added.
    pub fn is_between(&self) -> bool {
        self.empty && !self.open && [0, BOM.len()].contains(&self.mark)
    }

    /// How many pieces passed.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    fn beginning(form: StreamForm) -> Line {
        match form {
            StreamForm::Events => Line::Name,
            StreamForm::Lines => Line::Data,
        }
    }

    /// Bytes of one line.
    fn within(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.empty = false;
        let mut value = bytes;
        if self.line == Line::Name {
            let colon = memchr(b':', bytes);
            self.field.push(&bytes[..colon.unwrap_or(bytes.len())]);
            let Some(colon) = colon else { return };
            value = &bytes[colon + 1..];
            self.line = match self.field.text() {
                b"data" => Line::Data,
                b"event" => Line::Event,
                _ => Line::Other,
            };
            // A comment has no name.
            self.open |= self.field.length > 0;
            if self.line == Line::Event {
                self.name = Short::EMPTY;
            }
        }
        match self.line {
            Line::Data => self.data.take(value),
            Line::Event => {
                let space = |byte: &u8| matches!(byte, b' ' | b'\t');
                let skipped = if self.name.length == 0 {
                    value.iter().take_while(|byte| space(byte)).count()
                } else {
                    0
                };
                self.name.push(&value[skipped..]);
            }
            Line::Name | Line::Other => {}
        }
    }

    fn end_of_line(&mut self) -> Option<Failure> {
        let empty = std::mem::replace(&mut self.empty, true);
        let line = std::mem::replace(&mut self.line, Self::beginning(self.form));
        let field = std::mem::replace(&mut self.field, Short::EMPTY);
        match self.form {
            StreamForm::Lines => self.piece(),
            StreamForm::Events if empty => self.piece(),
            StreamForm::Events => {
                // A field without a value.
                self.open |= line == Line::Name && field.length > 0;
                if line == Line::Data {
                    self.data.take(b"\n");
                }
                None
            }
        }
    }

    /// A piece is over.
    fn piece(&mut self) -> Option<Failure> {
        let open = std::mem::take(&mut self.open) || !self.data.is_empty();
        let name = std::mem::replace(&mut self.name, Short::EMPTY);
        self.pieces += u64::from(open);
        let failed = matches!(name.text().trim_ascii_end(), b"error" | b"response.failed");
        self.data.finish(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Client, Overloaded, Server};
    use StreamForm::{Events, Lines};
    use proptest::prelude::*;

    /// What is said of a stream that comes in pieces of this size and ends well; whether it may be added to; pieces.
    fn told(form: StreamForm, text: &str, piece: usize) -> (Option<Failure>, bool, u64) {
        let mut watch = StreamWatch::new(form);
        let mut failure = None;
        for piece in text.as_bytes().chunks(piece.max(1)) {
            failure = failure.or(watch.take(piece));
        }
        let between = watch.is_between();
        (failure.or(watch.finish()), between, watch.pieces())
    }

    const GOOD: &str = "event: message\ndata: {\"choices\":[{\"text\":\"{\\\"error\\\":1}\"}]}\n\n\
                        data: {\"error\":null,\"x\":1}\n\n: error\n\nid: 7\nretry: 3\n\ndata: [DONE]\n\n";

    #[test]
    fn errors_are_told_from_text_about_errors() {
        for (form, text, failure) in [
            (Events, GOOD, None),
            (Events, "data: {\"error\":{\"message\":\"CUDA out of memory\"}}\n\n", Some(Server)),
            (Events, "data:{ \"error\" : \"x\"}\r\n\r\n", Some(Server)),
            (Events, "\u{feff}data: {\"error\":\"x\"}\r\rdata: {}\r\r", Some(Server)),
            (Events, "event: error\ndata: x\n\n", Some(Server)),
            (Events, "data: {\"a\":1}\nevent:error\n\n", Some(Server)),
            (
                Events,
                "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                Some(Overloaded),
            ),
            (
                Events,
                "event: response.failed\ndata: {\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n",
                Some(Server),
            ),
            (Events, "event: errors\ndata: {}\n\nevent: response.failed.not\ndata: {}\n\n", None),
            (Events, "event: error\n\ndata: {}\n\n", Some(Server)),
            (Events, "data: {\"error\":\ndata: {\"code\":400}}\n\n", Some(Client)),
            (Events, "data: {\"error\":{\"code\":429}}", Some(Overloaded)),
            (Events, "datax: {\"error\":1}\n\ndata\n\n", None),
            (Lines, "{\"response\":\"a\"}\n{\"error\":\"model runner\"}\n", Some(Server)),
            (Lines, "{\"response\":\"error\"}\r\n\r\n{\"done\":true}", None),
            (Lines, "{\"error\":{\"code\":404}}", Some(Client)),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(told(form, text, piece).0, failure, "{text} by {piece}");
            }
        }
    }

    #[test]
    fn something_may_be_added_only_between_two_pieces() {
        for (form, text, between) in [
            (Events, "", true),
            (Events, "data: {}\n\n", true),
            (Events, "data: {}\r\n\r\n", true),
            (Events, "data: {}\r\n\r", true),
            (Events, "data: {}\r\r", true),
            (Events, "data: {}\n\n: heartbeat\n", true),
            (Events, "data: {}\n\n: heart", false),
            (Events, "data: {}\n", false),
            (Events, "data: {}\r\n", false),
            (Events, "event: x\n", false),
            (Events, "id\n", false),
            (Events, "data: {\"a\":\"\\n\\n", false),
            (Events, "\u{feff}", true),
            (Lines, "{}\n", true),
            (Lines, "{}\r\n", true),
            (Lines, "{}", false),
            (Lines, "{}\n ", false),
        ] {
            for piece in 1..=text.len().max(1) {
                assert_eq!(told(form, text, piece).1, between, "{text:?} by {piece}");
            }
        }
        let mut watch = StreamWatch::new(Events);
        watch.take(&BOM[..2]);
        assert!(!watch.is_between());
    }

    #[test]
    fn pieces_are_counted() {
        assert_eq!(told(Events, GOOD, 3).2, 4);
        assert_eq!(told(Lines, "{}\n\n{}\n{", 3).2, 3);
    }

    #[test]
    fn a_stream_takes_the_same_memory_whatever_comes() {
        assert!(size_of::<StreamWatch>() < 600, "{}", size_of::<StreamWatch>());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_chunks_are_cut(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "data: ", "data:", "event: error", "event: x", "{\"error\":", "{\"code\":429}", "null}", "}",
                "\"a\\\"\"", ": c", "id: 1", "\n", "\n\n", "\r\n", "\r", "\u{feff}", "{\"type\":\"error\"}",
            ]), 0..20),
            cuts in prop::collection::vec(0_usize..200, 0..9),
            lines: bool,
        ) {
            let form = if lines { Lines } else { Events };
            let text = pieces.concat();
            let whole = told(form, &text, text.len());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut watch = StreamWatch::new(form);
            let mut failure = None;
            for cut in cuts.windows(2) {
                failure = failure.or(watch.take(&text.as_bytes()[cut[0]..cut[1]]));
            }
            let between = watch.is_between();
            prop_assert_eq!((failure.or(watch.finish()), between, watch.pieces()), whole);
        }

        #[test]
        fn any_bytes_are_followed_without_panic(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..9), lines: bool) {
            let mut watch = StreamWatch::new(if lines { Lines } else { Events });
            for chunk in &chunks {
                watch.take(chunk);
            }
            watch.finish();
        }
    }
}
