//! `evener completions`: a script that completes commands and flags in a shell.
use super::terminal;
use clap_complete::{Shell, generate};
use std::process::ExitCode;

/// Print a script that completes commands and flags
#[derive(clap::Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell that shall complete
    pub shell: Shell,
}

/// Writes the script for `command`, the whole of `evener`.
pub fn completions(args: &CompletionsArgs, command: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    generate(args.shell, command, "evener", &mut script);
    terminal::out(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
