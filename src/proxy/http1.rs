//! One HTTP/1 connection: request after request, each with its own deadlines.
use super::accept::{Client, FIRST_READ};
use super::answer::refuse_raw;
use super::exchange::{End, exchange};
use super::record::Record;
use super::shared::{Phase, Proxy, parting};
use crate::dialect::RefusalCode;
use crate::wire::{Conn, Reins};
use bytes::BytesMut;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_core::protocols::{Shutdown, Stream};
use pingora_error::{Error, ErrorType};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long a client whose request was answered early may go on sending before it is cut off.
const LINGER: Duration = Duration::from_secs(1);
/// How much it may send meanwhile.
const LINGER_BYTES: usize = 16 << 20;
/// How long the rest of a request's body may take to be thrown away between two requests.
const DRAIN_BODY: Duration = Duration::from_secs(2);

/// Serves an HTTP/1 connection whose first bytes are `first`.
pub(super) async fn serve_http1(proxy: &Arc<Proxy>, client: &Client, conn: Conn, first: BytesMut) {
    let reins = conn.reins();
    let mut stream: Stream = Box::new(conn);
    let mut first = first;
    loop {
        let limits = client.door.settings.load_full();
        if first.is_empty()
            && !wait_for_bytes(proxy, &mut stream, &mut first, limits.client.idle_timeout).await
        {
            // Over TLS a close without a goodbye looks like an attack.
            return Shutdown::shutdown(&mut *stream).await;
        }
        let began = proxy.now();
        let mut http1 = HttpSession::new(stream);
        http1.set_pipelining_enabled(true);
        http1.set_pipelined_prefix(std::mem::take(&mut first));
        let mut session = ServerSession::H1(http1);
        let read = timeout(limits.client.header_timeout, session.read_request()).await;
        let malformed = match read {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => return,
            Ok(Err(error)) if is_gone(&error) => return,
            Ok(Err(_)) => {
                Some((RefusalCode::BadRequest, "the request head is not well-formed HTTP/1"))
            }
            Err(_) => {
                Some((RefusalCode::RequestTimeout, "the request head did not arrive in time"))
            }
        };
        if let Some((code, message)) = malformed {
            let Some(stream) = into_stream(session) else { return };
            Record::malformed(proxy, client, code, began);
            let refused = timeout(limits.client.write_timeout, refuse_raw(stream, code, message));
            return linger(refused.await.ok().flatten()).await;
        }
        session.set_read_timeout(Some(limits.client.body_timeout));
        session.set_write_timeout(Some(limits.client.write_timeout));
        session.set_total_drain_timeout(Some(DRAIN_BODY));
        if proxy.phase() >= Phase::Draining {
            session.set_keepalive(None);
        }
        let end = exchange(proxy, &mut session, client, Some(&reins), began).await;
        reset(&reins);
        match end {
            // What is still queued goes out here: a client that reads nothing must not hold it up for ever.
            End::Keep => match timeout(limits.client.write_timeout, session.finish()).await {
                Ok(Ok(Some(reusable))) => {
                    let (kept, rest) = reusable.into_parts();
                    stream = kept;
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
                return linger(into_stream(session)).await;
            }
            End::Cut => {
                if let Some(stream) = into_stream(session)
                    && let Some(conn) = stream.as_any().downcast_ref::<Conn>()
                {
                    conn.reset_on_close();
                }
                return;
            }
        }
    }
}

/// The client closed in the middle of a head.
fn is_gone(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError)
}

fn reset(reins: &Reins) {
    reins.cork(false);
    reins.duplex(false);
}

/// The idle time between two requests, which the end of the process ends too.
async fn wait_for_bytes(
    proxy: &Proxy,
    stream: &mut Stream,
    first: &mut BytesMut,
    limit: Duration,
) -> bool {
    let mut phase = proxy.watch_phase();
    let mut buf = BytesMut::with_capacity(FIRST_READ);
    let read = tokio::select! { biased;
        read = timeout(limit, stream.read_buf(&mut buf)) => read,
        () = parting(&mut phase) => return false,
    };
    *first = buf;
    matches!(read, Ok(Ok(n)) if n > 0)
}

fn into_stream(session: ServerSession) -> Option<Stream> {
    match session {
        ServerSession::H1(http1) => Some(http1.into_inner()),
        ServerSession::H2(_) | ServerSession::Subrequest(_) | ServerSession::Custom(_) => None,
    }
}

/// Closes so that the answer is not lost: a close with unread bytes would reset the connection, and a reset can
/// overtake the answer on its way (RFC 9112 §9.6).
pub(super) async fn linger(stream: Option<Stream>) {
    let Some(mut stream) = stream else { return };
    let discard = async {
        stream.flush().await?;
        AsyncShutdown::half_close(&mut stream).await?;
        let mut scratch = vec![0; 16 * 1024];
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match stream.read(&mut scratch).await? {
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

/// `AsyncWriteExt::shutdown`, which pingora's `Shutdown` on the same type would shadow.
struct AsyncShutdown;

impl AsyncShutdown {
    async fn half_close(stream: &mut Stream) -> std::io::Result<()> {
        tokio::io::AsyncWriteExt::shutdown(stream).await
    }
}
