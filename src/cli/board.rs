//! The status as a table for a terminal.
use super::figures;
use super::heading::heading;
use super::mirror::sentence;
use super::problems;
use super::rates::{self, Rate, Rates};
use super::split::{in_words, until};
use super::terminal::{Paint, Tone, clean};
use crate::admin::{ModelStatus, ReplicaStatus, Status, VersionStatus};
use std::fmt::Write as _;

const TITLES: [&str; 7] =
    ["REPLICA", "STATE", "IN-FLIGHT", "SLOWNESS", "REQUESTS", "FAILURES", "REASON"];

/// So many characters of a reason are seen, where columns have to go.
const REASON_AT_LEAST: usize = 16;

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Board<'a> {
    All(&'a Status),
    Model(&'a ModelStatus),
}

/// How it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    pub(super) paint: Paint,
    /// In place of totals.
    pub(super) rates: Option<&'a Rates>,
    /// Only replicas with something to say.
    pub(super) folded: bool,
    /// Of the terminal; `None`: as many as it takes.
    pub(super) columns: Option<usize>,
}

/// Renders it; all text from the server is cleaned here.
pub(super) fn board(shown: &Board<'_>, look: &Look<'_>) -> String {
    let mut out = String::new();
    let models = match shown {
        Board::All(status) => {
            out.push_str(&problems::lines(&status.problems, look.paint));
            heading(&mut out, status, look.paint);
            &status.models[..]
        }
        Board::Model(model) => {
            out.push_str(&problems::lines(model.problems.iter().flatten(), look.paint));
            std::slice::from_ref(*model)
        }
    };
    let widths = widths(models, look);
    for (i, model) in models.iter().enumerate() {
        if i > 0 || matches!(shown, Board::All(_)) {
            out.push('\n');
        }
        one_model(&mut out, model, &widths, look);
    }
    out
}

fn one_model(out: &mut String, model: &ModelStatus, widths: &[usize; 7], look: &Look<'_>) {
    let paint = look.paint;
    let mut title = paint.on(Tone::Strong, &clean(&model.name));
    if !model.aliases.is_empty() {
        let aliases = clean(&model.aliases.join(", "));
        title.push_str(&paint.on(Tone::Faint, &format!("  also {aliases}")));
    }
    if let Some(rate) = look.rates.and_then(|rates| rates.of_model(model)) {
        title.extend(["  ", &rates::in_words(rate, paint)]);
    }
    line(out, &title);
    if let Some(set) = &model.split_override {
        let file = in_words(&model.versions, |version| version.configured_share);
        let why = set.reason.as_ref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
        let said = format!("by {}, {}{why}; the file says {file}", clean(&set.who), until(set));
        line(out, &format!("  {} {said}", paint.on(Tone::Warn, "split set")));
        let lasting = set.yaml.lines().last().unwrap_or_default();
        line(
            out,
            &paint.on(Tone::Faint, &format!("    to make it last: {}", clean(lasting.trim()))),
        );
    }
    if let Some(canary) = &model.canary {
        let tone = match canary.state.as_str() {
            "promoted" | "passing" => Tone::Good,
            "failing" | "rolled_back" => Tone::Bad,
            _ => Tone::Warn,
        };
        let state = paint.on(tone, &clean(&canary.state));
        line(out, &format!("  canary {state}: {}", clean(&canary.sentence)));
    }
    if let Some(mirror) = &model.mirror {
        line(out, &format!("  mirror {}", sentence(mirror)));
    }
    for version in &model.versions {
        line(out, &share_line(&model.name, version, look));
        if let Some(told) = figures::latencies(&version.now) {
            line(out, &paint.on(Tone::Faint, &format!("    {told}")));
        }
        if let Some(why) = &version.tls_fault {
            line(
                out,
                &paint.on(Tone::Bad, &format!("    keeps its old files of TLS: {}", clean(why))),
            );
        }
        let shown: Vec<_> = version.replicas.iter().filter(|one| look.shows(one)).collect();
        if !shown.is_empty() || !look.folded {
            row(out, &titles(look).map(|title| (title.to_owned(), Tone::Faint)), widths, paint);
        }
        for replica in &shown {
            row(out, &cells((&model.name, &version.name, replica), look), widths, paint);
        }
        let folded = version.replicas.len() - shown.len();
        if folded > 0 {
            line(out, &paint.on(Tone::Faint, &format!("    {folded} healthy")));
        }
    }
}

impl Look<'_> {
    fn shows(&self, replica: &ReplicaStatus) -> bool {
        !self.folded || replica.state != "healthy" || !why(replica).is_empty()
    }
}

fn titles(look: &Look<'_>) -> [&'static str; 7] {
    let [url, state, busy, slowness, requests, failures, reason] = TITLES;
    match look.rates {
        Some(_) => [url, state, busy, slowness, "REQ/S", "ERR/S", reason],
        None => [url, state, busy, slowness, requests, failures, reason],
    }
}

