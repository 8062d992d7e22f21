//! The head of an HTTP/1 answer, read once: line by line as it comes, straight into a head of pingora's.
//!
//! What two readers could frame in two ways is the replica's fault (RFC 9112 §§2.2, 4, 5 and 6): folded fields, bare
//! line feeds, spaces before a colon, several lengths, codings that Evener does not undo. Evener writes a new head for
//! the client, but a replica that answers so, or somebody who writes into its answers, decides where the next begins.
use crate::wire::head::check_field;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, Version, header};
use pingora_http::ResponseHeader;
use std::ops::Range;

/// Fields of a head at most.
pub(super) const MOST_FIELDS: usize = 256;
/// Bytes of a head at most.
const LONGEST: usize = 1 << 20;

/// What a head says of the length of the body behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerFraming {
    /// The one `Content-Length`.
    pub length: Option<u64>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
}

/// Why the head of an answer is refused, as a sentence about the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAnswer(pub &'static str);

const NOT_HTTP: BadAnswer = BadAnswer("its head is not well-formed HTTP");

/// A head that has one meaning.
#[derive(Debug)]
pub struct AnswerHead {
    pub head: Box<ResponseHeader>,
    pub framing: AnswerFraming,
}

/// Reads a head, from its status line to the empty line.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Where the line begins that is not over.
    line: usize,
    /// So far it was searched for its end.
    searched: usize,
    status: Option<Status>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    framing: AnswerFraming,
}

#[derive(Debug)]
struct Status {
    code: StatusCode,
    version: Version,
    reason: Option<String>,
}

impl HeadReader {
    /// Goes on with what has come, and takes the head out of it once it is whole. `to_head`: it answers HEAD. No body
    /// follows then, nor after some statuses, and a length beside chunks does no harm.
    pub(super) fn read(
        &mut self,
        buf: &mut BytesMut,
        to_head: bool,
    ) -> Result<Option<AnswerHead>, BadAnswer> {
        while let Some(end) = memchr::memchr(b'\n', &buf[self.searched..]) {
            let end = self.searched + end + 1;
            let last = self.read_line(&buf[..end]).map_err(|bad| told(bad, &buf[..end]))?;
            (self.line, self.searched) = (end, end);
            if end > LONGEST {
                return Err(NOT_HTTP);
            }
            if last {
                let bytes = buf.split_to(end).freeze();
                return std::mem::take(self).build(&bytes, to_head).map(Some);
            }
        }
        self.searched = buf.len();
        // What speaks another protocol need not end its line.
        if self.status.is_none() && buf.len() >= 8 {
            check_protocol(buf).map_err(|bad| told(bad, &buf[..8]))?;
        }
        if buf.len() > LONGEST { Err(NOT_HTTP) } else { Ok(None) }
    }

