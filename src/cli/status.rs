//! `evener status`: models, shares and replicas of an Evener that runs.
use super::board::{Board, board};
use super::remote::{AdminArgs, Failure, Remote, finish, segment};
use super::terminal::{self, Paint};
use crate::admin::{ModelStatus, Status};
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// Show models, shares and replicas of the Evener that runs
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only this model
    pub model: Option<String>,
    /// Show it anew each second, until Ctrl-C
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
async fn frame(args: &StatusArgs, remote: &Remote) -> Result<String, Failure> {
    let path = match &args.model {
        Some(model) => format!("/api/v1/models/{}", segment(model)),
        None => "/api/v1/status".to_owned(),
    };
    let body = remote.get(&path).await?.good()?;
    match args.format {
        StatusFormat::Json if args.watch => Ok(terminal::clean_json(&body.to_string()) + "\n"),
        StatusFormat::Json => Ok(terminal::clean_json(&format!("{body:#}\n"))),
        StatusFormat::Text => {
            let paint = Paint(terminal::wants_color());
            Ok(match &args.model {
                Some(_) => board(&Board::Model(&read::<ModelStatus>(body)?), paint),
                None => board(&Board::All(&read::<Status>(body)?), paint),
            })
        }
    }
}

fn read<T: DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body).map_err(|error| {
        Failure::new(format!("the answer is not one that this version of evener knows: {error}"))
    })
}

async fn watch(args: &StatusArgs) -> ExitCode {
    let remote = match Remote::new(&args.remote) {
        Ok(remote) => remote,
        Err(failure) => return finish(Err(failure)),
    };
    let in_place = args.format == StatusFormat::Text && std::io::stdout().is_terminal();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut seen = false;
    if in_place {
        terminal::out("\u{1b}[2J");
    }
    loop {
        let shown = tokio::select! {
            _ = &mut interrupted => return ExitCode::SUCCESS,
            shown = frame(args, &remote) => shown,
        };
        match shown {
            Ok(text) if in_place => terminal::out(&redrawn(&text)),
            Ok(text) => terminal::out(&text),
            // A server that was there may come back; one that never was is a mistake to tell at once.
            Err(failure) if !seen || failure.code != 1 => return finish(Err(failure)),
            Err(failure) if in_place => terminal::out(&redrawn(&failure.message)),
            Err(failure) => terminal::err(&failure.message),
        }
        seen = true;
        tokio::select! {
            _ = &mut interrupted => return ExitCode::SUCCESS,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Over what stands there, without the flicker of clearing it first.
fn redrawn(text: &str) -> String {
    let lines = text.lines().flat_map(|line| [line, "\u{1b}[K\n"]);
    ["\u{1b}[H"].into_iter().chain(lines).chain(["\u{1b}[J"]).collect()
}
