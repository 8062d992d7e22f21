//! `evener reload`, `stop`, `drain`, `undrain`, `eject` and `restore`: orders to an Evener that runs.
use super::remote::{AdminArgs, Failure, Remote, finish, understood};
use super::terminal::{clean, clean_lines};
use super::wait::{limit_of, wait};
use crate::admin::ReplicaStatus;
use crate::control::{Act, Target};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Read the configuration file again
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// Why, for the timeline
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub remote: AdminArgs,
}

/// End: running requests finish first
#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    /// Cut what still runs after this long [default: `shutdown.drain` of the file]
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,
    /// Why, for the timeline
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub remote: AdminArgs,
}

/// What `drain` and `eject` take.
#[derive(Args, Clone, Debug)]
pub struct HoldArgs {
    /// It ends by itself after this long [default: not before it is taken back]
    #[arg(long = "for", value_name = "DURATION")]
    pub lasts: Option<String>,
    #[command(flatten)]
    pub which: ReplicaArgs,
}

/// What all orders about replicas take.
#[derive(Args, Clone, Debug)]
pub struct ReplicaArgs {
    /// A version, or one of its replicas
    #[arg(value_name = "MODEL/VERSION[/URL]", value_parser = target)]
    pub target: Target,
    /// Return when it is done: those taken out run nothing any more, those put back are healthy
    #[arg(long)]
    pub wait: bool,
    /// With --wait: at most so long; then the exit code is 3
    #[arg(long, value_name = "DURATION", default_value = "30m", requires = "wait")]
    pub timeout: String,
    /// Why, for the timeline
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub remote: AdminArgs,
}

pub async fn reload(args: ReloadArgs) -> ExitCode {
    finish(give_reload(&args).await)
}

pub async fn stop(args: StopArgs) -> ExitCode {
    finish(give_stop(&args).await)
}

/// Give replicas no new requests; those that run finish
pub async fn drain(args: HoldArgs) -> ExitCode {
    finish(give_act(&args.which, Act::Drain, args.lasts.as_deref()).await)
}

/// Give drained replicas requests again
pub async fn undrain(args: ReplicaArgs) -> ExitCode {
    finish(give_act(&args, Act::Undrain, None).await)
}

/// Take replicas out as if they had failed
pub async fn eject(args: HoldArgs) -> ExitCode {
    finish(give_act(&args.which, Act::Eject, args.lasts.as_deref()).await)
}

/// End any ejection at once
pub async fn restore(args: ReplicaArgs) -> ExitCode {
    finish(give_act(&args, Act::Restore, None).await)
}

async fn give_reload(args: &ReloadArgs) -> Result<String, Failure> {
    let remote = Remote::new(&args.remote)?;
    let reply = remote.post("/api/v1/reload", &json!({"reason": args.reason})).await?;
    if let Some(text) = reply.body["text"].as_str() {
        return Err(Failure { message: clean_lines(text), code: 1 });
    }
    let body = reply.good()?;
    let mut text = format!(
        "{}: generation {} serves\n",
        clean(body["result"].as_str().unwrap_or("done")),
        body["generation"],
    );
    for change in body["changes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text.extend(["  ", &clean(change), "\n"]);
    }
    Ok(text)
}

async fn give_stop(args: &StopArgs) -> Result<String, Failure> {
    let mut body = json!({"reason": args.reason});
    if let Some(drain) = &args.drain {
        body["drain"] = json!(drain);
    }
    let reply = Remote::new(&args.remote)?.post("/api/v1/stop", &body).await?;
    reply.good_or_usage()?;
    Ok("stopping: running requests finish first\n".to_owned())
}

async fn give_act(args: &ReplicaArgs, act: Act, lasts: Option<&str>) -> Result<String, Failure> {
    let limit = args.wait.then(|| limit_of(&args.timeout)).transpose()?;
    let remote = Remote::new(&args.remote)?;
    let Target { model, version, replica } = &args.target;
    let path = format!("/api/v1/replicas/{}", act.name());
    let mut body =
        json!({"model": model, "version": version, "replica": replica, "reason": args.reason});
    if let Some(lasts) = lasts {
        body["for"] = json!(lasts);
    }
    let answer = remote.post(&path, &body).await?.good_or_usage()?;
    let replicas: Vec<ReplicaStatus> = understood(answer["replicas"].clone())?;
    let replicas = match limit {
        Some(limit) => wait(&remote, &args.target, act, limit).await?,
        None => replicas,
    };
    Ok(replicas.iter().map(describe).collect())
}

fn describe(replica: &ReplicaStatus) -> String {
    let (url, state) = (clean(&replica.url), clean(&replica.state));
    format!("{url}  {state}  {} in flight\n", replica.in_flight)
}

/// `MODEL/VERSION`, or `MODEL/VERSION/URL`. A model's name may hold slashes itself.
fn target(text: &str) -> Result<Target, String> {
    const SCHEMES: [&str; 4] = ["/http://", "/h2c://", "/grpc://", "/unix:"];
    let url_at = SCHEMES.iter().filter_map(|scheme| text.find(scheme)).min();
    let (name, url) = match url_at {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (model, version) = name
        .rsplit_once('/')
        .filter(|(model, version)| !model.is_empty() && !version.is_empty())
        .ok_or("write MODEL/VERSION or MODEL/VERSION/URL, such as chat/v1/http://10.0.0.1:8000")?;
    Ok(Target {
        model: model.to_owned(),
        version: version.to_owned(),
        replica: url.map(as_in_the_file),
    })
}

/// Replicas are known by the spelling that `config` gives them.
fn as_in_the_file(url: &str) -> String {
    if let Some(path) = url.strip_prefix("unix:") {
        return format!("unix:{}", path.strip_prefix("//").unwrap_or(path));
    }
    let url = url.trim_end_matches('/').to_ascii_lowercase();
    url.strip_prefix("grpc://").map(|rest| format!("h2c://{rest}")).unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String, Option<String>) {
        let Target { model, version, replica } = target(text).unwrap();
        (model, version, replica)
    }

    #[test]
    fn a_target_is_a_version_or_a_replica_of_it() {
        let made = |model: &str, version: &str, url: Option<&str>| {
            (model.to_owned(), version.to_owned(), url.map(str::to_owned))
        };
        assert_eq!(parts("chat/v1"), made("chat", "v1", None));
        assert_eq!(parts("chat/v1/http://A:1/"), made("chat", "v1", Some("http://a:1")));
        assert_eq!(parts("meta/llama/v1/grpc://a:1"), made("meta/llama", "v1", Some("h2c://a:1")));
        assert_eq!(parts("m/v/unix:///run/x"), made("m", "v", Some("unix:/run/x")));
        for bad in ["chat", "/v1", "chat/", "chat/http://a:1", ""] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
