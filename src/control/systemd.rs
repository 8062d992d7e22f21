//! What systemd is told. Without it, nothing happens.
use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Another process of this unit is the main one from now on; the present main one must say so.
pub(super) fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A reload begins; [`ready`] ends it (`Type=notify-reload`).
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd cannot be told"),
    }
}

/// The watchdog's sign of life.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}
