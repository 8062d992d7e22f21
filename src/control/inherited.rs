//! Sockets that were bound before this process began: by the Evener before it, or by systemd.
use crate::table::{ListenAddress, ListenerPlan};
use listenfd::ListenFd;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What systemd's unit calls the socket of the admin listener.
const ADMIN: &str = "admin";

/// Who bound a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whence {
    /// An Evener, for a listener that it configured so.
    Predecessor,
    Systemd,
}

/// What is known of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    whence: Whence,
    /// The listener's, or what systemd's unit calls it.
    name: String,
    /// As the file of the Evener before said it.
    configured: Option<String>,
    /// As bound.
    address: ListenAddress,
}

/// A listening socket from outside.
#[derive(Debug)]
pub struct Inherited {
    known: Known,
    pub(super) socket: OwnedFd,
    /// A unix socket's file is ours to remove.
    pub(super) owns_file: bool,
}

impl Inherited {
    pub(super) fn of_predecessor(
        name: String,
        configured: String,
        owns_file: bool,
        socket: OwnedFd,
    ) -> io::Result<Self> {
        let (whence, address) = (Whence::Predecessor, bound_address(&socket)?);
        let known = Known { whence, name, configured: Some(configured), address };
        Ok(Self { known, socket, owns_file })
    }

    fn of_systemd(name: String, socket: OwnedFd) -> io::Result<Self> {
        let address = bound_address(&socket)?;
        let known = Known { whence: Whence::Systemd, name, configured: None, address };
        Ok(Self { known, socket, owns_file: false })
    }
}

/// The sockets that systemd passes, by `LISTEN_FDNAMES`. To be called before there are threads.
pub fn activated(names: Option<&str>) -> Vec<Inherited> {
    let mut passed = ListenFd::from_env();
    let mut names = names.unwrap_or_default().split(':');
    let mut sockets = Vec::new();
    for i in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let tcp = passed.take_tcp_listener(i).map(|socket| socket.map(OwnedFd::from));
        let socket = tcp.or_else(|_| passed.take_unix_listener(i).map(|s| s.map(OwnedFd::from)));
        let inherited = match socket {
            Ok(Some(socket)) => Inherited::of_systemd(name.clone(), socket),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match inherited {
            Ok(inherited) => sockets.push(inherited),
            Err(error) => tracing::warn!(name, %error, "systemd passed what cannot be listened on"),
        }
    }
    sockets
}

/// The address of a socket that listens.
fn bound_address(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let socket = SockRef::from(socket);
    if !socket.is_listener()? {
        return Err(io::Error::other("it does not listen; a unit with `Accept=yes` is of no use"));
    }
    let address = socket.local_addr()?;
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => Ok(ListenAddress::Tcp(address)),
        (None, Some(path)) => Ok(ListenAddress::Unix(path.to_owned())),
        (None, None) => {
            Err(io::Error::other("it is neither a TCP socket nor a unix socket with a path"))
        }
    }
}

/// All of them, until each found its listener.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Inherited>);

impl Sockets {
    pub(super) fn new(sockets: Vec<Inherited>) -> Self {
        Self(sockets)
    }

    /// For each listener of a plan the socket that is its own already, and the files of those that are nobody's any
    /// more. What then is left of systemd's is warned about.
    pub(super) fn share_out(
        &mut self,
        plans: &[ListenerPlan],
    ) -> (Vec<Option<Inherited>>, Vec<PathBuf>) {
        let known: Vec<_> = self.0.iter().map(|inherited| inherited.known.clone()).collect();
        let chosen = choose(&known, plans);
        let mut sockets: Vec<_> = std::mem::take(&mut self.0).into_iter().map(Some).collect();
        let shared = chosen
            .into_iter()
            .map(|chosen| chosen.and_then(|i| sockets.get_mut(i).and_then(Option::take)))
            .collect();
        let mut orphans = Vec::new();
        for Inherited { known: Known { whence, name, address, .. }, owns_file, .. } in
            sockets.into_iter().flatten()
        {
            if let (ListenAddress::Unix(path), true) = (&address, owns_file) {
                orphans.push(path.clone());
            }
            let needless = plans.iter().any(|plan| plan.name == name || plan.address == address);
            if whence == Whence::Systemd && !needless {
                tracing::warn!(
                    "systemd passed the socket `{name}` ({address}), which is none of the file's listeners by \
                     name or address; it is not served"
                );
            }
        }
        (shared, orphans)
    }

    /// The socket of the admin listener.
    pub(super) fn admin(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        let wanted = ListenAddress::Tcp(address);
        let tcp = |known: &Known| matches!(known.address, ListenAddress::Tcp(_));
        let of_systemd = |known: &Known| known.whence == Whence::Systemd && tcp(known);
        let named = self.0.iter().position(|i| of_systemd(&i.known) && i.known.name == ADMIN);
        let i = named.or_else(|| {
            self.0.iter().position(|i| of_systemd(&i.known) && i.known.address == wanted)
        })?;
        Some(self.0.swap_remove(i).socket)
    }
}

