//! One HTTP/1 connection: request after request, each with its own deadlines.
use super::answer::refuse_raw;
use super::client::Client;
use super::exchange::{End, exchange};
use super::record::Record;
use super::shared::{Phase, Proxy, parting};
use crate::dialect::RefusalCode;
use crate::stats::Moment;
use crate::table::ClientLimits;
use crate::wire::{BadChunks, Chunks, Conn, HeadScan, Unfit};
use bytes::BytesMut;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_core::protocols::{Shutdown, Stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};
use tokio::time::timeout;

/// Room for what arrives first: most requests come whole in one read.
pub(super) const FIRST_READ: usize = 4096;

/// How long a client whose request was answered early may go on sending before it is cut off.
const LINGER: Duration = Duration::from_secs(1);
/// How much it may send meanwhile.
const LINGER_BYTES: usize = 16 << 20;
/// How long the rest of a request's body may take to be thrown away between two requests.
const DRAIN_BODY: Duration = Duration::from_secs(2);

/// Serves an HTTP/1 connection whose first bytes are `first`.
pub(super) async fn serve_http1(proxy: &Arc<Proxy>, client: &Client, conn: Conn, first: BytesMut) {
    let reins = conn.reins();
    let mut conn = Box::new(conn);
    let mut first = first;
    loop {
        let limits = client.door.settings.load_full();
        if first.is_empty()
            && !wait_for_bytes(proxy, &mut conn, &mut first, limits.client.idle_timeout).await
        {
            // Over TLS a close without a goodbye looks like an attack.
            return Shutdown::shutdown(&mut *conn).await;
        }
        let began = proxy.now();
        let head = read_head(&mut conn, &mut first, &limits.client);
        let read = timeout(limits.client.header_timeout, head).await;
        let read = read.unwrap_or(Err(HeadTrouble::Slow));
        // Nothing is read here: it is all in the prefix.
        let mut session = match read {
            Ok(()) => {
                let mut http1 = HttpSession::new(conn);
                http1.set_pipelining_enabled(true);
                http1.set_pipelined_prefix(std::mem::take(&mut first));
                ServerSession::H1(http1)
            }
            Err(HeadTrouble::Gone) => return,
            Err(trouble) => {
                return refuse_head(proxy, client, conn, began, &first, &trouble).await;
            }
        };
        if !matches!(session.read_request().await, Ok(true)) {
            let Some(conn) = into_conn(session) else { return };
            return refuse_head(proxy, client, conn, began, &[], &HeadTrouble::MALFORMED).await;
        }
        session.set_read_timeout(Some(limits.client.body_timeout));
        session.set_write_timeout(Some(limits.client.write_timeout));
        session.set_total_drain_timeout(Some(DRAIN_BODY));
        if proxy.phase() >= Phase::Draining {
            session.set_keepalive(None);
        }
        let end = exchange(proxy, &mut session, client, Some(&reins), began).await;
        reins.reset();
        match end {
            // What is still queued goes out here: a client that reads nothing must not hold it up for ever.
            End::Keep => match timeout(limits.client.write_timeout, session.finish()).await {
                Ok(Ok(Some(reusable))) => {
                    let (stream, rest) = reusable.into_parts();
                    let Some(kept) = as_conn(stream) else { return };
                    conn = kept;
                    first = rest.unwrap_or_default();
                }
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            },
            End::Close => {
                timeout(limits.client.write_timeout, session.finish_body()).await.ok();
                return session.shutdown().await;
            }
            End::Linger => {
                timeout(limits.client.write_timeout, session.finish_body()).await.ok();
                return linger(into_conn(session)).await;
            }
            End::Cut => {
                if let Some(conn) = into_conn(session) {
                    conn.reset_on_close();
                }
                return;
            }
        }
    }
}

/// Why no request came of what a client sent.
enum HeadTrouble {
    Gone,
    Slow,
    Unfit(Unfit),
    Body(BadChunks),
}

impl HeadTrouble {
    const MALFORMED: Self =
        Self::Unfit(Unfit::Malformed("the request head is not well-formed HTTP/1"));

