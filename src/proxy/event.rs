//! What happens next in an exchange: bytes of either side, an end, or a time that is over.
use super::downstream::Downstream;
use super::receive::{Answer, Read};
use super::timer::Timer;
use super::tunnel::Tunnel;
use crate::wire::{Reading, Reins};
use bytes::Bytes;
use pingora_error::Result;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::time::Sleep;

/// What happened next.
pub(super) enum Event {
    FromClient(Result<Option<Bytes>>),
    FromReplica(Read),
    /// A full queue has room again, or filled up; or one side of a tunnel ended its sending.
    Moved,
    Late,
    /// An event stream was silent for long.
    Beat,
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Nothing but the end of the client is waited for: it has sent its request.
    pub(super) only_watch: bool,
    /// A comment may go out.
    pub(super) beat: bool,
}

/// Waits for what happens next.
pub(super) async fn next(
    down: &mut Downstream<'_>,
    answer: &mut Answer,
    Expected { only_watch, beat: may_beat }: Expected,
    mut timer: Pin<&mut Timer>,
    mut beat: Pin<&mut Sleep>,
) -> Event {
    let upgraded = answer.is_upgraded();
    if only_watch {
        down.watch();
    } else {
        down.read_as(if upgraded { Reading::Tunnel } else { Reading::Plain });
    }
    let reins = down.reins;
    let (up, reading) = answer.listen();
    let full = set_holds(reins, up);
    let tunnel = Tunnel::of(reins, up).filter(|_| upgraded);
    // HTTP/2 has no reins to hold: its side is not read while the other's queue is full.
    let hold_upstream = full.0 && up.is_none();
    let hold_client = full.1 && reins.is_none();
    let mut reading = pin!(reading);
    let mut client = pin!(down.session.read_body_or_idle(only_watch));
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
                && let Poll::Ready(read) = reading.as_mut().poll(cx)
            {
                return Poll::Ready(Event::FromReplica(read));
            }
        }
        // Asked after both were polled: reads push the queues.
        if fullness(reins, up) != full || tunnel.is_some_and(Tunnel::moved) {
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

/// Lets neither side read on while the other's queue is full. Returns whether the client's is, and the replica's.
fn set_holds(down: Option<&Arc<Reins>>, up: Option<&Arc<Reins>>) -> (bool, bool) {
    let full = fullness(down, up);
    for (reins, hold) in [(up, full.0), (down, full.1)] {
        if let Some(reins) = reins {
            reins.hold(hold);
        }
    }
    full
}

/// Is the client's queue full, and the replica's?
fn fullness(down: Option<&Arc<Reins>>, up: Option<&Arc<Reins>>) -> (bool, bool) {
    let full = |reins: Option<&Arc<Reins>>| reins.is_some_and(|reins| reins.full());
    (full(down), full(up))
}
