//! What survives a restart: who is on which side of each split, who is out by an operator's hand, what canaries know, and
//! what webhooks were not told yet.
use super::kept::{Kept, KeptSplit, held, kept, kept_split, set_split};
use super::own_dir::{OwnDir, Unfit};
use crate::balance::Segments;
use crate::stats::Moment;
use crate::table::{KeptCanary, KeptWebhook, Overrides};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const FILE: &str = "state.json";
/// The next [`FILE`], while it is written.
pub(super) const FRESH: &str = "state.json.new";
/// Bytes of [`FILE`]: far more than a state has.
pub(super) const LONGEST: u64 = 64 << 20;
/// The layout of [`FILE`]; a newer one is not read. 1: drains had neither end nor reason, and ejections
/// were not kept. 3: nor were webhooks. 4: nor were splits that operators set.
const LAYOUT: u32 = 5;

/// The directory of the state, held by this process alone.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    dir: OwnDir,
    /// Locked while this lives.
    lock: File,
    /// What was written last, to write only what changed.
    written: Vec<u8>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    layout: u32,
    segments: BTreeMap<String, Segments>,
    #[serde(default)]
    drained: Vec<Kept>,
    #[serde(default)]
    ejected: Vec<Kept>,
    /// Each is read by itself: one that another version wrote must not take the rest along.
    #[serde(default)]
    canaries: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    webhooks: Vec<KeptWebhook>,
    #[serde(default)]
    splits: BTreeMap<String, KeptSplit>,
}

/// Why the state cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state directory {0} cannot be used: {1}; set `state: {{dir: …}}` to one that can")]
    Unusable(PathBuf, io::Error),
    #[error("the state directory {0} {1}")]
    Shared(PathBuf, String),
    #[error(
        "the state directory {0} belongs to another Evener that runs; give each its own `state: {{dir: …}}`"
    )]
    Locked(PathBuf),
    #[error("the state file {0} cannot be read: {1}; move it away to start without it")]
    Broken(PathBuf, String),
}

impl StateError {
    pub(super) fn of(path: &Path, unfit: Unfit) -> Self {
        match unfit {
            Unfit::Io(error) => Self::Unusable(path.to_owned(), error),
            Unfit::Shared(why) => Self::Shared(path.to_owned(), why),
        }
    }
}

