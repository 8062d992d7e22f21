//! What this process itself lacks when a connection is opened. That is never the fault of a replica.
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What can be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// File descriptors, of the process or of the machine.
    Descriptors,
    /// Local ports for connections to one address.
    Ports,
    /// The kernel's memory for sockets.
    Memory,
}

impl Resource {
    pub const ALL: [Self; 3] = [Self::Descriptors, Self::Ports, Self::Memory];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Ports => "ports",
            Self::Memory => "memory",
        }
    }

    /// What an operator can do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Descriptors => {
                "raise the limit of open files (`ulimit -n`, LimitNOFILE=), or lower `max_connections`"
            }
            Self::Ports => {
                "widen net.ipv4.ip_local_port_range, or let the replica keep its connections open"
            }
            Self::Memory => "give the machine more memory, or lower `max_connections`",
        }
    }

    /// What a failed system call lacked, if that is why it failed.
    pub fn lacking(error: &io::Error) -> Option<Self> {
        use rustix::io::Errno;
        if let Some(Exhausted(resource)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Some(*resource);
        }
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::ADDRNOTAVAIL => Some(Self::Ports),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::Memory),
            _ => None,
        }
    }

    /// What opening a connection to this address lacked.
    pub(super) fn lacking_for(error: &io::Error, address: SocketAddr) -> Option<Self> {
        let lacking = Self::lacking(error)?;
        // The same error says that this machine has no address that could reach that one.
        (lacking != Self::Ports || is_routed(address)).then_some(lacking)
    }
}

/// A resource is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted(pub Resource);

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            Resource::Descriptors => "file descriptors",
            Resource::Ports => "local ports for this address",
            Resource::Memory => "memory for sockets",
        };
        write!(f, "Evener has no {what} left")
    }
}

impl std::error::Error for Exhausted {}

impl From<Exhausted> for io::Error {
    fn from(exhausted: Exhausted) -> Self {
        Self::other(exhausted)
    }
}

impl Exhausted {
    /// What opening a connection lacked, if that is why it failed.
    pub fn of(error: &pingora_error::Error) -> Option<Self> {
        let cause: &io::Error = error.root_cause().downcast_ref()?;
        cause.get_ref()?.downcast_ref().copied()
    }
}

/// Datagrams need an address of this machine as connections do, and none of the ports of TCP.
fn is_routed(address: SocketAddr) -> bool {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

/// Is no descriptor left? The error of a name that could not be looked up does not say so.
pub(super) fn out_of_descriptors() -> bool {
    let copied = io::stderr().as_fd().try_clone_to_owned();
    copied.is_err_and(|error| Resource::lacking(&error) == Some(Resource::Descriptors))
}

/// The limit of descriptors of this process. Until it is set there is no reserve.
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Keeps some of so many descriptors in reserve: clients cannot take those that replicas need, and neither of them can
/// take those of the admin API, of health checks' results, of the state and of the configuration.
pub fn keep_descriptors(limit: u64) {
    LIMIT.store(limit, Relaxed);
}

/// What was set.
pub fn descriptor_limit() -> u64 {
    LIMIT.load(Relaxed)
}

/// A sixteenth of the limit, 8 to 64.
fn reserve(limit: u64) -> u64 {
    (limit / 16).clamp(8, 64)
}

/// Does a client's connection take a descriptor of the reserve?
pub(super) fn is_for_replicas(fd: BorrowedFd<'_>) -> bool {
    let limit = LIMIT.load(Relaxed);
    is_among_last(fd, limit, 2 * reserve(limit))
}

/// Does a replica's connection take a descriptor of the reserve?
pub(super) fn is_for_admin(fd: BorrowedFd<'_>) -> bool {
    let limit = LIMIT.load(Relaxed);
    is_among_last(fd, limit, reserve(limit))
}

/// The lowest free number is always taken first (POSIX), so a high one says that those below it are in use.
fn is_among_last(fd: BorrowedFd<'_>, limit: u64, reserve: u64) -> bool {
    u64::try_from(fd.as_raw_fd()).is_ok_and(|fd| fd >= limit.saturating_sub(reserve))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_want_is_told_from_other_errors() {
        let of = |code| Resource::lacking(&io::Error::from_raw_os_error(code));
        // EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM of Linux.
        let wants = [24, 23, 99, 105, 12].map(of).map(|resource| resource.unwrap().name());
        assert_eq!(wants, ["descriptors", "descriptors", "ports", "memory", "memory"]);
        // ECONNREFUSED, ETIMEDOUT, ENETUNREACH.
        assert_eq!([111, 110, 101].map(of), [None; 3]);
        let wrapped = io::Error::from(Exhausted(Resource::Ports));
        assert_eq!(Resource::lacking(&wrapped), Some(Resource::Ports));
    }

    #[test]
    fn an_address_that_this_machine_cannot_reach_is_no_want_of_ports() {
        let error = io::Error::from_raw_os_error(99);
        let here = "127.0.0.1:80".parse().unwrap();
        assert_eq!(Resource::lacking_for(&error, here), Some(Resource::Ports));
        // Addresses for documentation (RFC 3849) of a family that the machine may not have; else they are routed.
        let there: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        let reachable = UdpSocket::bind("[::]:0").and_then(|socket| socket.connect(there)).is_ok();
        assert_eq!(Resource::lacking_for(&error, there).is_some(), reachable);
    }

    #[test]
    fn the_last_descriptors_are_a_reserve() {
        assert_eq!([64, 100, 1024, 1 << 20].map(reserve), [8, 8, 64, 64]);
        let file = tempfile::tempfile().unwrap();
        let number = u64::try_from(file.as_raw_fd()).unwrap();
        assert!(is_among_last(file.as_fd(), number + 8, 8));
        assert!(!is_among_last(file.as_fd(), number + 9, 8));
    }
}
