//! A request's head, as routing and forwarding ask about it.
use super::client::Client;
use crate::dialect::{cookie_value, decoded_path, first_of};
use crate::table::{Asked, Key, ListenerPlan};
use http::{HeaderMap, HeaderValue, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64;

/// The head, with what routes ask of it computed when one first asks: without routes, nothing is.
#[derive(Debug)]
pub struct Ask<'a> {
    head: &'a RequestHeader,
    host: OnceCell<String>,
    path: OnceCell<Cow<'a, str>>,
}

impl<'a> Ask<'a> {
    pub fn new(head: &'a RequestHeader) -> Self {
        Self { head, host: OnceCell::new(), path: OnceCell::new() }
    }
}

impl Asked for Ask<'_> {
    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    fn host(&self) -> &str {
        self.host.get_or_init(|| bare_host(host_of(self.head)))
    }

    fn path(&self) -> &str {
        self.path.get_or_init(|| decoded_path(self.head.uri.path()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let values = self.head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        first_of(values, |value| value.trim().is_empty())
    }

    fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
        values.find(|value| !value.trim_ascii().is_empty())
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let headers = self.head.headers.get_all(header::COOKIE).iter();
        cookie_value(headers.filter_map(|value| value.to_str().ok()), name)
    }

    fn target(&self) -> &str {
        origin_form(self.head)
    }

    fn upgrades(&self) -> bool {
        self.head.headers.contains_key(header::UPGRADE)
    }
}

/// A header's first value, when it is readable text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The authority the client asked for, as sent.
pub(super) fn host_of(head: &RequestHeader) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => text(&head.headers, header::HOST.as_str()).unwrap_or_default(),
    }
}

/// A host as routes compare it: lower case, without a port and without the dot that ends a full name.
pub(super) fn bare_host(authority: &str) -> String {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => host,
    };
    bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()
}

/// The path and query as sent, in origin form.
pub(super) fn origin_form(head: &RequestHeader) -> &str {
    head.uri.path_and_query().map_or("/", |target| target.as_str())
}

/// What many sticky keys of one client have in common: its API key, else its address, or the network of 2⁶⁴ addresses
/// that one client of IPv6 has.
pub(super) fn hash_origin(key: Option<&Key>, client: IpAddr) -> u64 {
    match (key, client) {
        (Some(key), _) => xxh3_64(key.name.as_bytes()),
        (None, IpAddr::V4(address)) => xxh3_64(&address.octets()),
        (None, IpAddr::V6(address)) => xxh3_64(&address.octets()[..8]),
    }
}

/// Does the client's connection come from one of `trusted_proxies`?
pub(super) fn is_trusted(client: &Client, listener: &ListenerPlan) -> bool {
    listener.trusted_proxies.iter().any(|net| net.contains(&client.peer))
}

/// The client's address: through trusted proxies, the last one that they did not add themselves.
pub(super) fn client_ip(head: &RequestHeader, client: &Client, listener: &ListenerPlan) -> IpAddr {
    if !is_trusted(client, listener) {
        return client.peer;
    }
    let forwarded = head.headers.get_all("x-forwarded-for").iter().rev();
    let addresses = forwarded.filter_map(|v| v.to_str().ok()).flat_map(|v| v.rsplit(','));
    let mut farthest = client.peer;
    for address in addresses {
        let Ok(address) = address.trim().parse::<IpAddr>() else { break };
        farthest = address.to_canonical();
        if !listener.trusted_proxies.iter().any(|net| net.contains(&farthest)) {
            break;
        }
    }
    farthest
}

/// Does the client want to leave HTTP (WebSocket)?
pub(super) fn is_upgrade(session: &ServerSession) -> bool {
    let head = session.req_header();
    // `Upgrade: h2c` is an offer that may be left lying (RFC 9113 removed it); its request has an ordinary body.
    let mut wanted = head.headers.get_all(header::UPGRADE).iter().map(|value| value.to_str());
    let h2c = |value: &str| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("h2c"));
    matches!(session, ServerSession::H1(_))
        && session.is_upgrade_req()
        && head.method == http::Method::GET
        && wanted.all(|value| value.is_ok_and(|value| !h2c(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_port_and_case() {
        for (sent, bare) in
            [("API.Example.com:8080", "api.example.com"), ("x", "x"), ("[::1]:80", "[::1]")]
        {
            assert_eq!(bare_host(sent), bare);
        }
    }

    #[test]
    fn a_full_name_is_the_name() {
        for sent in ["api.example.com.", "API.example.com.:443"] {
            assert_eq!(bare_host(sent), "api.example.com");
        }
        assert_eq!(bare_host("api.example.com.."), "api.example.com.");
    }
}
