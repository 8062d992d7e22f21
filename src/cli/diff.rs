//! `evener diff`: what a reload would change for those who ask, before it does.
mod difference;
mod words;

use self::difference::{Difference, Side};
use super::check::show;
use super::env;
use super::remote::{AdminArgs, Failure, Remote, finish, understood};
use super::terminal::{self, Paint, clean_json};
use crate::config::{self, Diagnostics, effective_yaml};
use crate::control::Running;
use crate::table::Plan;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tell what a reload would change for those who ask
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Shares of keys are exact, and come from the code that moves them. With two files OLD counts as freshly started; with
--live NEW is compared with what the Evener has that runs: its segments, its canaries, what operators set. Secrets are
never shown, and with --live not compared. Files are read as `evener run` would here, with this environment.

Exit codes: 0 a reload would be applied, whatever it changes; 1 it would be rejected: NEW has errors, or needs a restart;
2 usage.

Examples:
  evener diff evener.yaml new.yaml
  evener diff new.yaml --live                 before `cp new.yaml evener.yaml`
  evener diff new.yaml --live --format json   for a review bot")]
pub struct DiffArgs {
    /// OLD and NEW; with --live only NEW
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    pub files: Vec<PathBuf>,
    /// Compare with the Evener that runs
    #[arg(long)]
    pub live: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,
    #[command(flatten)]
    pub remote: AdminArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

pub async fn diff(args: DiffArgs) -> ExitCode {
    let sides = match (&args.files[..], args.live) {
        ([old, new], false) => load(old).and_then(|old| Ok((old, load(new)?))).map(|(old, new)| {
            let running = Running::started(&old);
            (Side { plan: old, running }, new)
        }),
        ([new], true) => match load(new) {
            Ok(new) => match live(&args.remote).await {
                Ok(old) => match masked(&new) {
                    Ok(new) => Ok((old, new)),
                    Err(failure) => return finish(Err(failure)),
                },
                Err(failure) => return finish(Err(failure)),
            },
            Err(diagnostics) => Err(diagnostics),
        },
        _ => {
            let message = "give OLD and NEW, or --live and NEW alone";
            return finish(Err(Failure { code: 2, ..Failure::new(message) }));
        }
    };
    let (old, new) = match sides {
        Ok(sides) => sides,
        Err(diagnostics) => return show(&diagnostics),
    };
    let difference = Difference::between(&old, &new);
    terminal::out(&match args.format {
        DiffFormat::Json => clean_json(&format!("{:#}\n", difference.to_json())),
        DiffFormat::Text => difference.in_words(Paint(terminal::wants_color())),
    });
    if difference.needs_restart.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn load(file: &Path) -> Result<Plan, Box<Diagnostics>> {
    config::load(file, &env).map(|checked| checked.plan)
}

/// What runs. Its secrets are masked.
async fn live(remote: &AdminArgs) -> Result<Side, Failure> {
    let body = Remote::new(remote)?.get("/api/v1/config").await?.good()?;
    let yaml = body["yaml"].as_str().unwrap_or_default();
    Ok(Side { plan: read_back(yaml)?, running: understood(body["running"].clone())? })
}

/// With its secrets masked as those of [`live`] are: what cannot be compared must not look changed.
fn masked(plan: &Plan) -> Result<Plan, Failure> {
    read_back(&effective_yaml(plan))
}

fn read_back(yaml: &str) -> Result<Plan, Failure> {
    let read = config::read_back(yaml, "the running configuration");
    read.map(|checked| checked.plan).map_err(|diagnostics| {
        Failure::new(format!(
            "the running configuration is not one that this version of evener knows:\n{}",
            diagnostics.render_text(false)
        ))
    })
}
