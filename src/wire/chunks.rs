//! The framing of a chunked request body, checked as it is read (RFC 9112 §7.1).
//!
//! Readers of chunks forgive different mistakes, and what one takes for the end of a body another takes for its middle:
//! an empty size, a line that ends in LF alone, a line feed within an extension. Here each is an error, and all bytes
//! pass as they are.
use super::head::check_field;

/// Bytes of one chunk's size with its extensions, at most.
const LINE: usize = 1024;
/// Bytes of the fields after the last chunk, at most.
const TRAILERS: usize = 16 * 1024;

/// Where in its chunks a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    /// Of a chunk: what was read of its size. Of the trailers: of the line that is not over.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the line that tells a chunk's size.
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// CR LF after a chunk, of which so much was seen.
    After(usize),
    Trailers,
    /// What follows is no part of the body.
    Done,
}

/// The framing is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadChunks(pub(super) &'static str);

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size, line: Vec::new(), trailers: 0 }
    }
}

impl Chunks {
    /// Did the body end?
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Goes on with these bytes.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), BadChunks> {
        while !bytes.is_empty() {
            match self.at {
                At::Done => return Ok(()),
                At::Data(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[n..];
                    let left = left - n as u64;
                    self.at = if left == 0 { At::After(0) } else { At::Data(left) };
                }
                At::After(seen) => {
                    if bytes[0] != b"\r\n"[seen] {
                        return Err(BadChunks("a chunk is longer than its size"));
                    }
                    bytes = &bytes[1..];
                    self.at = if seen == 0 { At::After(1) } else { At::Size };
                }
                At::Size => {
                    let Some(rest) = self.read_line(bytes, LINE)? else { return Ok(()) };
                    bytes = rest;
                    let size = size_of(&self.line)?;
                    self.line.clear();
                    self.at = if size == 0 { At::Trailers } else { At::Data(size) };
                }
                At::Trailers => {
                    let Some(rest) = self.read_line(bytes, TRAILERS - self.trailers)? else {
                        return Ok(());
                    };
                    bytes = rest;
                    self.trailers += self.line.len();
                    if self.line.is_empty() {
                        self.at = At::Done;
                        self.line = Vec::new();
                    } else {
                        check_field(&self.line).map_err(BadChunks)?;
                        self.line.clear();
                    }
                }
            }
        }
        Ok(())
    }

    /// Gathers a line without its CR LF. Returns what follows it, or `None` where it is not over.
    fn read_line<'a>(
        &mut self,
        bytes: &'a [u8],
        most: usize,
    ) -> Result<Option<&'a [u8]>, BadChunks> {
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if self.line.len() + part.len() > most {
            return Err(BadChunks("a line between chunks is too long"));
        }
        self.line.extend_from_slice(part);
        let Some(end) = end else { return Ok(None) };
        match self.line.pop() {
            Some(b'\r') => Ok(Some(&bytes[end + 1..])),
            Some(_) | None => Err(BadChunks("lines between chunks must end in CR LF")),
        }
    }
}

/// A chunk's size in hexadecimal digits, before white space or extensions.
pub(super) fn size_of(line: &[u8]) -> Result<u64, BadChunks> {
    const BAD: BadChunks = BadChunks("a chunk's size is not a hexadecimal number");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // Fifteen digits are below 2^60: no reader overflows.
    let (size, rest) = (&line[..digits], line[digits..].trim_ascii_start());
    if !(1..=15).contains(&digits) || !(rest.is_empty() || rest[0] == b';') {
        return Err(BAD);
    }
    if line[digits..].iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(BadChunks("a chunk's extension holds control characters"));
    }
    let size = std::str::from_utf8(size).map_err(|_| BAD)?;
    u64::from_str_radix(size, 16).map_err(|_| BAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], piece: usize) -> Result<bool, BadChunks> {
        let mut chunks = Chunks::default();
        for piece in bytes.chunks(piece) {
            chunks.read(piece)?;
        }
        Ok(chunks.is_done())
    }

    #[test]
    fn whole_bodies_end_and_others_do_not_yet() {
        for body in [
            "0\r\n\r\n",
            "2\r\nhi\r\n0\r\n\r\n",
            "A \r\n0123456789\r\n000\r\n\r\n",
            "2;a=\"b\"\t; c\r\n\r\n\r\n0;x\r\nx-a: 1\r\nx-b:\r\n\r\n",
        ] {
            for piece in 1..=body.len() {
                assert_eq!(read(body.as_bytes(), piece), Ok(true), "{body:?} in pieces of {piece}");
                assert_eq!(read(&body.as_bytes()[..body.len() - 1], piece), Ok(false), "{body:?}");
            }
            assert_eq!(read(format!("{body}GET / \n").as_bytes(), 7), Ok(true), "{body:?}");
        }
    }

    #[test]
    fn what_readers_take_in_two_ways_is_refused() {
        for body in [
            "\r\nhi\r\n0\r\n\r\n",
            " 2\r\nhi\r\n",
            "0x2\r\nhi\r\n",
            "+2\r\nhi\r\n",
            "2 x\r\nhi\r\n",
            "zz\r\n",
            "10000000000000000\r\n",
            "2\nhi\r\n",
            "2\rhi\r\n\n",
            "2;a\nb\r\nhi\r\n",
            "2;a\rb\r\nhi\r\n",
            "2\r\nhi\n0\r\n\r\n",
            "2\r\nhiho\r\n",
            "0\r\n\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nx-a : 1\r\n\r\n",
            "0\r\nx-a: 1\r\n 2\r\n\r\n",
        ] {
            for piece in 1..=body.len() {
                assert!(read(body.as_bytes(), piece).is_err(), "{body:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn lines_are_bounded() {
        assert!(read(format!("2;{}\r\n", "a".repeat(LINE)).as_bytes(), 100).is_err());
        assert!(read(format!("2;{}", "a".repeat(LINE)).as_bytes(), 1).is_err());
        let many = "x: 1\r\n".repeat(TRAILERS / 4);
        assert!(read(format!("0\r\n{many}\r\n").as_bytes(), 100).is_err());
    }

    proptest! {
        #[test]
        fn any_chunks_are_read_to_their_end(
            sizes in proptest::collection::vec(1_usize..50, 0..9), piece in 1_usize..40,
        ) {
            let mut body = Vec::new();
            for size in sizes {
                body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                body.extend(std::iter::repeat_n(b'\n', size));
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&body, piece), Ok(true));
            prop_assert_eq!(read(&body[..body.len() - 1], piece), Ok(false));
        }
    }
}
