//! Where things are: listen addresses, replica URLs, hosts and networks.
use super::scalar::{Complaint, Read};
use crate::table::{ListenAddress, ReplicaUrl, Scheme};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// `host:port`, `[::]:port` or `unix:/path`.
pub(super) fn listen(text: &str) -> Read<ListenAddress> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(ListenAddress::Unix(PathBuf::from(path))),
        Some(_) => Err(Complaint::new(
            "bad-address",
            format!("is `{text}`; the path of a socket begins with `/`"),
            "not an absolute path",
        )
        .help("write for example `unix:/run/evener.sock`")),
        None => socket(text).map(ListenAddress::Tcp),
    }
}

/// `host:port`; the host is an IP address or `localhost`.
pub(super) fn socket(text: &str) -> Read<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bad = |what: String, help: String| {
        Err(Complaint::new("bad-address", format!("is `{text}`, {what}"), "not an address")
            .help(help))
    };
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if text.parse::<u16>().is_ok() {
        return bad("which lacks a host".into(), format!("write `0.0.0.0:{text}` for every one"));
    }
    if text.contains("://") {
        return bad("which is a URL".into(), "write only `host:port`".into());
    }
    let Ok(port) = port.parse::<u16>() else {
        return bad("which lacks a port".into(), "write `host:port`; port 0 picks one".into());
    };
    match host {
        "localhost" => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        "" | "*" => {
            bad("which lacks a host".into(), format!("write `0.0.0.0:{port}` or `[::]:{port}`"))
        }
        _ if host.parse::<Ipv6Addr>().is_ok() => {
            bad("an IPv6 address without brackets".into(), format!("write `[{host}]:{port}`"))
        }
        _ => bad(
            "whose host is not an IP address".into(),
            "one can listen on an IP address of this machine, `0.0.0.0` or `[::]` for all".into(),
        ),
    }
}

/// A network in CIDR form; a single address is a network of one.
pub(super) fn network(text: &str) -> Read<IpNet> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single).ok_or_else(|| {
        Complaint::new(
            "bad-cidr",
            format!("holds `{text}`, which is not a network"),
            "not a network",
        )
        .help("write an address and the length of its prefix: `10.0.0.0/8`, `fd00::/8`")
    })
}

/// `http://host:port`, `https://host:port`, `h2c://host:port` (`grpc://` is a synonym), `grpcs://host:port` or `unix:/path`.
pub(super) fn replica(text: &str) -> Read<ReplicaUrl> {
    let bad =
        |what: &str, label: &str| Complaint::new("bad-url", format!("is `{text}`, {what}"), label);
    if let Some(path) = text.strip_prefix("unix:") {
        // `unix:///run/x.sock` is the same socket.
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(bad("whose socket is not an absolute path", "not an absolute path")
                .help("write for example `unix:/run/model.sock`"));
        }
        let text = format!("unix:{path}");
        return Ok(ReplicaUrl { text, scheme: Scheme::Unix, address: path.to_owned() });
    }
    let Some((word, rest)) = text.split_once("://") else {
        let complaint = bad("which is not a URL", "not a URL");
        let help = if text.contains(char::is_whitespace) || text.is_empty() {
            "write for example `http://10.0.0.1:8000`".to_owned()
        } else {
            format!("did you mean `http://{text}`?")
        };
        return Err(complaint.help(help));
    };
    let (scheme, word) = match word {
        "http" => (Scheme::Http, "http"),
        "h2c" | "grpc" => (Scheme::H2c, "h2c"),
        "https" => (Scheme::Https, "https"),
        "grpcs" => (Scheme::Grpcs, "grpcs"),
        _ => {
            return Err(bad("whose scheme is unknown", "unknown scheme")
                .help("use `http`, `https`, `h2c` (`grpc` is a synonym), `grpcs` or `unix`"));
        }
    };
    if rest.contains('@') {
        // Not repeated: it may hold a password.
        return Err(Complaint::new("bad-url", "holds a user or a password", "no user here")
            .help("send credentials with `headers: {set: {authorization: \"file:PATH\"}}`"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('?') || authority.contains('#') {
        return Err(bad("which has a query", "no query here")
            .help("a replica is only an address: every request keeps its own query"));
    }
    if authority.contains('/') {
        return Err(bad("which has a path", "no path here").help(
            "a replica is only an address: requests keep their path, and a route's `rewrite: {path: …}` changes it",
        ));
    }
    let port = if matches!(scheme, Scheme::Https | Scheme::Grpcs) { 443 } else { 80 };
    let address = authority_of(authority, port).ok_or_else(|| {
        bad("which names no host and port", "not a host and a port")
            .help("write for example `http://10.0.0.1:8000`")
    })?;
    let text = format!("{word}://{}", authority.to_ascii_lowercase());
    Ok(ReplicaUrl { text, scheme, address })
}

/// `host:port` with the port written.
fn authority_of(text: &str, default: u16) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse::<u16>().ok()?,
        Some(_) => return None,
        None => default,
    };
    let six = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let known = match six {
        Some(six) => six.parse::<Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    (known && port > 0).then(|| format!("{}:{port}", host.to_ascii_lowercase()))
}

/// A DNS name or an IPv4 address. Underscores are in use (Docker Compose).
pub(super) fn is_host(host: &str) -> bool {
    let letters = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // Only digits and dots: then it must be an address.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let name = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253
        && name.split('.').all(letters)
        && (!numeric || host.parse::<std::net::Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_without_a_port_is_on_80_or_443() {
        let url = replica("http://Model-1.internal/").unwrap();
        assert_eq!(url.text, "http://model-1.internal");
        assert_eq!(url.address, "model-1.internal:80");
        assert_eq!(replica("https://a").unwrap().address, "a:443");
        assert_eq!(replica("grpcs://a").unwrap().address, "a:443");
    }

    #[test]
    fn grpc_is_a_synonym_of_h2c() {
        assert_eq!(replica("grpc://a:1").unwrap(), replica("h2c://a:1").unwrap());
    }

    #[test]
    fn a_replica_may_be_a_socket_or_speak_ipv6() {
        assert_eq!(replica("unix:/run/m.sock").unwrap().address, "/run/m.sock");
        assert_eq!(replica("http://[::1]:8000").unwrap().address, "[::1]:8000");
        assert_eq!(replica("http://[::1]").unwrap().address, "[::1]:80");
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for bad in [
            "10.0.0.1:8000",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://a:x",
            "http://300.1.1.1:80",
            "http://a b:1",
            "http://[::1:80",
            "ftp://a",
            "unix:run",
            "http://a/v1",
            "http://a?x",
            "http://u:p@a",
            "",
        ] {
            assert_eq!(replica(bad).unwrap_err().code, "bad-url", "{bad}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        assert!(!replica("http://u:hunter2@a").unwrap_err().what.contains("hunter2"));
    }

    #[test]
    fn listen_addresses_are_ip_addresses_or_sockets() {
        assert!(listen("0.0.0.0:8080").is_ok());
        assert!(listen("[::]:0").is_ok());
        assert!(listen("localhost:1").is_ok());
        assert!(listen("unix:/run/e.sock").is_ok());
        for bad in ["8080", ":8080", "*:80", "example.com:80", "0.0.0.0", "::1:80", "unix:x"] {
            assert_eq!(listen(bad).unwrap_err().code, "bad-address", "{bad}");
        }
    }

    #[test]
    fn a_single_address_is_a_network_of_one() {
        assert_eq!(network("10.1.2.3").unwrap().prefix_len(), 32);
        assert!(network("10.0.0.0/33").is_err());
    }
}
