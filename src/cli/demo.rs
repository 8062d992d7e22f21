//! `evener demo`: mocks, the proxy and traffic in one process, with a story told as it happens.
mod counts;
mod fall;
mod promises;
mod scratch;
mod stage;
mod story;
mod traffic;
mod voice;
mod watch;

use super::env;
use super::log::log_to_stderr;
use scratch::Scratch;
use stage::{Plot, Stage};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use voice::Voice;

/// See it work on this machine: mock models, traffic, a replica that dies, a canary that fails
#[derive(Clone, Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "\
Six mock model servers (model `chat`: v1 and v2, three replicas each, one of them slow), Evener
before them, and about 100 requests a second through it, all in this process and on free ports of
127.0.0.1. In half a minute:
  the slow replica gets little traffic; the split 90/10 is kept;
  a replica is killed, taken out, revived, and serves again;
  the file is rewritten to 50/50 while requests run, and none fails.
With --break v2 it is another story, of a minute and a half: v2 is brought in as a canary, starts
well and gets more, breaks, and is rolled back by itself, with the sentence that says why.
Its configuration is a file in a temporary directory, which is removed at the end. Edit it
meanwhile if you like.

With --headless it exits 0 when all of this was observed and 1 when something was not; the last
lines say what.

Examples:
  evener demo              goes on until Ctrl-C, for you to look around
  evener demo --break v2   a canary that fails
  evener demo --headless   ends by itself: for scripts"
)]
pub(super) struct DemoArgs {
    /// End after the story, without waiting for Ctrl-C
    #[arg(long)]
    headless: bool,
    /// Bring this version in as a canary, and break it
    #[arg(long = "break", value_name = "VERSION", value_parser = ["v2"])]
    breaks: Option<String>,
}

/// Tells the story, and leaves nothing behind.
pub(super) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let _log = env("EVENER_LOG").map(|_| log_to_stderr()).transpose()?;
    let DemoArgs { headless, breaks } = args;
    let plot = if breaks.is_some() { Plot::Fall } else { Plot::Death };
    // Outlives all threads: what they still write must be gone as well.
    let scratch = Scratch::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(play(&scratch, plot, headless));
    runtime.shutdown_timeout(Duration::from_secs(2));
    drop(scratch);
    ended
}

async fn play(scratch: &Scratch, plot: Plot, headless: bool) -> anyhow::Result<ExitCode> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let voice = Voice::new();
    let mut stage = Stage::set(scratch, plot).await?;
    let ended = tokio::select! {
        told = Box::pin(story::tell(&mut stage, &voice, plot, headless)) => Some(told),
        _ = term.recv() => None,
        _ = int.recv() => None,
    };
    stage.strike().await;
    match ended {
        Some(told) => told.map(|kept| if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        // Cut short: a script was promised more than that, somebody who looks around was not.
        None if headless => Ok(ExitCode::FAILURE),
        None => {
            voice.say("Ended; nothing is left behind.")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
