//! Opening a connection to a replica.
use super::conn::Conn;
use super::dialed::Dialed;
use super::exhausted::{Exhausted, Resource, is_for_admin, out_of_descriptors};
use super::raw::{Begun, Raw, keepalive};
use super::upstream::Upstream;
use crate::tls::{ClientTls, Offer, in_words};
use bytes::BytesMut;
use pingora_error::ErrorType::{ConnectError, ConnectTimedout, SocketError, TLSHandshakeFailure};
use pingora_error::{Error, OrErr as _, Result};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio_rustls::{TlsConnector, TlsStream};

impl Upstream {
    /// Follows what its version says of TLS. Connections made with other settings are not used again.
    pub fn follow(&self, tls: Option<&Arc<ClientTls>>) {
        if !self.dialed.over_tls() {
            return;
        }
        let before = self.tls.load();
        if before.as_ref().map(Arc::as_ptr) != tls.map(Arc::as_ptr) {
            self.tls.store(tls.cloned());
        }
    }

    /// Does it speak nothing but HTTP/2?
    pub fn only_http2(&self) -> bool {
        matches!(self.dialed, Dialed::H2c(_) | Dialed::Grpcs(_))
    }

    /// Can gRPC be sent to it? What chooses its protocol mostly can.
    pub fn takes_calls(&self) -> bool {
        match self.dialed {
            Dialed::Http(_) | Dialed::Unix(_) => false,
            Dialed::H2c(_) | Dialed::Https(_) | Dialed::Grpcs(_) => true,
        }
    }

    pub(super) fn may_speak_http2(&self) -> bool {
        match self.dialed {
            Dialed::Http(_) | Dialed::Unix(_) => false,
            Dialed::H2c(_) | Dialed::Grpcs(_) => true,
            Dialed::Https(_) => self.chose_http2.load(Relaxed),
        }
    }

    /// As URLs begin.
    pub fn scheme(&self) -> &'static str {
        if self.dialed.over_tls() { "https" } else { "http" }
    }

    /// The `host:port`, for a `Host` header.
    pub fn authority(&self) -> &str {
        match &self.dialed {
            Dialed::Http(address)
            | Dialed::H2c(address)
            | Dialed::Https(address)
            | Dialed::Grpcs(address) => address,
            Dialed::Unix(_) => "localhost",
        }
    }

    /// What tells connections of the present TLS settings from those of others.
    pub(super) fn serial(&self) -> u64 {
        if !self.dialed.over_tls() {
            return 0;
        }
        self.tls.load().as_ref().map_or(0, |tls| tls.means().serial)
    }

    /// Opens a connection, within `limit`; where the replica may choose the protocol, it has chosen. `upgrade`: only
    /// HTTP/1.1 is of use.
    pub async fn dial(&self, limit: Duration, upgrade: bool) -> Result<Conn> {
        let opened = async {
            match &self.dialed {
                Dialed::Http(address) => Ok(Conn::http1(connect(address).await?)),
                Dialed::H2c(address) => Ok(Conn::http2_replica(connect(address).await?)),
                Dialed::Unix(path) => {
                    let unix = connect_unix(path).await;
                    Ok(Conn::http1(Raw::Unix(unix.or_err_with(ConnectError, || path.clone())?)))
                }
                Dialed::Https(address) => {
                    let offer = if upgrade { Offer::Http1 } else { Offer::Any };
                    Box::pin(self.dial_tls(address, offer)).await
                }
                Dialed::Grpcs(address) => Box::pin(self.dial_tls(address, Offer::Http2)).await,
            }
        };
        match tokio::time::timeout(limit, opened).await {
            Ok(opened) => opened,
            Err(_) => Error::e_explain(ConnectTimedout, format!("no connection within {limit:?}")),
        }
    }

    /// Why its last TLS handshake failed, if it did.
    pub fn distrust(&self) -> Option<Arc<String>> {
        self.distrust.load_full()
    }

    async fn dial_tls(&self, address: &str, offer: Offer) -> Result<Conn> {
        let raw = connect(address).await?;
        match self.secure(raw, address, offer).await {
            Ok(conn) => {
                self.distrust.store(None);
                Ok(conn)
            }
            Err(why) => {
                self.distrust.store(Some(Arc::new(why.clone())));
                Error::e_explain(TLSHandshakeFailure, why)
            }
        }
    }

    async fn secure(&self, raw: Raw, address: &str, offer: Offer) -> Result<Conn, String> {
        let tls = self.tls.load_full();
        let tls = tls.ok_or("its version has no TLS settings")?;
        let (means, name) = (tls.means(), tls.name_of(address));
        let name = name.ok_or("it has no name to verify")?;
        let begun = Begun::new(raw, BytesMut::new());
        let greeted = TlsConnector::from(means.config(offer)).connect(name, begun).await;
        let secured = greeted.map_err(|error| in_words(&error, "the replica"))?;
        let raw = Raw::Tls(Box::new(TlsStream::Client(secured)));
        let http2 = raw.alpn() == Some(b"h2");
        match offer {
            Offer::Any => self.chose_http2.store(http2, Relaxed),
            Offer::Http2 if !http2 => {
                return Err("the replica does not offer HTTP/2".to_owned());
            }
            Offer::Http1 | Offer::Http2 => {}
        }
        let conn = if http2 { Conn::http2_replica(raw) } else { Conn::http1(raw) };
        Ok(conn.made_with(means.serial))
    }
}

async fn connect(address: &str) -> Result<Raw> {
    let tcp = open(address).await.or_err_with(ConnectError, || address.to_owned())?;
    tcp.set_nodelay(true).or_err(SocketError, "TCP_NODELAY")?;
    let alive = socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive());
    alive.or_err(SocketError, "SO_KEEPALIVE")?;
    Ok(Raw::Tcp(tcp))
}

/// Connects to the first address of a name that can be connected to. What this process lacks is an [`Exhausted`].
async fn open(address: &str) -> io::Result<TcpStream> {
    let found = lookup_host(address).await.map_err(|error| {
        if out_of_descriptors() { Exhausted(Resource::Descriptors).into() } else { error }
    })?;
    let mut failed = None;
    for address in found {
        match open_tcp(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => match Resource::lacking_for(&error, address) {
                Some(resource) => return Err(Exhausted(resource).into()),
                None => failed = Some(error),
            },
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("the name has no address")))
}

async fn open_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    // Before it waits for the other side: many that wait would take all of the reserve meanwhile.
    spare(socket?)?.connect(address).await
}

/// A connection that leaves some descriptors to the admin API and to files.
fn spare<C: AsFd>(connection: C) -> io::Result<C> {
    if is_for_admin(connection.as_fd()) {
        return Err(Exhausted(Resource::Descriptors).into());
    }
    Ok(connection)
}

async fn connect_unix(path: &str) -> io::Result<UnixStream> {
    let lacking = |error: io::Error| match Resource::lacking(&error) {
        Some(resource) => Exhausted(resource).into(),
        None => error,
    };
    spare(UnixStream::connect(path).await.map_err(lacking)?)
}
