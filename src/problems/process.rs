//! Evener itself: its file, its state, its logs, its webhooks, its descriptors.
use super::facts::{ExhaustedFacts, Facts, FileFacts, PanicFacts, ProcessFacts};
use super::found::{Code, Found, Severity};
use super::words::{count, lasted};
use crate::stats::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// What was lost before this is no problem of now.
const LOST: Duration = Duration::from_mins(5);
/// A panic is one for so long.
const PANICKED: Duration = Duration::from_hours(1);

fn of(code: Code, severity: Severity, rank: u8, subject: &str, sentence: String) -> Found {
    Found {
        code,
        severity,
        rank,
        subject: subject.to_owned(),
        model: None,
        sentence,
        what_to_do: String::new(),
        dated: false,
        stage: 0,
        again: String::new(),
    }
}

/// The configuration file, and that of the keys of tokens.
pub(super) fn file(file: &FileFacts, found: &mut Vec<Found>) {
    let FileFacts { path, generation, rejected, keys_fault } = file;
    if let Some(rejected) = rejected {
        found.push(if rejected.needs_restart.is_empty() {
            let errors = count(rejected.errors as u64, "error");
            let sentence =
                format!("The file on disk has {errors}; generation {generation} keeps serving");
            let what_to_do = format!("`evener check {path}` shows each");
            Found { what_to_do, ..of(Code::FileRejected, Severity::Warning, 2, path, sentence) }
        } else {
            let keys = rejected.needs_restart.join("`, `");
            let sentence = format!(
                "The file on disk changes `{keys}`, which needs a restart; nothing of it is applied"
            );
            let what_to_do = "restart Evener, or put the old value back".to_owned();
            Found { what_to_do, ..of(Code::RestartNeeded, Severity::Warning, 2, path, sentence) }
        });
    }
    if let Some(why) = keys_fault {
        let sentence = format!("The file of `jwt.keys` cannot be used ({why}); the old keys hold");
        let what_to_do = "write the file again; it is read within a second".to_owned();
        found.push(Found {
            what_to_do,
            ..of(Code::KeysRejected, Severity::Warning, 4, "jwt.keys", sentence)
        });
    }
}

/// What happens now and then, and is a problem for a while each time.
#[derive(Debug, Default)]
pub(super) struct Losses {
    lost: BTreeMap<&'static str, Count>,
    panics: BTreeMap<&'static str, Count>,
    exhausted: BTreeMap<&'static str, Count>,
}

/// A count that rises.
#[derive(Debug, Default)]
struct Count {
    now: u64,
    /// When it rose last; `None`: not for long.
    last: Option<Moment>,
    /// What it was before that.
    before: u64,
}

impl Count {
    /// Returns how many came since it was quiet for `memory`, and how long ago the last one did.
    fn look(&mut self, count: u64, memory: Duration, now: Moment) -> Option<(u64, Duration)> {
        if count > self.now {
            self.last = Some(now);
        }
        self.now = count;
        self.last = self.last.filter(|last| now.since(*last) < memory);
        let Some(last) = self.last else {
            self.before = count;
            return None;
        };
        Some((count - self.before, now.since(last)))
    }
}

impl Losses {
    pub(super) fn look(&mut self, facts: &Facts, found: &mut Vec<Found>) {
        for (what, count) in &facts.process.lost {
            let seen = self.lost.entry(what).or_default().look(*count, LOST, facts.now);
            found.extend(seen.map(|(n, ago)| lost(what, n, ago)));
        }
        for resource in &facts.process.exhausted {
            let count = self.exhausted.entry(resource.name).or_default();
            let seen = count.look(resource.count, LOST, facts.now);
            found.extend(seen.map(|(n, ago)| exhausted(resource, n, ago)));
        }
        for panic in &facts.process.panics {
            let count = self.panics.entry(panic.task).or_default();
            let seen = count.look(panic.count, PANICKED, facts.now);
            found.extend(seen.map(|(n, ago)| panicked(panic, n, ago)));
        }
    }
}

fn exhausted(resource: &ExhaustedFacts, n: u64, ago: Duration) -> Found {
    let ExhaustedFacts { name, words, remedy, .. } = resource;
    let (connections, last) = (count(n, "connection"), lasted(ago));
    let sentence =
        format!("{connections} could not be opened, because {words} (the last {last} ago)");
    Found {
        what_to_do: (*remedy).to_owned(),
        again: "Evener works again: connections are opened".to_owned(),
        ..of(Code::Exhausted, Severity::Critical, 1, name, sentence)
    }
}

fn panicked(panic: &PanicFacts, n: u64, ago: Duration) -> Found {
    let PanicFacts { task, what, .. } = panic;
    let (times, last) = (count(n, "time"), lasted(ago));
    let sentence = format!("`{task}` panicked inside Evener {times} (the last {last} ago: {what})");
    Found {
        what_to_do: "it was started again; please report it, with the log".to_owned(),
        ..of(Code::Panicked, Severity::Critical, 2, task, sentence)
    }
}

fn lost(what: &str, n: u64, ago: Duration) -> Found {
    let n = crate::canary::words::grouped(n);
    let (is, last) = (if n == "1" { "is" } else { "are" }, lasted(ago));
    let sentence = format!("{n} {what} {is} lost (the last {last} ago)");
    let what_to_do = if what.starts_with("spans") {
        "see that the collector of `telemetry.otlp` answers"
    } else {
        "see that its disk is not full, and its reader not slow"
    };
    Found {
        what_to_do: what_to_do.to_owned(),
        again: format!("No {what} were lost for {}", lasted(LOST)),
        ..of(Code::LinesLost, Severity::Warning, 4, what, sentence)
    }
}

/// The rest of the process.
pub(super) fn look(process: &ProcessFacts, found: &mut Vec<Found>) {
    if process.ends {
        let sentence = "Evener is ending: what runs is finished, nothing new is taken".to_owned();
        found.push(Found {
            what_to_do: "send requests to another Evener".to_owned(),
            ..of(Code::ShuttingDown, Severity::Notice, 0, "evener", sentence)
        });
    }
    if let Some(why) = &process.state_fault {
        let sentence =
            format!("The state cannot be written ({why}), and a restart would forget what changed");
        found.push(Found {
            what_to_do: "see that the folder of `state.dir` is there and may be written".to_owned(),
            ..of(Code::StateUnwritable, Severity::Critical, 1, "state", sentence)
        });
    }
    for webhook in &process.webhooks {
        let waiting = count(webhook.waiting as u64, "message");
        let (receiver, why) = (&webhook.receiver, &webhook.why);
        let wait = if webhook.waiting == 1 { "waits" } else { "wait" };
        let sentence = format!("{waiting} {wait} for the webhook {receiver}, which fails ({why})");
        found.push(Found {
            what_to_do: "see that it answers; messages are sent again".to_owned(),
            again: format!("The webhook {receiver} works again"),
            ..of(Code::WebhooksUndelivered, Severity::Warning, 4, receiver, sentence)
        });
    }
    if let Some((used, limit)) = process.descriptors {
        let full = used * 20 >= limit * 19;
        let (severity, rank) = if full { (Severity::Critical, 1) } else { (Severity::Warning, 3) };
        let sentence = format!("{used} of {limit} file descriptors are in use");
        found.push(Found {
            stage: u8::from(full),
            what_to_do: "raise the limit (`ulimit -n`, `LimitNOFILE`), or lower `max_connections`"
                .to_owned(),
            again: "Enough file descriptors are free again".to_owned(),
            ..of(Code::Descriptors, severity, rank, "descriptors", sentence)
        });
    }
}