fn share_line(model: &str, version: &VersionStatus, look: &Look<'_>) -> String {
    let mut text = format!("  {}  {}% set", clean(&version.name), figure(version.share));
    if (version.share - version.configured_share).abs() > 1e-6 {
        write!(text, " ({}% in the file)", figure(version.configured_share))
            .expect("a String takes everything");
    }
    let observed = version.observed_share;
    let observed = observed.map_or("-".to_owned(), |share| format!("{}%", figure(share)));
    let s = if version.requests_total == 1 { "" } else { "s" };
    let Some(rates) = look.rates else {
        let rest = format!(", {observed} observed, {} request{s}", version.requests_total);
        text.push_str(&look.paint.on(Tone::Faint, &rest));
        if version.now.requests_per_second > 0.0 {
            text.extend([", ", &figures::traffic(&version.now, look.paint)]);
        }
        return text;
    };
    text.push_str(&look.paint.on(Tone::Faint, &format!(", {observed} observed")));
    if let Some(rate) = rates.of_version(model, &version.name) {
        text.extend([", ", &rates::in_words(rate, look.paint)]);
    }
    text
}

fn cells(
    (model, version, replica): (&str, &str, &ReplicaStatus),
    look: &Look<'_>,
) -> [(String, Tone); 7] {
    let tone = match replica.state.as_str() {
        "healthy" => Tone::Good,
        "unhealthy" | "ejected" => Tone::Bad,
        _ => Tone::Warn,
    };
    let busy = match replica.slots {
        Some(slots) => format!("{}/{slots}", replica.in_flight),
        None => replica.in_flight.to_string(),
    };
    let rate = look.rates.map(|rates| rates.of_replica(model, version, replica));
    let (requests, failures, failed) = match rate {
        None => {
            let (requests, failures) = (replica.requests_total, replica.failures_total);
            (requests.to_string(), failures.to_string(), failures > 0)
        }
        Some(None) => ("-".to_owned(), "-".to_owned(), false),
        Some(Some(Rate { requests, errors })) => {
            (rates::figure(requests), rates::figure(errors), errors > 0.0)
        }
    };
    let failed = if failed { Tone::Warn } else { Tone::Plain };
    [
        (clean(&replica.url), Tone::Plain),
        (clean(&replica.state), tone),
        (busy, Tone::Plain),
        (format!("{:.2}x", replica.slowness), Tone::Plain),
        (requests, Tone::Plain),
        (failures, failed),
        (clean(&why(replica)), Tone::Faint),
    ]
}

/// The reason, with the countdown of an ejection or what keeps it from happening.
fn why(replica: &ReplicaStatus) -> String {
    let mut why = replica.reason.clone().unwrap_or_default();
    let Some(ejection) = &replica.ejection else { return why };
    if replica.state == "ejected" {
        let left = match ejection.seconds_left {
            Some(left) if left > 0.0 => format!("{left:.0} s left"),
            Some(_) => "waits for its health check".to_owned(),
            None => "until it is restored".to_owned(),
        };
        why = format!("{left}; {why}");
    }
    if let Some(refused) = &ejection.refused {
        why.push_str("not ejected: ");
        why.push_str(refused);
    }
    why
}

/// The same columns for all models, so that the eye can run down. None: it is left out.
fn widths(models: &[ModelStatus], look: &Look<'_>) -> [usize; 7] {
    let mut widths = titles(look).map(str::len);
    let versions = models.iter().flat_map(|m| m.versions.iter().map(|v| (&*m.name, v)));
    for (model, version) in versions {
        for replica in version.replicas.iter().filter(|replica| look.shows(replica)) {
            let cells = cells((model, &version.name, replica), look);
            for (width, (text, _)) in widths.iter_mut().zip(cells) {
                *width = (*width).max(text.chars().count());
            }
        }
    }
    // The reason is worth more than these.
    for spare in [3, 2] {
        let taken: usize = widths[..6].iter().filter(|w| **w > 0).map(|w| w + 2).sum();
        if look.columns.is_some_and(|columns| 4 + taken + REASON_AT_LEAST > columns) {
            widths[spare] = 0;
        }
    }
    widths
}

fn row(out: &mut String, cells: &[(String, Tone); 7], widths: &[usize; 7], paint: Paint) {
    out.push_str("    ");
    for (i, ((text, tone), width)) in cells.iter().zip(widths).enumerate() {
        if *width == 0 {
            continue;
        }
        let gap = " ".repeat(width - text.chars().count());
        let text = paint.on(*tone, text);
        match i {
            // Numbers to the right, where they can be compared.
            2..=5 => write!(out, "{gap}{text}  "),
            6 => write!(out, "{text}"),
            _ => write!(out, "{text}{gap}  "),
        }
        .expect("a String takes everything");
    }
    let end = out.trim_end_matches(' ').len();
    out.truncate(end);
    out.push('\n');
}

