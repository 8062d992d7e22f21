//! `evener mirror`: how often the version that gets copies answers as the others do.
use super::remote::{AdminArgs, Failure, Remote, finish, segment, understood};
use super::status::StatusFormat;
use super::terminal::{clean, clean_json};
use crate::admin::{MirrorReport, MirrorStatus};
use crate::mirror::Rate;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::fmt::Write as _;
use std::process::ExitCode;

/// What became of copies that were compared is in the rates already.
const COMPARED: [&str; 2] = ["agreed", "differed"];

/// Compare the answers of another version to copies of the requests
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  evener mirror report chat                 how many answers agree, in what, and the worst pairs (mirror.keep_worst)
  evener mirror report chat --format json   the same for scripts")]
pub struct MirrorArgs {
    #[command(subcommand)]
    pub verb: MirrorCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum MirrorCommand {
    /// How often the answers agree, in what they differ, and the worst pairs
    Report(ReportArgs),
}

#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    pub model: String,
    /// How it is written
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
    #[command(flatten)]
    pub remote: AdminArgs,
}

pub async fn mirror(args: MirrorArgs) -> ExitCode {
    let MirrorCommand::Report(args) = args.verb;
    finish(report(&args).await)
}

async fn report(args: &ReportArgs) -> Result<String, Failure> {
    let path = format!("/api/v1/models/{}/mirror", segment(&args.model));
    let body = Remote::new(&args.remote)?.get(&path).await?.good()?;
    match args.format {
        StatusFormat::Json => Ok(clean_json(&format!("{body:#}\n"))),
        StatusFormat::Text => Ok(describe(&understood(body)?)),
    }
}

fn describe(report: &MirrorReport) -> String {
    let MirrorReport { model, status, found } = report;
    let mut text = format!("{}  mirror {}\n", clean(model), sentence(status));
    let since =
        format!("  {}% of the requests are copied, since {:.0}", status.percent, status.since);
    text.extend([&since, "\n"]);
    for (facet, rate) in &found.by {
        row(&mut text, &clean(facet), rate);
    }
    // One alone would say the same as the whole.
    for (version, rate) in found.from.iter().filter(|_| found.from.len() > 1) {
        row(&mut text, &format!("from {}", clean(version)), rate);
    }
    let rest = status.results.iter().filter(|(name, n)| **n > 0 && !COMPARED.contains(&&***name));
    let rest: Vec<String> = rest.map(|(name, n)| format!("{n} {}", clean(name))).collect();
    if !rest.is_empty() {
        let _ = writeln!(text, "  not compared: {}", rest.join(", "));
    }
    for (place, pair) in found.worst.iter().enumerate() {
        worst(&mut text, place + 1, pair, &status.to);
    }
    text
}

/// "to v2: 270 of 300 answers agree, 90.0% (86.1 to 92.9%)".
pub(super) fn sentence(status: &MirrorStatus) -> String {
    let (to, rate) = (clean(&status.to), &status.rate);
    match rate.agreement {
        None => format!("to {to}: nothing was compared yet"),
        Some(_) => format!(
            "to {to}: {} of {} answers agree, {}",
            rate.agreed,
            rate.compared,
            percents(rate)
        ),
    }
}

/// Rate and interval. One that is not whole is not rounded to look so.
fn percents(rate: &Rate) -> String {
    let agreement = rate.agreement.unwrap_or(0.0) * 100.0;
    let places = if agreement < 100.0 && agreement > 99.9 { 4 } else { 1 };
    let [from, to] = rate.interval.map(|bound| bound * 100.0);
    format!("{agreement:.places$}% ({from:.1} to {to:.1}%)")
}

fn row(text: &mut String, name: &str, rate: &Rate) {
    let counts = format!("{} of {}", rate.agreed, rate.compared);
    let _ = writeln!(text, "  {name:<16} {counts:>16}  {}", percents(rate));
}

fn worst(text: &mut String, place: usize, pair: &Value, to: &str) {
    let read = |value: &Value| clean(value.as_str().unwrap_or_default());
    let from = read(&pair["from"]);
    let facets = pair["differs"].as_array().into_iter().flatten().map(read);
    let _ = writeln!(
        text,
        "\n  {place}. request {}  differs in {}: {}",
        read(&pair["request_id"]),
        facets.collect::<Vec<_>>().join(", "),
        read(&pair["difference"]),
    );
    let shown = |body: &Value| body.as_str().map_or("(not kept)".to_owned(), clean);
    let _ = writeln!(text, "     asked  {}", shown(&pair["request"]));
    for (version, side) in [(&*from, &pair["stable"]), (&*clean(to), &pair["candidate"])] {
        let _ = writeln!(text, "     {version}  {}  {}", side["status"], shown(&side["body"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rate(agreed: u64, compared: u64) -> Value {
        json!({"agreement": agreed as f64 / compared as f64, "agreed": agreed, "compared": compared,
            "interval": [0.861, 0.929]})
    }

    fn report() -> MirrorReport {
        let mut report = rate(270, 300);
        let more = json!({
            "model": "ch\u{1b}at", "to": "v2", "percent": 2.0, "since": "2026-11-24T17:00:00Z", "running": 1,
            "results": {"agreed": 270, "differed": 30, "failed": 4, "timeout": 0},
            "by": {"status": rate(300, 300), "numeric": rate(270, 300)},
            "from": {"v1": rate(270, 300)},
            "worst": [{"request_id": "r1", "from": "v1", "differs": ["numeric"], "difference": "at `a`",
                "request": "{}", "stable": {"status": 200, "body": "a\u{7}"}, "candidate": {"status": 200, "body": null}}],
        });
        let fields = report.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn a_report_says_how_sure_it_is_and_shows_the_worst() {
        let text = describe(&report());
        for wanted in [
            "ch\\u{1b}at  mirror to v2: 270 of 300 answers agree, 90.0% (86.1 to 92.9%)\n",
            "  2% of the requests are copied, since 2026-11-24T17:00:00Z\n",
            "  numeric                270 of 300  90.0%",
            "  not compared: 4 failed\n",
            "  1. request r1  differs in numeric: at `a`\n",
            "     v1  200  a\\u{7}\n     v2  200  (not kept)\n",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        assert!(!text.contains("from v1"), "{text}");
    }

    #[test]
    fn nearly_all_is_not_shown_as_all() {
        let nearly: Rate = serde_json::from_value(rate(99_999, 100_000)).unwrap();
        assert!(percents(&nearly).starts_with("99.9990%"), "{}", percents(&nearly));
        let nothing = Rate { agreement: None, compared: 0, agreed: 0, interval: [0.0, 1.0] };
        let status = MirrorStatus { rate: nothing, ..report().status };
        assert_eq!(sentence(&status), "to v2: nothing was compared yet");
    }
}
