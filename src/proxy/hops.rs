//! Headers that end at Evener: those of one connection, Evener's own, and those by which a stranger claims to be a proxy.
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

/// Headers of one connection (RFC 9110 §7.6.1). `http2-settings` is one also where `Connection` does not name it.
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "upgrade",
    "http2-settings",
];

/// Headers in which proxies name the client, the scheme, the host, the path or the certificate that they saw. Model
/// servers and their frameworks believe them, so they pass from `trusted_proxies` only. Evener writes some of
/// `x-forwarded-*` itself; all others that begin so are removed too.
const CLAIMS: [&str; 31] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "proxy-client-ip",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-arr-ssl",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-cert",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-host",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-url-scheme",
];
const CLAIM_PREFIX: &str = "x-forwarded-";
const OWN_PREFIX: &str = "x-evener-";

/// A replica's head without what concerns its connection, or Evener alone.
pub(super) fn stripped(from: ResponseHeader, upgraded: bool) -> Box<ResponseHeader> {
    let mut head = Box::new(from);
    let asked = if upgraded { head.headers.get(header::UPGRADE).cloned() } else { None };
    for name in nominated(&head.headers) {
        head.remove_header(&name);
    }
    for name in HOP_BY_HOP {
        head.remove_header(name);
    }
    if let Some(protocol) = asked {
        head.insert_header(header::CONNECTION, HeaderValue::from_static("upgrade")).ok();
        head.insert_header(header::UPGRADE, protocol).ok();
    }
    head.remove_header(&header::TRANSFER_ENCODING);
    head.remove_header("endpoint-load-metrics");
    let own = head.headers.keys().filter(|name| name.as_str().starts_with(OWN_PREFIX));
    for name in own.cloned().collect::<Vec<_>>() {
        head.remove_header(&name);
    }
    head
}

/// Removes from a replica's trailers what frames a message, concerns its connection, or claims to be Evener's.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    let named: Vec<_> = trailers.keys().cloned().collect();
    for name in named {
        let text = name.as_str();
        let framing =
            [header::CONTENT_LENGTH, header::HOST, header::TE, header::TRAILER].contains(&name);
        let hop = HOP_BY_HOP.contains(&text) || name == header::TRANSFER_ENCODING;
        if framing || hop || text.starts_with(OWN_PREFIX) {
            trailers.remove(name);
        }
    }
}

/// Removes what concerns the client's connection. `upgrade`: the replica is asked to leave HTTP, too.
pub(super) fn remove_connection_headers(head: &mut RequestHeader, upgrade: bool) {
    for name in nominated(&head.headers) {
        if !(upgrade && name == header::UPGRADE) && name != header::TE {
            head.remove_header(&name);
        }
    }
    for name in HOP_BY_HOP {
        if !(upgrade && (name == "connection" || name == "upgrade")) {
            head.remove_header(name);
        }
    }
    if upgrade {
        // What else `Connection` named is gone.
        head.insert_header(header::CONNECTION, HeaderValue::from_static("upgrade")).ok();
    }
}

/// Removes Evener's own headers, and what a peer that is not `trusted` claims about the client.
pub(super) fn remove_claims(head: &mut RequestHeader, trusted: bool) {
    let ends = |name: &&HeaderName| {
        name.as_str().starts_with(OWN_PREFIX) || (!trusted && is_claim(name.as_str()))
    };
    for name in head.headers.keys().filter(ends).cloned().collect::<Vec<_>>() {
        head.remove_header(&name);
    }
}

/// Does a header of this name say what a proxy saw? `_` counts as `-`, as servers of CGI and WSGI read it.
fn is_claim(name: &str) -> bool {
    if name.contains('_') {
        let read = name.replace('_', "-");
        return !read.contains('_') && is_claim(&read);
    }
    name.starts_with(CLAIM_PREFIX) || CLAIMS.binary_search(&name).is_ok()
}

/// Joins what HTTP/2 lets a client split (RFC 9113 §8.2.3): servers of HTTP/1 read the first of several fields.
pub(super) fn join_cookies(head: &mut RequestHeader) {
    let fields = head.headers.get_all(header::COOKIE);
    if fields.iter().nth(1).is_none() {
        return;
    }
    let values: Vec<_> = fields.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..])) {
        head.remove_header(&header::COOKIE);
        head.insert_header(header::COOKIE, joined).ok();
    }
}

