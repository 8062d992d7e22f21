//! Reading the file, and opening what it names, beside the one writer: a disk or a pipe may take its time with that.
use super::handover::Gate;
use super::state::StateDir;
use super::verify::verify;
use crate::config::{self, Checked, Diagnostic, Diagnostics};
use crate::observe::{LogChanges, Logs};
use crate::stats::{Clock as _, Moment, MonotonicClock};
use crate::table::{Changes, Plan};
use std::io;
use std::path::Path;

/// The file as it was read. An error: what it says cannot be served.
pub(super) type Read = Result<FileRead, Box<Diagnostics>>;

/// A file that can be served by what it says itself.
#[derive(Debug)]
pub(super) struct FileRead {
    pub(super) checked: Checked,
    /// Its warnings, and what speaks against serving it in place of what is served now.
    pub(super) diagnostics: Diagnostics,
    /// What it names that was not open yet. Whoever drops it closes that again.
    pub(super) opened: Opened,
}

#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Where the state is from now on, if that is elsewhere.
    pub(super) state: Option<NewState>,
    pub(super) logs: LogChanges,
}

/// A state directory that this process has locked, and the gate in it.
#[derive(Debug)]
pub(super) struct NewState {
    pub(super) dir: StateDir,
    pub(super) gate: io::Result<Gate>,
}

/// Reads and checks the file, and opens what it has other than the plan that is served now; `seen`: texts, by their
/// hash, of which nothing follows. Blocks. Needs a tokio runtime.
pub(super) fn read_file(
    file: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    serving: &Plan,
    logs: &Logs,
    seen: &[String],
) -> Read {
    let clock = MonotonicClock::new();
    let mut checked = config::load(file, env)?;
    let mut diagnostics = checked.warnings.clone();
    for failed in verify(&checked) {
        diagnostics.push(failed);
    }
    checked.plan.keep_certificates(serving);
    for field in Changes::needs_restart(serving, &checked.plan) {
        diagnostics.push(needs_restart(&diagnostics, field));
    }
    let mut opened = Opened::default();
    // Nothing is made for a file that is not served, and nothing each time when somebody looks at it.
    if !diagnostics.has_errors() && !seen.contains(&checked.text_hash) {
        match open(&checked.plan, serving, logs) {
            Ok(all) => opened = all,
            Err((key, error)) => {
                let span = diagnostics.find(key);
                diagnostics.push(Diagnostic::error("unusable-file", span, error));
            }
        }
    }
    tracing::debug!(took = ?clock.now().since(Moment::ZERO), "read and checked the file");
    Ok(FileRead { checked, diagnostics, opened })
}

/// An error comes with the key whose file cannot be used.
fn open(plan: &Plan, serving: &Plan, logs: &Logs) -> Result<Opened, (&'static str, String)> {
    let moved = !is_same_folder(&plan.state_dir, &serving.state_dir);
    let state = moved.then(|| NewState::open(&plan.state_dir)).transpose();
    let state = state.map_err(|error| ("state:", error))?;
    let logs = logs.prepare(plan).map_err(|(key, error)| (key, error.to_string()))?;
    Ok(Opened { state, logs })
}

impl NewState {
    fn open(path: &Path) -> Result<Self, String> {
        let dir = StateDir::open(path).map_err(|error| error.to_string())?;
        Ok(Self { dir, gate: Gate::open(path) })
    }
}

fn is_same_folder(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn needs_restart(diagnostics: &Diagnostics, field: &str) -> Diagnostic {
    let key = field.split('.').next().unwrap_or(field);
    let message =
        format!("`{field}` cannot change while Evener runs; nothing of this file is applied");
    Diagnostic::error("needs-restart", diagnostics.find(key), message)
        .help("restart Evener, or put the old value back")
}
