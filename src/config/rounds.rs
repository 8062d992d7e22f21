//! Replicas that are Evener's own addresses in the same file: a request to one would come round.
use super::diagnostic::Diagnostic;
use super::reader::Reader;
use crate::table::{AdminPlan, ListenAddress, ListenerPlan, ReplicaUrl, Scheme};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::absolute;

impl Reader<'_> {
    /// Warns of replicas that are a listener or the admin address of this file.
    pub(super) fn check_rounds(&mut self, listeners: &[ListenerPlan], admin: &AdminPlan) {
        let machine = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        for (url, place) in std::mem::take(&mut self.replicas) {
            let is_same = |own: &ListenAddress| is_same(own, &url, &machine, is_here);
            let listener = listeners.iter().find(|plan| is_same(&plan.address));
            let (what, label, help) = match listener {
                Some(plan) => (
                    format!("listener `{}`", plan.name),
                    "requests would come back",
                    "a request that comes back is answered 508 `loop_detected`: write the address of a model server",
                ),
                None if is_same(&ListenAddress::Tcp(admin.address)) => (
                    "the admin address".to_owned(),
                    "no model is served there",
                    "write the address of a model server",
                ),
                None => continue,
            };
            let message = format!("replica `{}` is {what} of this file", url.text);
            self.report(Diagnostic::warning("own-address", place, message).label(label).help(help));
        }
    }
}

/// Does a replica's URL lead to an address where Evener listens? `machine`: what this machine is called.
fn is_same(
    own: &ListenAddress,
    url: &ReplicaUrl,
    machine: &str,
    is_here: impl Fn(IpAddr) -> bool,
) -> bool {
    let own = match own {
        ListenAddress::Unix(path) => {
            return url.scheme == Scheme::Unix
                && absolute(path).is_ok_and(|path| path == *url.address);
        }
        ListenAddress::Tcp(own) => own,
    };
    let split = url.address.rsplit_once(':').filter(|_| url.scheme != Scheme::Unix);
    let Some((host, port)) = split else { return false };
    port.parse() == Ok(own.port()) && leads_to(own, host, machine, is_here)
}

fn leads_to(own: &SocketAddr, host: &str, machine: &str, is_here: impl Fn(IpAddr) -> bool) -> bool {
    let any = own.ip().is_unspecified();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        // To connect to no address in particular is to connect to this machine.
        let here = ip.is_unspecified() || ip.is_loopback();
        // A listener for all of IPv6 takes IPv4 too.
        let heard = own.ip().is_ipv6() || ip.is_ipv4();
        if any {
            return heard && (here || is_here(ip));
        }
        let own = own.ip().to_canonical();
        return own == ip || (own.is_loopback() && ip.is_unspecified());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let short = machine.split('.').next().unwrap_or_default();
    let is_machine = !machine.is_empty() && (name == machine || name == short);
    match name {
        "localhost" => any || own.ip().is_loopback(),
        // Such a name leads to this machine's own address, or to one of loopback.
        _ => is_machine,
    }
}

/// Is it an address of this machine? Then a socket can be bound to it.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::address::replica;
    use super::*;

    fn same(own: &str, url: &str) -> bool {
        let own = match own.strip_prefix("unix:") {
            Some(path) => ListenAddress::Unix(path.into()),
            None => ListenAddress::Tcp(own.parse().unwrap()),
        };
        let lan = |ip: IpAddr| ip == IpAddr::from([10, 0, 0, 7]);
        is_same(&own, &replica(url).unwrap(), "box.internal", lan)
    }

    #[test]
    fn an_own_address_is_known_in_every_spelling() {
        for (own, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("127.0.0.1:8080", "h2c://localhost:8080"),
            ("127.0.0.1:8080", "http://0.0.0.0:8080"),
            ("127.0.0.1:80", "http://localhost"),
            ("127.0.0.1:443", "https://localhost."),
            ("[::1]:8080", "http://[::1]:8080"),
            ("[::1]:8080", "http://localhost:8080"),
            ("0.0.0.0:8080", "http://127.1.2.3:8080"),
            ("0.0.0.0:8080", "http://10.0.0.7:8080"),
            ("0.0.0.0:8080", "http://box:8080"),
            ("0.0.0.0:8080", "grpc://BOX.internal:8080"),
            ("[::]:8080", "http://127.0.0.1:8080"),
            ("[::]:8080", "http://[::1]:8080"),
            ("[::]:8080", "http://[::ffff:10.0.0.7]:8080"),
            ("10.0.0.7:8080", "http://10.0.0.7:8080"),
            ("10.0.0.7:8080", "http://box:8080"),
            ("unix:/run/evener.sock", "unix:/run/evener.sock"),
            ("unix:/run/evener.sock", "unix:///run/evener.sock"),
        ] {
            assert!(same(own, url), "{own} {url}");
        }
    }

    #[test]
    fn other_addresses_are_none() {
        for (own, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8081"),
            ("127.0.0.1:8080", "http://127.0.0.2:8080"),
            ("127.0.0.1:8080", "http://10.0.0.7:8080"),
            ("127.0.0.1:0", "http://127.0.0.1:8080"),
            ("10.0.0.7:8080", "http://127.0.0.1:8080"),
            ("10.0.0.7:8080", "http://localhost:8080"),
            ("0.0.0.0:8080", "http://10.0.0.8:8080"),
            ("0.0.0.0:8080", "http://[::1]:8080"),
            ("0.0.0.0:8080", "http://other:8080"),
            ("unix:/run/evener.sock", "unix:/run/model.sock"),
            ("127.0.0.1:8080", "unix:/run/evener.sock:8080"),
        ] {
            assert!(!same(own, url), "{own} {url}");
        }
    }
}
