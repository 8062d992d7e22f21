//! The PROXY protocol: a trusted peer says first whose connection it passes on.
use super::client::Client;
use super::shared::Proxy;
use crate::dialect::RefusalCode;
use crate::table::ClientLimits;
use crate::wire::Raw;
use crate::wire::proxy_protocol::{Parsed, parse};
use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// Takes the header off what was read, and the client's address from it. Without one nobody knows whose requests these
/// would be: the connection is of no use. Returns whether it is.
pub(super) async fn introduce(
    proxy: &Proxy,
    client: &mut Client,
    limits: &ClientLimits,
    raw: &mut Raw,
    first: &mut BytesMut,
) -> bool {
    let header = timeout(limits.header_timeout, read(raw, first)).await;
    let why = match header {
        Ok(Ok((length, address))) => {
            first.advance(length);
            if let Some(address) = address {
                client.speaks_for(address.ip().to_canonical());
            }
            return true;
        }
        Ok(Err(why)) => why,
        Err(_) => "its PROXY header did not arrive in time",
    };
    proxy.meters.nameless.refusals.add(RefusalCode::BadProxyHeader);
    tracing::debug!(peer = %client.peer, why, "a trusted proxy was turned away");
    false
}

async fn read(
    raw: &mut Raw,
    first: &mut BytesMut,
) -> Result<(usize, Option<std::net::SocketAddr>), &'static str> {
    loop {
        match parse(first) {
            Parsed::Header { length, client } => return Ok((length, client)),
            Parsed::Malformed(why) => return Err(why),
            Parsed::Partial => {}
        }
        match raw.read_buf(first).await {
            Ok(0) | Err(_) => return Err("it left within its PROXY header"),
            Ok(_) => {}
        }
    }
}