impl StateDir {
    /// Makes the directory (mode 0700) where needed, and locks it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |error| StateError::Unusable(path.to_owned(), error);
        let dir = OwnDir::make(path).map_err(|unfit| StateError::of(path, unfit))?;
        let lock = dir.file("lock").map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(unusable(error)),
        }
        Ok(Self { path: path.to_owned(), dir, lock, written: Vec::new() })
    }

    /// With the lock of the process that had it before: the lock belongs to the open file, so it is never free.
    pub(super) fn adopt(path: &Path, lock: File) -> Result<Self, StateError> {
        let dir = OwnDir::make(path).map_err(|unfit| StateError::of(path, unfit))?;
        Ok(Self { path: path.to_owned(), dir, lock, written: Vec::new() })
    }

    /// For whoever takes it over.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn dir(&self) -> &OwnDir {
        &self.dir
    }

    /// Has anything been written by this process, or read?
    pub(super) fn has_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// Somebody else may have written: the next save writes whatever is there.
    pub(super) fn forget_written(&mut self) {
        self.written.clear();
    }

    /// What the last process left.
    pub fn load(&mut self, now: Moment, wall: jiff::Timestamp) -> Result<Overrides, StateError> {
        let file = self.path.join(FILE);
        let broken = |why: String| StateError::Broken(file.clone(), why);
        let read = self.dir.read(FILE, LONGEST).map_err(|error| broken(error.to_string()))?;
        let Some(text) = read else { return Ok(Overrides::default()) };
        let state: State = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        if !(1..=LAYOUT).contains(&state.layout) {
            return Err(broken(format!(
                "its layout is {}, this Evener knows 1 to {LAYOUT}",
                state.layout
            )));
        }
        self.written = text;
        let (mut canaries, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for (model, kept) in state.canaries {
            match KeptCanary::read(&kept) {
                Ok(kept) => drop(canaries.insert(model, kept)),
                Err(why) => drop(unreadable.insert(model, why)),
            }
        }
        Ok(Overrides {
            segments: state.segments,
            drained: held(state.drained, now, wall),
            ejected: held(state.ejected, now, wall),
            canaries,
            unreadable,
            webhooks: state.webhooks,
            splits: state
                .splits
                .into_iter()
                .map(|(model, kept)| (model, Arc::new(set_split(kept, now, wall))))
                .collect(),
            shares: BTreeMap::new(),
        })
    }

    /// Writes what changed, so that a crash leaves either the old text or the new.
    pub fn save(&mut self, overrides: &Overrides) -> io::Result<()> {
        let state = State {
            layout: LAYOUT,
            segments: overrides.segments.clone(),
            drained: kept(&overrides.drained),
            ejected: kept(&overrides.ejected),
            canaries: overrides
                .canaries
                .iter()
                .map(|(model, kept)| Ok((model.clone(), serde_json::to_value(kept)?)))
                .collect::<serde_json::Result<_>>()?,
            webhooks: overrides.webhooks.clone(),
            splits: overrides
                .splits
                .iter()
                .map(|(model, set)| (model.clone(), kept_split(set)))
                .collect(),
        };
        let text = serde_json::to_vec(&state)?;
        if text == self.written {
            return Ok(());
        }
        // Should the last step fail, the file is the new one already.
        self.forget_written();
        if self.dir.is_gone()? {
            // Somebody removed it: what is open leads nowhere.
            self.dir = OwnDir::make(&self.path).map_err(io::Error::other)?;
        }
        let mut replacing = Replacing { dir: &self.dir, text: &text, fresh: None };
        Replacing::STEPS.into_iter().try_for_each(|step| step(&mut replacing))?;
        self.written = text;
        Ok(())
    }
}

/// A file on its way to take the place of [`FILE`]. After each step a crash leaves the old text or the new.
struct Replacing<'a> {
    dir: &'a OwnDir,
    text: &'a [u8],
    fresh: Option<File>,
}

