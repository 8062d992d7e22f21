//! The timeline as a stream of server-sent events.
use crate::observe::{Event, Events, Task};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// A comment after so much silence: a proxy between must not think the connection dead.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// Follows the timeline: what comes, and before it what came after `seen`, where a client returns.
pub(super) fn follow(events: Arc<Events>, seen: Option<u64>) -> Response {
    stream(16, |lines| async move { tell(&events, seen, &lines).await })
}

/// A stream of server-sent events, of which so many parts may wait. It ends when `tell` does, or its reader is gone.
pub(super) fn stream<F>(room: usize, tell: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (parts, out) = mpsc::channel(room);
    let told = tell(parts.clone());
    Task::Admin.spawn(async move {
        tokio::select! {
            () = parts.closed() => {}
            () = told => {}
        }
    });
    ([(header::CONTENT_TYPE, EVENT_STREAM)], Body::new(Lines(out))).into_response()
}

/// Does the client ask for a stream?
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains(EVENT_STREAM))
}

async fn tell(events: &Events, seen: Option<u64>, lines: &mpsc::Sender<Bytes>) {
    // The feed only wakes: what is told comes from the list, so that a slow reader misses nothing that is kept.
    let mut feed = events.follow();
    let newest = events.recent().last().map_or(0, |event| event.id);
    // An id beyond the newest is of an earlier process.
    let mut told = seen.map_or(newest, |seen| if seen > newest { 0 } else { seen });
    let mut text = ": following\n\n".to_owned();
    loop {
        let before = told;
        for event in events.recent().iter().filter(|event| event.id > before) {
            text.push_str(&block(event));
            told = event.id;
        }
        if !text.is_empty() && lines.send(Bytes::from(std::mem::take(&mut text))).await.is_err() {
            return;
        }
        match tokio::time::timeout(HEARTBEAT, feed.recv()).await {
            Ok(Err(RecvError::Closed)) => return,
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
            Err(_) => text.push_str(": still here\n\n"),
        }
    }
}

fn block(event: &Event) -> String {
    let data = serde_json::to_string(event).expect("an event is plain strings");
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind)
}

/// A body that comes in parts.
struct Lines(mpsc::Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|lines| lines.map(|lines| Ok(Frame::data(lines))))
    }
}
