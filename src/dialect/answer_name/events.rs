//! Server-sent events read byte by byte: which of their bytes are data (WHATWG HTML, 9.2.6).
use super::Pieces;
use super::json::{BOM, Json};

const DATA: &[u8] = b"data:";

/// Reads one event after the other.
#[derive(Debug)]
pub(super) struct Events {
    json: Json,
    line: Line,
    /// The last byte was a carriage return: a line feed behind it ends no further line.
    returned: bool,
    /// Bytes of a byte order mark that the stream began with; past it, more.
    mark: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So much of `data:` was read, and nothing else.
    Begun(usize),
    Data,
    /// A comment or another field.
    Other,
}

impl Events {
    pub(super) fn new(top: &'static [&'static str], within: Option<&'static str>) -> Self {
        Self { json: Json::new(top, within), line: Line::Begun(0), returned: false, mark: 0 }
    }

    pub(super) fn read(&mut self, pieces: &mut Pieces<'_>, name: &[u8]) {
        let from = pieces.from;
        let mut at = 0;
        while let Some(byte) = from.get(at) {
            if BOM.get(self.mark) == Some(byte) {
                self.mark += 1;
                at += 1;
                continue;
            }
            if self.mark < BOM.len() {
                // What looked like a mark and is none belongs to the first line.
                self.line = if self.mark == 0 { self.line } else { Line::Other };
                self.mark = BOM.len();
            }
            let ends = matches!(byte, b'\n' | b'\r');
            let second = std::mem::replace(&mut self.returned, *byte == b'\r') && *byte == b'\n';
            match self.line {
                _ if second => {}
                line if ends => self.end_line(line),
                Line::Data => {
                    let rest = &from[at..];
                    let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    self.json.read(pieces, at..at + length, name);
                    at += length;
                    continue;
                }
                Line::Begun(n) if *byte == DATA[n] => {
                    self.line = if n + 1 == DATA.len() { Line::Data } else { Line::Begun(n + 1) };
                }
                Line::Begun(_) | Line::Other => self.line = Line::Other,
            }
            at += 1;
        }
    }

    fn end_line(&mut self, line: Line) {
        match line {
            // An empty line ends an event.
            Line::Begun(0) => self.json.restart(),
            Line::Data => self.json.break_line(),
            Line::Begun(_) | Line::Other => {}
        }
        self.line = Line::Begun(0);
    }
}