    /// Reads the last line of these. Returns whether it ends the head.
    fn read_line(&mut self, bytes: &[u8]) -> Result<bool, BadAnswer> {
        let start = self.line;
        let line = &bytes[start..bytes.len() - 1];
        if self.status.is_none() {
            // First, so that it is told the same whether the line was over or not.
            check_protocol(line)?;
        }
        let line = line.strip_suffix(b"\r");
        let line = line.ok_or(BadAnswer("lines of its head end in LF alone"))?;
        if self.status.is_none() {
            self.status = Some(status_of(line)?);
            return Ok(false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        let (name, value) = check_field(line).map_err(BadAnswer)?;
        note(&mut self.framing, name, value)?;
        if self.fields.len() == MOST_FIELDS {
            return Err(NOT_HTTP);
        }
        // The value is what stands behind the colon, without white space around it.
        let behind = &line[name.len() + 1..];
        let from = start + line.len() - behind.trim_ascii_start().len();
        self.fields.push((start..start + name.len(), from..from + value.len()));
        Ok(false)
    }

    fn build(self, bytes: &Bytes, to_head: bool) -> Result<AnswerHead, BadAnswer> {
        let Status { code, version, reason } = self.status.ok_or(NOT_HTTP)?;
        let head = ResponseHeader::build(code, Some(self.fields.len()));
        let mut head = Box::new(head.map_err(|_| NOT_HTTP)?);
        head.set_version(version);
        head.set_reason_phrase(reason.as_deref()).map_err(|_| NOT_HTTP)?;
        for (name, value) in self.fields {
            // An empty range lies beside the bytes that are shared.
            let value = if value.is_empty() { Bytes::new() } else { bytes.slice(value) };
            let value = HeaderValue::from_maybe_shared(value).map_err(|_| NOT_HTTP)?;
            head.append_header(bytes.slice(name), value).map_err(|_| NOT_HTTP)?;
        }
        if self.framing.chunked && self.framing.length.is_some() {
            if !(to_head || is_bare(code)) {
                return Err(BadAnswer("it has a Content-Length and is chunked"));
            }
            head.remove_header(&header::CONTENT_LENGTH);
        }
        Ok(AnswerHead { head, framing: self.framing })
    }
}

/// Does no body follow a head of this status, whatever it says (RFC 9112 §6.3)?
pub(super) fn is_bare(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

/// What is no HTTP for anybody is told so; the rest by what readers make different things of. `bytes` end with the line
/// that is refused.
fn told(bad: BadAnswer, bytes: &[u8]) -> BadAnswer {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut forgiving = httparse::ParserConfig::default();
    forgiving.allow_spaces_after_header_name_in_responses(true);
    forgiving.allow_obsolete_multiline_headers_in_responses(true);
    let read = forgiving.parse_response(&mut httparse::Response::new(&mut fields), bytes);
    if read.is_err() { NOT_HTTP } else { bad }
}

const NO_STATUS: BadAnswer = BadAnswer("it does not begin with a status line of HTTP/1");

fn check_protocol(line: &[u8]) -> Result<(), BadAnswer> {
    match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', ..] => Ok(()),
        _ => Err(NO_STATUS),
    }
}

/// `HTTP/1.1 200 OK`, or without the text.
fn status_of(line: &[u8]) -> Result<Status, BadAnswer> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(NO_STATUS)?;
    let [minor @ (b'0' | b'1'), b' ', status @ ..] = rest else { return Err(NO_STATUS) };
    let (digits, text) = status.split_first_chunk::<3>().ok_or(NO_STATUS)?;
    let printable = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
    let ends = text.first().is_none_or(|byte| *byte == b' ') && text.iter().all(printable);
    if !(digits.iter().all(u8::is_ascii_digit) && ends) {
        return Err(NO_STATUS);
    }
    let code = StatusCode::from_bytes(digits).map_err(|_| NOT_HTTP)?;
    let version = if *minor == b'1' { Version::HTTP_11 } else { Version::HTTP_10 };
    // Bytes beyond ASCII have no one reading.
    let reason = std::str::from_utf8(text).ok().filter(|text| text.is_ascii());
    let reason = reason.map_or("", |text| text.strip_prefix(' ').unwrap_or(text)).trim_start();
    let usual = code.canonical_reason() == Some(reason);
    Ok(Status { code, version, reason: (!usual).then(|| reason.to_owned()) })
}

fn note(framing: &mut AnswerFraming, name: &[u8], value: &[u8]) -> Result<(), BadAnswer> {
    match name.len() {
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            for one in value.split(|byte| *byte == b',') {
                let length = read_length(one.trim_ascii());
                let length = length.ok_or(BadAnswer("its Content-Length is not a number"))?;
                if framing.length.replace(length).is_some_and(|other| other != length) {
                    return Err(BadAnswer("it has two different Content-Lengths"));
                }
            }
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            let chunked = value.eq_ignore_ascii_case(b"chunked");
            if !chunked || std::mem::replace(&mut framing.chunked, true) {
                return Err(BadAnswer("its Transfer-Encoding is not `chunked` alone"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// A plain number of bytes; `+5`, `0x5` and an empty value are none. Eighteen digits are below 2^63.
pub fn read_length(digits: &[u8]) -> Option<u64> {
    let plain = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| digits.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
