//! `evener schema`: JSON Schema of the file, for editors.
use super::terminal;
use crate::config;
use std::process::ExitCode;

pub fn schema() -> ExitCode {
    terminal::out(&format!("{:#}\n", config::schema()));
    ExitCode::SUCCESS
}
