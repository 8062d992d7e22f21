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
    (head, Body::new(Events(receiver))).into_response()
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

async fn send(sender: &Sender, work: &Work, token: impl Fn(u32) -> String, last: Vec<String>) {
    for i in 0..work.tokens {
        if i > 0 {
            tokio::time::sleep(work.knobs.token_interval).await;
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

fn event(text: &str) -> Bytes {
    Bytes::from(format!("data: {text}\n\n"))
}

struct Events(mpsc::Receiver<io::Result<Bytes>>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|item| item.map(|item| item.map(Frame::data)))
    }
}