/// For each plan the place of its socket. Names go before addresses, and the Evener before goes before systemd,
/// since clients wait in the sockets that it serves.
fn choose(known: &[Known], plans: &[ListenerPlan]) -> Vec<Option<usize>> {
    type Fits = fn(&Known, &ListenerPlan, &[ListenerPlan]) -> bool;
    let rules: [(Whence, Fits); 5] = [
        (Whence::Predecessor, |known, plan, _| {
            known.name == plan.name && same_address(known, plan)
        }),
        // Renamed, or its port moved to another listener. Two may be configured as port 0: then only one that
        // lost its name goes on under a new one.
        (Whence::Predecessor, |known, plan, plans| {
            let nameless = plans.iter().all(|other| other.name != known.name);
            known.address == plan.address || (nameless && same_address(known, plan))
        }),
        (Whence::Systemd, |known, plan, _| {
            known.name == plan.name && known.address == plan.address
        }),
        (Whence::Systemd, |known, plan, _| known.name == plan.name),
        (Whence::Systemd, |known, plan, _| known.address == plan.address),
    ];
    let mut chosen = vec![None; plans.len()];
    for (whence, fits) in rules {
        for (i, plan) in plans.iter().enumerate() {
            if chosen[i].is_some() {
                continue;
            }
            chosen[i] = known.iter().enumerate().position(|(k, known)| {
                known.whence == whence && !chosen.contains(&Some(k)) && fits(known, plan, plans)
            });
        }
    }
    chosen
}

fn same_address(known: &Known, plan: &ListenerPlan) -> bool {
    known.address == plan.address
        || known.configured.as_ref().is_some_and(|text| *text == plan.address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ClientLimits;

    fn plan(name: &str, address: &str) -> ListenerPlan {
        ListenerPlan {
            name: name.to_owned(),
            address: ListenAddress::Tcp(address.parse().unwrap()),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            tls: None,
            debug_headers: false,
            client: ClientLimits::default(),
        }
    }

    fn old(name: &str, configured: &str, bound: &str) -> Known {
        let address = ListenAddress::Tcp(bound.parse().unwrap());
        let configured = Some(configured.to_owned());
        Known { whence: Whence::Predecessor, name: name.to_owned(), configured, address }
    }

    fn passed(name: &str, bound: &str) -> Known {
        let address = ListenAddress::Tcp(bound.parse().unwrap());
        Known { whence: Whence::Systemd, name: name.to_owned(), configured: None, address }
    }

    #[test]
    fn port_zero_keeps_its_port_by_name() {
        let known =
            [old("a", "127.0.0.1:0", "127.0.0.1:71"), old("b", "127.0.0.1:0", "127.0.0.1:72")];
        let plans = [plan("b", "127.0.0.1:0"), plan("a", "127.0.0.1:0")];
        assert_eq!(choose(&known, &plans), [Some(1), Some(0)]);
    }

    #[test]
    fn a_renamed_listener_keeps_its_socket_and_a_moved_one_does_not() {
        let known =
            [old("a", "127.0.0.1:0", "127.0.0.1:71"), old("b", "127.0.0.1:80", "127.0.0.1:80")];
        let plans = [plan("c", "127.0.0.1:0"), plan("b", "127.0.0.1:81")];
        assert_eq!(choose(&known, &plans), [Some(0), None]);
    }

    #[test]
    fn an_address_that_changes_its_listener_is_not_bound_twice() {
        let known =
            [old("a", "127.0.0.1:80", "127.0.0.1:80"), old("b", "127.0.0.1:81", "127.0.0.1:81")];
        let plans = [plan("a", "127.0.0.1:81"), plan("b", "127.0.0.1:80")];
        assert_eq!(choose(&known, &plans), [Some(1), Some(0)]);
    }

    #[test]
    fn a_new_port_zero_is_not_given_the_port_of_another() {
        let known = [old("a", "127.0.0.1:0", "127.0.0.1:71")];
        let plans = [plan("new", "127.0.0.1:0"), plan("a", "127.0.0.1:0")];
        assert_eq!(choose(&known, &plans), [None, Some(0)]);
    }

    #[test]
    fn systemds_sockets_are_found_by_name_then_by_address() {
        let known = [passed("evener.socket", "127.0.0.1:80"), passed("b", "127.0.0.1:90")];
        let plans =
            [plan("a", "127.0.0.1:80"), plan("b", "127.0.0.1:0"), plan("c", "127.0.0.1:91")];
        assert_eq!(choose(&known, &plans), [Some(0), Some(1), None]);
    }

    #[test]
    fn of_two_with_one_name_the_address_decides() {
        let known = [passed("web", "127.0.0.1:80"), passed("web", "127.0.0.1:81")];
        let plans = [plan("web", "127.0.0.1:81"), plan("more", "127.0.0.1:80")];
        assert_eq!(choose(&known, &plans), [Some(1), Some(0)]);
    }

    #[test]
    fn what_the_old_one_serves_goes_before_what_systemd_passes() {
        let known = [passed("a", "127.0.0.1:80"), old("a", "127.0.0.1:80", "127.0.0.1:80")];
        assert_eq!(choose(&known, &[plan("a", "127.0.0.1:80")]), [Some(1)]);
    }
}
