//! The body of an HTTP/1 answer, cut out of what comes: by its length, in chunks, or to the end of the connection.
use super::head::{AnswerFraming, MOST_FIELDS};
use crate::wire::chunks::size_of;
use crate::wire::head::check_field;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of one chunk's size with its extensions, at most.
const LINE: usize = 8 * 1024;
/// Bytes of the fields after the last chunk, at most.
const TRAILERS: usize = 64 * 1024;

/// Why a body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBody(pub &'static str);

/// What comes next of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Bytes),
    /// More must be read first.
    More,
    End,
}

#[derive(Debug)]
pub(super) struct BodyReader {
    at: At,
    /// Found behind the piece that was given last.
    broken: Option<BadBody>,
    /// Bytes of trailers so far, and how many there were.
    trailing: (usize, usize),
    trailers: HeaderMap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// So many bytes are to come.
    Length(u64),
    UntilClose,
    /// In the line that tells a chunk's size.
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// CR LF after a chunk.
    After,
    Trailers,
    Done,
}

impl BodyReader {
    pub(super) fn new(framing: AnswerFraming) -> Self {
        match framing {
            AnswerFraming { chunked: true, .. } => Self::at(At::Size),
            AnswerFraming { length: Some(length), .. } => Self::of_length(length),
            AnswerFraming { length: None, .. } => Self::until_close(),
        }
    }

    pub(super) fn of_length(length: u64) -> Self {
        Self::at(if length == 0 { At::Done } else { At::Length(length) })
    }

    pub(super) fn until_close() -> Self {
        Self::at(At::UntilClose)
    }

    fn at(at: At) -> Self {
        Self { at, broken: None, trailing: (0, 0), trailers: HeaderMap::new() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    pub(super) fn ends_by_close(&self) -> bool {
        self.at == At::UntilClose
    }

    /// How many bytes are sure to come.
    pub(super) fn ahead(&self) -> usize {
        match self.at {
            At::Length(left) | At::Data(left) => usize::try_from(left).unwrap_or(usize::MAX),
            At::UntilClose | At::Size | At::After | At::Trailers | At::Done => 0,
        }
    }

    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        (!self.trailers.is_empty()).then(|| std::mem::take(&mut self.trailers))
    }

    pub(super) fn has_trailers(&self) -> bool {
        !self.trailers.is_empty()
    }

    /// The peer ended its sending.
    pub(super) fn close(&mut self) -> Result<(), BadBody> {
        if !matches!(self.at, At::UntilClose | At::Done) {
            return Err(BadBody("the connection ended within the body"));
        }
        self.at = At::Done;
        Ok(())
    }

    /// Cuts the next piece out of what has come. The end is found as soon as it is there: with the last piece.
    pub(super) fn next(&mut self, buf: &mut BytesMut) -> Result<Piece, BadBody> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        if let Err(broken) = self.skip(buf) {
            self.broken = Some(broken);
            return Err(broken);
        }
        let most = match self.at {
            At::Done => return Ok(Piece::End),
            At::Length(left) | At::Data(left) => usize::try_from(left).unwrap_or(usize::MAX),
            At::UntilClose => usize::MAX,
            At::Size | At::After | At::Trailers => return Ok(Piece::More),
        };
        let n = most.min(buf.len());
        if n == 0 {
            return Ok(Piece::More);
        }
        let data = buf.split_to(n).freeze();
        self.at = match self.at {
            At::Length(left) if left == n as u64 => At::Done,
            At::Length(left) => At::Length(left - n as u64),
            At::Data(left) if left == n as u64 => At::After,
            At::Data(left) => At::Data(left - n as u64),
            at @ (At::UntilClose | At::Size | At::After | At::Trailers | At::Done) => at,
        };
        self.broken = self.skip(buf).err();
        Ok(Piece::Data(data))
    }

