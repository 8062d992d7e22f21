//! The new one's side: takes what it is offered, step by step.
use super::gate::Gate;
use super::link::{Broken, Link, Message, Offered, PROTOCOL};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// Longer than the old one's patience: it is the old one that decides who serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the old one gave.
#[derive(Debug)]
pub(in crate::control) struct Willed {
    pub(in crate::control) lock: OwnedFd,
    pub(in crate::control) gate: OwnedFd,
    /// As configured, and the socket.
    pub(in crate::control) admin: (String, OwnedFd),
    /// Name, address as configured, whether its file is ours to remove, and the socket.
    pub(in crate::control) listeners: Vec<(String, String, bool, OwnedFd)>,
}

/// The conversation with the old one.
#[derive(Debug)]
pub(in crate::control) struct Taking(Link);

/// The old one, which finishes what it runs.
#[derive(Debug)]
pub(in crate::control) struct Parting(Link);

impl Parting {
    /// Returns when its process has ended.
    pub(in crate::control) async fn ended(self) {
        self.0.closed().await;
    }
}

impl Taking {
    /// Asks the Evener that runs on this state directory. `None`: nobody does.
    pub(in crate::control) async fn begin(dir: &Path) -> Result<Option<(Self, Willed)>, Broken> {
        match Gate::knock(dir).await {
            Ok(stream) => Self::with(stream).await.map(Some),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn with(stream: UnixStream) -> Result<(Self, Willed), Broken> {
        let mut link = Link::new(stream, PATIENCE);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        link.say(&Message::Hello { protocol: PROTOCOL, version }).await?;
        let heard = link.hear().await?;
        let Message::Offer { listeners: offered, admin } = heard else {
            return Err(Broken::nonsense(&heard));
        };
        let (lock, gate) = (link.receive().await?, link.receive().await?);
        let admin = (admin, link.receive().await?);
        let mut listeners = Vec::with_capacity(offered.len());
        for Offered { name, configured, owns_file } in offered {
            listeners.push((name, configured, owns_file, link.receive().await?));
        }
        Ok((Self(link), Willed { lock, gate, admin, listeners }))
    }

    /// Says that all is prepared but the state. When this returns, the state is ours.
    pub(in crate::control) async fn ready(&mut self) -> Result<(), Broken> {
        let Self(link) = self;
        link.say(&Message::Ready).await.or_else(unless_it_died)?;
        link.expect(&Message::Yours).await.or_else(unless_it_died)
    }

    /// Says that we serve. When this returns, nobody else takes new requests.
    pub(in crate::control) async fn started(self) -> Result<Parting, Broken> {
        let Self(mut link) = self;
        link.say(&Message::Started).await.or_else(unless_it_died)?;
        link.expect(&Message::Farewell).await.or_else(unless_it_died)?;
        Ok(Parting(link))
    }
}

/// An old one that serves on says so. One that ends without a word is dead: somebody must go on.
fn unless_it_died(broken: Broken) -> Result<(), Broken> {
    if !matches!(broken, Broken::Gone) {
        return Err(broken);
    }
    tracing::warn!("the Evener that hands over died; this one goes on with its sockets and state");
    Ok(())
}
