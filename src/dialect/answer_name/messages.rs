//! Messages of gRPC read as they pass, as far as it takes to know their first field.
//!
//! Serializers write fields in the order of their numbers, so that a name in field 1 stands first. A message that begins
//! otherwise, or is compressed, passes as it came.
use super::Pieces;
use crate::dialect::grpc::{NameAt, PREFIX, put_varint};
use bytes::Bytes;

/// The prefix of a message, and a key and a length for each of two fields.
const LONGEST_HEAD: usize = PREFIX + 2 * (1 + 5);

/// Reads one message after the other.
#[derive(Debug)]
pub(super) struct Messages {
    at: NameAt,
    /// The beginning of a message that was not passed yet.
    head: Vec<u8>,
    /// What is left of the old name, and of the message behind it.
    name: u64,
    rest: u64,
}

/// What the beginning of a message says.
enum Begun {
    /// More of it is needed.
    Open,
    /// So many bytes follow that pass as they come.
    Passes(u64),
    Named(Named),
}

/// A message whose name is to be replaced.
struct Named {
    /// The lengths of the message, and of the object around the name where there is one.
    message: u64,
    inner: Option<u64>,
    old: u64,
    /// What follows the name.
    rest: u64,
}

impl Messages {
    pub(super) fn new(at: NameAt) -> Self {
        Self { at, head: Vec::new(), name: 0, rest: 0 }
    }

    pub(super) fn read(&mut self, pieces: &mut Pieces<'_>, name: &[u8]) {
        let end = pieces.from.len();
        while pieces.passed < end {
            let here = (end - pieces.passed) as u64;
            if self.name > 0 {
                let n = self.name.min(here);
                self.name -= n;
                pieces.skip(pieces.passed + n as usize);
            } else if self.rest > 0 {
                let n = self.rest.min(here);
                self.rest -= n;
                pieces.pass(pieces.passed + n as usize);
            } else {
                self.head.push(pieces.from[pieces.passed]);
                pieces.skip(pieces.passed + 1);
                self.begin(pieces, name);
            }
        }
    }

    fn begin(&mut self, pieces: &mut Pieces<'_>, name: &[u8]) {
        match begun(&self.head, self.at) {
            Begun::Open => return,
            Begun::Passes(rest) => {
                pieces.put(&self.head);
                self.rest = rest;
            }
            Begun::Named(named) => {
                pieces.put(&head_of(&named, self.at, name));
                (self.name, self.rest) = (named.old, named.rest);
            }
        }
        self.head.clear();
    }

    /// The beginning of a message that was cut off.
    pub(super) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.head).into()
    }
}

/// Reads the beginning of a message.
fn begun(head: &[u8], at: NameAt) -> Begun {
    let Some((prefix, fields)) = head.split_first_chunk::<PREFIX>() else { return Begun::Open };
    let [flag, length @ ..] = *prefix;
    let message = u64::from(u32::from_be_bytes(length));
    let passes = Begun::Passes(message.saturating_sub(fields.len() as u64));
    if flag != 0 || message == 0 || head.len() > LONGEST_HEAD {
        return passes;
    }
    let (mut read, mut room, mut inner) = (0, message, None);
    for (depth, number) in at.iter().enumerate() {
        let Some(key) = fields.get(read) else { return Begun::Open };
        if u64::from(*key) != number << 3 | 2 || room < 2 {
            return passes;
        }
        let (length, bytes) = match varint(&fields[read + 1..]) {
            Varint::Read(length, bytes) => (length, bytes),
            Varint::Open if (fields.len() as u64) < message => return Begun::Open,
            Varint::Open | Varint::Long => return passes,
        };
        read += 1 + bytes;
        let Some(after) = room.checked_sub(1 + bytes as u64 + length) else { return passes };
        if depth + 1 == at.len() {
            if length == 0 {
                return passes;
            }
            let rest = message - read as u64 - length;
            return Begun::Named(Named { message, inner, old: length, rest });
        }
        // What stands behind the object follows the name too.
        (inner, room) = (Some(length), room - 1 - bytes as u64 - after);
    }
    passes
}

/// The beginning of the message with another name.
fn head_of(named: &Named, at: NameAt, name: &[u8]) -> Vec<u8> {
    let field = |number: u64, length: u64| {
        let mut head = Vec::new();
        put_varint(&mut head, number << 3 | 2);
        put_varint(&mut head, length);
        head
    };
    let grown = |length: u64, was: usize, is: usize| length - was as u64 + is as u64;
    let number = at.last().copied().unwrap_or(1);
    let (old, new) = (field(number, named.old), field(number, name.len() as u64));
    let (was, is) = (old.len() + named.old as usize, new.len() + name.len());
    let (outer_was, outer) = match (named.inner, at.first()) {
        (Some(inner), Some(number)) => {
            (field(*number, inner), field(*number, grown(inner, was, is)))
        }
        _ => (Vec::new(), Vec::new()),
    };
    let length = grown(named.message, outer_was.len() + was, outer.len() + is);
    // A name is short, and messages are below 2^32 by far.
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], &outer, &new, name].concat()
}

enum Varint {
    /// A number, and how many bytes it takes.
    Read(u64, usize),
    Open,
    /// Longer than any length.
    Long,
}

fn varint(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Varint::Read(value, i + 1);
        }
    }
    if bytes.len() < 5 { Varint::Open } else { Varint::Long }
}
