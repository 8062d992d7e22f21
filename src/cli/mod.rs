//! One file a command; what they share is where the configuration is found.
mod board;
mod canary;
mod check;
mod commands;
mod completions;
mod decision;
mod demo;
mod diff;
mod explain;
mod figures;
mod heading;
mod key;
mod limits;
mod log;
mod mirror;
pub mod mock;
mod orders;
mod problems;
mod rates;
mod remote;
mod run;
mod schema;
mod screen;
mod split;
mod status;
mod tap;
mod terminal;
mod wait;
mod watch;

pub use canary::{CanaryArgs, canary};
pub use check::{CheckArgs, Format, check};
pub use commands::main;
pub use completions::{CompletionsArgs, completions};
pub use diff::{DiffArgs, diff};
pub use explain::{ExplainArgs, explain};
pub use key::{KeyArgs, key};
pub use mirror::{MirrorArgs, mirror};
pub use orders::{
    HoldArgs, ReloadArgs, ReplicaArgs, StopArgs, drain, eject, reload, restore, stop, undrain,
};
pub use remote::{AdminArgs, Failure, Remote, Reply};
pub use run::{RunArgs, run};
pub use schema::schema;
pub use split::{SplitArgs, split};
pub use status::{StatusArgs, StatusFormat, status};
pub use tap::{TapArgs, tap};

use std::path::{Path, PathBuf};

/// The file to use: the one that is named, else `$EVENER_CONFIG`, else `./evener.yaml`, else
/// `/etc/evener/evener.yaml`.
pub fn config_file(named: Option<PathBuf>) -> PathBuf {
    let local = Path::new("evener.yaml");
    let global = Path::new("/etc/evener/evener.yaml");
    let from_environment = || env("EVENER_CONFIG").filter(|file| !file.is_empty());
    named.or_else(|| from_environment().map(PathBuf::from)).unwrap_or_else(|| {
        // With neither there the local one is named in the error: it is the one to write first.
        if !local.exists() && global.exists() { global.to_owned() } else { local.to_owned() }
    })
}

/// The environment, for `config`, which does not read it itself.
pub fn env(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    std::env::var(name).ok()
}
