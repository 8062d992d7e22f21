//! Whom an exchange waits for, and whether what happens begins that wait anew.

/// Whom an exchange waits for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client, to send its body.
    Upload,
    /// The replica, to take a body that is here.
    Feed,
    /// The replica, for the first byte of its answer.
    Wait,
    /// The replica, for the next chunk.
    Answer,
    /// The client, to take what is queued.
    ClientFull,
    /// Either, in a call that lasts as long as both like.
    Conversation,
    /// Either, after both left HTTP.
    Tunnel,
}

/// What decides about the phase.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Stand {
    pub(super) upgraded: bool,
    /// The client takes less than is written to it.
    pub(super) client_full: bool,
    /// Both talk for as long as they like.
    pub(super) converses: bool,
    /// The replica has the whole request.
    pub(super) sent: bool,
    /// The whole request is here, and a part of it is left to send.
    pub(super) feeds: bool,
    /// A piece of the answer's body came.
    pub(super) answered: bool,
}

impl Stand {
    pub(super) fn phase(self) -> Phase {
        let client_done = self.sent || self.feeds;
        if self.upgraded {
            Phase::Tunnel
        } else if self.client_full {
            Phase::ClientFull
        } else if self.converses && !client_done {
            Phase::Conversation
        } else if self.answered {
            Phase::Answer
        } else if self.feeds {
            Phase::Feed
        } else if self.sent {
            Phase::Wait
        } else {
            Phase::Upload
        }
    }
}

impl Phase {
    /// Does anything that happens begin its limit anew?
    pub(super) const fn renews(self) -> bool {
        match self {
            Self::Upload | Self::Feed | Self::Answer | Self::Conversation | Self::Tunnel => true,
            Self::Wait | Self::ClientFull => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_is_waited_for_at_a_time() {
        let none = Stand::default();
        let sent = Stand { sent: true, ..none };
        let feeds = Stand { feeds: true, ..none };
        let full = |stand| Stand { client_full: true, ..stand };
        let talks = |stand| Stand { converses: true, ..stand };
        let answered = |stand| Stand { answered: true, ..stand };
        for (stand, phase) in [
            (none, Phase::Upload),
            (feeds, Phase::Feed),
            (sent, Phase::Wait),
            (answered(sent), Phase::Answer),
            // It answers early, and is waited for although the client still sends.
            (answered(none), Phase::Answer),
            (answered(feeds), Phase::Answer),
            (full(answered(sent)), Phase::ClientFull),
            (talks(none), Phase::Conversation),
            (talks(answered(none)), Phase::Conversation),
            // Its client has said all: a call like any other.
            (talks(sent), Phase::Wait),
            (talks(answered(sent)), Phase::Answer),
            (full(talks(none)), Phase::ClientFull),
            (full(talks(Stand { upgraded: true, ..none })), Phase::Tunnel),
        ] {
            assert_eq!(stand.phase(), phase, "{stand:?}");
        }
    }
}
