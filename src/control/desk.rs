//! What is known of the configuration file: the running text, the last attempt, the history.
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

#[derive(Debug)]
struct Papers {
    hash: String,
    loaded_at: jiff::Timestamp,
    history: VecDeque<Arc<Loaded>>,
}

/// Written by the one writer, read by the API.
#[derive(Debug)]
pub struct Desk {
    pub file: PathBuf,
    papers: Mutex<Papers>,
}

impl Desk {
    /// With the file that the process began with.
    pub fn new(file: PathBuf, first: Loaded) -> Self {
        let (hash, loaded_at) = (first.hash.clone(), first.at);
        let history = VecDeque::from([Arc::new(first)]);
        Self { file, papers: Mutex::new(Papers { hash, loaded_at, history }) }
    }

    /// The hash of the running text, and when it was applied.
    pub fn running(&self) -> (String, jiff::Timestamp) {
        let papers = self.papers.lock();
        (papers.hash.clone(), papers.loaded_at)
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

    pub(super) fn note(&self, loaded: Loaded) {
        let mut papers = self.papers.lock();
        if loaded.result == ReloadResult::Applied {
            papers.hash.clone_from(&loaded.hash);
            papers.loaded_at = loaded.at;
        }
        if papers.history.len() == HISTORY {
            papers.history.pop_front();
        }
        papers.history.push_back(Arc::new(loaded));
    }
}
