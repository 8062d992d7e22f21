//! `evener explain`: where a request would go, and why.
use super::decision::{self, find};
use super::remote::{AdminArgs, Failure, Remote, finish, understood};
use super::status::StatusFormat;
use super::terminal::{clean, clean_json};
use super::{check, config_file, env};
use crate::config;
use crate::control::{Core, Explanation, Question, explain as follow};
use crate::stats::Moment;
use crate::table::{Candidate, Overrides, RouteUsed, Share};
use clap::Args;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Show where a request would go, and why: by a file, or by the Evener that runs
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  evener explain --path /v1/chat/completions --model chat
  evener explain --live --path /v1/chat/completions --model chat -H x-user-id:u42
  evener explain -c new.yaml --path /v2/models/iris/infer --body @request.json --format json
  evener explain --id 01979f2e-8a51-7c3e-b1c5-0d2a54c1f9ab      one that was served (`x-request-id`)

By a file all replicas are taken as usable and idle; --live asks the running table, with its shares and loads.")]
pub struct ExplainArgs {
    /// The file to go by [default: as `evener run`]
    #[arg(short, long, value_name = "FILE", conflicts_with = "live")]
    pub config: Option<PathBuf>,
    /// Go by the Evener that runs
    #[arg(long)]
    pub live: bool,
    /// One that was served: among the last that Evener keeps, or in the decision log
    #[arg(long, value_name = "REQUEST_ID", conflicts_with_all = ["live", "path", "model", "headers", "key", "body", "client_ip"])]
    pub id: Option<String>,
    /// The decision log to look in [default: the one that the file names, after Evener was asked]
    #[arg(long, value_name = "FILE", requires = "id")]
    pub log: Option<PathBuf>,
    /// The request's path
    #[arg(long, required_unless_present = "id", default_value = "")]
    pub path: String,
    #[arg(long, default_value = "POST")]
    pub method: String,
    /// A body that names this model, where none is given
    #[arg(long)]
    pub model: Option<String>,
    /// A header; as often as needed
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The name of the key that it comes with: the key itself need not be told
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// The body, or @FILE
    #[arg(long)]
    pub body: Option<String>,
    /// The client's address, for `hash_on: [client_ip]`
    #[arg(long, value_name = "IP")]
    pub client_ip: Option<IpAddr>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
    #[command(flatten)]
    pub remote: AdminArgs,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME:VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

pub async fn explain(args: ExplainArgs) -> ExitCode {
    if let Some(id) = &args.id {
        return finish(decided(&args, id).await);
    }
    let question = match question(&args) {
        Ok(question) => question,
        Err(failure) => return finish(Err(failure)),
    };
    if args.live {
        return finish(live(&args, &question).await);
    }
    match config::load(&config_file(args.config.clone()), &env) {
        Ok(checked) => {
            let plan = Arc::new(checked.plan);
            let (core, _) = Core::start(&plan, Overrides::default(), 0, Moment::ZERO);
            let found = follow(core.table(), &question, Moment::ZERO);
            let found = found.map_err(|why| Failure::new(nowhere(&why)));
            finish(found.map(|found| shown(&args, &question, &found)))
        }
        Err(diagnostics) => check::show(&diagnostics),
    }
}

/// What was decided on a request that came.
async fn decided(args: &ExplainArgs, id: &str) -> Result<String, Failure> {
    let told = find(id, args.log.as_deref(), args.config.clone(), &args.remote).await?;
    match args.format {
        StatusFormat::Text => Ok(decision::words(&understood(told)?)),
        StatusFormat::Json => Ok(clean_json(&format!("{told:#}\n"))),
    }
}

fn nowhere(why: &str) -> String {
    format!("the request goes nowhere: {why}")
}

fn question(args: &ExplainArgs) -> Result<Question, Failure> {
    let body =
        match args.body.as_deref().map(|body| (body, body.strip_prefix('@'))) {
            Some((_, Some(file))) => Some(std::fs::read_to_string(file).map_err(|error| {
                Failure::new(format!("cannot read the body from {file}: {error}"))
            })?),
            Some((body, None)) => Some(body.to_owned()),
            None => None,
        };
    Ok(Question {
        method: args.method.to_ascii_uppercase(),
        path: args.path.clone(),
        model: args.model.clone(),
        key: args.key.clone(),
        headers: args.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
        body,
        client_ip: args.client_ip,
    })
}

async fn live(args: &ExplainArgs, question: &Question) -> Result<String, Failure> {
    let body = serde_json::to_value(question)
        .map_err(|error| Failure::new(format!("the request cannot be told: {error}")))?;
    let answer = Remote::new(&args.remote)?.post("/api/v1/explain", &body).await?.good()?;
    Ok(shown(args, question, &understood(answer)?))
}

fn shown(args: &ExplainArgs, question: &Question, found: &Explanation) -> String {
    match args.format {
        StatusFormat::Text => words(question, found),
        StatusFormat::Json => {
            let json = serde_json::to_string_pretty(found).expect("texts and numbers are JSON");
            clean_json(&(json + "\n"))
        }
    }
}

fn words(question: &Question, found: &Explanation) -> String {
    let mut text = format!("{} {}\n", clean(&question.method), clean(&question.path));
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "  {name:<9}{what}");
    };
    line("route", &route(found.route.as_ref()));
    if let Some(key) = &found.api_key {
        line("asked by", &format!("key {}", clean(key)));
    }
    let model = clean(&found.model);
    match &found.named {
        Some(named) if named.name == found.model => {
            line("model", &format!("{model}, named in the {}", clean(&named.found_in)));
        }
        Some(named) => line(
            "model",
            &format!("{model}: `{}` in the {}", clean(&named.name), clean(&named.found_in)),
        ),
        None => line("model", &format!("{model}: the request names none")),
    }
    if let Some(key) = &found.key {
        let [from, to] = key.segment;
        line(
            "key",
            &format!(
                "{}, whose point is {:.6} ({}), in the part from {from:.6} to {to:.6}",
                key.source, key.point, key.hash
            ),
        );
    }
    line("shares", &shares(&found.shares));
    let version = found.version.as_ref().map_or_else(|| "drawn".to_owned(), |v| clean(v));
    line("version", &format!("{version}: {}", clean(&found.reason)));
    line("balance", &found.balance);
    for each in &found.replicas {
        let picked = found.picked.as_ref() == Some(&each.url);
        candidate(&mut text, each, picked, found.version.is_none());
    }
    text
}

