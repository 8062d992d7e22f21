//! The command line as a whole: which commands there are, and where each is.
use super::{
    CanaryArgs, CheckArgs, CompletionsArgs, DiffArgs, ExplainArgs, HoldArgs, KeyArgs, MirrorArgs,
    ReloadArgs, ReplicaArgs, RunArgs, SplitArgs, StatusArgs, StopArgs, TapArgs, canary, check,
    completions, demo, diff, drain, eject, explain, key, limits, mirror, mock, reload, restore,
    run, schema, split, status, stop, tap, terminal, undrain,
};
use crate::config::{Checked, Diagnostic};
use crate::control::{few_descriptors, unseated, verify};
use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;

/// A layer-7 load balancer and canary router for model endpoints
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "\
First steps:
  evener demo                     see it work: mock models, traffic, a replica that dies and returns
  evener check conf/minimal.yaml  check a configuration
  evener run -c conf/minimal.yaml serve

Exit codes: 0 done, 1 found errors or a negative verdict, 2 usage, 3 undecided."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Check(CheckArgs),
    Explain(ExplainArgs),
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    Diff(DiffArgs),
    Status(StatusArgs),
    Tap(TapArgs),
    Canary(CanaryArgs),
    Mirror(MirrorArgs),
    Split(SplitArgs),
    Key(KeyArgs),
    Reload(ReloadArgs),
    Stop(StopArgs),
    /// Send no new requests to a replica or a version; those that run finish
    Drain(HoldArgs),
    /// Send requests again to what was drained
    Undrain(ReplicaArgs),
    /// Take a replica or a version out as if it had failed: it must prove itself before it serves again
    Eject(HoldArgs),
    /// End any ejection at once: what was ejected serves again, slowly at first
    Restore(ReplicaArgs),
    Mock(mock::MockArgs),
    Demo(demo::DemoArgs),
    Completions(CompletionsArgs),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let done = match command {
        Command::Run(args) => run(args),
        Command::Check(args) => Ok(check(args, found_here)),
        Command::Explain(args) => block_on(explain(args)),
        Command::Diff(args) => block_on(diff(args)),
        Command::Schema => Ok(schema()),
        Command::Key(args) => key(&args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => Ok(completions(&args, &mut Cli::command())),
        Command::Mock(args) => {
            block_on(mock::run(args)).and_then(|served| served.map(|()| ExitCode::SUCCESS))
        }
        Command::Status(args) => block_on(status(args)),
        Command::Tap(args) => block_on(tap(args)),
        Command::Canary(args) => block_on(canary(args)),
        Command::Mirror(args) => block_on(mirror(args)),
        Command::Split(args) => block_on(split(args)),
        Command::Reload(args) => block_on(reload(args)),
        Command::Stop(args) => block_on(stop(args)),
        Command::Drain(args) => block_on(drain(args)),
        Command::Undrain(args) => block_on(undrain(args)),
        Command::Eject(args) => block_on(eject(args)),
        Command::Restore(args) => block_on(restore(args)),
    };
    done.unwrap_or_else(|error| {
        terminal::err(&format!("error: {error:#}\n"));
        ExitCode::FAILURE
    })
}

/// What is found of a file on this machine: its own tests, the limits, and who was promoted here.
fn found_here(checked: &Checked) -> Vec<Diagnostic> {
    let limits = few_descriptors(checked, limits::highest());
    verify(checked).into_iter().chain(limits).chain(unseated(checked)).collect()
}

/// For commands that are not the proxy: one thread is enough.
fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}
