//! What an exchange may ask of a connection that a session owns.
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Queued bytes above which the other side is no longer read.
const QUEUE_HIGH: usize = 256 * 1024;

/// What a read of a connection does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reading {
    /// Bytes are given to the reader, and so is the end.
    Plain,
    /// The request is whole. Bytes are kept for the next one; the end of the client's sending is given to the reader.
    Watch,
    /// The same, but the end is noted, and the read goes on: only a reset ends it.
    WatchHalf,
    /// A tunnel: bytes are given to the reader, and the end is noted.
    Tunnel,
}

/// What an exchange may ask of a connection that a session owns.
#[derive(Debug, Default)]
pub struct Reins {
    cork: AtomicBool,
    duplex: AtomicBool,
    hold: AtomicBool,
    direct: AtomicBool,
    reading: AtomicU8,
    ended: AtomicBool,
    finish: AtomicBool,
    queued: AtomicUsize,
    /// Bytes that the socket took: a write deadline looks whether this moved.
    written: AtomicUsize,
}

impl Reins {
    /// Makes `flush` wait, so that a head and what follows it leave in one write.
    pub fn cork(&self, on: bool) {
        self.cork.store(on, Relaxed);
    }

    /// Begins or ends moving bytes both ways at once: writes queue instead of blocking, and every read pushes the queue.
    pub fn duplex(&self, on: bool) {
        self.duplex.store(on, Relaxed);
        if !on {
            self.hold.store(false, Relaxed);
        }
    }

    /// Stops reads while the queue of the other side is full.
    pub fn hold(&self, on: bool) {
        self.hold.store(on, Relaxed);
    }

    /// Lets writes go to the socket at once, together with what was gathered, unless the cork is on. For bodies with a
    /// length, which pingora flushes at their end alone.
    pub fn direct(&self, on: bool) {
        self.direct.store(on, Relaxed);
    }

    pub fn read_as(&self, reading: Reading) {
        self.reading.store(reading as u8, Relaxed);
    }

    /// Closes the sending side once the queue is empty.
    pub fn finish(&self) {
        self.finish.store(true, Relaxed);
    }

    pub fn is_finishing(&self) -> bool {
        self.finish.load(Relaxed)
    }

    /// Did the peer end its sending, where that is noted?
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Makes it as it was before the exchange. That the peer ended its sending stays.
    pub fn reset(&self) {
        self.cork(false);
        self.duplex(false);
        self.direct(false);
        self.read_as(Reading::Plain);
    }

    /// Is so much queued for writing that its source must wait?
    pub fn full(&self) -> bool {
        self.queued.load(Relaxed) > QUEUE_HIGH
    }

    pub fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    pub fn written(&self) -> usize {
        self.written.load(Relaxed)
    }

    pub(super) fn reading(&self) -> Reading {
        match self.reading.load(Relaxed) {
            n if n == Reading::Watch as u8 => Reading::Watch,
            n if n == Reading::WatchHalf as u8 => Reading::WatchHalf,
            n if n == Reading::Tunnel as u8 => Reading::Tunnel,
            _ => Reading::Plain,
        }
    }

    pub(super) fn is_corked(&self) -> bool {
        self.cork.load(Relaxed)
    }

    pub(super) fn is_duplex(&self) -> bool {
        self.duplex.load(Relaxed)
    }

    pub(super) fn is_held(&self) -> bool {
        self.hold.load(Relaxed)
    }

    /// Are writes gathered until a flush?
    pub(super) fn gathers(&self) -> bool {
        !self.direct.load(Relaxed) || self.is_corked()
    }

    pub(super) fn note_end(&self) {
        self.ended.store(true, Relaxed);
    }

    pub(super) fn note_queued(&self, bytes: usize) {
        self.queued.store(bytes, Relaxed);
    }

    pub(super) fn note_written(&self, bytes: usize) {
        self.written.fetch_add(bytes, Relaxed);
    }
}
