//! Sockets that clients connect to.
use super::accept::serve;
use super::client::Door;
use super::shared::{Proxy, draining};
use crate::dialect::RefusalCode;
use crate::observe::{During, Repeats, Task};
use crate::table::{ListenAddress, ListenerPlan};
use crate::wire::{Raw, Resource, keepalive};
use arc_swap::ArcSwap;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long to wait after the process ran out of file descriptors.
const OUT_OF_FILES: Duration = Duration::from_millis(50);
/// Between two log lines about connections that cannot be accepted.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// A bound listener; dropping it stops accepting, and what was accepted goes on.
#[derive(Debug)]
pub struct Listener {
    /// As bound: a port 0 is resolved.
    pub address: ListenAddress,
    settings: Arc<ArcSwap<ListenerPlan>>,
    bound: Arc<Bound>,
    /// Of a unix socket. It goes with this handle, not with the accept loop, which may end after the process has.
    file: Option<SocketFile>,
    /// Dropped with the listener: ends the accept loop.
    _stop: watch::Sender<()>,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket's file, removed when nobody listens on it any more.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Not systemd's, nor that of a process that serves on.
    ours: AtomicBool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.load(Relaxed) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Binds without accepting yet. An error names the address.
pub fn bind(address: &ListenAddress) -> io::Result<OwnedFd> {
    let bound = match address {
        ListenAddress::Tcp(address) => bind_tcp(*address),
        ListenAddress::Unix(path) => bind_unix(path),
    };
    bound.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Err(error) = socket.bind(&address) {
        // A file left behind by a process that died; one that answers belongs to somebody.
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if error.kind() != io::ErrorKind::AddrInUse || probe.connect(&address).is_ok() {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Begins accepting on a bound socket, wherever it comes from. A unix socket's file is removed at the end if it is ours.
pub fn inherit(
    proxy: &Arc<Proxy>,
    plan: &ListenerPlan,
    socket: OwnedFd,
    owns_file: bool,
) -> io::Result<Listener> {
    let socket = Socket::from(socket);
    socket.set_nonblocking(true)?;
    // The socket itself knows best: systemd's need not be of the address that the plan says.
    let (bound, address, file) = match socket.local_addr()?.as_pathname() {
        None => {
            // What it accepts inherits these.
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_keepalive(&keepalive())?;
            let tcp = TcpListener::from_std(socket.into())?;
            let address = ListenAddress::Tcp(tcp.local_addr()?);
            (Bound::Tcp(tcp), address, None)
        }
        Some(path) => {
            let file = SocketFile { path: path.to_owned(), ours: AtomicBool::new(owns_file) };
            let address = ListenAddress::Unix(path.to_owned());
            (Bound::Unix(UnixListener::from_std(socket.into())?), address, Some(file))
        }
    };
    let settings = Arc::new(ArcSwap::from_pointee(plan.clone()));
    let (stop, stopped) = watch::channel(());
    let meter = proxy.meters.listener(&plan.name);
    let door = Arc::new(Door { settings: Arc::clone(&settings), meter, inside: false });
    let bound = Arc::new(bound);
    let accepting = (Arc::clone(proxy), Arc::clone(&bound));
    let accept_loop = Task::Accept.keep_running(move || {
        let (proxy, bound) = accepting.clone();
        accept_loop(proxy, bound, Arc::clone(&door), stopped.clone())
    });
    tokio::spawn(accept_loop);
    Ok(Listener { address, settings, bound, file, _stop: stop })
}

impl Listener {
    /// Follows a reload: connections take the new limits from their next request on.
    pub fn configure(&self, plan: &ListenerPlan) {
        self.settings.store(Arc::new(plan.clone()));
    }

    /// The socket, for a process that will serve on it too.
    pub fn socket(&self) -> BorrowedFd<'_> {
        match &*self.bound {
            Bound::Tcp(tcp) => tcp.as_fd(),
            Bound::Unix(unix) => unix.as_fd(),
        }
    }

    /// Will a unix socket's file be removed at the end?
    pub fn owns_file(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.ours.load(Relaxed))
    }

    /// Whether a unix socket's file is ours to remove, or another process serves on.
    pub fn set_owns_file(&self, owns: bool) {
        if let Some(file) = &self.file {
            file.ours.store(owns, Relaxed);
        }
    }
}

async fn accept_loop(
    proxy: Arc<Proxy>,
    bound: Arc<Bound>,
    door: Arc<Door>,
    mut stopped: watch::Receiver<()>,
) {
    let mut phase = proxy.watch_phase();
    let mut unaccepted = Repeats::new(BETWEEN_LINES);
    loop {
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            _ = stopped.changed() => return,
            () = draining(&mut phase) => return,
        };
        match accepted {
            Ok((raw, _)) if !raw.leaves_descriptors() => {
                let (resource, now) = (Resource::Descriptors, proxy.now());
                proxy.meters.exhaustion.note(resource, During::Accept, now);
            }
            Ok((raw, peer)) => admit(&proxy, &door, raw, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let now = proxy.now();
                match Resource::lacking(&error) {
                    Some(resource) => {
                        proxy.meters.exhaustion.note(resource, During::Accept, now);
                    }
                    None => {
                        if let Some(unlogged) = unaccepted.note(error.kind(), now) {
                            tracing::warn!(%error, unlogged, "cannot accept connections; trying again");
                        }
                    }
                }
                tokio::time::sleep(OUT_OF_FILES).await;
            }
        }
    }
}

/// Errors that speak of a client that left before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

impl Bound {
    async fn accept(&self) -> io::Result<(Raw, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                Ok((Raw::Tcp(tcp), peer.ip().to_canonical()))
            }
            Self::Unix(listener) => {
                let (unix, _) = listener.accept().await?;
                Ok((Raw::Unix(unix), Ipv4Addr::LOCALHOST.into()))
            }
        }
    }
}

fn admit(proxy: &Arc<Proxy>, door: &Arc<Door>, raw: Raw, peer: IpAddr) {
    let open = door.meter.connections.fetch_add(1, Relaxed);
    let guard = Open(Arc::clone(door));
    if open >= door.settings.load().client.max_connections {
        proxy.meters.nameless.refusals.add(RefusalCode::TooManyConnections);
        tracing::debug!(%peer, "too many connections");
        return;
    }
    let connected = proxy.connection();
    let proxy = Arc::clone(proxy);
    Task::Exchange.spawn(async move {
        serve(&proxy, &guard.0, raw, peer).await;
        drop(connected);
    });
}

/// A connection of one listener, counted while this lives.
struct Open(Arc<Door>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.meter.connections.fetch_sub(1, Relaxed);
    }
}
