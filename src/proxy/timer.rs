//! The limits of an exchange: one on the present phase, one on the whole.
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A century, less or more.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 100);

pin_project_lite::pin_project! {
    /// Ready when either limit is over.
    pub(super) struct Timer {
        #[pin]
        sleep: Sleep,
        total: Instant,
    }
}

impl Timer {
    /// `total`: of the whole, where that has a limit.
    pub(super) fn new(phase: Duration, total: Option<Duration>) -> Self {
        let now = now();
        let total = now + total.unwrap_or(FOREVER);
        Self { sleep: sleep_until(total.min(now + phase)), total }
    }

    /// Begins a phase of this length.
    pub(super) fn restart(self: Pin<&mut Self>, phase: Duration) {
        let me = self.project();
        me.sleep.reset((*me.total).min(now() + phase));
    }

    /// The whole may last as long as it likes: a tunnel has only its idle limit.
    pub(super) fn lift_total(self: Pin<&mut Self>) {
        let me = self.project();
        *me.total = now() + FOREVER;
    }

    pub(super) fn total_is_over(&self) -> bool {
        self.sleep.deadline() >= self.total
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().sleep.poll(cx)
    }
}

/// When a pause that begins now ends.
pub(super) fn after(pause: Option<Duration>) -> Instant {
    now() + pause.unwrap_or(FOREVER)
}

#[expect(clippy::disallowed_methods, reason = "tokio's timer wheel counts in its own instants")]
fn now() -> Instant {
    Instant::now()
}
