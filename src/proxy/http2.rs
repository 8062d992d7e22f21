//! One HTTP/2 connection: a task for each stream.
use super::client::Client;
use super::exchange::{End, exchange};
use super::record::Record;
use super::shared::{Proxy, draining};
use crate::dialect::RefusalCode;
use crate::observe::Task;
use crate::wire::Conn;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{
    H2Accept, HttpSession, default_h2_options, handshake,
};
use pingora_error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Room for a stream's bytes before we read them: uploads of megabytes need more than the protocol's 64 KiB.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;
const MAX_STREAMS: u32 = 256;
/// Room for small frames that come for streams which were answered before, at 256 bytes each. The h2 crate gives it back
/// for large frames only, and closes the connection when it is used up.
const LATE_FRAMES: usize = 4 << 20;
/// Streams answered before their upload was over, of which what still comes is no error, and for how long.
const ANSWERED_EARLY: usize = 1000;
const LATE: Duration = Duration::from_secs(10);
/// How long a client without a stream may take to see that its connection ends; one that is gone never will.
const GOODBYE: Duration = Duration::from_secs(2);
/// Malformed streams after which a connection is closed.
const MAX_MALFORMED: u32 = 32;

/// Serves an HTTP/2 connection to its end.
pub(super) async fn serve_http2(proxy: &Arc<Proxy>, client: &Client, conn: Conn) {
    let limits = client.door.settings.load_full();
    let mut options = default_h2_options();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .data_frame_budget(LATE_FRAMES)
        .max_concurrent_reset_streams(ANSWERED_EARLY)
        .reset_stream_duration(LATE)
        .max_header_list_size(u32::try_from(limits.client.max_header_bytes).unwrap_or(u32::MAX));
    let greeted = timeout(limits.client.header_timeout, handshake(Box::new(conn), Some(options)));
    let mut conn = match greeted.await {
        Ok(Ok(conn)) => conn,
        Ok(Err(error)) => return note_broken(proxy, client, &error),
        Err(_) => {
            let code = RefusalCode::RequestTimeout;
            return Record::malformed(proxy, client, code, proxy.now(), b"");
        }
    };
    let digest = Arc::new(Digest::default());
    let open = Arc::new(Streams::default());
    let mut phase = proxy.watch_phase();
    let (mut closing, mut malformed) = (false, 0);
    loop {
        let accepted = tokio::select! { biased;
            () = draining(&mut phase), if !closing => {
                conn.graceful_shutdown();
                closing = true;
                continue;
            }
            accepted = HttpSession::from_h2_conn(&mut conn, Arc::clone(&digest)) => accepted,
            () = open.idle_for(if closing { GOODBYE } else { limits.client.idle_timeout }) => {
                if closing {
                    return;
                }
                conn.graceful_shutdown();
                closing = true;
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(stream))) => {
                let guard = open.enter();
                let (proxy, client) = (Arc::clone(proxy), client.clone());
                Task::Exchange.spawn(async move {
                    serve_stream(&proxy, &client, stream).await;
                    drop(guard);
                });
            }
            Ok(Some(H2Accept::Rejected)) if malformed < MAX_MALFORMED => {
                malformed += 1;
                Record::malformed(proxy, client, RefusalCode::BadRequest, proxy.now(), b"");
            }
            Err(error) => return note_broken(proxy, client, &error),
            Ok(Some(H2Accept::Rejected) | None) => return,
        }
    }
}

/// Counts a connection that ended by the client's breach of the protocol, not by its leaving.
fn note_broken(proxy: &Arc<Proxy>, client: &Client, error: &Error) {
    let cause = error.root_cause();
    let flood = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
    let breach = match cause.downcast_ref::<h2::Error>() {
        Some(h2) => h2.is_library() || h2.get_io().is_some_and(flood),
        None => cause.downcast_ref().is_some_and(flood),
    };
    if breach {
        tracing::debug!(client = %client.peer, %error, "an HTTP/2 connection broke the protocol");
        Record::malformed(proxy, client, RefusalCode::BadRequest, proxy.now(), b"");
    }
}

async fn serve_stream(proxy: &Arc<Proxy>, client: &Client, stream: HttpSession) {
    let began = proxy.now();
    let limits = client.door.settings.load_full();
    let mut session = ServerSession::new_http2(stream);
    session.set_write_timeout(Some(limits.client.write_timeout));
    match exchange(proxy, &mut session, client, None, began).await {
        End::Keep | End::Close | End::Linger => {
            session.finish().await.ok();
        }
        End::Cut => session.shutdown_with_reason(h2::Reason::INTERNAL_ERROR),
    }
}

/// The streams open on one connection.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    changed: Notify,
}

impl Streams {
    fn enter(self: &Arc<Self>) -> OpenStream {
        self.open.fetch_add(1, Relaxed);
        OpenStream(Arc::clone(self))
    }

    /// Returns when no stream was open for so long.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let changed = self.changed.notified();
            if self.open.load(Relaxed) > 0 {
                changed.await;
            } else if timeout(limit, changed).await.is_err() {
                return;
            }
        }
    }
}

struct OpenStream(Arc<Streams>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        self.0.changed.notify_waiters();
    }
}
