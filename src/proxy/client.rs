//! Who is at the other end of a connection, and by which listener it came.
use crate::fleet::Holder;
use crate::observe::ListenerMeter;
use crate::table::ListenerPlan;
use crate::tls::ClientCa;
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// What an accepted connection knows of its listener.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) settings: Arc<ArcSwap<ListenerPlan>>,
    pub(super) meter: Arc<ListenerMeter>,
    /// Nobody connects from outside: what comes are tests.
    pub(super) inside: bool,
}

/// One client's connection, for all its requests.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// The address that connected, or that a trusted proxy says it speaks for.
    pub(super) peer: IpAddr,
    /// It speaks TLS.
    pub(super) secure: bool,
    pub(super) door: Arc<Door>,
    /// Who signed the certificate that it had to show.
    pub(super) let_in: Option<ClientCa>,
    /// What its requests hold of `buffers`, where they come without a key.
    pub(super) holder: Arc<OnceLock<Arc<Holder>>>,
}

impl Client {
    /// A connection from this address; without one (a unix socket) it is a client of its own.
    pub(super) fn new(peer: IpAddr, door: &Arc<Door>, has_address: bool) -> Self {
        let holder = if has_address { OnceLock::new() } else { Arc::<Holder>::default().into() };
        let door = Arc::clone(door);
        Self { peer, secure: false, door, let_in: None, holder: Arc::new(holder) }
    }

    /// A trusted proxy says whose connection it is.
    pub(super) fn speaks_for(&mut self, peer: IpAddr) {
        (self.peer, self.holder) = (peer, Arc::default());
    }
}
