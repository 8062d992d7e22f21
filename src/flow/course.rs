//! The course of a request: what became of it, folded from what happened to it. The log line, the metrics, the span, the
//! decision and the canary's sample all read this, and nobody else writes a status.
//!
//! It is folded at once and not kept as a list: so a stream of a million pieces takes no more memory than one of two.
use crate::dialect::RefusalCode;
use crate::fleet::{Replica, VersionState};
use crate::health::Class;
use crate::stats::Moment;
use crate::table::Version;
use std::sync::Arc;
use std::time::Duration;

/// What happened to a request.
#[derive(Debug)]
pub enum Happened<'a> {
    /// Bytes of its body came.
    Read(u64),
    /// Client and replica talk as long as both like: the time it takes says nothing of speed.
    Converses(bool),
    /// This version is to serve it. `fail_open`: by a replica that is out of service.
    Assigned { version: &'a Version, fail_open: bool },
    /// A replica is asked.
    Asked { replica: &'a Arc<Replica>, at: Moment },
    /// The request leaves: from now on the replica may work on it.
    Sent,
    /// Of two that raced, the attempt that began then goes on.
    Won { replica: &'a Arc<Replica>, began: Moment },
    /// Of two that raced, this one ended first or gave way.
    Lost(PastAttempt),
    /// The head of an answer, or the end of a call, told this code.
    Told { code: u16 },
    /// The answer comes piece by piece.
    Streams(bool),
    /// Both sides left HTTP.
    Tunnels,
    /// The first byte of the answer came.
    FirstByte(Moment),
    /// A piece of the answer came that means something: no comment.
    Spoke,
    /// Bytes of the answer went to the client.
    Passed(u64),
    /// The attempt ended. `code`: of one that broke.
    Ended { class: Class, code: Option<u16> },
    /// The replica that was asked did not work on it.
    Spared,
    /// Another attempt follows the one that ended.
    Repeats(Moment),
    /// Evener answers itself, and no replica is asked.
    Answers { code: u16, class: Class },
    /// Evener answers with an error. `class`: of the replica that failed, in whose stead it does.
    Refused { error: RefusalCode, class: Option<Class> },
    /// The answer broke off, and its client was told why. `code`: of a call, which ends with a status.
    Broke { error: RefusalCode, code: Option<u16> },
}

/// An attempt that is over, as the log tells of it.
#[derive(Clone, Debug)]
pub struct PastAttempt {
    pub replica: Arc<Replica>,
    pub version: Arc<str>,
    pub began: Moment,
    pub took: Duration,
    pub class: Class,
    pub code: u16,
}

/// What became of a request so far. Until it is known better, its client left.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Course {
    version: Option<(Arc<str>, Arc<VersionState>)>,
    replica: Option<Arc<Replica>>,
    code: u16,
    class: Class,
    error: Option<RefusalCode>,
    attempts: u32,
    asked_at: Option<Moment>,
    past: Vec<PastAttempt>,
    bytes_in: u64,
    bytes_out: u64,
    first_byte: Option<Moment>,
    spoke: bool,
    streams: bool,
    tunnels: bool,
    converses: bool,
    fail_open: bool,
    worked: bool,
    /// Before the attempt under way.
    had_worked: bool,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            version: None,
            replica: None,
            code: LEFT,
            class: Class::Cancelled,
            error: None,
            attempts: 0,
            asked_at: None,
            past: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            first_byte: None,
            spoke: false,
            streams: false,
            tunnels: false,
            converses: false,
            fail_open: false,
            worked: false,
            had_worked: false,
        }
    }
}

/// nginx's code for a client that did not wait.
const LEFT: u16 = 499;

