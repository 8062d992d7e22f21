//! The checks that a request's head must pass before anything else runs. The bytes of HTTP/1 were checked before, by
//! `wire::HeadScan`; HTTP/2 is held to the same rules here.
use crate::dialect::RefusalCode;
use crate::table::ClientLimits;
use crate::wire::is_host;
use http::{HeaderMap, Method, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;

/// The methods that pass. Model servers have the first seven; `QUERY` is a GET with a body, and `PURGE` empties caches
/// that stand before model servers. A route opens another one by naming it.
pub(super) const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PURGE"];

/// Why a head is refused.
pub(super) type Unfit = (RefusalCode, &'static str);

/// What the head says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) content_length: Option<u64>,
}

/// Checks a head; on success tells how its body is framed. `opened`: does a route name this method?
pub(super) fn check(
    session: &ServerSession,
    limits: &ClientLimits,
    opened: impl Fn(&str) -> bool,
) -> Result<Framing, Unfit> {
    let head = session.req_header();
    if head.headers.len() > limits.max_headers {
        return Err((RefusalCode::HeadTooLarge, "the request has too many header fields"));
    }
    check_method(&head.method, opened)?;
    // An absolute target of HTTP/1 was seen as bytes.
    if head.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err((RefusalCode::BadRequest, "only the schemes http and https are served"));
    }
    if head.version == Version::HTTP_2 {
        check_http2(head).map_err(|message| (RefusalCode::BadRequest, message))?;
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

fn check_method(method: &Method, opened: impl Fn(&str) -> bool) -> Result<(), Unfit> {
    let refused = |why| Err((RefusalCode::MethodNotAllowed, why));
    if method == Method::TRACE || method == Method::CONNECT {
        return refused("TRACE and CONNECT are not served");
    }
    if METHODS.contains(&method.as_str()) || opened(method.as_str()) {
        return Ok(());
    }
    refused("no model server has this method; `allow` lists those that are served")
}

/// The target and the host of HTTP/2, by the rules that HTTP/1's are held to: what a replica of HTTP/1 could read in
/// another way ends here. The h2 crate has refused spaces and control characters, and has cut off fragments.
fn check_http2(head: &RequestHeader) -> Result<(), &'static str> {
    let target = head.uri.path();
    let everything = target == "*" && head.method == Method::OPTIONS;
    if !(target.starts_with('/') || everything) {
        return Err("the request target must be a path");
    }
    let mut hosts = head.headers.get_all(header::HOST).iter().map(header::HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let Some(host) = authority.or_else(|| hosts.next()) else {
        return Err("exactly one host is required");
    };
    if !is_host(host) || !hosts.all(|other| other.eq_ignore_ascii_case(host)) {
        return Err("the authority is not a host and a port");
    }
    Ok(())
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

    #[test]
    fn methods_that_no_model_server_has_are_refused_unless_a_route_names_them() {
        let check = |name: &str, routes: &[&str]| {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            check_method(&method, |method| routes.contains(&method)).is_ok()
        };
        for served in METHODS {
            assert!(check(served, &[]), "{served}");
        }
        for strange in ["X|id", "PROPFIND", "get", "FOO", "PRI"] {
            assert!(!check(strange, &[]), "{strange}");
        }
        assert!(check("PROPFIND", &["PROPFIND"]));
        for never in ["TRACE", "CONNECT"] {
            assert!(!check(never, &[never]), "{never}");
        }
    }

    #[test]
    fn http2_has_the_targets_and_hosts_of_http1() {
        let check = |method: &str, uri: &str, hosts: &[&'static str]| {
            let mut head = RequestHeader::build(method, b"/", None).unwrap();
            head.set_uri(uri.parse().unwrap());
            for host in hosts {
                head.append_header("host", HeaderValue::from_static(host)).unwrap();
            }
            check_http2(&head).is_ok()
        };
        for (uri, hosts) in [
            ("http://x/p", &[][..]),
            ("http://x:80/p?q", &["x:80"]),
            ("http://X/p", &["x"]),
            ("/p", &["x"]),
        ] {
            assert!(check("GET", uri, hosts), "{uri} {hosts:?}");
        }
        for (uri, hosts) in [
            ("/p", &[][..]),
            ("/p", &["u@x"]),
            ("/p", &["a, b"]),
            ("/p", &["a/b"]),
            ("/p", &["a", "b"]),
            ("http://a,b/p", &[]),
            ("http://u@x/p", &[]),
            ("http://x/p", &["y"]),
        ] {
            assert!(!check("GET", uri, hosts), "{uri} {hosts:?}");
        }
        assert!(check("OPTIONS", "*", &["x"]));
        assert!(!check("GET", "*", &["x"]));
    }
}
