//! What may be asked of the one writer, and what it answers.
use crate::canary::Command;
use crate::dialect::nearest;
use crate::observe::stamp;
use crate::stats::Moment;
use crate::table::{Ends, Hold, Shares};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A replica, or a whole version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub model: String,
    pub version: String,
    /// The replica's URL; `None`: all of the version.
    pub replica: Option<String>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.model, self.version)?;
        self.replica.iter().try_for_each(|url| write!(f, "/{url}"))
    }
}

/// What an operator may say to a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryVerb {
    Start,
    Say(Command),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Read the file again. `always`: even when its text is the one that was read last.
    Reload { always: bool },
    /// Do this with these replicas. `lasts`: a drain or an ejection ends by itself after so long.
    Replicas { target: Target, act: Act, lasts: Option<Duration> },
    /// Say this to a model's canary.
    Canary { model: String, verb: CanaryVerb },
    /// Divide a model's requests so instead of as the file says; it ends by itself after so long. `shares`: `None`
    /// takes that back.
    Split { model: String, shares: Option<Shares>, lasts: Option<Duration> },
    /// End: readiness fails first, then what runs finishes, within `drain` or the file's own limit.
    Stop { drain: Option<Duration> },
    /// Open the logs anew.
    ReopenLogs,
}

/// What can be done with replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// No new exchanges; those that run finish.
    Drain,
    /// New exchanges again.
    Undrain,
    /// Out as if it had failed: it must prove itself before it serves again.
    Eject,
    /// The end of any ejection, at once.
    Restore,
    /// A health check now.
    Probe,
}

impl Act {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Eject => "eject",
            Self::Restore => "restore",
            Self::Probe => "probe",
        }
    }

    /// May it end by itself?
    pub const fn may_end(self) -> bool {
        matches!(self, Self::Drain | Self::Eject)
    }
}

/// How long what is ordered at `now` holds, and why.
pub(super) fn hold(lasts: Option<Duration>, reason: Option<&str>, now: Moment) -> Hold {
    let wall = |lasts| stamp().saturating_add(lasts).unwrap_or(jiff::Timestamp::MAX);
    let ends = lasts.map(|lasts| Ends { at: now + lasts, wall: wall(lasts) });
    Hold { ends, reason: reason.map(str::to_owned) }
}

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// With what changed, a sentence fragment each.
    Applied {
        generation: u64,
        changes: Vec<String>,
    },
    Unchanged,
    /// The diagnostics, rendered, and as the API shows them.
    Rejected {
        text: String,
        diagnostics: serde_json::Value,
    },
}

/// The answer to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Reloaded(Reload),
    /// There is no such model, version or replica; the sentence names those that exist.
    Unknown(String),
    /// It cannot be done, and why.
    Failed(String),
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unable {
    /// What it names does not exist.
    Unknown(String),
    Impossible(String),
}

pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let near = nearest(name, names.clone());
    if near.is_empty() {
        let all: Vec<_> = names.take(20).collect();
        format!("there is no {what} `{name}`; there is `{}`", all.join("`, `"))
    } else {
        format!("there is no {what} `{name}`; did you mean `{}`?", near.join("` or `"))
    }
}

/// An order, who gave it and why, and where the answer goes.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) order: Order,
    pub(super) who: String,
    pub(super) reason: Option<String>,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Where orders are handed in.
#[derive(Clone, Debug)]
pub struct Orders {
    inbox: mpsc::Sender<Letter>,
}

impl Orders {
    pub(super) fn new() -> (Self, mpsc::Receiver<Letter>) {
        let (inbox, letters) = mpsc::channel(64);
        (Self { inbox }, letters)
    }

    /// Orders that a function answers at once: for tests, which have no writer. Needs a tokio runtime.
    pub fn answered(
        mut answer: impl FnMut(&Order, Option<&str>) -> Answer + Send + 'static,
    ) -> Self {
        let (orders, mut letters) = Self::new();
        tokio::spawn(async move {
            while let Some(letter) = letters.recv().await {
                // Whoever asked may be gone.
                letter.reply.send(answer(&letter.order, letter.reason.as_deref())).ok();
            }
        });
        orders
    }

    /// Hands in an order and waits for its answer. `who`: `api`, `signal`, `file`.
    pub async fn give(&self, order: Order, who: &str, reason: Option<String>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let letter = Letter { order, who: who.to_owned(), reason, reply };
        if self.inbox.send(letter).await.is_err() {
            return Answer::Failed("Evener is ending".to_owned());
        }
        answer.await.unwrap_or_else(|_| {
            let why = "Evener dropped the order: it is ending, or failed inside (its log says so)";
            Answer::Failed(why.to_owned())
        })
    }
}