impl Course {
    pub fn note(&mut self, happened: Happened<'_>) {
        match happened {
            Happened::Read(bytes) => self.bytes_in += bytes,
            Happened::Converses(converses) => self.converses = converses,
            Happened::Assigned { version, fail_open } => {
                self.version = Some((Arc::clone(&version.name), Arc::clone(&version.state)));
                self.fail_open = fail_open;
                self.had_worked = self.worked;
            }
            Happened::Asked { replica, at } => {
                self.attempts += 1;
                (self.replica, self.asked_at) = (Some(Arc::clone(replica)), Some(at));
            }
            Happened::Sent => self.worked = true,
            Happened::Won { replica, began } => {
                (self.replica, self.asked_at) = (Some(Arc::clone(replica)), Some(began));
            }
            Happened::Lost(attempt) => self.past.push(attempt),
            Happened::Told { code } => self.code = code,
            Happened::Streams(streams) => self.streams = streams,
            Happened::Tunnels => self.tunnels = true,
            Happened::FirstByte(at) => self.first_byte = Some(at),
            Happened::Spoke => self.spoke = true,
            Happened::Passed(bytes) => self.bytes_out += bytes,
            Happened::Ended { class, code } => {
                self.class = class;
                self.code = code.unwrap_or(self.code);
            }
            Happened::Spared => self.worked = self.had_worked,
            Happened::Repeats(now) => {
                let ended = self.last_attempt(now);
                self.past.extend(ended);
                self.asked_at = None;
                // Until the next one is asked, the client may leave.
                (self.code, self.class) = (LEFT, Class::Cancelled);
            }
            Happened::Answers { code, class } => (self.code, self.class) = (code, class),
            Happened::Refused { error, class } => {
                (self.code, self.class) = (error.status(), class.unwrap_or(Class::Refused));
                self.error = Some(error);
            }
            Happened::Broke { error, code } => {
                self.error = Some(error);
                self.code = code.unwrap_or(self.code);
            }
        }
    }

    /// The attempt that is under way or was the last.
    pub fn last_attempt(&self, now: Moment) -> Option<PastAttempt> {
        let began = self.asked_at?;
        Some(PastAttempt {
            replica: self.replica.clone()?,
            version: self.version.as_ref().map(|(name, _)| Arc::clone(name))?,
            began,
            took: now.since(began),
            class: self.class,
            code: self.code,
        })
    }

    /// The version that was asked, or would have been: its name and its state.
    pub const fn version(&self) -> Option<&(Arc<str>, Arc<VersionState>)> {
        self.version.as_ref()
    }

    pub const fn replica(&self) -> Option<&Arc<Replica>> {
        self.replica.as_ref()
    }

    /// The status that the client saw, or 499; how a call of gRPC ended, as its `code`.
    pub const fn code(&self) -> u16 {
        self.code
    }

    pub const fn class(&self) -> Class {
        self.class
    }

    /// What Evener refused it for.
    pub const fn error(&self) -> Option<RefusalCode> {
        self.error
    }

    /// Did it end as its client may have wished?
    pub const fn went_well(&self) -> bool {
        matches!(self.class, Class::Success | Class::ClientError)
    }

    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When the attempt began that is under way, or was the last.
    pub const fn asked_at(&self) -> Option<Moment> {
        self.asked_at
    }

    /// The attempts before the last.
    pub fn past(&self) -> &[PastAttempt] {
        &self.past
    }

    pub const fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    pub const fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Of both directions.
    pub const fn bytes(&self) -> u64 {
        self.bytes_in + self.bytes_out
    }

    pub const fn first_byte(&self) -> Option<Moment> {
        self.first_byte
    }

    /// An event of a stream came whole, or a byte of another answer: not comments alone, which only say that somebody
    /// lives.
    pub const fn spoke(&self) -> bool {
        self.spoke
    }

    pub const fn streams(&self) -> bool {
        self.streams
    }

    pub const fn tunnels(&self) -> bool {
        self.tunnels
    }

    pub const fn converses(&self) -> bool {
        self.converses
    }

    pub const fn fail_open(&self) -> bool {
        self.fail_open
    }

    /// A replica has the request, or had it when it ended: it may have worked on it.
    pub const fn worked(&self) -> bool {
        self.worked
    }
}

#[cfg(test)]
mod tests;
