//! Lines of event streams and of JSON lines, in whatever pieces they come: where data begins, goes on and ends.
use memchr::memchr2;

/// What begins a line of data in an event stream (WHATWG HTML, "Server-sent events").
const DATA: &[u8] = b"data:";
/// What ends a stream of OpenAI's: no event of its own.
const DONE: &[u8] = b"[DONE]";

/// What stands in a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line of data begins.
    Begins,
    /// More of its data.
    Data(&'a [u8]),
    /// That line was the end mark.
    Done,
    Empty,
}

/// Where in a line the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// So much of [`DATA`] was read.
    #[default]
    Start,
    Name(usize),
    /// Behind the colon: a space there is none of the data.
    Colon,
    /// In data of which so much is [`DONE`]; `None`: it is something else.
    Data(Option<usize>),
    /// In a line that is of no matter.
    Other,
}

/// Reads lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    at: At,
    /// The byte before was CR: LF is of the same line end.
    after_cr: bool,
}

impl Lines {
    /// Takes the next bytes. `named`: data stands behind `data:`; else each line is data.
    pub(super) fn take<'b>(
        &mut self,
        mut bytes: &'b [u8],
        named: bool,
        mut found: impl FnMut(Line<'b>),
    ) {
        while let Some(&byte) = bytes.first() {
            let ends = byte == b'\n' || byte == b'\r';
            let same = byte == b'\n' && std::mem::take(&mut self.after_cr);
            if same {
                bytes = &bytes[1..];
                continue;
            }
            self.after_cr = byte == b'\r';
            if ends {
                match self.at {
                    At::Start => found(Line::Empty),
                    At::Data(Some(matched)) if matched == DONE.len() => found(Line::Done),
                    At::Name(_) | At::Colon | At::Data(_) | At::Other => {}
                }
                self.at = At::Start;
                bytes = &bytes[1..];
                continue;
            }
            match self.at {
                At::Start if named => self.at = At::Name(0),
                At::Start => {
                    found(Line::Begins);
                    self.at = At::Data(None);
                }
                At::Name(matched) if byte == DATA[matched] => {
                    bytes = &bytes[1..];
                    self.at = At::Name(matched + 1);
                    if matched + 1 == DATA.len() {
                        found(Line::Begins);
                        self.at = At::Colon;
                    }
                }
                At::Name(_) => self.at = At::Other,
                At::Colon => {
                    bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
                    self.at = At::Data(Some(0));
                }
                At::Data(matched) => {
                    let (piece, rest) = rest_of_line(bytes);
                    found(Line::Data(piece));
                    let so_far = matched.filter(|at| DONE[*at..].starts_with(piece));
                    self.at = At::Data(so_far.map(|at| at + piece.len()));
                    bytes = rest;
                }
                At::Other => bytes = rest_of_line(bytes).1,
            }
        }
    }
}

/// The bytes up to the end of the line, and what is behind them.
fn rest_of_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len()))
}
