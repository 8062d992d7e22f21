//! Notices that a peer which ended its sending resets the connection.
//!
//! After the end of a peer's sending a socket is readable for ever, so that a read tells nothing more. A second
//! registration of the same socket wakes for errors alone.
use super::raw::Raw;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Ready once the connection is over.
type Over = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

pub(super) struct ResetWatch(Option<Over>);

impl std::fmt::Debug for ResetWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ResetWatch").field(&self.0.is_some()).finish()
    }
}

impl ResetWatch {
    /// Unix sockets know no resets. Where no descriptor is left for the watch, a reset shows at the next write.
    pub(super) fn new(raw: &Raw) -> Self {
        if !raw.is_over_tcp() {
            return Self(None);
        }
        let watch = watch(raw);
        if let Err(error) = &watch {
            tracing::debug!(%error, "a half-closed connection is not watched");
        }
        Self(watch.ok())
    }

    /// An error once the connection is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.0 {
            Some(over) => over.as_mut().poll(cx).map(|()| io::ErrorKind::ConnectionReset.into()),
            None => Poll::Pending,
        }
    }
}

fn watch(raw: &Raw) -> io::Result<Over> {
    let twin = std::net::TcpStream::from(raw.fd().try_clone_to_owned()?);
    let twin = TcpStream::from_std(twin)?;
    Ok(Box::pin(async move {
        twin.ready(Interest::ERROR).await.ok();
    }))
}
