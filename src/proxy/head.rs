//! The checks that a request's head must pass before anything else runs.
use crate::dialect::RefusalCode;
use crate::table::ClientLimits;
use http::{HeaderMap, Method, Version, header};
use pingora_core::protocols::http::ServerSession;

/// Why a head is refused.
pub(super) type Unfit = (RefusalCode, &'static str);

/// What the head says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) content_length: Option<u64>,
}

/// Checks a head; on success tells how its body is framed.
pub(super) fn check(session: &ServerSession, limits: &ClientLimits) -> Result<Framing, Unfit> {
    let head = session.req_header();
    if head.headers.len() > limits.max_headers {
        return Err((RefusalCode::HeadTooLarge, "the request has too many header fields"));
    }
    if head.method == Method::TRACE || head.method == Method::CONNECT {
        return Err((RefusalCode::MethodNotAllowed, "TRACE and CONNECT are not served"));
    }
    let framing = check_lengths(&head.headers)?;
    if let ServerSession::H1(http1) = session {
        let raw = http1.get_headers_raw_bytes();
        check_raw(&raw, head.version, &head.headers, limits)?;
        check_target(raw.as_ref())?;
    }
    if framing.content_length.is_some_and(|length| length > limits.max_body) {
        return Err((
            RefusalCode::BodyTooLarge,
            "the request body is larger than this server takes",
        ));
    }
    Ok(framing)
}

fn check_lengths(headers: &HeaderMap) -> Result<Framing, Unfit> {
    let mut content_length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        // Digits alone: `+2`, `2, 2` and an empty value are ways to smuggle.
        let digits = value.as_bytes();
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let length = plain.then(|| value.to_str().ok()?.parse::<u64>().ok()).flatten();
        match (length, content_length) {
            (Some(length), None) => content_length = Some(length),
            _ => return Err((RefusalCode::BadRequest, "Content-Length must be one plain number")),
        }
    }
    Ok(Framing { content_length })
}

fn check_raw(
    raw: &[u8],
    version: Version,
    headers: &HeaderMap,
    limits: &ClientLimits,
) -> Result<(), Unfit> {
    if raw.len() as u64 > limits.max_header_bytes {
        return Err((RefusalCode::HeadTooLarge, "the request head is too large"));
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err((RefusalCode::BadRequest, "exactly one Host header is required"));
    }
    if has_bare_newline(raw) {
        return Err((RefusalCode::BadRequest, "lines of the head must end in CR LF"));
    }
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else {
        return Ok(());
    };
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err((
            RefusalCode::UnsupportedEncoding,
            "the only Transfer-Encoding served is chunked",
        ));
    }
    if version != Version::HTTP_11 {
        return Err((RefusalCode::BadRequest, "Transfer-Encoding needs HTTP/1.1"));
    }
    // pingora drops Content-Length when Transfer-Encoding is there too: only the raw head still shows both.
    if names_content_length(raw) {
        return Err((
            RefusalCode::BadRequest,
            "Content-Length and Transfer-Encoding exclude each other",
        ));
    }
    Ok(())
}

fn has_bare_newline(raw: &[u8]) -> bool {
    raw.iter().enumerate().any(|(i, byte)| *byte == b'\n' && (i == 0 || raw[i - 1] != b'\r'))
}

fn names_content_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    raw.split(|byte| *byte == b'\n')
        .any(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
}

/// The target must be a path, `*` for OPTIONS, or `http://host/path`.
fn check_target(raw: &[u8]) -> Result<(), Unfit> {
    // Empty lines before the request are forgiven (RFC 9112 §2.2).
    let mut lines = raw.split(|byte| *byte == b'\r' || *byte == b'\n');
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let absolute = target.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"http://"));
    let fits = target.starts_with(b"/") || absolute || (target == b"*" && method == b"OPTIONS");
    if fits { Ok(()) } else { Err((RefusalCode::BadRequest, "the request target must be a path")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn lengths(values: &[&'static str]) -> Result<Framing, Unfit> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_LENGTH, HeaderValue::from_static(value));
        }
        check_lengths(&headers)
    }

    #[test]
    fn a_content_length_is_one_plain_number() {
        assert_eq!(lengths(&["12"]), Ok(Framing { content_length: Some(12) }));
        assert_eq!(lengths(&[]), Ok(Framing { content_length: None }));
        for odd in [
            &["2, 2"][..],
            &["2", "2"],
            &["+2"],
            &["-1"],
            &[""],
            &["0x2"],
            &["99999999999999999999"],
        ] {
            assert!(lengths(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_length_hidden_beside_chunked_is_seen_in_the_raw_head() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("x"));
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        let limits = ClientLimits::default();
        let raw = b"POST / HTTP/1.1\r\nHost: x\r\nContent-length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(check_raw(raw, Version::HTTP_11, &headers, &limits).is_err());
        let raw = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(check_raw(raw, Version::HTTP_11, &headers, &limits), Ok(()));
    }

    #[test]
    fn odd_targets_are_refused() {
        for good in ["GET /a HTTP/1.1", "GET http://x/a HTTP/1.1", "OPTIONS * HTTP/1.1"] {
            assert_eq!(check_target(good.as_bytes()), Ok(()), "{good}");
        }
        for odd in ["GET * HTTP/1.1", "GET a HTTP/1.1", "GET ftp://x/ HTTP/1.1", "GET  HTTP/1.1"] {
            assert!(check_target(odd.as_bytes()).is_err(), "{odd}");
        }
    }
}
