//! A fresh connection: which protocol it speaks, told by its first bytes.
use super::http1::serve_http1;
use super::http2::serve_http2;
use super::listener::Door;
use super::shared::{Proxy, parting};
use crate::wire::{Conn, Raw};
use bytes::BytesMut;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// What HTTP/2 by prior knowledge begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for what arrives first: most requests come whole in one read.
pub(super) const FIRST_READ: usize = 4096;

/// One client's connection, for all its requests.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) peer: IpAddr,
    pub(super) door: Arc<Door>,
}

/// Serves a connection to its end.
pub(super) async fn serve(proxy: &Arc<Proxy>, door: &Arc<Door>, mut raw: Raw, peer: IpAddr) {
    let limits = door.settings.load().client.clone();
    let client = Client { peer, door: Arc::clone(door) };
    let mut first = BytesMut::with_capacity(FIRST_READ);
    let mut phase = proxy.watch_phase();
    // Reading, not peeking: a request shorter than the preface is answered at once.
    let told = tokio::select! {
        told = timeout(limits.idle_timeout, first_bytes(&mut raw, &mut first)) => told,
        () = parting(&mut phase) => return,
    };
    if !matches!(told, Ok(Ok(true))) {
        return;
    }
    match timeout(limits.header_timeout, is_http2(&mut raw, &mut first)).await {
        Ok(Ok(true)) => {
            let conn = Conn::http2_client(raw, first, PREFACE.len());
            serve_http2(proxy, &client, conn).await;
        }
        Ok(Ok(false)) => {
            serve_http1(proxy, &client, Conn::http1(raw), first).await;
        }
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn first_bytes(raw: &mut Raw, first: &mut BytesMut) -> io::Result<bool> {
    Ok(read(raw, first).await? > 0)
}

/// Decides at the first byte that differs from the preface.
async fn is_http2(raw: &mut Raw, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        let n = first.len().min(PREFACE.len());
        if first[..n] != PREFACE[..n] {
            return Ok(false);
        }
        if n == PREFACE.len() {
            return Ok(true);
        }
        if read(raw, first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn read(raw: &mut Raw, into: &mut BytesMut) -> io::Result<usize> {
    match raw {
        Raw::Tcp(tcp) => tcp.read_buf(into).await,
        Raw::Unix(unix) => unix.read_buf(into).await,
    }
}
