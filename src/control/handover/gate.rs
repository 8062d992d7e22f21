//! Where a running Evener waits for its successor: a socket in its state directory.
use super::give::Heir;
use crate::control::own_dir::is_trusted;
use crate::observe::Task;
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Its name in the state directory.
const FILE: &str = "takeover.sock";

/// Open while the process may be taken over from.
#[derive(Debug)]
pub(in crate::control) struct Gate {
    path: PathBuf,
    socket: Arc<UnixListener>,
    heirs: mpsc::Receiver<Heir>,
    task: AbortHandle,
    /// Its file goes when this goes; not while another process listens there, too.
    owns_file: bool,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
        if self.owns_file {
            fs::remove_file(&self.path).ok();
        }
    }
}

impl Gate {
    fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Connects to the gate of the Evener that runs on this directory.
    pub(super) async fn knock(dir: &Path) -> io::Result<UnixStream> {
        let (_open, path) = reachable(dir)?;
        let stream = UnixStream::connect(path).await?;
        // Sockets and state are taken from nobody else.
        recognized(&stream).map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
        Ok(stream)
    }

    /// Opens it in a state directory that this process has locked: a file that is there is nobody's.
    pub(in crate::control) fn open(dir: &Path) -> io::Result<Self> {
        let path = Self::path(dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let (_open, reachable) = reachable(dir)?;
        socket.bind(&SockAddr::unix(reachable)?)?;
        // Before it listens: nobody gets in by the rights that a lax umask gave it.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        socket.listen(8)?;
        let mut gate = Self::adopt(dir, socket.into())?;
        gate.own_file();
        Ok(gate)
    }

    /// Goes on with the socket of the one before, whose file it stays.
    pub(in crate::control) fn adopt(dir: &Path, socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UnixListener::from_std(socket)?);
        let (into, heirs) = mpsc::channel(1);
        let heard = Arc::clone(&socket);
        let welcome = move || welcome(Arc::clone(&heard), into.clone());
        let task = tokio::spawn(Task::Takeover.keep_running(welcome)).abort_handle();
        Ok(Self { path: Self::path(dir), socket, heirs, task, owns_file: false })
    }

    pub(in crate::control) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next that wants to take over.
    pub(in crate::control) async fn knocked(&mut self) -> Option<Heir> {
        self.heirs.recv().await
    }

    /// The one before is gone.
    pub(in crate::control) fn own_file(&mut self) {
        self.owns_file = true;
    }

    /// Leaves the file to the successor, who listens there.
    pub(in crate::control) fn leave(mut self) {
        self.owns_file = false;
    }
}

/// A path to the gate's file that an address of a socket can hold, valid while the directory is open: where it is too
/// long, one by way of the open directory (Linux).
fn reachable(dir: &Path) -> io::Result<(Option<File>, PathBuf)> {
    let path = Gate::path(dir);
    if SockAddr::unix(&path).is_ok() || cfg!(not(target_os = "linux")) {
        return Ok((None, path));
    }
    let open = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{FILE}", open.as_raw_fd()));
    Ok((Some(open), short))
}

async fn welcome(socket: Arc<UnixListener>, into: mpsc::Sender<Heir>) {
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept who wants to take over; trying again");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                continue;
            }
        };
        match recognized(&stream) {
            Ok(pid) => match Heir::greet(stream, pid).await {
                Ok(heir) => {
                    if into.send(heir).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(?pid, %error, "a takeover is refused"),
            },
            Err(why) => tracing::warn!(why, "a takeover is refused"),
        }
    }
}

/// Only a process of the same user, or of root, may give or take sockets and state. Returns its id.
fn recognized(stream: &UnixStream) -> Result<Option<u32>, String> {
    let peer = stream.peer_cred().map_err(|error| error.to_string())?;
    let ours = geteuid().as_raw();
    if !is_trusted(peer.uid(), ours) {
        return Err(format!("the other process is of user {}, this one of {ours}", peer.uid()));
    }
    Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0))
}