pub(super) fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// At most two decimals.
fn figure(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::cli) fn status() -> Status {
        let replica = |url: &str, state: &str, reason: Option<&str>| {
            json!({"url": url, "state": state, "reason": reason, "since": "2026-01-01T00:00:00Z",
                "in_flight": 2, "slots": 64, "weight": 1.0, "slowness": 1.25,
                "requests_total": 60, "failures_total": 0})
        };
        serde_json::from_value(json!({
            "version": "0.1.0", "generation": 3, "ready": true, "draining": false,
            "started_at": "2026-01-01T00:00:00Z", "uptime_seconds": 3725.0,
            "config": {"file": "evener.yaml", "hash": "x", "loaded_at": "2026-01-01T00:00:00Z",
                "last_reload": {"result": "rejected", "at": "2026-01-01T00:00:00Z", "diagnostics": [
                    {"severity": "error", "code": "unknown-key", "message": "no", "line": 3, "column": 1}]}},
            "listeners": [{"name": "public", "address": "127.0.0.1:8080"}],
            "models": [{"name": "chat", "aliases": ["gpt"], "canary": null, "versions": [
                {"name": "v1", "share": 95.0, "configured_share": 95.0, "observed_share": 94.876,
                 "requests_total": 123, "replicas": [
                    replica("http://10.0.0.1:8000", "healthy", None),
                    replica("http://b:1", "unhealthy", Some("refused\u{1b}[2J"))]},
                {"name": "v2", "share": 5.0, "configured_share": 5.0, "observed_share": null,
                 "requests_total": 1, "replicas": []}]}]
        }))
        .unwrap()
    }

    fn look(rates: Option<&Rates>) -> Look<'_> {
        Look { paint: Paint(false), rates, folded: false, columns: None }
    }

    #[test]
    fn a_watched_table_has_rates_and_leaves_out_what_has_nothing_to_say() {
        let before = status();
        let mut after = status();
        after.uptime_seconds += 2.0;
        let version = &mut after.models[0].versions[0];
        version.requests_total += 25;
        version.replicas[1].requests_total += 3;
        version.replicas[1].failures_total += 1;
        let rates = Rates::between(&before, &after).unwrap();
        let folded = Look { folded: true, ..look(Some(&rates)) };
        let text = board(&Board::All(&after), &folded);
        let expected = "
chat  also gpt  12.5 req/s, 0.5 err/s
  v1  95% set, 94.88% observed, 12.5 req/s, 0.5 err/s
    REPLICA     STATE      IN-FLIGHT  SLOWNESS  REQ/S  ERR/S  REASON
    http://b:1  unhealthy       2/64     1.25x    1.5    0.5  refused\\u{1b}[2J
    1 healthy
  v2  5% set, - observed, 0 req/s, 0 err/s
";
        assert!(text.ends_with(expected), "{text}");
        after.started_at += jiff::SignedDuration::from_secs(1);
        assert!(Rates::between(&before, &after).is_none(), "of two processes");
    }

    #[test]
    fn the_table_is_aligned_and_clean() {
        let mut status = status();
        status.problems = serde_json::from_value(json!([{"rank": 2, "severity": "warning",
            "code": "file_rejected", "subject": "e.yaml", "model": null, "sentence": "The file has 1 error",
            "since": "2026-01-01T00:00:00Z", "what_to_do": "look",
            "text": "The file has 1 error\u{1b}[2J: look"}]))
        .unwrap();
        let text = board(&Board::All(&status), &look(None));
        let expected = "\
The file has 1 error\\u{1b}[2J: look
evener 0.1.0  ready  generation 3  up 1h 2m  evener.yaml
listening public 127.0.0.1:8080
the file was rejected at 2026-01-01T00:00:00Z:
  3:1 error[unknown-key]: no

chat  also gpt
  v1  95% set, 94.88% observed, 123 requests
    REPLICA               STATE      IN-FLIGHT  SLOWNESS  REQUESTS  FAILURES  REASON
    http://10.0.0.1:8000  healthy         2/64     1.25x        60         0
    http://b:1            unhealthy       2/64     1.25x        60         0  refused\\u{1b}[2J
  v2  5% set, - observed, 1 request
    REPLICA               STATE      IN-FLIGHT  SLOWNESS  REQUESTS  FAILURES  REASON
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_ejection_shows_how_long_it_lasts_or_why_it_is_refused() {
        let mut replica = status().models.remove(0).versions.remove(0).replicas.remove(0);
        let ejection = json!({"until": null, "seconds_left": 7.6, "count": 1, "cause": "reset",
            "refused": null, "evidence": null});
        replica.state = "ejected".to_owned();
        replica.reason = Some("failed".to_owned());
        replica.ejection = serde_json::from_value(ejection).unwrap();
        assert_eq!(why(&replica), "8 s left; failed");
        let ejection = replica.ejection.as_mut().unwrap();
        ejection.seconds_left = None;
        assert_eq!(why(&replica), "until it is restored; failed");
        let ejection = replica.ejection.as_mut().unwrap();
        ejection.refused = Some("2 are out".to_owned());
        (replica.state, replica.reason) = ("healthy".to_owned(), None);
        assert_eq!(why(&replica), "not ejected: 2 are out");
    }

    #[test]
    fn colors_do_not_move_the_columns() {
        let status = status();
        let colored = board(&Board::All(&status), &Look { paint: Paint(true), ..look(None) });
        assert!(colored.contains("\u{1b}[32mhealthy\u{1b}[0m    "), "{colored}");
    }
}
