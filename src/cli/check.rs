//! `evener check`: says what is wrong with a file, or that nothing is.
use super::{config_file, env, terminal};
use crate::config::{self, Checked, Diagnostics};
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration file and run its tests.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The file; default: `$EVENER_CONFIG`, ./evener.yaml or /etc/evener/evener.yaml
    pub file: Option<PathBuf>,
    /// How diagnostics are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, on stderr
    #[default]
    Text,
    /// An array of diagnostics on stdout
    Json,
}

/// Checks a file. `verify` adds what the file's own tests and a look at this machine find.
pub fn check(
    args: CheckArgs,
    verify: impl FnOnce(&Checked) -> Vec<config::Diagnostic>,
) -> ExitCode {
    let file = config_file(args.file);
    let (checked, diagnostics) = match config::load(&file, &env) {
        Ok(checked) => {
            let mut diagnostics = checked.warnings.clone();
            for found in verify(&checked) {
                diagnostics.push(found);
            }
            (Some(checked), diagnostics)
        }
        Err(diagnostics) => (None, *diagnostics),
    };
    let failed = diagnostics.has_errors();
    report(&diagnostics, args.format);
    if let (Some(checked), false, Format::Text) = (&checked, failed, args.format) {
        terminal::out(&format!("{}: ok: {}\n", file.display(), checked.plan_summary()));
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Shows what a command found before it could begin: text, on stderr.
pub(super) fn show(diagnostics: &Diagnostics) -> ExitCode {
    report(diagnostics, Format::Text);
    if diagnostics.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn report(diagnostics: &Diagnostics, format: Format) {
    match format {
        Format::Text => {
            let wanted = env("NO_COLOR").is_none_or(|value| value.is_empty());
            terminal::err(&diagnostics.render_text(wanted && std::io::stderr().is_terminal()));
        }
        Format::Json => terminal::out(&format!("{:#}\n", diagnostics.to_json())),
    }
}
