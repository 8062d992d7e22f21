//! The timeline: reloads, standings, operators, with who and why.
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use tokio::sync::broadcast;

/// Events kept for those who ask later.
const KEPT: usize = 1000;

/// How bad an event is. The log has the same level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    /// Somebody should look.
    Warning,
    /// Requests fail, or will.
    Error,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Counts from 1 in this process.
    pub id: u64,
    pub at: jiff::Timestamp,
    pub level: Level,
    /// `reload`, `standing`, `ejection`, `drain`, `test`, `listener`, `shutdown`, `handover`, `state`, `webhook`,
    /// `certificate`, `problem` and `recovery` (of the list of problems), and what canaries say (`canary_…`).
    pub kind: &'static str,
    /// One English sentence.
    pub message: String,
    /// `file`, `signal`, `api`, `probe`, `evener`.
    pub who: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The recent events, and a feed of those to come.
#[derive(Debug)]
pub struct Events {
    recent: Mutex<VecDeque<Event>>,
    feed: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { recent: Mutex::default(), feed: broadcast::channel(256).0 }
    }
}

impl Events {
    /// Tells of what is no trouble.
    pub fn announce(&self, kind: &'static str, message: String, who: &str, reason: Option<&str>) {
        self.tell(Level::Info, kind, message, who, reason);
    }

    /// Puts it on the timeline and into the log.
    pub fn tell(
        &self,
        level: Level,
        kind: &'static str,
        message: String,
        who: &str,
        reason: Option<&str>,
    ) {
        match level {
            Level::Info => tracing::info!(kind, who, reason, "{message}"),
            Level::Warning => tracing::warn!(kind, who, reason, "{message}"),
            Level::Error => tracing::error!(kind, who, reason, "{message}"),
        }
        let mut recent = self.recent.lock();
        let id = recent.back().map_or(1, |last| last.id + 1);
        let (who, reason) = (who.to_owned(), reason.map(str::to_owned));
        let event = Event { id, at: super::stamp(), level, kind, message, who, reason };
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        drop(recent);
        // Nobody listens: that is no error.
        self.feed.send(event).ok();
    }

    /// Oldest first.
    pub fn recent(&self) -> Vec<Event> {
        self.recent.lock().iter().cloned().collect()
    }

    /// Those after this id, oldest first.
    pub fn since(&self, id: u64) -> Vec<Event> {
        let recent = self.recent.lock();
        recent.range(recent.partition_point(|event| event.id <= id)..).cloned().collect()
    }

    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.feed.subscribe()
    }
}
