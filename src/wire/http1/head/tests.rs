//! What heads of answers are taken, and what of them.
use super::*;
use proptest::prelude::*;

/// Reads a whole head. `bare`: it answers HEAD.
fn read_answer_head(head: &[u8], bare: bool) -> Result<AnswerFraming, BadAnswer> {
    let read = HeadReader::default().read(&mut BytesMut::from(head), bare)?;
    Ok(read.ok_or(BadAnswer("its head does not end"))?.framing)
}

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
        assert_eq!(read(fields), Ok(AnswerFraming { length: Some(5), chunked: false }), "{fields}");
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
    for value in ["5, 6", "+5", "-5", "5a", "0x5", "", ",", "5,", "5 5", "9999999999999999999"] {
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
            let lines = head.split("\r\n").take_while(|line| !line.is_empty()).filter(|line| line.to_ascii_lowercase().starts_with("content-length"));
            for line in lines {
                let said = line.split(':').nth(1).unwrap().split(',');
                for one in said {
                    prop_assert_eq!(one.trim().parse().ok(), framing.length);
                }
            }
        }
    }
}

fn whole(head: &str) -> Result<AnswerHead, BadAnswer> {
    let read = HeadReader::default().read(&mut BytesMut::from(head), false)?;
    Ok(read.expect("it is whole"))
}

#[test]
fn a_head_keeps_what_it_says() {
    let head = "HTTP/1.0 529 Site is overloaded\r\nX-A: \t1 2 \r\nx-b:\r\nx-a:3\r\n\r\n";
    let AnswerHead { head, .. } = whole(head).unwrap();
    assert_eq!((head.status.as_u16(), head.version), (529, Version::HTTP_10));
    assert_eq!(head.get_reason_phrase(), Some("Site is overloaded"));
    let values: Vec<_> = head.headers.get_all("x-a").iter().collect();
    assert_eq!(values, ["1 2", "3"]);
    assert_eq!(head.headers["x-b"], "");
    let mut written = Vec::new();
    head.header_to_h1_wire(&mut written);
    assert!(written.starts_with(b"X-A: "), "names keep their case");
}

#[test]
fn what_is_no_http_is_told_apart_from_what_means_two_things() {
    for (head, why) in [
        ("SSH-2.0-OpenSSH", NOT_HTTP.0),
        ("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", NOT_HTTP.0),
        ("HTTP/1.1 099 OK\r\n\r\n", NOT_HTTP.0),
        ("HTTP/1.1 200 OK\n\n", "lines of its head end in LF alone"),
        ("HTTP/1.1 200 OK\r\nx : 1\r\n\r\n", "a header field's name holds what no name may"),
        ("HTTP/1.1 200 OK\r\nx: 1\r\n 2:\r\n\r\n", "header fields must not be folded"),
    ] {
        assert_eq!(whole(head).unwrap_err().0, why, "{head:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let of = |fields: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(fields));
    assert_eq!(whole(&of(MOST_FIELDS)).unwrap().head.headers.len(), MOST_FIELDS);
    assert_eq!(whole(&of(MOST_FIELDS + 1)).unwrap_err(), NOT_HTTP);
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(LONGEST));
    let read = HeadReader::default().read(&mut BytesMut::from(&long[..]), false);
    assert_eq!(read.unwrap_err(), NOT_HTTP);
}