impl Replacing<'_> {
    const STEPS: [fn(&mut Self) -> io::Result<()>; 5] =
        [Self::create, Self::write, Self::sync, Self::publish, Self::sync_dir];

    fn create(&mut self) -> io::Result<()> {
        self.fresh = Some(self.dir.fresh(FRESH)?);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.fresh.as_mut().map_or(Ok(()), |file| file.write_all(self.text))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fresh.as_ref().map_or(Ok(()), File::sync_all)
    }

    fn publish(&mut self) -> io::Result<()> {
        self.dir.rename(FRESH, FILE)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.dir.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Ends, Hold, SetSplit};

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mut overrides = Overrides::default();
        overrides.segments.insert("chat".into(), Segments::new(&[("v1", 0.9), ("v2", 0.1)]));
        let wall: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (now, later) = (Moment::from_millis(9_000), wall + jiff::SignedDuration::from_secs(60));
        let ends = Some(Ends { at: Moment::from_millis(69_000), wall: later });
        let reason = Some("upgrade".to_owned());
        overrides.drained.0.insert(("chat".into(), "v1".into(), None), Hold::default());
        let held = ("chat".into(), "v1".into(), Some("http://a:1".into()));
        overrides.ejected.0.insert(held.clone(), Hold { ends, reason });
        let [model, event, id, body] = ["chat", "canary_began", "msg_1", "{}"].map(str::to_owned);
        overrides.webhooks.push(KeptWebhook { model, event, id, body });
        let set = SetSplit {
            shares: [("v1".to_owned(), 0.1 + 0.2), ("v2".to_owned(), 0.7)].into(),
            file: [("v1".to_owned(), 1.0)].into(),
            who: "api".to_owned(),
            since: wall,
            hold: Hold { ends, reason: None },
        };
        overrides.splits.insert("chat".into(), Arc::new(set));
        StateDir::open(&path).unwrap().save(&overrides).unwrap();
        let loaded = StateDir::open(&path).unwrap().load(now, wall).unwrap();
        assert_eq!(loaded.segments, overrides.segments);
        assert_eq!(loaded.drained, overrides.drained);
        assert_eq!(loaded.ejected, overrides.ejected);
        assert_eq!(loaded.webhooks, overrides.webhooks);
        assert_eq!(loaded.splits, overrides.splits);
        let late = wall + jiff::SignedDuration::from_hours(1);
        let loaded = StateDir::open(&path).unwrap().load(now, late).unwrap();
        assert_eq!(loaded.ejected.0[&held].ends.unwrap().at, now, "it ended while nothing ran");
    }

    #[test]
    fn a_file_of_the_first_layout_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            r#"{"layout":1,"segments":{},"drained":[["chat","v1",null],["m","v","http://a:1"]]}"#;
        fs::write(dir.path().join(FILE), text).unwrap();
        let mut state = StateDir::open(dir.path()).unwrap();
        let loaded = state.load(Moment::ZERO, jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(loaded.drained.0.len(), 2);
        assert!(loaded.drained.on("m", "v", "http://a:1").is_some());
        state.save(&loaded).unwrap();
        assert!(fs::read_to_string(dir.path().join(FILE)).unwrap().contains("\"layout\":5"));
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
    fn a_lock_that_was_passed_on_is_never_free() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let passed = File::from(first.lock().try_clone_to_owned().unwrap());
        let second = StateDir::adopt(dir.path(), passed).unwrap();
        drop(first);
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::Locked(_))));
        drop(second);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn what_another_one_wrote_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = StateDir::open(dir.path()).unwrap();
        state.save(&Overrides::default()).unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        state.forget_written();
        state.save(&Overrides::default()).unwrap();
        assert!(state.load(Moment::ZERO, crate::observe::stamp()).is_ok());
    }

    #[test]
    fn whichever_step_of_a_save_is_the_last_the_old_text_is_there_or_the_new() {
        let drained = |reason: &str| {
            let mut overrides = Overrides::default();
            let hold = Hold { ends: None, reason: Some(reason.to_owned()) };
            overrides.drained.0.insert(("chat".into(), "v1".into(), None), hold);
            overrides
        };
        let (old, new) = (drained("old"), drained(&"new".repeat(1000)));
        for died_after in 0..=Replacing::STEPS.len() {
            // Also in the middle of the write.
            for torn in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let mut state = StateDir::open(dir.path()).unwrap();
                state.save(&new).unwrap();
                let text = state.written.clone();
                state.save(&old).unwrap();
                let part = if torn { &text[..text.len() / 2] } else { &text[..] };
                let mut replacing = Replacing { dir: &state.dir, text: part, fresh: None };
                let steps = if torn { died_after.min(2) } else { died_after };
                for step in &Replacing::STEPS[..steps] {
                    step(&mut replacing).unwrap();
                }
                drop(replacing);
                drop(state);
                let mut state = StateDir::open(dir.path()).unwrap();
                let found = state.load(Moment::ZERO, crate::observe::stamp()).unwrap();
                let expected = if steps > 3 { &new } else { &old };
                assert_eq!(found.drained, expected.drained, "{died_after} {torn}");
                state.save(&new).unwrap();
                let found = state.load(Moment::ZERO, crate::observe::stamp()).unwrap();
                assert_eq!(found.drained, new.drained, "what is left over is in nobody's way");
            }
        }
    }

    #[test]
    fn a_broken_state_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = StateDir::open(dir.path())
            .unwrap()
            .load(Moment::ZERO, jiff::Timestamp::UNIX_EPOCH)
            .unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
    }
}
