//! Watching the files of certificates: what is good in them is used at once, without a reload of the configuration.
use super::started::Started;
use super::watch::Watch;
use crate::observe::{Events, Level, Task};
use crate::table::Plan;
use crate::tls::Look;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Two files of one certificate are written one after the other: wait until it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(100);
/// How often to look without an event.
const LOOK: Duration = Duration::from_secs(5);
/// How soon to look again at what may be half of a change.
const AGAIN: Duration = Duration::from_millis(500);

/// A task that follows the files for as long as this lives.
#[derive(Debug)]
pub(super) struct Certificates {
    poked: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Certificates {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Certificates {
    pub(super) fn follow(started: &Started) -> Self {
        let poked = Arc::new(Notify::new());
        let (started, poke) = (started.clone(), Arc::clone(&poked));
        let following =
            Task::Certificates.keep_running(move || run(started.clone(), Arc::clone(&poke)));
        Self { poked, task: tokio::spawn(following).abort_handle() }
    }

    /// Looks now: the plan may be another, or somebody asks.
    pub(super) fn look(&self) {
        self.poked.notify_one();
    }
}

async fn run(started: Started, poked: Arc<Notify>) {
    let (events, mut changed) = mpsc::channel(1);
    let mut watched = (Vec::new(), None);
    loop {
        let plan = Arc::clone(&started.proxy.current.load().plan);
        let files = files(&plan);
        let none = files.is_empty();
        if watched.0 != files {
            let watch = Watch::begin(&files, events.clone());
            watched = (files, watch);
        }
        let settled = none || look(plan, Arc::clone(&started.events)).await;
        let wait = if settled { LOOK } else { AGAIN };
        tokio::select! {
            event = timeout(wait, changed.recv()) => {
                if event.is_ok() {
                    while timeout(QUIET, changed.recv()).await.is_ok() {}
                }
            }
            () = poked.notified() => {}
        }
    }
}

fn files(plan: &Plan) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (_, tls) in plan.server_tls() {
        for each in tls.files() {
            files.extend([each.cert.clone(), each.key.clone()]);
            files.extend(each.client_ca.clone());
        }
    }
    for (.., tls) in plan.client_tls() {
        let settings = tls.settings();
        files.extend(settings.ca.clone());
        files.extend(settings.identity.clone().into_iter().flat_map(|(cert, key)| [cert, key]));
    }
    files
}

/// Reads all files again, apart from those who serve. Returns whether nothing is left to look at soon.
async fn look(plan: Arc<Plan>, events: Arc<Events>) -> bool {
    let look = move || {
        let mut settled = true;
        for (listener, tls) in plan.server_tls() {
            for look in tls.look() {
                settled &= tell(&events, &format!("listener `{listener}`"), look);
            }
        }
        for (model, version, tls) in plan.client_tls() {
            settled &= tell(&events, &format!("version `{model}/{version}`"), tls.look());
        }
        settled
    };
    // After a panic, which the log tells, what is in use stays.
    let looking = tokio::task::spawn_blocking(move || Task::Certificates.run(look));
    looking.await.unwrap_or(true)
}

fn tell(events: &Events, owner: &str, look: Look) -> bool {
    let (level, message) = match look {
        Look::Same => return true,
        Look::Unsettled => return false,
        Look::Renewed(name) => (Level::Info, format!("{owner} uses the new files of `{name}`")),
        Look::Kept(why) => {
            let message = format!(
                "{owner} keeps its old certificate, because the new files are of no use: {why}"
            );
            (Level::Warning, message)
        }
    };
    events.tell(level, "certificate", message, "file", None);
    true
}
