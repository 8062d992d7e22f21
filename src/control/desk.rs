//! What is known of the configuration file: the running text, the last attempt, the history.
use crate::config::unified;
use crate::observe::ReloadResult;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Attempts remembered.
const HISTORY: usize = 50;

/// One attempt to load the file.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub at: jiff::Timestamp,
    pub result: ReloadResult,
    /// The generation in force afterwards.
    pub generation: u64,
    pub hash: String,
    /// Who asked: `file`, `signal`, `api`.
    pub who: String,
    pub changes: Vec<String>,
    /// Why it was rejected.
    pub rejected: Option<Rejected>,
}

/// Diagnostics of a rejected file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rejected {
    /// As `evener check` prints them.
    pub text: String,
    /// An array, as the API shows them.
    pub diagnostics: serde_json::Value,
}

/// How the file on disk stands to the one that serves, as the last attempt found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDisk {
    Same,
    /// As `diff -u` has it, secrets masked. Empty: they differ in nothing that is shown.
    Differs(String),
    /// It is empty or cannot be read.
    Nothing,
}

#[derive(Debug)]
struct Papers {
    hash: String,
    loaded_at: jiff::Timestamp,
    /// What serves, as it is written, secrets masked.
    text: String,
    on_disk: OnDisk,
    history: VecDeque<Arc<Loaded>>,
}

/// Written by the one writer, read by the API.
#[derive(Debug)]
pub struct Desk {
    pub file: PathBuf,
    papers: Mutex<Papers>,
}

impl Desk {
    /// With the file that the process began with, and its text, secrets masked.
    pub fn new(file: PathBuf, first: Loaded, text: String) -> Self {
        let (hash, loaded_at) = (first.hash.clone(), first.at);
        let history = VecDeque::from([Arc::new(first)]);
        let on_disk = OnDisk::Same;
        Self { file, papers: Mutex::new(Papers { hash, loaded_at, text, on_disk, history }) }
    }

    /// The hash of the running text, and when it was applied.
    pub fn running(&self) -> (String, jiff::Timestamp) {
        let papers = self.papers.lock();
        (papers.hash.clone(), papers.loaded_at)
    }

    pub fn on_disk(&self) -> OnDisk {
        self.papers.lock().on_disk.clone()
    }

    /// The last attempt.
    pub fn last(&self) -> Arc<Loaded> {
        let papers = self.papers.lock();
        Arc::clone(papers.history.back().expect("the first is there from the beginning"))
    }

    /// Oldest first.
    pub fn history(&self) -> Vec<Arc<Loaded>> {
        self.papers.lock().history.iter().cloned().collect()
    }

    /// Notes an attempt to load a file with this text, secrets masked.
    pub(super) fn note(&self, loaded: Loaded, text: String) {
        let mut papers = self.papers.lock();
        papers.on_disk = match loaded.result {
            ReloadResult::Applied | ReloadResult::Unchanged => OnDisk::Same,
            ReloadResult::Rejected if text.is_empty() => OnDisk::Nothing,
            ReloadResult::Rejected => {
                OnDisk::Differs(unified(("running", &papers.text), ("on disk", &text)))
            }
        };
        if loaded.result == ReloadResult::Applied {
            papers.hash.clone_from(&loaded.hash);
            papers.loaded_at = loaded.at;
            papers.text = text;
        }
        if papers.history.len() == HISTORY {
            papers.history.pop_front();
        }
        papers.history.push_back(Arc::new(loaded));
    }
}
