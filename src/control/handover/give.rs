//! The old one's side: offers what it has, and lets go when the new one serves.
use super::link::{Broken, Link, Message, Offered, PROTOCOL};
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long each step of the new one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is given away. Everything is only lent until the new one serves.
#[derive(Debug)]
pub(in crate::control) struct Estate<'a> {
    pub(in crate::control) lock: BorrowedFd<'a>,
    /// The socket of the next handover.
    pub(in crate::control) gate: BorrowedFd<'a>,
    /// As configured, and the socket.
    pub(in crate::control) admin: (String, BorrowedFd<'a>),
    pub(in crate::control) listeners: Vec<Bequest<'a>>,
}

/// One listener.
#[derive(Debug)]
pub(in crate::control) struct Bequest<'a> {
    pub(in crate::control) name: String,
    pub(in crate::control) configured: String,
    pub(in crate::control) owns_file: bool,
    pub(in crate::control) socket: BorrowedFd<'a>,
}

/// A new one that has said hello.
#[derive(Debug)]
pub(in crate::control) struct Heir {
    link: Link,
    /// As the kernel says; `None` where it cannot be seen from here.
    pub(in crate::control) pid: Option<u32>,
    pub(in crate::control) version: String,
}

/// One that has all it needs but the state.
#[derive(Debug)]
pub(in crate::control) struct Prepared(Link);

/// One that serves, and waits for the word.
#[derive(Debug)]
pub(in crate::control) struct Serving(Link);

/// One that is alone, as far as new requests go. It sees that this process has ended by the end of this.
#[derive(Debug)]
pub(in crate::control) struct Parted(#[expect(dead_code, reason = "open while it lives")] Link);

impl Heir {
    /// Listens to the hello of whoever connected.
    pub(super) async fn greet(stream: UnixStream, pid: Option<u32>) -> Result<Self, Broken> {
        let mut link = Link::new(stream, PATIENCE);
        let heard = link.hear().await?;
        let Message::Hello { protocol, version } = heard else {
            return Err(Broken::nonsense(&heard));
        };
        if protocol == PROTOCOL {
            return Ok(Self { link, pid, version });
        }
        let why = format!(
            "Evener {} hands over by protocol {PROTOCOL}, Evener {version} takes by {protocol}; \
             stop the old one and start the new one",
            env!("CARGO_PKG_VERSION")
        );
        link.say(&Message::Refused { why: why.clone() }).await?;
        Err(Broken::Refused(why))
    }

    /// Offers it all, and waits until the new one is prepared.
    pub(in crate::control) async fn offer(
        mut self,
        estate: Estate<'_>,
    ) -> Result<Prepared, Broken> {
        let Estate { lock, gate, admin: (admin, admin_socket), listeners } = estate;
        let sockets: Vec<_> = listeners.iter().map(|listener| listener.socket).collect();
        let offered = listeners.into_iter().map(|bequest| {
            let Bequest { name, configured, owns_file, .. } = bequest;
            Offered { name, configured, owns_file }
        });
        self.link.say(&Message::Offer { listeners: offered.collect(), admin }).await?;
        for descriptor in [lock, gate, admin_socket].into_iter().chain(sockets) {
            self.link.give(descriptor).await?;
        }
        let ready = self.link.expect(&Message::Ready).await;
        stands(&mut self.link, ready).await?;
        Ok(Prepared(self.link))
    }
}

/// Says so to the new one when this one serves on: an end without a word means that it died.
async fn stands(link: &mut Link, heard: Result<(), Broken>) -> Result<(), Broken> {
    if let Err(broken) = &heard {
        let why = format!("it serves on: {broken}");
        link.say(&Message::Refused { why }).await.ok();
    }
    heard
}

impl Prepared {
    /// Gives the state away, which must be written by now, and waits until the new one serves.
    pub(in crate::control) async fn yours(self) -> Result<Serving, Broken> {
        let Self(mut link) = self;
        link.say(&Message::Yours).await?;
        let started = link.expect(&Message::Started).await;
        stands(&mut link, started).await?;
        Ok(Serving(link))
    }

    /// Keeps everything.
    pub(in crate::control) async fn refuse(self, why: String) {
        let Self(mut link) = self;
        link.say(&Message::Refused { why }).await.ok();
    }
}

impl Serving {
    /// The point of no return: once it is said, the new one is alone.
    pub(in crate::control) async fn farewell(self) -> Result<Parted, Broken> {
        let Self(mut link) = self;
        link.say(&Message::Farewell).await?;
        Ok(Parted(link))
    }
}
