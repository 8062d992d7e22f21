//! `evener tap`: requests as they are decided, one line each.
use super::decision::{Told, millis};
use super::remote::{AdminArgs, Failure, Remote, finish, segment};
use super::status::StatusFormat;
use super::terminal::{self, clean, clean_json};
use clap::Args;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Watch requests as they are decided, one line each
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  evener tap                                 all models, until Ctrl-C
  evener tap --model chat --errors           those of `chat` that failed
  evener tap --slower-than 2s --limit 10     the next ten that take so long
  evener tap --format json | jq .assignment  with all that is known

At most 1,000 requests a second are told, so that watching never slows them; what is left out is said.
`evener explain --id ID` shows one of them step by step.")]
pub struct TapArgs {
    /// Only those of this model
    #[arg(long)]
    pub model: Option<String>,
    /// Only those that failed: answered with a server error, refused, cut or too late
    #[arg(long)]
    pub errors: bool,
    /// Only those that took at least so long
    #[arg(long, value_name = "DURATION")]
    pub slower_than: Option<String>,
    /// End after so many
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u64>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
    #[command(flatten)]
    pub remote: AdminArgs,
}

pub async fn tap(args: TapArgs) -> ExitCode {
    finish(follow(&args).await.map(|()| String::new()))
}

async fn follow(args: &TapArgs) -> Result<(), Failure> {
    let mut path = format!("/api/v1/decisions?errors={}", args.errors);
    for (name, value) in [("model", &args.model), ("slower_than", &args.slower_than)] {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", segment(value));
        }
    }
    let remote = Remote::new(&args.remote)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let told = async {
        if left == 0 {
            return Ok(());
        }
        remote
            .follow(&path, |event, data| {
                if event == "missed" {
                    terminal::err(&format!("{data} more, too fast to be told\n"));
                    return true;
                }
                terminal::out(&match (args.format, serde_json::from_str::<Told>(data)) {
                    (StatusFormat::Text, Ok(told)) => line(&told),
                    (StatusFormat::Json, _) | (_, Err(_)) => clean_json(&format!("{data}\n")),
                });
                left -= 1;
                left > 0
            })
            .await
    };
    tokio::select! {
        told = told => told,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// `12:03:04.123  200 success  POST /v1/chat/completions  chat/v1  http://10.0.0.1:8000  812 ms`.
fn line(told: &Told) -> String {
    let mut text = format!(
        "{}  {} {}  {} {}",
        told.time.strftime("%H:%M:%S%.3f"),
        told.status(),
        clean(told.error.as_deref().unwrap_or(&told.outcome)),
        clean(&told.method),
        told.target(),
    );
    if let Some(model) = &told.model {
        let _ = write!(text, "  {}", clean(model));
    }
    if let Some(version) = &told.version {
        let _ = write!(text, "/{}", clean(version));
    }
    if let Some(replica) = &told.replica {
        let _ = write!(text, "  {}", clean(replica));
    }
    let _ = write!(text, "  {}", millis(told.duration_ms));
    if let Some(first) = told.first_byte_ms {
        let _ = write!(text, ", first byte {}", millis(first));
    }
    if told.attempts > 1 {
        let _ = write!(text, ", {} attempts", told.attempts);
    }
    text.push('\n');
    text
}
