//! Watching files: their directories' events, and a look every few seconds for mounts that send none.
use super::order::{Order, Orders};
use notify::{RecursiveMode, Watcher as _};
use std::collections::{BTreeSet, HashSet};
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
    let _watch = Watch::begin(&[file], events);
    loop {
        // No event within `LOOK`, or no watcher at all: look anyway.
        if timeout(LOOK, changed.recv()).await.is_ok_and(|event| event.is_some()) {
            while timeout(QUIET, changed.recv()).await.is_ok_and(|event| event.is_some()) {}
        }
        orders.give(Order::Reload { always: false }, "file", None).await;
    }
}

/// Tells of changes of files for as long as it lives.
#[derive(Debug)]
pub(super) struct Watch {
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    /// The parent directories are watched, not the files: renames and the symlink swaps of a `ConfigMap` replace them.
    /// What cannot be watched is left to those who look now and then.
    pub(super) fn begin(files: &[PathBuf], events: mpsc::Sender<()>) -> Option<Self> {
        let names: HashSet<_> =
            files.iter().filter_map(|file| file.file_name()).map(ToOwned::to_owned).collect();
        // Others write into these directories too, logs for one. A `ConfigMap` swaps the link `..data`.
        let ours = move |path: &PathBuf| {
            let name = path.file_name();
            name.is_some_and(|n| names.contains(n) || n.as_encoded_bytes().starts_with(b".."))
        };
        let notice = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(&ours)) {
                // Full: one is on its way already.
                events.try_send(()).ok();
            }
        };
        let warn = |error: notify::Error| {
            tracing::warn!(%error, "a file's directory cannot be watched; it is looked at every 5 s");
        };
        let mut watcher = notify::recommended_watcher(notice).map_err(warn).ok()?;
        let here = |parent: &Path| parent.as_os_str().is_empty();
        let parents: BTreeSet<&Path> = files
            .iter()
            .filter_map(|file| file.parent())
            .map(|parent| if here(parent) { Path::new(".") } else { parent })
            .collect();
        for parent in parents {
            watcher.watch(parent, RecursiveMode::NonRecursive).unwrap_or_else(warn);
        }
        Some(Self { _watcher: watcher })
    }
}
