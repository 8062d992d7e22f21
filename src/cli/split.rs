//! `evener split`: another division of a model's requests than the file's, for a while.
use super::remote::{AdminArgs, Failure, Remote, finish, segment, understood};
use super::terminal::{clean, clean_lines};
use crate::admin::{ModelStatus, SplitStatus, VersionStatus};
use crate::table::{Shares, in_percent};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// Divide the requests of a model otherwise than its file says
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
It lasts until its time is over, until the file has another split for the model, or until --reset. Stdout has the lines
that would make it last, as YAML. While a canary runs it moves the shares itself: pause it first. Resuming it, or
starting, promoting or aborting one, ends what was set.

Examples:
  evener split chat v1=90 v2=10 --for 15m --reason \"v2 is slow\"   then as the file says again
  evener split chat v1=100                                       versions that are not named get nothing
  evener split chat --reset                                      as the file says, now")]
pub struct SplitArgs {
    pub model: String,
    /// Percents, which sum to 100
    #[arg(
        value_name = "VERSION=PERCENT",
        value_parser = share,
        required_unless_present = "reset",
        conflicts_with = "reset"
    )]
    pub shares: Vec<(String, f64)>,
    /// Take back what was set: the file's split, or that of a paused canary
    #[arg(long)]
    pub reset: bool,
    /// It ends by itself after this long [default: not before it is taken back]
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "reset")]
    pub lasts: Option<String>,
    /// Why, for the timeline
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub remote: AdminArgs,
}

pub async fn split(args: SplitArgs) -> ExitCode {
    finish(give(&args).await)
}

async fn give(args: &SplitArgs) -> Result<String, Failure> {
    let mut body = json!({"reason": args.reason});
    if args.reset {
        body["reset"] = json!(true);
    } else {
        body["shares"] = json!(once_each(&args.shares)?);
    }
    if let Some(lasts) = &args.lasts {
        body["for"] = json!(lasts);
    }
    let path = format!("/api/v1/models/{}/split", segment(&args.model));
    let answer = Remote::new(&args.remote)?.post(&path, &body).await?.good_or_usage()?;
    Ok(describe(&understood(answer)?))
}

fn once_each(shares: &[(String, f64)]) -> Result<Shares, Failure> {
    let mut by_version = Shares::new();
    for (version, percent) in shares {
        if by_version.insert(version.clone(), *percent).is_some() {
            let message = format!("version `{version}` is given two shares");
            return Err(Failure { code: 2, ..Failure::new(message) });
        }
    }
    Ok(by_version)
}

/// YAML, with what else there is to say in comments.
fn describe(model: &ModelStatus) -> String {
    let now = in_words(&model.versions, |version| version.share);
    let Some(set) = &model.split_override else {
        return format!("# {}: {now}\n", clean(&model.name));
    };
    let mut text = format!("# {}: {now}, {}\n", clean(&model.name), until(set));
    let file = in_words(&model.versions, |version| version.configured_share);
    text.extend(["# The file says ", &file, ". To make it last, write there:\n"]);
    if model.canary.is_some() {
        text.push_str("# (another split in the file begins the canary anew)\n");
    }
    text + &clean_lines(&set.yaml)
}

/// "v1=90 v2=10".
pub(super) fn in_words(versions: &[VersionStatus], share: fn(&VersionStatus) -> f64) -> String {
    let each =
        versions.iter().map(|v| format!("{}={}", clean(&v.name), in_percent(share(v) / 100.0)));
    each.collect::<Vec<_>>().join(" ")
}

/// How long a split that was set lasts.
pub(super) fn until(set: &SplitStatus) -> String {
    match set.until {
        Some(until) => format!("until {until:.0}"),
        None => "until it is reset or the file has another split".to_owned(),
    }
}

/// `v1=90`, or `v1=90%`.
fn share(text: &str) -> Result<(String, f64), String> {
    let (version, percent) = text
        .rsplit_once('=')
        .filter(|(version, _)| !version.is_empty())
        .ok_or("write VERSION=PERCENT, such as v1=90")?;
    let percent = percent.trim_end_matches('%');
    let number = percent.parse::<f64>().ok().filter(|number| number.is_finite());
    let number = number.ok_or_else(|| format!("`{percent}` is not a number of percents"))?;
    Ok((version.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_version_and_percents() {
        assert_eq!(share("v1=90"), Ok(("v1".to_owned(), 90.0)));
        assert_eq!(share("a=b=0.5%"), Ok(("a=b".to_owned(), 0.5)));
        for bad in ["v1", "=90", "v1=", "v1=many", "v1=inf"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        let twice = [("v1".to_owned(), 50.0), ("v1".to_owned(), 50.0)];
        assert_eq!(once_each(&twice).unwrap_err().code, 2);
    }

    #[test]
    fn what_is_printed_is_yaml() {
        let version = |name: &str, share: f64, file: f64| {
            json!({"name": name, "share": share, "configured_share": file, "observed_share": null,
                "requests_total": 0, "replicas": []})
        };
        let model: ModelStatus = serde_json::from_value(json!({
            "name": "chat", "aliases": [], "canary": null,
            "versions": [version("v1", 90.0, 95.0), version("v2", 10.0, 5.0)],
            "split_override": {"shares": {"v1": 90.0, "v2": 10.0}, "who": "api", "reason": null,
                "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:15:00.5Z", "seconds_left": 900.0,
                "yaml": "models:\n  chat:\n    split: {v1: 90, v2: 10}\n"},
        }))
        .unwrap();
        let expected = "\
# chat: v1=90 v2=10, until 2026-01-01T00:15:00Z
# The file says v1=95 v2=5. To make it last, write there:
models:
  chat:
    split: {v1: 90, v2: 10}
";
        assert_eq!(describe(&model), expected);
    }
}
