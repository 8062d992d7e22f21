//! Replicas that speak HTTP/2 by prior knowledge, each stream in the hands of a script.
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::request::Parts;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct H2c {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Parts>>>,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for H2c {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl H2c {
    pub(crate) async fn start<F, R>(script: F) -> Self
    where
        F: Fn(RecvStream, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Parts>>>::default();
        let accepted = Arc::<AtomicUsize>::default();
        let notes = (Arc::clone(&seen), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                notes.1.fetch_add(1, SeqCst);
                let (seen, script) = (Arc::clone(&notes.0), script.clone());
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (head, body) = request.into_parts();
                        seen.lock().push(head);
                        tokio::spawn(script(body, respond));
                    }
                });
            }
        });
        Self { address, seen, accepted, task: task.abort_handle() }
    }

    /// Reads every request to its end and answers `ok`.
    pub(crate) async fn ok() -> Self {
        Self::start(|body, mut respond| async move {
            read(body).await;
            let head = http::Response::new(());
            if let Ok(mut out) = respond.send_response(head, false) {
                out.send_data(Bytes::from_static(b"ok"), true).ok();
            }
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }

    /// Its `host:port`.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn seen(&self) -> Vec<Parts> {
        self.seen.lock().clone()
    }

    /// How many connections it took.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

/// Reads a body to its end. Returns how long it was.
pub(crate) async fn read(mut body: RecvStream) -> usize {
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        body.flow_control().release_capacity(data.len()).ok();
    }
    length
}

/// Writes a body as fast as the other side takes it, and counts what it took. `false`: it was reset.
pub(crate) async fn write(
    out: &mut SendStream<Bytes>,
    mut body: Bytes,
    taken: &AtomicUsize,
) -> bool {
    while !body.is_empty() {
        out.reserve_capacity(body.len().min(64 * 1024));
        let room = match std::future::poll_fn(|cx| out.poll_capacity(cx)).await {
            Some(Ok(room)) => room.min(body.len()),
            Some(Err(_)) | None => return false,
        };
        if out.send_data(body.split_to(room), body.is_empty()).is_err() {
            return false;
        }
        taken.fetch_add(room, SeqCst);
    }
    true
}
