//! The TLS handshake with a client, and what is said to one that speaks TLS where it should not, or does not where it
//! should.
use super::answer::refuse_raw;
use super::client::Client;
use super::http1::linger;
use super::record::Record;
use super::shared::Proxy;
use crate::dialect::RefusalCode;
use crate::table::ClientLimits;
use crate::tls::{ClientCa, ServerTls, in_words};
use crate::wire::{Begun, Conn, Raw};
use bytes::BytesMut;
use rustls::server::Acceptor;
use std::io;
use std::sync::Arc;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

/// What a record of a TLS handshake begins with: its kind, and the first half of the version.
const HANDSHAKE: [u8; 2] = [22, 3];

/// Does it begin as TLS does?
pub(super) fn is_tls(first: &[u8]) -> bool {
    first.starts_with(&HANDSHAKE) || first == &HANDSHAKE[..1]
}

/// Makes a connection secure of which this was read already, and tells by whose certificate its client was let in. `None`:
/// it ended.
pub(super) async fn secure(
    proxy: &Arc<Proxy>,
    client: &Client,
    limits: &ClientLimits,
    tls: &ServerTls,
    raw: Raw,
    first: BytesMut,
) -> Option<(Raw, Option<ClientCa>)> {
    if first.first().is_some_and(u8::is_ascii_uppercase) {
        let message = "this port speaks HTTPS, and the request came in plain HTTP";
        refuse(proxy, client, limits, raw, RefusalCode::TlsExpected, message).await;
        return None;
    }
    let why = match timeout(limits.header_timeout, handshake(tls, raw, first)).await {
        Ok(Ok(secured)) => return Some(secured),
        Ok(Err(error)) => in_words(&error, "the client"),
        Err(_) => "the client did not finish the TLS handshake in time".to_owned(),
    };
    proxy.meters.nameless.refusals.add(RefusalCode::TlsHandshakeFailed);
    tracing::debug!(peer = %client.peer, why, "TLS handshake failed");
    None
}

async fn handshake(
    tls: &ServerTls,
    raw: Raw,
    first: BytesMut,
) -> io::Result<(Raw, Option<ClientCa>)> {
    let begun = Begun::new(raw, first);
    let hello = LazyConfigAcceptor::new(Acceptor::default(), begun).await?;
    let (config, client_ca) = tls.chosen_for(hello.client_hello().server_name());
    let secured = hello.into_stream(config).await?;
    Ok((Raw::Tls(Box::new(TlsStream::Server(secured))), client_ca))
}

/// A client that speaks TLS to a listener without.
pub(super) async fn refuse_tls(
    proxy: &Arc<Proxy>,
    client: &Client,
    limits: &ClientLimits,
    raw: Raw,
) {
    let message = "this port speaks plain HTTP, and the client began a TLS handshake";
    refuse(proxy, client, limits, raw, RefusalCode::TlsUnexpected, message).await;
}

async fn refuse(
    proxy: &Arc<Proxy>,
    client: &Client,
    limits: &ClientLimits,
    raw: Raw,
    code: RefusalCode,
    message: &str,
) {
    Record::malformed(proxy, client, code, proxy.now(), b"");
    tracing::debug!(peer = %client.peer, listener = client.door.settings.load().name, message);
    let answer = refuse_raw(Box::new(Conn::http1(raw)), code, message);
    linger(timeout(limits.write_timeout, answer).await.ok().flatten()).await;
}