/// Does an answer switch to a protocol that the request asked for (RFC 9110 §7.8)?
pub(super) fn is_invited(asked: &HeaderMap, answer: &HeaderMap) -> bool {
    let said: Vec<_> = protocols(answer).collect();
    !said.is_empty()
        && said.iter().all(|one| protocols(asked).any(|wanted| wanted.eq_ignore_ascii_case(one)))
}

/// The protocols that `Upgrade` names.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::UPGRADE).iter();
    let lists = values.map(|value| value.to_str().unwrap_or("\u{fffd}"));
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty())
}

/// The headers that `Connection` names. Those that frame or address the message may not be named away.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    const KEPT: [&str; 6] =
        ["host", "content-length", "transfer-encoding", "content-type", "via", "cdn-loop"];
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let names = values.flat_map(|v| v.split(',')).map(str::trim);
    names
        .filter(|name| !KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept)))
        .filter_map(|name| HeaderName::try_from(name).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn names(head: &RequestHeader) -> Vec<&str> {
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_claims_are_sorted_as_the_search_needs_them() {
        assert!(CLAIMS.is_sorted());
        assert!(CLAIMS.iter().all(|name| is_claim(name)));
    }

    #[test]
    fn what_a_stranger_claims_of_the_client_is_removed() {
        let sent = [
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x_real_ip", "6.6.6.6"),
            ("x-forwarded-port", "443"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded-client-cert", "By=spiffe://a"),
            ("x-evener-mirror", "1"),
            ("x-user-id", "7"),
            ("x_user_id", "8"),
            ("x-request-id", "9"),
        ];
        let (mut stranger, mut friend) = (request(&sent), request(&sent));
        remove_claims(&mut stranger, false);
        remove_claims(&mut friend, true);
        assert_eq!(names(&stranger), ["x-request-id", "x-user-id", "x_user_id"]);
        let mut kept: Vec<_> = sent.iter().map(|(name, _)| *name).collect();
        kept.retain(|name| *name != "x-evener-mirror");
        kept.sort_unstable();
        assert_eq!(names(&friend), kept);
    }

    #[test]
    fn cookies_become_one_field_in_their_order() {
        let mut head = request(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")]);
        join_cookies(&mut head);
        let cookies: Vec<_> = head.headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
        let mut one = request(&[("cookie", "a=1")]);
        join_cookies(&mut one);
        assert_eq!(one.headers["cookie"], "a=1");
    }

    #[test]
    fn settings_of_http2_end_here_whoever_names_them() {
        let mut head = request(&[("http2-settings", "AAMA"), ("upgrade", "h2c"), ("te", "x")]);
        remove_connection_headers(&mut head, false);
        assert_eq!(names(&head), ["te"]);
    }

    #[test]
    fn a_switch_is_invited_by_name() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::UPGRADE, HeaderValue::from_static(value));
            }
            headers
        };
        for (asked, answer, invited) in [
            (&["websocket"][..], &["WebSocket"][..], true),
            (&["a/1, b", "c"], &["c"], true),
            (&["a, b"], &["b, a"], true),
            (&["websocket"], &["h2c"], false),
            (&["websocket"], &["websocket, h2c"], false),
            (&["websocket"], &[], false),
            (&["websocket"], &[" "], false),
            (&[], &["websocket"], false),
        ] {
            assert_eq!(is_invited(&of(asked), &of(answer)), invited, "{asked:?} {answer:?}");
        }
    }

    #[test]
    fn a_switch_says_upgrade_and_nothing_else_of_the_connection() {
        let mut head = ResponseHeader::build(101, None).unwrap();
        for (name, value) in [
            ("connection", "Upgrade, x-mine"),
            ("upgrade", "websocket"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
        ] {
            head.insert_header(name, value).unwrap();
        }
        let head = stripped(head, true);
        assert_eq!(head.headers.len(), 2, "{:?}", head.headers);
        assert_eq!(head.headers["connection"], "upgrade");
        assert_eq!(head.headers["upgrade"], "websocket");
    }
}
