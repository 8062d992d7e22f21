//! `evener status`: models, shares and replicas of an Evener that runs.
use super::board::{Board, Look, board};
use super::problems;
use super::remote::{AdminArgs, Failure, Remote, finish, segment};
use super::terminal::{self, Paint};
use super::watch::watch;
use crate::admin::{ModelStatus, Status};
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::process::ExitCode;

/// Show what is wrong, models, shares and replicas of the Evener that runs
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  evener status                          everything, once
  evener status chat --watch             one model, in place, with requests and errors a second; q ends
  evener status --watch | tee watch.log  one table after the other
  evener status --check                  exit 1 and a sentence for each thing that is wrong, else exit 0
  evener status --format json            as the admin API answers, for scripts")]
pub struct StatusArgs {
    /// Only this model
    pub model: Option<String>,
    /// Show it anew each second, with rates, until q or Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Say only what is wrong, and exit with 1 when something is
    #[arg(long, conflicts_with = "watch")]
    pub check: bool,
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
    match (args.watch, args.check) {
        (true, _) => watch(&args).await,
        (false, true) => match check(&args).await {
            Ok((text, well)) => {
                terminal::out(&text);
                ExitCode::from(u8::from(!well))
            }
            Err(failure) => finish(Err(failure)),
        },
        (false, false) => finish(once(&args).await),
    }
}

/// What is wrong, and whether nothing is.
async fn check(args: &StatusArgs) -> Result<(String, bool), Failure> {
    let body = Remote::new(&args.remote)?.get(&path(args)).await?.good()?;
    let (problems, models) = if args.model.is_some() {
        let mut model = read::<ModelStatus>(body)?;
        (model.problems.take().unwrap_or_default(), vec![model])
    } else {
        let status = read::<Status>(body)?;
        (status.problems, status.models)
    };
    let (text, well) = problems::verdict(&problems, &models, Paint(terminal::wants_color()));
    Ok(match args.format {
        StatusFormat::Text => (text, well),
        StatusFormat::Json => {
            let found = serde_json::json!({"ok": well, "problems": problems});
            (terminal::clean_json(&format!("{found:#}\n")), well)
        }
    })
}

fn path(args: &StatusArgs) -> String {
    match &args.model {
        Some(model) => format!("/api/v1/models/{}", segment(model)),
        None => "/api/v1/status".to_owned(),
    }
}

async fn once(args: &StatusArgs) -> Result<String, Failure> {
    frame(args, &Remote::new(&args.remote)?).await
}

/// One look at the server, rendered.
pub(super) async fn frame(args: &StatusArgs, remote: &Remote) -> Result<String, Failure> {
    let body = remote.get(&path(args)).await?.good()?;
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
