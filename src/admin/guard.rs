//! Who may speak to the admin listener: decided from the head of a request alone.
use crate::access::Digest;
use crate::dialect::essence;
use crate::table::AdminPlan;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use std::net::IpAddr;

/// A request at the door.
#[derive(Clone, Copy, Debug)]
pub struct Knock<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub peer: IpAddr,
    /// The address that was connected to.
    pub local: IpAddr,
}

/// Why it stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The name is none of ours: perhaps a page in a browser that had its name rebound to us.
    Host,
    /// No token is configured, and the client is on another machine.
    NotLocal,
    Token,
    /// Another site's page asks.
    Origin,
    ContentType,
}

impl Denied {
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Host | Self::NotLocal | Self::Origin => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    pub const fn code(self) -> &'static str {
        match self {
            Self::Host => "host_not_allowed",
            Self::NotLocal => "not_local",
            Self::Token => "token_required",
            Self::Origin => "origin_not_allowed",
            Self::ContentType => "content_type",
        }
    }

    pub const fn message(self) -> &'static str {
        match self {
            Self::Host => "`Host` must be localhost, a loopback address or the admin address",
            Self::NotLocal => "without `admin.token` only this machine may ask",
            Self::Token => "send the token of `admin.token` as `Authorization: Bearer TOKEN`",
            Self::Origin => "a page of another origin may not send orders",
            Self::ContentType => "a POST needs `content-type: application/json`",
        }
    }
}

/// Lets a request in, or says why not.
pub fn judge(admin: &AdminPlan, knock: &Knock<'_>) -> Result<(), Denied> {
    let host = single(knock.headers, &header::HOST).ok_or(Denied::Host)?;
    let ours = |authority: &str| is_ours(authority, admin, knock.local);
    if !ours(host) || knock.uri.authority().is_some_and(|authority| !ours(authority.as_str())) {
        return Err(Denied::Host);
    }
    match &admin.token {
        None if !knock.peer.to_canonical().is_loopback() => return Err(Denied::NotLocal),
        Some(token) if !is_open(admin, knock) && !bears(knock.headers, &token.0) => {
            return Err(Denied::Token);
        }
        None | Some(_) => {}
    }
    if knock.method.is_safe() {
        return Ok(());
    }
    // What browsers say of a page that asks (W3C Fetch Metadata).
    let site = knock.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Err(Denied::Origin);
    }
    if knock.headers.contains_key(header::ORIGIN) {
        let origin = single(knock.headers, &header::ORIGIN).ok_or(Denied::Origin)?;
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Err(Denied::Origin);
        }
    }
    if *knock.method == Method::POST && !is_json(knock.headers) {
        return Err(Denied::ContentType);
    }
    Ok(())
}

/// Needs no token: what `admin.open` names, and the page, which holds no data.
fn is_open(admin: &AdminPlan, knock: &Knock<'_>) -> bool {
    knock.method.is_safe()
        && match knock.uri.path() {
            "/healthz" | "/readyz" => admin.open_health,
            "/metrics" => admin.open_metrics,
            path => super::page::is_page(path),
        }
}

/// The value of a header that is there exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The port is not looked at: it may be mapped, and tells browsers' pages nothing apart.
fn is_ours(authority: &str, admin: &AdminPlan, local: IpAddr) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() else {
        return host.eq_ignore_ascii_case("localhost");
    };
    let address = address.to_canonical();
    address.is_loopback()
        || address == admin.address.ip().to_canonical()
        || address == local.to_canonical()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = single(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let essence = essence(value);
    essence.eq_ignore_ascii_case("application/json")
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let value = single(headers, &header::AUTHORIZATION).unwrap_or_default();
    let Some((scheme, given)) = value.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer") && same(given.trim().as_bytes(), token.as_bytes())
}

