//! A stream of server-sent events whose pace is that of the tokens.
use super::work::Work;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Sends one event for each token, then the `last` ones. Ends at once, and frees the slot, when the
/// client goes.
pub(super) fn stream(
    work: Work,
    token: impl Fn(u32) -> String + Send + 'static,
    last: Vec<String>,
) -> Response {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = send(&sender, &work, token, last) => {}
        }
    });
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (head, Body::new(Pieces(receiver))).into_response()
}

/// Sends what a body is made of, piece by piece.
pub(super) type Sender = mpsc::Sender<io::Result<Frame<Bytes>>>;

async fn send(sender: &Sender, work: &Work, token: impl Fn(u32) -> String, last: Vec<String>) {
    for i in 0..work.tokens {
        if i > 0 {
            tokio::time::sleep(work.knobs.token_interval).await;
        }
        if work.stall && i >= work.tokens / 2 {
            return std::future::pending().await;
        }
        if work.cut && i >= work.tokens / 2 {
            return drop(sender.send(Err(io::ErrorKind::ConnectionReset.into())).await);
        }
        drop(sender.send(Ok(event(&token(i)))).await);
    }
    for text in last {
        drop(sender.send(Ok(event(&text))).await);
    }
}

fn event(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::from(format!("data: {text}\n\n")))
}

/// A body that is what its `Sender` sends.
pub(super) struct Pieces(pub(super) mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}
