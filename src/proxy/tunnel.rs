//! The two connections of a tunnel, after client and replica left HTTP: an end of sending passes on, and the other
//! direction goes on until it ends too.
use crate::wire::{Reading, Reins};
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel<'a> {
    client: &'a Reins,
    replica: &'a Reins,
}

impl<'a> Tunnel<'a> {
    /// Between connections of HTTP/1; HTTP/2 has no tunnels here.
    pub(super) fn of(
        client: Option<&'a Arc<Reins>>,
        replica: Option<&'a Arc<Reins>>,
    ) -> Option<Self> {
        Some(Self { client: client?, replica: replica? })
    }

    /// From here on both directions move bytes as they come, and note their ends.
    pub(super) fn begin(self) {
        for reins in [self.client, self.replica] {
            reins.read_as(Reading::Tunnel);
            reins.duplex(true);
        }
    }

    /// Is there an end to pass on, or is all over?
    pub(super) fn moved(self) -> bool {
        (self.client.has_ended() && !self.replica.is_finishing())
            || (self.replica.has_ended() && !self.client.is_finishing())
            || self.is_over()
    }

    /// Passes on the ends that came. Bytes that are queued go first.
    pub(super) fn pass_ends(self) {
        for (from, to) in [(self.client, self.replica), (self.replica, self.client)] {
            if from.has_ended() {
                to.finish();
            }
        }
    }

    /// Did both sides end, and has the replica all that the client sent? What is left for the client is written when
    /// its connection closes.
    pub(super) fn is_over(self) -> bool {
        self.client.has_ended() && self.replica.has_ended() && self.replica.queued() == 0
    }

    /// Did the client end its sending? That its connection breaks later is the end and no failure.
    pub(super) fn client_ended(self) -> bool {
        self.client.has_ended()
    }
}
