//! Where a replica is, however its address is spelled.
use super::plan::{ReplicaUrl, Scheme};
use std::borrow::Cow;
use std::net::IpAddr;

/// A host without the brackets of IPv6 and without the dot that ends a full name; and the address that it spells.
pub fn host_and_ip(host: &str) -> (&str, Option<IpAddr>) {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ip = bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    (host.strip_suffix('.').unwrap_or(host), ip)
}

/// What is one for all spellings of one address. All of loopback is: whoever listens on `0.0.0.0` is at each of them.
pub(super) fn place_of(url: &ReplicaUrl) -> Cow<'_, str> {
    let split = url.address.rsplit_once(':').filter(|_| url.scheme != Scheme::Unix);
    let Some((host, port)) = split else { return Cow::Borrowed(&*url.address) };
    let port = port.trim_start_matches('0');
    // To connect to no address in particular is to connect to this machine.
    let here = |ip: &IpAddr| ip.is_unspecified() || ip.is_loopback();
    match host_and_ip(host) {
        (_, Some(ip)) if here(&ip) => format!("localhost:{port}").into(),
        (_, Some(ip)) => format!("{ip}:{port}").into(),
        (name, None) => format!("{}:{port}", name.to_ascii_lowercase()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(scheme: Scheme, address: &str) -> String {
        let url = ReplicaUrl { text: String::new(), scheme, address: address.to_owned() };
        place_of(&url).into_owned()
    }

    #[test]
    fn spellings_of_one_address_are_one_place() {
        for address in [
            "localhost:8000",
            "LOCALHOST.:8000",
            "127.0.0.1:8000",
            "127.0.0.2:8000",
            "0.0.0.0:8000",
            "[::1]:8000",
            "[::]:8000",
            "[::ffff:127.0.0.1]:8000",
            "localhost:08000",
        ] {
            assert_eq!(place(Scheme::Http, address), "localhost:8000", "{address}");
        }
        for (one, other) in [
            ("10.0.0.1:80", "[::ffff:10.0.0.1]:80"),
            ("[fd00::1]:80", "[fd00:0::1]:80"),
            ("gpu-1.internal:80", "GPU-1.internal.:80"),
        ] {
            assert_eq!(place(Scheme::Http, one), place(Scheme::Http, other));
        }
        for other in ["127.0.0.1:8001", "10.0.0.1:8000", "localhost.example:8000"] {
            assert_ne!(place(Scheme::Http, other), "localhost:8000", "{other}");
        }
        assert_eq!(place(Scheme::Unix, "/run/LOCALHOST:1"), "/run/LOCALHOST:1");
    }
}
