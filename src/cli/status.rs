//! `evener status`: models, shares and replicas of an Evener that runs.
use super::board::{Board, Look, board};
use super::remote::{AdminArgs, Failure, Remote, finish, segment};
use super::terminal::{self, Paint};
use super::watch::watch;
use crate::admin::{ModelStatus, Status};
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::process::ExitCode;

/// Show models, shares and replicas of the Evener that runs
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  evener status                          everything, once
  evener status chat --watch             one model, in place, with requests and errors a second; q ends
  evener status --watch | tee watch.log  one table after the other
  evener status --format json            as the admin API answers, for scripts")]
pub struct StatusArgs {
    /// Only this model
    pub model: Option<String>,
    /// Show it anew each second, with rates, until q or Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
    #[command(flatten)]
    pub remote: AdminArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// A table
    #[default]
    Text,
    /// As the admin API answers; with --watch one object a line
    Json,
}

pub async fn status(args: StatusArgs) -> ExitCode {
    if args.watch { watch(&args).await } else { finish(once(&args).await) }
}

async fn once(args: &StatusArgs) -> Result<String, Failure> {
    frame(args, &Remote::new(&args.remote)?).await
}

/// One look at the server, rendered.
pub(super) async fn frame(args: &StatusArgs, remote: &Remote) -> Result<String, Failure> {
    let path = match &args.model {
        Some(model) => format!("/api/v1/models/{}", segment(model)),
        None => "/api/v1/status".to_owned(),
    };
    let body = remote.get(&path).await?.good()?;
    match args.format {
        StatusFormat::Json if args.watch => Ok(terminal::clean_json(&body.to_string()) + "\n"),
        StatusFormat::Json => Ok(terminal::clean_json(&format!("{body:#}\n"))),
        StatusFormat::Text => {
            let look = Look {
                paint: Paint(terminal::wants_color()),
                rates: None,
                folded: false,
                columns: None,
            };
            Ok(match &args.model {
                Some(_) => board(&Board::Model(&read::<ModelStatus>(body)?), &look),
                None => board(&Board::All(&read::<Status>(body)?), &look),
            })
        }
    }
}

pub(super) fn read<T: DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body).map_err(|error| {
        Failure::new(format!("the answer is not one that this version of evener knows: {error}"))
    })
}
