//! Takes empty DATA frames out of what a peer says over HTTP/2.
//!
//! Servers that relay a stream often end it with a frame that holds nothing and does not end it. The h2 crate takes
//! more than 100 of them in the life of a connection for an attack (CVE-2019-9518) and closes it under all its streams.
//! They mean nothing, so it does not see them; an attacker's cost us less than any other bytes.

/// A frame's length, kind, flags and stream (RFC 9113 §4.1).
pub(super) const HEAD: usize = 9;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
/// SETTINGS in the life of a connection. Each is answered, so that a flood of them is work for nothing (CVE-2019-9515);
/// the h2 crate knows no limit. Clients that follow the bandwidth send some dozens.
const MAX_SETTINGS: u32 = 10_000;

/// Where in its frames a peer is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that pass before the next frame begins.
    passing: usize,
    /// The beginning of a frame that ended with what was read; held back until it is known whether it passes.
    head: [u8; HEAD],
    held: usize,
    settings: u32,
}

/// The peer sends SETTINGS without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a flood of SETTINGS")]
pub(super) struct SettingsFlood;

impl Frames {
    /// Of a peer that says so many bytes before its first frame.
    pub(super) fn after(preface: usize) -> Self {
        Self { passing: preface, head: [0; HEAD], held: 0, settings: 0 }
    }

    pub(super) fn held(&self) -> &[u8] {
        &self.head[..self.held]
    }

    pub(super) fn is_flood(&self) -> bool {
        self.settings > MAX_SETTINGS
    }

    /// Gives up what was held back.
    pub(super) fn forget(&mut self) {
        self.held = 0;
    }

    /// Moves what passes to the front, and returns how long it is. What was held back must come first in `bytes`, and
    /// the beginning of a head that is cut off at its end is held back anew.
    pub(super) fn sift(&mut self, bytes: &mut [u8]) -> usize {
        self.held = 0;
        let (mut kept, mut at) = (0, 0);
        while at < bytes.len() {
            if self.passing == 0 {
                let Some(head) = bytes[at..].first_chunk::<HEAD>() else {
                    self.held = bytes.len() - at;
                    self.head[..self.held].copy_from_slice(&bytes[at..]);
                    break;
                };
                if is_empty_data(head) {
                    at += HEAD;
                    continue;
                }
                self.settings += u32::from(head[3] == SETTINGS && head[4] & ACK == 0);
                self.passing = HEAD + length(head);
            }
            let n = self.passing.min(bytes.len() - at);
            if kept < at {
                bytes.copy_within(at..at + n, kept);
            }
            self.passing -= n;
            (kept, at) = (kept + n, at + n);
        }
        kept
    }
}

fn length(head: &[u8; HEAD]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

fn is_empty_data(head: &[u8; HEAD]) -> bool {
    // That a DATA frame of stream 0 is an error is the protocol's to say.
    let stream = [head[5] & 0x7f, head[6], head[7], head[8]];
    length(head) == 0 && head[3] == DATA && head[4] & END_STREAM == 0 && stream != [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let n = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&n[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// What passes when the bytes come in such pieces.
    fn sifted(frames: &mut Frames, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut passed = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut read = [frames.held(), piece].concat();
            let n = frames.sift(&mut read);
            passed.extend_from_slice(&read[..n]);
        }
        passed
    }

    #[test]
    fn only_what_means_nothing_is_taken_out() {
        let all = [
            (frame(0, 0, 1, b"hello"), true),
            (frame(0, 0, 1, b""), false),
            (frame(0, 0, 3, b""), false),
            (frame(0, END_STREAM, 1, b""), true),
            (frame(0, 0, 0, b""), true),
            (frame(4, 0, 0, b""), true),
            (frame(0, 8, 1, b"\x00"), true),
            (frame(0, 0, 1, &[0; 300]), true),
        ];
        let said: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let wanted = all.iter().filter(|(_, passes)| *passes).flat_map(|(bytes, _)| bytes.clone());
        let wanted: Vec<u8> = wanted.collect();
        for piece in 1..said.len() {
            assert_eq!(sifted(&mut Frames::after(0), &said, piece), wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_a_client_says_first_passes() {
        let said = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(0, 0, 1, b"")].concat();
        for piece in 1..said.len() {
            assert_eq!(sifted(&mut Frames::after(24), &said, piece), said[..24]);
        }
    }

    #[test]
    fn settings_without_end_are_a_flood() {
        let mut frames = Frames::after(0);
        let asked = frame(SETTINGS, 0, 0, b"").repeat(1000);
        let acked = frame(SETTINGS, ACK, 0, b"").repeat(20_000);
        sifted(&mut frames, &acked, 1000);
        for _ in 0..10 {
            sifted(&mut frames, &asked, 1000);
        }
        assert!(!frames.is_flood());
        sifted(&mut frames, &frame(SETTINGS, 0, 0, b""), 5);
        assert!(frames.is_flood());
    }

    proptest! {
        #[test]
        fn nothing_else_is_lost_or_moved(
            frames in proptest::collection::vec((0_u8..4, 0_u8..2, 0_usize..40), 0..30),
            piece in 1_usize..100,
        ) {
            let passes = |&(kind, flags, n): &(u8, u8, usize)| kind != 0 || flags != 0 || n > 0;
            let bytes = |&(kind, flags, n): &(u8, u8, usize)| frame(kind, flags, 5, &vec![7; n]);
            let said: Vec<u8> = frames.iter().flat_map(bytes).collect();
            let wanted: Vec<u8> = frames.iter().filter(|f| passes(f)).flat_map(bytes).collect();
            let mut state = Frames::after(0);
            prop_assert_eq!(sifted(&mut state, &said, piece), wanted);
            prop_assert!(state.held().is_empty());
        }
    }
}
