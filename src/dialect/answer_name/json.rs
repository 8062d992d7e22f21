//! JSON read byte by byte, as far as it takes to know where the value of one field begins and ends.
use super::Pieces;
use std::ops::Range;

/// Bytes of a byte order mark.
pub(super) const BOM: &[u8] = "\u{feff}".as_bytes();
/// Keys longer than this are none of those looked for.
const LONGEST_KEY: usize = 16;

/// Reads one value of JSON after the other.
#[derive(Debug)]
pub(super) struct Json {
    top: &'static [&'static str],
    within: Option<&'static str>,
    at: At,
    /// The objects that are open and looked into: the outermost one, and the one in its field `within`.
    open: u8,
    /// They stand in a list.
    listed: bool,
    key: Key,
}

/// Where in a value the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the beginning, where so many bytes of a byte order mark were read.
    Marked(usize),
    /// Before a value, or between two.
    Between,
    /// In an object, before a key or its end.
    BeforeKey,
    InKey {
        escaped: bool,
    },
    BeforeColon,
    BeforeValue,
    /// In the string that is replaced.
    InName {
        escaped: bool,
    },
    /// In another string.
    InText {
        escaped: bool,
    },
    /// In a number or a word.
    InWord,
    /// In an array or object that is not looked into.
    Inside {
        depth: u32,
        text: Option<bool>,
    },
    /// After a value in an object.
    AfterValue,
    /// It is not JSON: what follows passes, to the end of the line where lines are answers.
    Lost,
}

/// What is read of a key.
#[derive(Debug, Default)]
struct Key {
    bytes: [u8; LONGEST_KEY],
    len: usize,
}

impl Key {
    fn add(&mut self, byte: u8) {
        if let Some(room) = self.bytes.get_mut(self.len) {
            *room = byte;
        }
        self.len = (self.len + 1).min(LONGEST_KEY + 1);
    }

    fn is(&self, word: &str) -> bool {
        self.bytes.get(..self.len) == Some(word.as_bytes())
    }
}

impl Json {
    pub(super) fn new(top: &'static [&'static str], within: Option<&'static str>) -> Self {
        Self { top, within, at: At::Marked(0), open: 0, listed: false, key: Key::default() }
    }

    /// The next byte begins another value.
    pub(super) fn restart(&mut self) {
        (self.at, self.open, self.listed) = (At::Between, 0, false);
    }

    /// A line ended that the value may go on after. No string does.
    pub(super) fn break_line(&mut self) {
        let broken = matches!(
            self.at,
            At::InKey { .. }
                | At::InName { .. }
                | At::InText { .. }
                | At::Inside { text: Some(_), .. }
        );
        if broken {
            self.at = At::Lost;
        }
    }

    /// Reads these bytes of what passes, and puts `name` in the place of the strings it looks for.
    pub(super) fn read(&mut self, pieces: &mut Pieces<'_>, range: Range<usize>, name: &[u8]) {
        let from = pieces.from;
        for place in range {
            let byte = from[place];
            let replaced = matches!(self.at, At::InName { .. });
            let next = self.step(byte);
            match (replaced, next) {
                (false, At::InName { .. }) => {
                    pieces.pass(place);
                    pieces.put(name);
                    pieces.skip(place + 1);
                }
                (true, _) => pieces.skip(place + 1),
                (false, _) => {}
            }
            self.at = next;
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a state machine: each state beside what leads out of it"
    )]
    fn step(&mut self, byte: u8) -> At {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if let At::Marked(read) = self.at {
            if BOM.get(read) == Some(&byte) {
                return At::Marked(read + 1);
            }
            self.at = if [0, BOM.len()].contains(&read) { At::Between } else { At::Lost };
        }
        match self.at {
            At::Lost if byte == b'\n' => {
                (self.open, self.listed) = (0, false);
                At::Between
            }
            At::InKey { escaped } => {
                if escaped || byte != b'"' {
                    self.key.add(byte);
                    return At::InKey { escaped: !escaped && byte == b'\\' };
                }
                At::BeforeColon
            }
            At::InName { escaped } if escaped || byte != b'"' => {
                At::InName { escaped: !escaped && byte == b'\\' }
            }
            At::InText { escaped } if escaped || byte != b'"' => {
                At::InText { escaped: !escaped && byte == b'\\' }
            }
            At::InName { .. } | At::InText { .. } => self.after_value(),
            At::Inside { depth, text } => self.inside(byte, depth, text),
            At::InWord if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => At::InWord,
            At::InWord if space => self.after_value(),
            At::InWord if byte == b',' && self.open == 0 && self.listed => At::Between,
            At::InWord | At::AfterValue if self.open > 0 => match byte {
                b',' => At::BeforeKey,
                b'}' => self.close(),
                _ if space => At::AfterValue,
                _ => At::Lost,
            },
            At::Between | At::BeforeValue if space => self.at,
            At::Between if byte == b'{' => {
                self.open = 1;
                At::BeforeKey
            }
            // A list of answers (Gemini's streams without `alt=sse`).
            At::Between if byte == b'[' && !self.listed => {
                self.listed = true;
                At::Between
            }
            At::Between if byte == b',' && self.listed => At::Between,
            At::Between if byte == b']' && self.listed => {
                self.listed = false;
                At::Between
            }
            At::Between => self.value(byte, false),
            At::BeforeKey => match byte {
                b'"' => {
                    self.key = Key::default();
                    At::InKey { escaped: false }
                }
                b'}' => self.close(),
                _ if space => At::BeforeKey,
                _ => At::Lost,
            },
            At::BeforeColon if byte == b':' => At::BeforeValue,
            At::BeforeColon if space => At::BeforeColon,
            At::BeforeValue => {
                let within = self.open == 1 && self.within.is_some_and(|word| self.key.is(word));
                if within && byte == b'{' {
                    self.open = 2;
                    return At::BeforeKey;
                }
                self.value(byte, self.top.iter().any(|word| self.key.is(word)))
            }
            At::Marked(_) | At::Lost | At::InWord | At::AfterValue | At::BeforeColon => At::Lost,
        }
    }

    /// A value begins. `named`: its key is the one looked for.
    fn value(&self, byte: u8, named: bool) -> At {
        match byte {
            b'"' if named && self.open > 0 => At::InName { escaped: false },
            b'"' => At::InText { escaped: false },
            b'{' | b'[' => At::Inside { depth: 1, text: None },
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => At::InWord,
            _ => At::Lost,
        }
    }

    fn inside(&self, byte: u8, depth: u32, text: Option<bool>) -> At {
        match (text, byte) {
            (Some(false), b'"') => At::Inside { depth, text: None },
            (Some(false), b'\\') => At::Inside { depth, text: Some(true) },
            (Some(_), _) | (None, b'"') => At::Inside { depth, text: Some(false) },
            (None, b'{' | b'[') => At::Inside { depth: depth.saturating_add(1), text: None },
            (None, b'}' | b']') if depth == 1 => self.after_value(),
            (None, b'}' | b']') => At::Inside { depth: depth - 1, text: None },
            (None, _) => At::Inside { depth, text: None },
        }
    }

    fn after_value(&self) -> At {
        if self.open > 0 { At::AfterValue } else { At::Between }
    }

    /// An object that is looked into ends.
    fn close(&mut self) -> At {
        self.open -= 1;
        self.after_value()
    }
}
