//! `evener schema`: JSON Schema of the file, for editors.
#![expect(clippy::print_stdout, reason = "a command speaks to its caller")]
use crate::config;
use std::process::ExitCode;

pub fn schema() -> ExitCode {
    println!("{:#}", config::schema());
    ExitCode::SUCCESS
}
