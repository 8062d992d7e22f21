//! What happens next in an exchange: bytes of either side, an end, or a time that is over.
use super::exchange::Exchange;
use super::progress::{Progress, fullness};
use super::timer::Timer;
use super::tunnel::Tunnel;
use crate::wire::Reading;
use bytes::Bytes;
use pingora_core::protocols::http::client::HttpSession as Upstream;
use pingora_error::Result;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use tokio::time::Sleep;

/// What happened next.
pub(super) enum Event {
    FromClient(Result<Option<Bytes>>),
    Head(Result<()>),
    Chunk(Result<Option<Bytes>>),
    /// A full queue has room again, or filled up; or one side of a tunnel ended its sending.
    Moved,
    Late,
    /// An event stream was silent for long.
    Beat,
}

impl Exchange<'_> {
    /// Waits for what happens next.
    pub(super) async fn next(
        &mut self,
        upstream: &mut Upstream,
        at: &Progress<'_>,
        mut timer: Pin<&mut Timer>,
        mut beat: Pin<&mut Sleep>,
    ) -> Event {
        let full = self.set_holds(at);
        let (down, up) = (self.reins, at.upstream_reins);
        let tunnel = Tunnel::of(down, up).filter(|_| at.upgraded);
        // HTTP/2 has no reins to hold: its side is not read while the other's queue is full.
        let hold_upstream = full.0 && up.is_none();
        let hold_client = full.1 && down.is_none();
        let only_watch = at.client_done() && !at.upgraded;
        if only_watch {
            self.watch_client();
        } else if let Some(reins) = down {
            reins.read_as(if at.upgraded { Reading::Tunnel } else { Reading::Plain });
        }
        let headed = at.headed;
        let reading = async {
            if headed {
                Event::Chunk(upstream.read_response_body().await)
            } else {
                Event::Head(upstream.read_response_header().await)
            }
        };
        let mut reading = pin!(reading);
        let may_beat = at.may_beat(self.is_between_events());
        let mut client = pin!(self.session.read_body_or_idle(only_watch));
        poll_fn(|cx| {
            // That a client left is seen before an answer that came meanwhile: it is not sent to somebody who is gone.
            for watched in [true, false] {
                if watched == only_watch
                    && !hold_client
                    && let Poll::Ready(read) = client.as_mut().poll(cx)
                {
                    return Poll::Ready(Event::FromClient(read));
                }
                if watched
                    && !hold_upstream
                    && let Poll::Ready(event) = reading.as_mut().poll(cx)
                {
                    return Poll::Ready(event);
                }
            }
            // Asked after both were polled: reads push the queues.
            if fullness(down, up) != full || tunnel.is_some_and(Tunnel::moved) {
                return Poll::Ready(Event::Moved);
            }
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Late);
            }
            if may_beat && beat.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Beat);
            }
            Poll::Pending
        })
        .await
    }

    /// From here on a read of the client tells only that it left. One that ended its sending has left, unless the
    /// listener says `half_close`.
    pub(super) fn watch_client(&self) {
        if let Some(reins) = self.reins {
            let half = self.listener.client.half_close;
            reins.read_as(if half { Reading::WatchHalf } else { Reading::Watch });
        }
    }

    /// Lets neither side read on while the other's queue is full.
    fn set_holds(&self, at: &Progress<'_>) -> (bool, bool) {
        let full = fullness(self.reins, at.upstream_reins);
        for (reins, hold) in [(at.upstream_reins, full.0), (self.reins, full.1)] {
            if let Some(reins) = reins {
                reins.hold(hold);
            }
        }
        full
    }
}
