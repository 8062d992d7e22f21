//! The log of a process that serves: levels, format, and where it goes.
use super::{check, env};
use crate::config::{Diagnostics, Severity};
use crate::observe::{LogThread, LogWriter, watch_panics, write_log_to_stderr};
use anyhow::Context as _;
use std::io::IsTerminal as _;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Levels where `$EVENER_LOG` says nothing.
const LEVELS: &str = "info,pingora_core=off,h2=warn";
/// How long the end of the process waits for a stderr that takes nothing.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log, whose last lines are written when this is dropped.
#[derive(Debug)]
pub(super) struct Log {
    thread: Option<LogThread>,
    json: bool,
}

impl Log {
    /// Shows what was found in the file before anything serves: drawn for people, or a line each where the log is JSON.
    pub(super) fn show(&self, found: &Diagnostics) {
        if !self.json {
            check::show(found);
            return;
        }
        for item in found.items() {
            let (code, file, line, column) = (item.code, &found.file, item.line, item.column);
            let help = item.help.as_deref();
            match item.severity {
                Severity::Error => {
                    tracing::error!(code, file, line, column, help, "{}", item.message);
                }
                Severity::Warning => {
                    tracing::warn!(code, file, line, column, help, "{}", item.message);
                }
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.end(LAST_LINES);
        }
    }
}

/// Logs to stderr from now on, panics included: `$EVENER_LOG` sets the levels, `$EVENER_LOG_FORMAT` is `text` or `json`.
pub(super) fn log_to_stderr() -> anyhow::Result<Log> {
    let json = match env("EVENER_LOG_FORMAT").as_deref() {
        None | Some("" | "text") => false,
        Some("json") => true,
        Some(other) => {
            anyhow::bail!("$EVENER_LOG_FORMAT is `{other}`; it can be `text` or `json`")
        }
    };
    let wanted = env("EVENER_LOG").filter(|levels| !levels.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(LEVELS));
    let (filter, unread) = match filter {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(LEVELS), Some(error)),
    };
    let thread = write_log_to_stderr().context("cannot start the thread that writes the log")?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogWriter);
    // Only a second call in one process could fail.
    if json {
        let lines = subscriber.json().flatten_event(true);
        lines.with_current_span(false).with_span_list(false).try_init().ok();
    } else {
        let color = std::io::stderr().is_terminal() && env("NO_COLOR").is_none_or(|v| v.is_empty());
        subscriber.with_ansi(color).try_init().ok();
    }
    watch_panics();
    if let Some(error) = unread {
        tracing::warn!(%error, "$EVENER_LOG cannot be read; the levels are `{LEVELS}`");
    }
    Ok(Log { thread: Some(thread), json })
}
