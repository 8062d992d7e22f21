//! A fresh connection: who is at its other end, and which protocol it speaks, told by its first bytes.
use super::client::{Client, Door};
use super::greet::{self, secure};
use super::http1::{FIRST_READ, serve_http1};
use super::http2::serve_http2;
use super::introduce::introduce;
use super::record::Record;
use super::request::is_trusted;
use super::shared::{Proxy, parting};
use crate::dialect::RefusalCode;
use crate::wire::{Conn, Raw};
use bytes::BytesMut;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// What HTTP/2 by prior knowledge begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve(proxy: &Arc<Proxy>, door: &Arc<Door>, mut raw: Raw, peer: IpAddr) {
    let listener = door.settings.load_full();
    let limits = &listener.client;
    let mut client = Client::new(peer, door, !matches!(raw, Raw::Unix(_)));
    let mut first = BytesMut::with_capacity(FIRST_READ);
    if !hear(proxy, limits.idle_timeout, &mut raw, &mut first).await {
        return;
    }
    if listener.proxy_protocol && is_trusted(&client, &listener) {
        if !introduce(proxy, &mut client, limits, &mut raw, &mut first).await {
            return;
        }
        if first.is_empty() && !hear(proxy, limits.idle_timeout, &mut raw, &mut first).await {
            return;
        }
    }
    if let Some(tls) = &listener.tls {
        let secured = Box::pin(secure(proxy, &client, limits, tls, raw, first)).await;
        let Some(secured) = secured else { return };
        (raw, client.let_in) = secured;
        (first, client.secure) = (BytesMut::with_capacity(FIRST_READ), true);
    } else if greet::is_tls(&first) {
        return Box::pin(greet::refuse_tls(proxy, &client, limits, raw)).await;
    }
    if raw.alpn().is_none()
        && first.is_empty()
        && !hear(proxy, limits.idle_timeout, &mut raw, &mut first).await
    {
        return;
    }
    let http2 = match raw.alpn() {
        Some(protocol) => Ok(Ok(protocol == b"h2")),
        None => timeout(limits.header_timeout, is_http2(&mut raw, &mut first)).await,
    };
    match http2 {
        Ok(Ok(true)) => {
            let conn = Conn::http2_client(raw, first, PREFACE.len());
            serve_http2(proxy, &client, conn).await;
        }
        Ok(Ok(false)) => {
            serve_http1(proxy, &client, Conn::http1(raw), first).await;
        }
        Ok(Err(_)) => {}
        Err(_) => {
            Record::malformed(proxy, &client, RefusalCode::RequestTimeout, proxy.now(), &first);
        }
    }
}

/// Waits for what a client says first. Reading, not peeking: a request shorter than the preface is answered at once.
async fn hear(proxy: &Proxy, limit: Duration, raw: &mut Raw, first: &mut BytesMut) -> bool {
    let mut phase = proxy.watch_phase();
    tokio::select! {
        read = timeout(limit, raw.read_buf(first)) => matches!(read, Ok(Ok(n)) if n > 0),
        () = parting(&mut phase) => false,
    }
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
        if raw.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
