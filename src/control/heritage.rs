//! What a start finds: a free state directory, or an Evener that hands its own over; and sockets that exist already.
use super::handover::{Broken, Gate, Parting, Taking, Willed};
use super::inherited::{Inherited, Sockets};
use super::own_dir::{OwnDir, Unfit};
use super::state::{StateDir, StateError};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Everything that a start does not have to make itself.
#[derive(Debug)]
pub struct Heritage {
    dir: PathBuf,
    pub(super) sockets: Sockets,
    /// As the old one configured its admin listener, and its socket.
    admin: Option<(String, OwnedFd)>,
    whence: Whence,
}

#[derive(Debug)]
enum Whence {
    /// Nobody else runs here.
    Own(StateDir),
    Predecessor(Box<Predecessor>),
    /// The state was handed on, the conversation may go on.
    Used(Option<Taking>),
}

#[derive(Debug)]
struct Predecessor {
    taking: Taking,
    lock: OwnedFd,
    gate: OwnedFd,
}

/// Why nothing can be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot take over from the Evener that runs on {0}, which serves on: {1}")]
    Broken(PathBuf, Broken),
    #[error("cannot use a socket that was taken over: {0}")]
    Socket(#[from] io::Error),
}

impl Heritage {
    /// Locks the state directory; with `takeover`, asks the Evener that has it to hand it over.
    pub async fn claim(
        dir: &Path,
        takeover: bool,
        activated: Vec<Inherited>,
    ) -> Result<Self, ClaimError> {
        let broken = |broken| ClaimError::Broken(dir.to_owned(), broken);
        let found = if takeover {
            // Whoever can write to the directory could offer sockets of their own.
            match OwnDir::open(dir) {
                Err(unfit @ Unfit::Shared(_)) => return Err(StateError::of(dir, unfit).into()),
                Ok(_) | Err(Unfit::Io(_)) => Taking::begin(dir).await.map_err(broken)?,
            }
        } else {
            None
        };
        let dir = dir.to_owned();
        let Some((taking, Willed { lock, gate, admin, listeners })) = found else {
            let state = StateDir::open(&dir)?;
            if takeover {
                tracing::info!(
                    "there is no Evener to take over from on {}: an ordinary start",
                    dir.display()
                );
            }
            let sockets = Sockets::new(activated);
            return Ok(Self { dir, sockets, admin: None, whence: Whence::Own(state) });
        };
        let mut sockets = activated;
        for (name, configured, owns_file, socket) in listeners {
            sockets.push(Inherited::of_predecessor(name, configured, owns_file, socket)?);
        }
        let whence = Whence::Predecessor(Box::new(Predecessor { taking, lock, gate }));
        Ok(Self { dir, sockets: Sockets::new(sockets), admin: Some(admin), whence })
    }

    /// The admin listener's socket, where it exists already.
    pub fn admin(&mut self, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        let of_systemd = self.sockets.admin(address);
        let of_predecessor = self.admin.take().and_then(|(configured, socket)| {
            let bound = socket2::SockRef::from(&socket).local_addr().ok()?.as_socket()?;
            (configured == address.to_string() || bound == address).then_some(socket)
        });
        let Some(socket) = of_predecessor.or(of_systemd) else { return Ok(None) };
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }

    /// The state directory, and where the next one will ask for it. From a predecessor it comes only when all else
    /// is prepared.
    pub(super) async fn state(&mut self) -> Result<(StateDir, Option<Gate>), ClaimError> {
        let (state, gate, taking) = match std::mem::replace(&mut self.whence, Whence::Used(None)) {
            Whence::Own(state) => (state, Gate::open(&self.dir), None),
            Whence::Predecessor(predecessor) => {
                let Predecessor { mut taking, lock, gate } = *predecessor;
                let ready = taking.ready().await;
                ready.map_err(|broken| ClaimError::Broken(self.dir.clone(), broken))?;
                let state = StateDir::adopt(&self.dir, File::from(lock))?;
                (state, Gate::adopt(&self.dir, gate), Some(taking))
            }
            Whence::Used(_) => return Err(StateError::Locked(self.dir.clone()).into()),
        };
        self.whence = Whence::Used(taking);
        Ok((state, told_if_shut(gate)))
    }

    /// Says that this process serves, and waits until no other takes new requests. Returns the one that did.
    pub(super) async fn serves(self) -> Result<Option<Parting>, ClaimError> {
        let Self { dir, whence, .. } = self;
        let Whence::Used(Some(taking)) = whence else { return Ok(None) };
        taking.started().await.map(Some).map_err(|broken| ClaimError::Broken(dir, broken))
    }
}

/// Without a gate Evener runs as well; it can only not be taken over from.
pub(super) fn told_if_shut(gate: io::Result<Gate>) -> Option<Gate> {
    gate.inspect_err(|error| tracing::warn!(%error, "`run --takeover` will not find this Evener"))
        .ok()
}