/// Takes as long for a near miss as for a far one, and for any length: digests are compared.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    Digest::of(given) == Digest::of(wanted) && !wanted.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Secret;

    fn plan(token: Option<&str>) -> AdminPlan {
        AdminPlan {
            address: "10.0.0.7:9900".parse().unwrap(),
            token: token.map(|token| Secret(token.to_owned())),
            open_health: true,
            open_metrics: false,
        }
    }

    fn asked(
        admin: &AdminPlan,
        method: &str,
        path: &str,
        peer: &str,
        head: &[(&str, &str)],
    ) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        judge(
            admin,
            &Knock {
                method: &method.parse().unwrap(),
                uri: &path.parse().unwrap(),
                headers: &headers,
                peer: peer.parse().unwrap(),
                local: "10.0.0.8".parse().unwrap(),
            },
        )
    }

    const LOCAL: (&str, &str) = ("host", "localhost:9900");
    const STATUS: &str = "/api/v1/status";
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn only_our_own_names_are_answered() {
        let admin = plan(None);
        let with = |host| asked(&admin, "GET", STATUS, "127.0.0.1", &[("host", host)]);
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:9900",
            "127.8.8.8",
            "[::1]:9900",
            "[::1]",
            "10.0.0.7",
            "10.0.0.8:1",
        ] {
            assert_eq!(with(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.9",
            "",
            "localhost@evil",
            "127.0.0.1.nip.io",
        ] {
            assert_eq!(with(host), Err(Denied::Host), "{host}");
        }
        assert_eq!(asked(&admin, "GET", STATUS, "127.0.0.1", &[]), Err(Denied::Host));
        let twice = [LOCAL, ("host", "evil.example")];
        assert_eq!(asked(&admin, "GET", STATUS, "127.0.0.1", &twice), Err(Denied::Host));
        let absolute = asked(&admin, "GET", "http://evil.example/metrics", "127.0.0.1", &[LOCAL]);
        assert_eq!(absolute, Err(Denied::Host));
    }

    #[test]
    fn without_a_token_only_this_machine_may_ask() {
        let admin = plan(None);
        assert_eq!(asked(&admin, "GET", STATUS, "::ffff:127.0.0.1", &[LOCAL]), Ok(()));
        assert_eq!(asked(&admin, "GET", STATUS, "10.0.0.9", &[LOCAL]), Err(Denied::NotLocal));
    }

    #[test]
    fn with_a_token_everything_else_needs_it() {
        let admin = plan(Some("s3cret"));
        let with = |path, bearer| {
            asked(&admin, "GET", path, "10.0.0.9", &[LOCAL, ("authorization", bearer)])
        };
        assert_eq!(with(STATUS, "Bearer s3cret"), Ok(()));
        assert_eq!(with(STATUS, "bearer s3cret"), Ok(()));
        for bad in
            ["Bearer s3cres", "Bearer s3cret2", "Bearer ", "Bearer", "Basic s3cret", "s3crets3cret"]
        {
            assert_eq!(with(STATUS, bad), Err(Denied::Token), "{bad}");
        }
        assert_eq!(asked(&admin, "GET", STATUS, "127.0.0.1", &[LOCAL]), Err(Denied::Token));
        let in_url = asked(&admin, "GET", "/api/v1/status?token=s3cret", "127.0.0.1", &[LOCAL]);
        assert_eq!(in_url, Err(Denied::Token));
    }

    #[test]
    fn what_the_file_opens_needs_no_token() {
        let admin = plan(Some("s3cret"));
        let of = |method, path| asked(&admin, method, path, "10.0.0.9", &[LOCAL, JSON]);
        assert_eq!(
            (of("GET", "/healthz"), of("GET", "/readyz"), of("GET", "/")),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!(of("GET", "/metrics"), Err(Denied::Token));
        assert_eq!(of("POST", "/healthz"), Err(Denied::Token));
        assert_eq!(of("GET", "/healthz/"), Err(Denied::Token));
    }

    #[test]
    fn an_order_is_json_and_of_the_same_origin() {
        let admin = plan(None);
        let post = |head: &[(&str, &str)]| asked(&admin, "POST", "/api/v1/reload", "::1", head);
        assert_eq!(post(&[LOCAL, JSON]), Ok(()));
        assert_eq!(post(&[LOCAL, JSON, ("origin", "http://localhost:9900")]), Ok(()));
        assert_eq!(post(&[LOCAL]), Err(Denied::ContentType));
        assert_eq!(post(&[LOCAL, ("content-type", "text/plain")]), Err(Denied::ContentType));
        for origin in ["http://evil.example", "null", "http://localhost:1", "localhost:9900"] {
            assert_eq!(post(&[LOCAL, JSON, ("origin", origin)]), Err(Denied::Origin), "{origin}");
        }
        for (site, judged) in [
            ("same-origin", Ok(())),
            ("none", Ok(())),
            ("same-site", Err(Denied::Origin)),
            ("cross-site", Err(Denied::Origin)),
        ] {
            assert_eq!(post(&[LOCAL, JSON, ("sec-fetch-site", site)]), judged, "{site}");
        }
    }
}
