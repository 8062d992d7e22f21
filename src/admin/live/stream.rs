//! One reader of the live view.
use super::{Frame, Live, block, closeup};
use crate::admin::feed::Lines;
use crate::admin::office::Office;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Follows everything, and the replicas of `model`: what was, then a second at a time.
pub(in crate::admin) fn follow(office: Arc<Office>, model: Option<String>) -> Response {
    // Room for one message: a reader that is slow holds no more.
    let (parts, out) = mpsc::channel(1);
    tokio::spawn(async move {
        let seat = Seat::take(&office.live, model.as_deref());
        tokio::select! {
            () = parts.closed() => {}
            () = seat.tell(&office, &parts) => {}
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(Lines::new(out))).into_response()
}

/// Somebody looks, as long as this lives.
struct Seat<'a> {
    live: &'a Live,
    model: Option<&'a str>,
    frames: watch::Receiver<Arc<Frame>>,
}

impl<'a> Seat<'a> {
    fn take(live: &'a Live, model: Option<&'a str>) -> Self {
        if let Some(model) = model {
            *live.looked_at.lock().entry(model.to_owned()).or_default() += 1;
        }
        Self { live, model, frames: live.frames.subscribe() }
    }

    async fn tell(&self, office: &Office, parts: &mpsc::Sender<Bytes>) {
        let mut frames = self.frames.clone();
        let mut told = 0;
        for part in self.beginning(office) {
            if parts.send(part).await.is_err() {
                return;
            }
        }
        loop {
            if let Some(events) = news(office, &mut told)
                && parts.send(events).await.is_err()
            {
                return;
            }
            if frames.changed().await.is_err() {
                return;
            }
            let frame = Arc::clone(&frames.borrow_and_update());
            let model = self.model.and_then(|model| frame.closeups.get(model)).cloned();
            for part in [Some(frame.overview.clone()), model].into_iter().flatten() {
                if parts.send(part).await.is_err() {
                    return;
                }
            }
        }
    }

    /// What a page shows at once.
    fn beginning(&self, office: &Office) -> Vec<Bytes> {
        let table = office.current.load();
        let lines = self.live.lines(self.model);
        let overview = self.live.overview(office, &table);
        let model = self.model.and_then(|model| closeup(office, &table, model));
        [Some(lines), Some(overview), model].into_iter().flatten().collect()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(model) = self.model else { return };
        let mut looked_at = self.live.looked_at.lock();
        if let Some(n) = looked_at.get_mut(model) {
            *n -= 1;
            if *n == 0 {
                looked_at.remove(model);
            }
        }
    }
}

/// What the timeline has since `told`: a reader that missed seconds misses none of it.
fn news(office: &Office, told: &mut u64) -> Option<Bytes> {
    let events = office.events.since(*told);
    *told = events.last()?.id;
    Some(block("events", &events))
}