    /// Reads what stands between the pieces, as far as it has come.
    fn skip(&mut self, buf: &mut BytesMut) -> Result<(), BadBody> {
        loop {
            match self.at {
                At::Done | At::Length(_) | At::UntilClose | At::Data(_) => return Ok(()),
                At::After => {
                    let n = buf.len().min(2);
                    if buf[..n] != b"\r\n"[..n] {
                        return Err(BadBody("a chunk is longer than its size"));
                    }
                    if n < 2 {
                        return Ok(());
                    }
                    buf.advance(2);
                    self.at = At::Size;
                }
                At::Size => {
                    let Some(line) = take_line(buf, LINE)? else { return Ok(()) };
                    let size = size_of(&line).map_err(|bad| BadBody(bad.0))?;
                    self.at = if size == 0 { At::Trailers } else { At::Data(size) };
                }
                At::Trailers => {
                    let left = TRAILERS - self.trailing.0;
                    let Some(line) = take_line(buf, left)? else { return Ok(()) };
                    if line.is_empty() {
                        self.at = At::Done;
                    } else {
                        self.note_trailer(&line)?;
                    }
                }
            }
        }
    }

    fn note_trailer(&mut self, line: &[u8]) -> Result<(), BadBody> {
        const BAD: BadBody = BadBody("a trailer is malformed");
        let (name, value) = check_field(line).map_err(BadBody)?;
        self.trailing = (self.trailing.0 + line.len(), self.trailing.1 + 1);
        if self.trailing.1 > MOST_FIELDS {
            return Err(BadBody("it has too many trailers"));
        }
        let name = HeaderName::from_bytes(name).map_err(|_| BAD)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| BAD)?;
        self.trailers.append(name, value);
        Ok(())
    }
}

/// Takes a line out, without its CR LF; `None` where it is not over.
fn take_line(buf: &mut BytesMut, most: usize) -> Result<Option<BytesMut>, BadBody> {
    // One byte more than that, for its CR.
    let seen = &buf[..buf.len().min(most + 2)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        let long = buf.len() >= most + 2;
        return if long { Err(BadBody("a line between chunks is too long")) } else { Ok(None) };
    };
    if end == 0 || seen[end - 1] != b'\r' {
        return Err(BadBody("lines between chunks must end in CR LF"));
    }
    let mut line = buf.split_to(end + 1);
    line.truncate(end - 1);
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(Vec<u8>, BodyReader), BadBody> {
        let mut body = BodyReader::new(AnswerFraming { length: None, chunked: true });
        let (mut buf, mut out) = (BytesMut::from(bytes), Vec::new());
        while let Piece::Data(data) = body.next(&mut buf)? {
            out.extend_from_slice(&data);
        }
        Ok((out, body))
    }

    #[test]
    fn chunks_end_with_their_last_piece_and_leave_trailers() {
        let (out, mut body) = read(b"2;a=b\r\nhi\r\n0\r\nx-a: 1\r\nx-a:2\r\n\r\n").unwrap();
        assert_eq!((&out[..], body.is_done()), (&b"hi"[..], true));
        assert_eq!(body.trailers().unwrap().get_all("x-a").iter().count(), 2);
        assert!(body.trailers().is_none(), "they are given once");
        let mut body = BodyReader::new(AnswerFraming { length: None, chunked: true });
        let mut buf = BytesMut::from(&b"2\r\nhi\r\n0\r\n\r\nHTTP"[..]);
        assert_eq!(body.next(&mut buf), Ok(Piece::Data(Bytes::from_static(b"hi"))));
        assert!(body.is_done());
        assert_eq!(&buf[..], b"HTTP", "what follows is no part of it");
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bytes in [
            "2\nhi\r\n",
            "2\r\nhi\n0\r\n\r\n",
            "2\r\nhiho\r\n",
            "zz\r\n",
            "\r\n",
            "10000000000000000\r\nx",
            "0\r\n\n",
            "0\r\nx-a : 1\r\n\r\n",
            "0\r\n x\r\n\r\n",
        ] {
            assert!(read(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert!(read(format!("2;{}", "a".repeat(LINE)).as_bytes()).is_err());
        assert!(read(format!("0\r\nx: {}", "a".repeat(TRAILERS)).as_bytes()).is_err());
        assert!(read(format!("0\r\n{}", "x: 1\r\n".repeat(MOST_FIELDS + 1)).as_bytes()).is_err());
        assert!(read(format!("0\r\n{}\r\n", "x: 1\r\n".repeat(MOST_FIELDS)).as_bytes()).is_ok());
    }

    #[test]
    fn only_a_body_without_an_end_of_its_own_ends_with_its_connection() {
        assert!(BodyReader::until_close().close().is_ok());
        assert!(BodyReader::of_length(0).close().is_ok());
        assert!(BodyReader::of_length(1).close().is_err());
        assert!(read(b"2\r\nhi\r\n").unwrap().1.close().is_err());
    }
}
