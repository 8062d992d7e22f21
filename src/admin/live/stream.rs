//! One reader of the live view.
use super::{Frame, Live, block};
use crate::admin::feed::stream;
use crate::admin::office::Office;
use axum::body::Bytes;
use axum::response::Response;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Follows everything, and the replicas of `model`: what was, then a second at a time.
pub(in crate::admin) fn follow(office: Arc<Office>, model: Option<String>) -> Response {
    // Room for one message: a reader that is slow holds no more.
    stream(1, |parts| async move {
        let model = model.as_deref();
        let _seat = Seat::take(&office.live, model);
        let frames = office.live.frames.subscribe();
        let begin = beginning(&office, model);
        let mut told = 0;
        tell(begin, frames, model, || news(&office, &mut told), &parts).await;
    })
}

/// Somebody looks at a model, as long as this lives.
struct Seat<'a> {
    live: &'a Live,
    model: Option<&'a str>,
}

impl<'a> Seat<'a> {
    fn take(live: &'a Live, model: Option<&'a str>) -> Self {
        if let Some(model) = model {
            *live.looked_at.lock().entry(model.to_owned()).or_default() += 1;
        }
        Self { live, model }
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

/// What a page shows at once.
fn beginning(office: &Office, model: Option<&str>) -> Vec<Bytes> {
    let table = office.current.load();
    let lines = office.live.lines(model);
    let overview = office.live.overview(office, &table);
    let model = model.and_then(|model| office.live.closeup(office, &table, model));
    [Some(lines), Some(overview), model].into_iter().flatten().collect()
}

/// Ends when the reader is gone, or the process ends.
async fn tell(
    begin: Vec<Bytes>,
    mut frames: watch::Receiver<Arc<Frame>>,
    model: Option<&str>,
    mut news: impl FnMut() -> Option<Bytes>,
    parts: &mpsc::Sender<Bytes>,
) {
    let mut waiting = begin;
    loop {
        waiting.extend(news());
        for part in waiting.drain(..) {
            if parts.send(part).await.is_err() {
                return;
            }
        }
        if frames.changed().await.is_err() {
            return;
        }
        // The newest: those that came while nothing could be sent are gone.
        let frame = Arc::clone(&frames.borrow_and_update());
        waiting.push(frame.overview.clone());
        waiting.extend(model.and_then(|model| frame.closeups.get(model)).cloned());
    }
}

/// What the timeline has since `told`: a reader that missed seconds misses none of it.
fn news(office: &Office, told: &mut u64) -> Option<Bytes> {
    let events = office.events.since(*told);
    *told = events.last()?.id;
    Some(block("events", &events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn a_slow_reader_misses_seconds_and_gets_the_newest() {
        let (second, frames) = watch::channel(Arc::new(Frame::default()));
        let (parts, mut out) = mpsc::channel(1);
        let mut told = 0;
        let news = || {
            told += 1;
            (told == 2).then(|| Bytes::from_static(b"news"))
        };
        let begin = vec![Bytes::from_static(b"was"), Bytes::from_static(b"is")];
        let reader = async {
            let mut read = Vec::new();
            for _ in 0..5 {
                let part: Bytes = out.recv().await.unwrap();
                read.push(String::from_utf8(part.to_vec()).unwrap());
                // Nothing is read while three seconds pass.
                if read.len() == 2 {
                    for n in 1..=3 {
                        let closeups =
                            BTreeMap::from([("m".to_owned(), Bytes::from(format!("m{n}")))]);
                        let overview = Bytes::from(format!("all{n}"));
                        second.send_replace(Arc::new(Frame { overview, closeups }));
                    }
                }
            }
            out.close();
            read
        };
        let (read, ()) = tokio::join!(reader, async {
            tokio::select! {
                () = parts.closed() => {}
                () = tell(begin, frames, Some("m"), news, &parts) => {}
            }
        });
        assert_eq!(read, ["was", "is", "all3", "m3", "news"]);
    }

    #[test]
    fn a_model_is_looked_at_while_somebody_does() {
        let live = Live::default();
        let (one, two) = (Seat::take(&live, Some("m")), Seat::take(&live, Some("m")));
        drop(one);
        assert_eq!(live.looked_at.lock().get("m"), Some(&1));
        drop(two);
        assert!(live.looked_at.lock().is_empty());
    }
}
