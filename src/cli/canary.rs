//! `evener canary`: how a canary stands, and what an operator says to it.
use super::remote::{AdminArgs, Failure, Remote, finish, segment, understood};
use super::terminal::{self, clean};
use super::wait::limit_of;
use crate::admin::CanaryStatus;
use clap::{Args, Subcommand};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(500);

/// Move traffic to a candidate as the evidence allows, or back
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  evener canary status chat                  the sentence, the share, the evidence by check
  evener canary status chat --wait           for scripts: exit 0 promoted, 1 rolled back, 3 undecided or paused
  evener canary pause chat --reason \"looking at its logs\"
  evener canary start chat                   judge a candidate anew, as after a redeploy under the same name
  evener canary start chat --wait            the same, and wait for the verdict: the whole of a deploy job")]
pub struct CanaryArgs {
    #[command(subcommand)]
    pub verb: CanaryCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum CanaryCommand {
    /// Begin: at the first step that is not below the file's share. One that runs goes on as it was
    Start(SayArgs),
    /// How it stands
    Status(StatusArgs),
    /// Stay at this share until it is resumed
    Pause(SayArgs),
    /// Go on
    Resume(SayArgs),
    /// Give the candidate everything, now
    Promote(SayArgs),
    /// Give the candidate nothing, now
    Abort(SayArgs),
}

#[derive(Args, Clone, Debug)]
pub struct SayArgs {
    pub model: String,
    /// Why, for the timeline
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub verdict: VerdictArgs,
    #[command(flatten)]
    pub remote: AdminArgs,
}

#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    pub model: String,
    #[command(flatten)]
    pub verdict: VerdictArgs,
    #[command(flatten)]
    pub remote: AdminArgs,
}

/// Whether a command waits for the verdict.
#[derive(Args, Clone, Debug)]
pub struct VerdictArgs {
    /// Return when it is decided: exit 0 promoted, 1 rolled back, 3 undecided or paused
    #[arg(long)]
    pub wait: bool,
    /// With --wait: at most so long
    #[arg(long, value_name = "DURATION", default_value = "30m", requires = "wait")]
    pub timeout: String,
}

pub async fn canary(args: CanaryArgs) -> ExitCode {
    let (said, verb) = match args.verb {
        CanaryCommand::Status(StatusArgs { model, verdict, remote }) => {
            return if verdict.wait {
                wait(&model, &verdict, &remote).await
            } else {
                finish(status(&model, &remote).await)
            };
        }
        CanaryCommand::Start(args) => (args, "start"),
        CanaryCommand::Pause(args) => (args, "pause"),
        CanaryCommand::Resume(args) => (args, "resume"),
        CanaryCommand::Promote(args) => (args, "promote"),
        CanaryCommand::Abort(args) => (args, "abort"),
    };
    match say(&said, verb).await {
        Ok(_) if said.verdict.wait => wait(&said.model, &said.verdict, &said.remote).await,
        answered => finish(answered),
    }
}

async fn say(args: &SayArgs, verb: &str) -> Result<String, Failure> {
    let remote = Remote::new(&args.remote)?;
    let path = format!("/api/v1/models/{}/canary/{verb}", segment(&args.model));
    let answer = remote.post(&path, &json!({"reason": args.reason})).await?.good()?;
    let canary: Option<CanaryStatus> = understood(answer["canary"].clone())?;
    Ok(canary.as_ref().map(|canary| describe(&args.model, canary)).unwrap_or_default())
}

async fn status(model: &str, remote: &AdminArgs) -> Result<String, Failure> {
    look(&Remote::new(remote)?, model).await.map(|canary| describe(model, &canary))
}

async fn look(remote: &Remote, model: &str) -> Result<CanaryStatus, Failure> {
    remote.model(model).await?.canary.ok_or_else(|| {
        Failure::new(format!("model `{model}` has no canary; write `canary: {{candidate: …}}`"))
    })
}

/// Prints each change until the canary is decided.
#[expect(clippy::disallowed_methods, reason = "a command counts the time that it waits itself")]
async fn wait(model: &str, verdict: &VerdictArgs, remote: &AdminArgs) -> ExitCode {
    let asked = limit_of(&verdict.timeout).and_then(|limit| Ok((limit, Remote::new(remote)?)));
    let (limit, remote) = match asked {
        Ok(asked) => asked,
        Err(failure) => return finish(Err(failure)),
    };
    let ends = Instant::now() + limit;
    let mut said = String::new();
    loop {
        let canary = match look(&remote, model).await {
            Ok(canary) => canary,
            Err(failure) => return finish(Err(failure)),
        };
        let now = format!("{} {}", canary.state, canary.step);
        if now != said {
            terminal::out(&describe(model, &canary));
            said = now;
        }
        match canary.state.as_str() {
            "promoted" => return ExitCode::SUCCESS,
            "rolled_back" => return ExitCode::FAILURE,
            "undecided" | "paused" => return ExitCode::from(3),
            _ if Instant::now() >= ends => return ExitCode::from(3),
            _ => sleep(POLL).await,
        }
    }
}

fn describe(model: &str, canary: &CanaryStatus) -> String {
    let steps: Vec<String> = canary.steps.iter().map(|step| format!("{step}%")).collect();
    let mut text = format!(
        "{}  candidate {}  {}  {}%  step {} of {} ({})\n  {}\n",
        clean(model),
        clean(&canary.candidate),
        clean(&canary.state),
        canary.share,
        canary.step + 1,
        canary.steps.len(),
        steps.join(" "),
        clean(&canary.sentence),
    );
    for check in &canary.checks {
        let note = check.note.as_deref().map(|note| format!("  {note}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  {:<16} candidate {} of {}  stable {} of {}  evidence {:.2}{}{}",
            clean(&check.metric),
            check.candidate_hits,
            check.candidate_requests,
            check.stable_hits,
            check.stable_requests,
            check.evidence,
            if check.passes { "  passes" } else { "" },
            clean(&note),
        );
    }
    text
}
