//! The fields of a protobuf message, one after the other, read without a schema.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. What parsers disagree about is refused instead of guessed:
//! field numbers that do not fit, groups (deprecated since 2008), lengths beyond the end.
use super::message_problem::MessageProblem;
use std::ops::Range;

/// A varint has at most so many bytes.
const LONGEST_VARINT: usize = 10;

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    /// 4 or 8 bytes.
    Fixed,
    /// Text, bytes, an inner message, or packed numbers.
    Bytes(&'a [u8]),
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
    /// Its bytes in the message, key and length among them.
    pub range: Range<usize>,
}

/// Reads a message field by field.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    fn varint(&mut self) -> Result<u64, MessageProblem> {
        let mut value = 0_u64;
        for i in 0..LONGEST_VARINT {
            let byte = *self.message.get(self.at).ok_or(MessageProblem::Malformed)?;
            self.at += 1;
            // The tenth byte has room for one bit only.
            if i == LONGEST_VARINT - 1 && byte > 1 {
                return Err(MessageProblem::Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MessageProblem::Malformed)
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], MessageProblem> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let bytes = end.and_then(|end| self.message.get(self.at..end));
        let bytes = bytes.ok_or(MessageProblem::Malformed)?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn field(&mut self) -> Result<Field<'a>, MessageProblem> {
        const MOST: u64 = (1 << 29) - 1;
        let start = self.at;
        let key = self.varint()?;
        let number = key >> 3;
        if !(1..=MOST).contains(&number) {
            return Err(MessageProblem::Malformed);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return Err(MessageProblem::Malformed),
        };
        Ok(Field { number, value, range: start..self.at })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, MessageProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.message.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.message.len();
        }
        Some(field)
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field of bytes, text or a message.
pub fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, MessageProblem> {
        Fields::of(message).map(|field| field.map(|field| (field.number, field.value))).collect()
    }

    #[test]
    fn each_wire_type_is_read_or_skipped() {
        let message = b"\x08\x96\x01\x12\x02hi\x1d\0\0\0\0\x21\0\0\0\0\0\0\0\0";
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Fixed),
            (4, Value::Fixed),
        ];
        assert_eq!(read(message).unwrap(), expected);
        assert_eq!(read(b"").unwrap(), []);
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        let too_long = [[0xff; 9].as_slice(), &[2, 0]].concat();
        for message in [
            &b"\x0a"[..],
            b"\x0a\x05abc",
            b"\x02\x01a",
            b"\x0b\x0c",
            b"\x0c",
            b"\x0e\0",
            b"\x80\x80\x80\x80\x20\x01",
            b"\x09\0\0",
            &too_long,
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(read(message), Err(MessageProblem::Malformed), "{message:x?}");
        }
        // A longer spelling than need be is the same number to all.
        assert_eq!(read(b"\x8a\x00\x01a").unwrap(), [(1, Value::Bytes(b"a"))]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_fields_tile_them(bytes: Vec<u8>) {
            let mut end = 0;
            for field in Fields::of(&bytes).map_while(Result::ok) {
                prop_assert_eq!(field.range.start, end);
                end = field.range.end;
            }
            prop_assert!(end <= bytes.len());
        }

        #[test]
        fn what_is_put_reads_back(number in 1..1_u64 << 29, bytes: Vec<u8>, value: u64) {
            let mut out = Vec::new();
            put_bytes(&mut out, number, &bytes);
            put_varint(&mut out, number << 3);
            put_varint(&mut out, value);
            let expected = vec![(number, Value::Bytes(&bytes)), (number, Value::Varint(value))];
            prop_assert_eq!(read(&out).unwrap(), expected);
        }
    }
}
