//! A request as HTTP/1 writes it: its head, and how its body is framed.
use super::head::read_length;
use bytes::{BufMut as _, BytesMut};
use http::{HeaderMap, Version, header};
use pingora_http::RequestHeader;

/// What ends a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How the body of a request is framed, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// Bytes of any kind: both sides left HTTP.
    Tunnel,
    Ended,
}

impl Framing {
    /// As the head says. A request without a length has no body.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let coding = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
        let coding = coding.and_then(|value| value.as_bytes().rsplit(|byte| *byte == b',').next());
        if coding.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
            return Self::Chunked;
        }
        let length = headers.get(header::CONTENT_LENGTH);
        Self::Length(length.and_then(|length| read_length(length.as_bytes())).unwrap_or(0))
    }
}

/// The bytes of a head; `None` where its target would end the line, or its version is none of HTTP/1's.
pub(super) fn head_bytes(head: &RequestHeader) -> Option<BytesMut> {
    let version: &[u8] = match head.version {
        Version::HTTP_11 => b" HTTP/1.1\r\n",
        Version::HTTP_10 => b" HTTP/1.0\r\n",
        _ => return None,
    };
    let target = head.raw_path();
    if target.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r' | b' ')) {
        return None;
    }
    let mut bytes = BytesMut::with_capacity(1024);
    bytes.put_slice(head.method.as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(target);
    bytes.put_slice(version);
    head.header_to_h1_wire(&mut bytes);
    bytes.put_slice(b"\r\n");
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_line_by_line() {
        let mut head = RequestHeader::build("POST", b"/v1?q", None).unwrap();
        head.insert_header("Host", "x").unwrap();
        head.append_header("x-a", "1").unwrap();
        head.append_header("x-a", "2").unwrap();
        let bytes = head_bytes(&head).unwrap();
        assert_eq!(&bytes[..], b"POST /v1?q HTTP/1.1\r\nHost: x\r\nx-a: 1\r\nx-a: 2\r\n\r\n");
        head.set_version(Version::HTTP_2);
        assert_eq!(head_bytes(&head), None);
    }

    #[test]
    fn a_body_is_framed_as_its_head_says() {
        for (name, value, framing) in [
            ("content-length", "5", Framing::Length(5)),
            ("x-a", "5", Framing::Length(0)),
            ("transfer-encoding", "Chunked", Framing::Chunked),
            ("transfer-encoding", "gzip, chunked", Framing::Chunked),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(Framing::of(&headers), framing, "{name}: {value}");
        }
    }
}