    fn told(&self) -> (RefusalCode, String) {
        match self {
            Self::Gone | Self::Slow => {
                (RefusalCode::RequestTimeout, "the request head did not arrive in time".to_owned())
            }
            Self::Unfit(unfit) => {
                let code = match unfit {
                    Unfit::Malformed(_) => RefusalCode::BadRequest,
                    Unfit::TooLarge(_) => RefusalCode::HeadTooLarge,
                    Unfit::Encoding => RefusalCode::UnsupportedEncoding,
                };
                (code, unfit.to_string())
            }
            Self::Body(bad) => (RefusalCode::BadRequest, bad.to_string()),
        }
    }
}

/// Reads until `first` holds a whole head that means one thing, and has the rest of a chunked body checked.
async fn read_head(
    conn: &mut Conn,
    first: &mut BytesMut,
    limits: &ClientLimits,
) -> Result<(), HeadTrouble> {
    let most = usize::try_from(limits.max_header_bytes).unwrap_or(usize::MAX);
    let mut scan = HeadScan::new(most, limits.max_headers);
    let head = loop {
        match scan.read(first).map_err(HeadTrouble::Unfit)? {
            Some(head) => break head,
            None if matches!(conn.read_buf(first).await, Ok(1..)) => {}
            None => return Err(HeadTrouble::Gone),
        }
    };
    let mut chunks = head.chunked.then(Chunks::default);
    if let Some(chunks) = &mut chunks {
        chunks.read(&first[head.len..]).map_err(HeadTrouble::Body)?;
    }
    conn.expect_chunks(chunks);
    Ok(())
}

/// Counts and answers a client whose `head` was no request, and closes so that it reads why.
async fn refuse_head(
    proxy: &Arc<Proxy>,
    client: &Client,
    conn: Box<Conn>,
    began: Moment,
    head: &[u8],
    trouble: &HeadTrouble,
) {
    let (code, message) = trouble.told();
    Record::malformed(proxy, client, code, began, head);
    let limit = client.door.settings.load().client.write_timeout;
    linger(timeout(limit, refuse_raw(conn, code, &message)).await.ok().flatten()).await;
}

/// The idle time between two requests, which the end of the process ends too.
async fn wait_for_bytes(
    proxy: &Proxy,
    conn: &mut Conn,
    first: &mut BytesMut,
    limit: Duration,
) -> bool {
    let mut phase = proxy.watch_phase();
    let mut buf = BytesMut::with_capacity(FIRST_READ);
    let read = tokio::select! { biased;
        read = timeout(limit, conn.read_buf(&mut buf)) => read,
        () = parting(&mut phase) => return false,
    };
    *first = buf;
    matches!(read, Ok(Ok(n)) if n > 0)
}

fn into_conn(session: ServerSession) -> Option<Box<Conn>> {
    match session {
        ServerSession::H1(http1) => as_conn(http1.into_inner()),
        ServerSession::H2(_) | ServerSession::Subrequest(_) | ServerSession::Custom(_) => None,
    }
}

/// What a session gives back is what it was given.
fn as_conn(stream: Stream) -> Option<Box<Conn>> {
    stream.into_any().downcast().ok()
}

/// Closes so that the answer is not lost: a close with unread bytes would reset the connection, and a reset can
/// overtake the answer on its way (RFC 9112 §9.6).
pub(super) async fn linger(conn: Option<Box<Conn>>) {
    let Some(mut conn) = conn else { return };
    let discard = async {
        conn.flush().await?;
        AsyncWriteExt::shutdown(&mut *conn).await?;
        // What comes now is no body.
        conn.expect_chunks(None);
        let mut scratch = vec![0; 16 * 1024];
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match conn.read(&mut scratch).await? {
                0 => break,
                n => taken += n,
            }
        }
        std::io::Result::Ok(())
    };
    if let Ok(Err(error)) = timeout(LINGER, discard).await {
        tracing::trace!(%error, "client left before the lingering close");
    }
}
