//! How a replica is reached.

/// How a replica is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialed {
    /// HTTP/1.1 to `host:port`.
    Http(String),
    /// HTTP/2 by prior knowledge to `host:port`.
    H2c(String),
    /// HTTP/1.1 over this Unix socket.
    Unix(String),
    /// HTTP/2 or HTTP/1.1 over TLS to `host:port`, as the replica likes.
    Https(String),
    /// HTTP/2 over TLS to `host:port`.
    Grpcs(String),
}

impl Dialed {
    pub(super) fn over_tls(&self) -> bool {
        matches!(self, Self::Https(_) | Self::Grpcs(_))
    }
}
