//! One request that was decided, as people read it.
use super::explain::{candidate, route, shares};
use super::remote::{AdminArgs, Failure, Remote, segment};
use super::terminal::clean;
use super::{config_file, env};
use crate::config;
use crate::observe::{Assignment, rotated};
use crate::table::{Candidate, LogTarget};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// What is read of a line of the decision log.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) time: jiff::Timestamp,
    request_id: String,
    pub(super) method: String,
    path: String,
    query: Option<String>,
    /// The name of the key that it came with.
    key: Option<String>,
    pub(super) model: Option<String>,
    pub(super) version: Option<String>,
    pub(super) replica: Option<String>,
    status: u16,
    grpc_status: Option<u16>,
    pub(super) outcome: String,
    pub(super) error: Option<String>,
    pub(super) attempts: u32,
    #[serde(default)]
    attempt_log: Vec<Attempt>,
    pub(super) duration_ms: f64,
    pub(super) first_byte_ms: Option<f64>,
    #[serde(default)]
    fail_open: bool,
    pub(super) assignment: Option<Assignment>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    version: String,
    replica: String,
    status: u16,
    grpc_status: Option<u16>,
    outcome: String,
    began_ms: f64,
    duration_ms: f64,
    #[serde(default)]
    candidates: Vec<Candidate>,
}

/// `503`, `grpc-14`.
fn status(http: u16, grpc: Option<u16>) -> String {
    grpc.map_or_else(|| http.to_string(), |status| format!("grpc-{status}"))
}

impl Told {
    /// Path and query.
    pub(super) fn target(&self) -> String {
        match &self.query {
            Some(query) => clean(&format!("{}?{query}", self.path)),
            None => clean(&self.path),
        }
    }

    pub(super) fn status(&self) -> String {
        status(self.status, self.grpc_status)
    }
}

/// Asks the Evener that runs, then the decision logs: `log`, or the one that the configuration names.
pub(super) async fn find(
    id: &str,
    log: Option<&Path>,
    config: Option<PathBuf>,
    remote: &AdminArgs,
) -> Result<Value, Failure> {
    let asked = match log {
        Some(_) => None,
        None => Some(ask(id, remote).await),
    };
    if let Some(Ok(Some(found))) = asked {
        return Ok(found);
    }
    let file = log.map(Path::to_owned).or_else(|| configured(config));
    if let Some(file) = &file
        && let Some(found) = search(file, id)?
    {
        return Ok(found);
    }
    let known = match (asked, &file) {
        (Some(Err(failure)), None) => return Err(failure),
        (Some(Ok(_)), None) => "among the last that Evener keeps; a decision log keeps more: \
             `telemetry: {decision_log: {file: decisions.jsonl}}`"
            .to_owned(),
        (Some(Ok(_)), Some(file)) => {
            format!("among the last that Evener keeps, nor in {} or before", file.display())
        }
        (None | Some(Err(_)), Some(file)) => format!("in {} or before", file.display()),
        (None, None) => unreachable!("one of them is asked"),
    };
    Err(Failure::new(format!("no request `{id}` is {known}")))
}

async fn ask(id: &str, remote: &AdminArgs) -> Result<Option<Value>, Failure> {
    let path = format!("/api/v1/decisions?id={}", segment(id));
    let answer = Remote::new(remote)?.get(&path).await?.good()?;
    Ok(answer["decisions"].as_array().and_then(|found| found.last()).cloned())
}

/// Where the file that `evener run` would take says that decisions are logged.
fn configured(config: Option<PathBuf>) -> Option<PathBuf> {
    let checked = config::load(&config_file(config), &env).ok()?;
    match checked.plan.decision_log?.file {
        LogTarget::File(path) => Some(path),
        LogTarget::Stdout | LogTarget::Stderr => None,
    }
}

/// The newest line of this id, in a log and what was put aside of it.
fn search(log: &Path, id: &str) -> Result<Option<Value>, Failure> {
    let files = std::iter::once(log.to_owned()).chain((1..).map(|age| rotated(log, age)));
    for (age, file) in files.enumerate() {
        let opened = match std::fs::File::open(&file) {
            Ok(opened) => opened,
            Err(_) if age > 0 => break,
            Err(error) => {
                let what = format!("cannot read {}: {error} (--log)", file.display());
                return Err(Failure::new(what));
            }
        };
        let mut found = None;
        for line in BufReader::new(opened).lines().map_while(Result::ok) {
            if line.contains(id)
                && let Ok(told) = serde_json::from_str::<Value>(&line)
                && told["request_id"] == id
            {
                found = Some(told);
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Every step of it.
pub(super) fn words(told: &Told) -> String {
    let mut text = format!(
        "{} {}  {}  {}\n",
        clean(&told.method),
        told.target(),
        told.time,
        clean(&told.request_id)
    );
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "  {name:<9}{what}");
    };
    if let Some(key) = &told.key {
        line("asked by", &format!("key {}", clean(key)));
    }
    if let Some(assignment) = &told.assignment {
        assigned(told, assignment, &mut line);
    } else {
        line("model", &told.model.as_deref().map_or("none".to_owned(), clean));
        if let Some(version) = &told.version {
            line("version", &clean(version));
        }
        line("reasons", "nobody wanted to know them when it came; what became of it:");
    }
    let ended = [
        format!("{} {}", told.status(), clean(&told.outcome)),
        told.error.as_deref().map(|error| format!(" ({})", clean(error))).unwrap_or_default(),
        format!(" after {}", millis(told.duration_ms)),
        told.first_byte_ms
            .map(|first| format!(", first byte after {}", millis(first)))
            .unwrap_or_default(),
    ];
    for (i, attempt) in told.attempt_log.iter().enumerate() {
        let _ = writeln!(
            text,
            "  attempt {}  {}/{}  {} {}  {} after {}",
            i + 1,
            clean(&attempt.version),
            clean(&attempt.replica),
            status(attempt.status, attempt.grpc_status),
            clean(&attempt.outcome),
            millis(attempt.duration_ms),
            millis(attempt.began_ms),
        );
        for of in &attempt.candidates {
            candidate(&mut text, of, of.url == attempt.replica, false);
        }
    }
    let _ = writeln!(text, "  outcome  {}", ended.concat());
    text
}

fn assigned(told: &Told, assignment: &Assignment, line: &mut impl FnMut(&str, &str)) {
    line("route", &route(assignment.route.as_ref()));
    let Assignment { generation, point, hash, segment: [from, to], .. } = assignment;
    line(
        "model",
        &format!("{}, generation {generation}", told.model.as_deref().map_or(String::new(), clean)),
    );
    let key = assignment
        .key
        .as_ref()
        .map_or_else(|| "no sticky key: the next of the sequence".to_owned(), |key| clean(key));
    let owner = clean(&assignment.owner);
    line("point", &format!("{point:.6} ({hash}), {key}; {owner} owns {from:.6} to {to:.6}"));
    line("shares", &shares(&assignment.shares));
    let served = told.version.as_deref().map_or("none".to_owned(), clean);
    let why = if told.fail_open {
        "nothing was usable, and it serves all the same"
    } else if assignment.pinned {
        "`x-evener-version` asked for it"
    } else if served == owner {
        "the point is in its part"
    } else {
        "the owner had no usable replica"
    };
    line("version", &format!("{served}: {why}"));
    line("balance", &assignment.balance);
}

pub(super) fn millis(ms: f64) -> String {
    if ms >= 10_000.0 {
        format!("{:.1} s", ms / 1000.0)
    } else if ms >= 10.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.2} ms")
    }
}