pub(super) fn route(used: Option<&RouteUsed>) -> String {
    used.map_or_else(
        || "none in the file: every path is served".to_owned(),
        |route| format!("line {} of the file, which takes {}", route.line, clean(&route.takes)),
    )
}

pub(super) fn shares(of: &[Share]) -> String {
    let shares = of.iter().map(|share| format!("{} {}%", clean(&share.version), share.share));
    shares.collect::<Vec<_>>().join(", ")
}

pub(super) fn candidate(text: &mut String, candidate: &Candidate, picked: bool, versions: bool) {
    let mark = if picked { ">" } else { " " };
    let version = if versions { clean(&candidate.version) + " " } else { String::new() };
    let slots = candidate.slots.map(|slots| format!(" of {slots}")).unwrap_or_default();
    let score =
        candidate.score.map_or_else(|| "not usable".to_owned(), |s| format!("score {s:.2}"));
    let reason = candidate.reason.as_deref().map(|reason| format!("  {}", clean(reason)));
    let _ = writeln!(
        text,
        "  {mark} {version}{}  {}  {score}  {}{slots} in flight  weight {}  slowness {:.2}{}",
        clean(&candidate.url),
        candidate.state,
        candidate.in_flight,
        candidate.weight,
        candidate.slowness,
        reason.unwrap_or_default()
    );
}
