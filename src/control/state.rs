//! What survives a restart: who is on which side of each split, and who is drained.
use crate::balance::Segments;
use crate::table::Overrides;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const FILE: &str = "state.json";
/// The layout of [`FILE`]; a newer one is not read.
const LAYOUT: u32 = 1;

/// The directory of the state, held by this process alone.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Locked while this lives.
    _lock: File,
    /// What was written last, to write only what changed.
    written: Vec<u8>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    layout: u32,
    segments: BTreeMap<String, Segments>,
    /// Model, version, replica.
    drained: Vec<(String, String, Option<String>)>,
}

/// Why the state cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state directory {0} cannot be used: {1}; set `state: {{dir: …}}` to one that can")]
    Unusable(PathBuf, io::Error),
    #[error(
        "the state directory {0} belongs to another Evener that runs; give each its own `state: {{dir: …}}`"
    )]
    Locked(PathBuf),
    #[error("the state file {0} cannot be read: {1}; move it away to start without it")]
    Broken(PathBuf, String),
}

impl StateDir {
    /// Makes the directory (mode 0700) where needed, and locks it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |error| StateError::Unusable(path.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600);
        let lock = options.open(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(unusable(error)),
        }
        Ok(Self { path: path.to_owned(), _lock: lock, written: Vec::new() })
    }

    /// What the last process left.
    pub fn load(&mut self) -> Result<Overrides, StateError> {
        let file = self.path.join(FILE);
        let broken = |why: String| StateError::Broken(file.clone(), why);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Overrides::default());
            }
            Err(error) => return Err(broken(error.to_string())),
        };
        let state: State = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        if state.layout != LAYOUT {
            return Err(broken(format!(
                "its layout is {}, this Evener knows {LAYOUT}",
                state.layout
            )));
        }
        self.written = text;
        Ok(Overrides { segments: state.segments, drained: state.drained.into_iter().collect() })
    }

    /// Writes what changed, so that a crash leaves either the old text or the new.
    pub fn save(&mut self, overrides: &Overrides) -> io::Result<()> {
        let mut drained: Vec<_> = overrides.drained.iter().cloned().collect();
        drained.sort();
        let state = State { layout: LAYOUT, segments: overrides.segments.clone(), drained };
        let text = serde_json::to_vec(&state)?;
        if text == self.written {
            return Ok(());
        }
        let fresh = self.path.join("state.json.new");
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, self.path.join(FILE))?;
        File::open(&self.path)?.sync_all()?;
        self.written = text;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mut overrides = Overrides::default();
        overrides.segments.insert("chat".into(), Segments::new(&[("v1", 0.9), ("v2", 0.1)]));
        overrides.drained.insert(("chat".into(), "v1".into(), None));
        StateDir::open(&path).unwrap().save(&overrides).unwrap();
        let loaded = StateDir::open(&path).unwrap().load().unwrap();
        assert_eq!(loaded.segments, overrides.segments);
        assert_eq!(loaded.drained, overrides.drained);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::Locked(_))));
        drop(held);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_broken_state_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = StateDir::open(dir.path()).unwrap().load().unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
    }
}
