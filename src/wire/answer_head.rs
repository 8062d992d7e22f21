//! The head of an HTTP/1 answer, checked byte by byte: what two readers could frame in two ways is the replica's fault
//! (RFC 9112 §§2.2, 4, 5 and 6).
//!
//! pingora's parser forgives folded fields, bare line feeds, spaces before a colon, lists of lengths and codings that
//! Evener does not undo. Evener writes a new head for the client, but a replica that answers so, or somebody who writes
//! into its answers, decides where the next answer begins.
use super::head::check_field;

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

/// Reads a whole head, from its status line to the empty line. `bare`: no body follows it whatever it says, because of
/// its status or because it answers HEAD; then a length beside chunks does no harm.
pub fn read_answer_head(head: &[u8], bare: bool) -> Result<AnswerFraming, BadAnswer> {
    let mut framing = AnswerFraming::default();
    let (mut rest, mut first) = (head, true);
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).ok_or(BadAnswer("its head does not end"))?;
        let line = rest[..end].strip_suffix(b"\r");
        let line = line.ok_or(BadAnswer("lines of its head end in LF alone"))?;
        rest = &rest[end + 1..];
        if std::mem::take(&mut first) {
            check_status_line(line)?;
        } else if !line.is_empty() {
            let (name, value) = check_field(line).map_err(BadAnswer)?;
            note(&mut framing, name, value)?;
        }
    }
    if framing.chunked && framing.length.is_some() && !bare {
        return Err(BadAnswer("it has a Content-Length and is chunked"));
    }
    Ok(framing)
}

/// `HTTP/1.1 200 OK`, or without the text.
fn check_status_line(line: &[u8]) -> Result<(), BadAnswer> {
    const FORM: BadAnswer = BadAnswer("it does not begin with a status line of HTTP/1");
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(FORM)?;
    let [b'0' | b'1', b' ', status @ ..] = rest else { return Err(FORM) };
    let (digits, text) = status.split_first_chunk::<3>().ok_or(FORM)?;
    let printable = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
    let ends = text.first().is_none_or(|byte| *byte == b' ') && text.iter().all(printable);
    if digits.iter().all(u8::is_ascii_digit) && ends { Ok(()) } else { Err(FORM) }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(fields: &str) -> Result<AnswerFraming, BadAnswer> {
        read_answer_head(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), false)
    }

    #[test]
    fn one_length_is_read_however_often_it_is_said() {
        for fields in [
            "content-length: 5\r\n",
            "Content-Length:5 \r\n",
            "content-length: 5, 5\r\n",
            "content-length: 5,5 ,\t5\r\n",
            "content-length: 5\r\nx-a: b\r\nCONTENT-LENGTH: 5\r\n",
        ] {
            assert_eq!(
                read(fields),
                Ok(AnswerFraming { length: Some(5), chunked: false }),
                "{fields}"
            );
        }
        assert_eq!(read(""), Ok(AnswerFraming::default()));
    }

    #[test]
    fn chunked_is_read_in_any_spelling() {
        for fields in ["transfer-encoding: chunked\r\n", "Transfer-Encoding:  CHUNKED \r\n"] {
            assert_eq!(read(fields), Ok(AnswerFraming { length: None, chunked: true }), "{fields}");
        }
    }

    #[test]
    fn a_length_that_means_two_things_is_refused() {
        for value in ["5, 6", "+5", "-5", "5a", "0x5", "", ",", "5,", "5 5", "9999999999999999999"]
        {
            assert!(read(&format!("content-length: {value}\r\n")).is_err(), "{value:?}");
        }
        assert!(read("content-length: 5\r\ncontent-length: 6\r\n").is_err());
    }

    #[test]
    fn codings_that_are_not_undone_are_refused() {
        for value in
            ["gzip, chunked", "chunked, identity", "identity", "gzip", "xchunked", "", "chunked,"]
        {
            assert!(read(&format!("transfer-encoding: {value}\r\n")).is_err(), "{value:?}");
        }
        assert!(read("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n").is_err());
        assert!(read("content-length: 5\r\ntransfer-encoding: chunked\r\n").is_err());
    }

    #[test]
    fn a_head_without_a_body_may_tell_both() {
        let head =
            b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n";
        let both = AnswerFraming { length: Some(0), chunked: true };
        assert_eq!(read_answer_head(head, true), Ok(both));
    }

    #[test]
    fn fields_that_two_readers_split_in_two_ways_are_refused() {
        for fields in [
            "x-a: 1\n",
            "x-a: 1\nset-cookie: b\r\n",
            "x-a: 1\r\n 2\r\n",
            "content-length:\r\n 5\r\n",
            "content-length : 5\r\n",
            "x-a: 1\rb\r\n",
            "x-a: \0\r\n",
            "nonsense\r\n",
            ": x\r\n",
            "x a: 1\r\n",
        ] {
            assert!(read(fields).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn status_lines_are_of_http_1() {
        for line in [
            "HTTP/1.1 200 OK",
            "HTTP/1.0 200",
            "HTTP/1.1 200 ",
            "HTTP/1.1 529 Site is overloaded",
            "HTTP/1.1 200 pr\u{ea}t",
        ] {
            let head = format!("{line}\r\n\r\n");
            assert_eq!(
                read_answer_head(head.as_bytes(), false),
                Ok(AnswerFraming::default()),
                "{line}"
            );
        }
        for line in [
            "HTTP/2.0 200 OK",
            "HTTP/1.2 200 OK",
            "ICY 200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 200 O\rK",
            "",
        ] {
            let head = format!("{line}\r\n\r\n");
            assert!(read_answer_head(head.as_bytes(), false).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_has_one_framing(
            fields in proptest::collection::vec(
                prop_oneof!["content-length: [0-9,+ ]{0,4}", "transfer-encoding: (chunked|gzip|, )*", "[a-z:\n\r ]{0,6}"],
                0..4,
            ),
        ) {
            let head = fields.join("\r\n") + "\r\n";
            if let Ok(framing) = read(&head) {
                prop_assert!(!(framing.chunked && framing.length.is_some()));
                let lines = head.split("\r\n").filter(|line| line.to_ascii_lowercase().starts_with("content-length"));
                for line in lines {
                    let said = line.split(':').nth(1).unwrap().split(',');
                    for one in said {
                        prop_assert_eq!(one.trim().parse().ok(), framing.length);
                    }
                }
            }
        }
    }
}
