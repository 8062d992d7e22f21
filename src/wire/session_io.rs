//! What pingora's sessions ask of a connection besides its bytes. Evener keeps these facts itself, so most answers are
//! empty.
use super::conn::Conn;
use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// How long a closing connection may take to take its last bytes.
const CLOSE: Duration = Duration::from_secs(1);

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        self.reins().reset();
        let closed = tokio::time::timeout(CLOSE, AsyncWriteExt::shutdown(self)).await;
        if let Ok(Err(error)) = closed {
            tracing::trace!(%error, "peer closed first");
        }
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.fd().as_raw_fd()
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        None
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Conn {}
