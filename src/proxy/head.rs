//! The checks that a request's head must pass before anything else runs; of HTTP/1, `wire::HeadScan` has seen its bytes.
use crate::dialect::RefusalCode;
use crate::table::ClientLimits;
use http::{HeaderMap, Method, header};
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
    // Of HTTP/2; an absolute target of HTTP/1 was seen as bytes.
    if head.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err((RefusalCode::BadRequest, "only the schemes http and https are served"));
    }
    let framing = check_lengths(&head.headers)?;
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
}
