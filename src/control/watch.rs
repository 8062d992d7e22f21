//! Watching the file: its directory's events, and a look every few seconds for mounts that send none.
use super::order::{Order, Orders};
use notify::{RecursiveMode, Watcher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Editors write in several steps: wait until it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(100);
/// How often to look without an event.
const LOOK: Duration = Duration::from_secs(5);

/// Asks for a reload whenever the file may have changed. Ends with the process.
pub(super) async fn watch(file: PathBuf, orders: Orders) {
    let (events, mut changed) = mpsc::channel(1);
    // Kept alive: dropping it ends the watch.
    let _watcher = watcher(&file, events);
    loop {
        // No event within `LOOK`, or no watcher at all: look anyway.
        if timeout(LOOK, changed.recv()).await.is_ok_and(|event| event.is_some()) {
            while timeout(QUIET, changed.recv()).await.is_ok_and(|event| event.is_some()) {}
        }
        orders.give(Order::Reload { always: false }, "file", None).await;
    }
}

/// The parent directory is watched, not the file: renames and the symlink swaps of a `ConfigMap` replace the file.
fn watcher(file: &Path, events: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let parent = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return None,
    };
    let name = file.file_name()?.to_owned();
    // Others write into this directory too, logs for one. A `ConfigMap` swaps the link `..data`.
    let ours = move |path: &PathBuf| {
        path.file_name().is_some_and(|n| n == name || n.as_encoded_bytes().starts_with(b".."))
    };
    let notice = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(&ours)) {
            // Full: one is on its way already.
            events.try_send(()).ok();
        }
    };
    let watching = notify::recommended_watcher(notice).and_then(|mut watcher| {
        watcher.watch(parent, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|error| {
            tracing::warn!(%error, "the file's directory cannot be watched; it is looked at every 5 s");
        })
        .ok()
}
