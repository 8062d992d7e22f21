//! The status as a table for a terminal.
use super::mirror::sentence;
use super::split::{in_words, until};
use super::terminal::{Paint, Tone, clean};
use crate::admin::{ModelStatus, ReplicaStatus, Status, VersionStatus};
use std::fmt::Write as _;

const TITLES: [&str; 7] =
    ["REPLICA", "STATE", "IN-FLIGHT", "SLOWNESS", "REQUESTS", "FAILURES", "REASON"];

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Board<'a> {
    All(&'a Status),
    Model(&'a ModelStatus),
}

/// Renders it; all text from the server is cleaned here.
pub(super) fn board(shown: &Board<'_>, paint: Paint) -> String {
    let mut out = String::new();
    let models = match shown {
        Board::All(status) => {
            heading(&mut out, status, paint);
            &status.models[..]
        }
        Board::Model(model) => std::slice::from_ref(*model),
    };
    let widths = widths(models);
    for (i, model) in models.iter().enumerate() {
        if i > 0 || matches!(shown, Board::All(_)) {
            out.push('\n');
        }
        one_model(&mut out, model, &widths, paint);
    }
    out
}

fn heading(out: &mut String, status: &Status, paint: Paint) {
    let (tone, word) = match (status.draining, status.ready) {
        (true, _) => (Tone::Warn, "draining"),
        (false, true) => (Tone::Good, "ready"),
        (false, false) => (Tone::Warn, "not ready"),
    };
    let up = uptime(status.uptime_seconds);
    line(
        out,
        &format!(
            "evener {}  {}  generation {}  up {up}  {}",
            clean(&status.version),
            paint.on(tone, word),
            status.generation,
            clean(&status.config.file),
        ),
    );
    for listener in &status.listeners {
        line(out, &format!("listening {} {}", clean(&listener.name), clean(&listener.address)));
    }
    if status.predecessor_drains {
        line(out, "the process before this one still finishes what it runs");
    }
    let last = &status.config.last_reload;
    if last.result != "rejected" {
        return;
    }
    line(out, &paint.on(Tone::Bad, &format!("the file was rejected at {:.0}:", last.at)));
    for diagnostic in &last.diagnostics {
        let text = |key: &str| clean(diagnostic[key].as_str().unwrap_or_default());
        let place = diagnostic["line"].as_u64().zip(diagnostic["column"].as_u64());
        let place = place.map_or_else(String::new, |(line, column)| format!("{line}:{column} "));
        let said = format!("  {place}{}[{}]: {}", text("severity"), text("code"), text("message"));
        line(out, &said);
    }
}

fn one_model(out: &mut String, model: &ModelStatus, widths: &[usize; 7], paint: Paint) {
    let mut title = paint.on(Tone::Strong, &clean(&model.name));
    if !model.aliases.is_empty() {
        let aliases = clean(&model.aliases.join(", "));
        title.push_str(&paint.on(Tone::Faint, &format!("  also {aliases}")));
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
        line(out, &share_line(version, paint));
        let titles = TITLES.map(|title| (title.to_owned(), Tone::Faint));
        row(out, &titles, widths, paint);
        for replica in &version.replicas {
            row(out, &cells(replica), widths, paint);
        }
    }
}

fn share_line(version: &VersionStatus, paint: Paint) -> String {
    let mut text = format!("  {}  {}% set", clean(&version.name), figure(version.share));
    if (version.share - version.configured_share).abs() > 1e-6 {
        write!(text, " ({}% in the file)", figure(version.configured_share))
            .expect("a String takes everything");
    }
    let observed = version.observed_share;
    let observed = observed.map_or("-".to_owned(), |share| format!("{}%", figure(share)));
    let s = if version.requests_total == 1 { "" } else { "s" };
    let rest = format!(", {observed} observed, {} request{s}", version.requests_total);
    text + &paint.on(Tone::Faint, &rest)
}

fn cells(replica: &ReplicaStatus) -> [(String, Tone); 7] {
    let tone = match replica.state.as_str() {
        "healthy" => Tone::Good,
        "unhealthy" | "ejected" => Tone::Bad,
        _ => Tone::Warn,
    };
    let busy = match replica.slots {
        Some(slots) => format!("{}/{slots}", replica.in_flight),
        None => replica.in_flight.to_string(),
    };
    let failed = if replica.failures_total > 0 { Tone::Warn } else { Tone::Plain };
    [
        (clean(&replica.url), Tone::Plain),
        (clean(&replica.state), tone),
        (busy, Tone::Plain),
        (format!("{:.2}x", replica.slowness), Tone::Plain),
        (replica.requests_total.to_string(), Tone::Plain),
        (replica.failures_total.to_string(), failed),
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

/// The same columns for all models, so that the eye can run down.
fn widths(models: &[ModelStatus]) -> [usize; 7] {
    let mut widths = TITLES.map(str::len);
    let replicas = models.iter().flat_map(|m| &m.versions).flat_map(|v| &v.replicas);
    for replica in replicas {
        for (width, (text, _)) in widths.iter_mut().zip(cells(replica)) {
            *width = (*width).max(text.chars().count());
        }
    }
    widths
}

fn row(out: &mut String, cells: &[(String, Tone); 7], widths: &[usize; 7], paint: Paint) {
    out.push_str("    ");
    for (i, ((text, tone), width)) in cells.iter().zip(widths).enumerate() {
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

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// At most two decimals.
fn figure(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn uptime(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Status {
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

    #[test]
    fn the_table_is_aligned_and_clean() {
        let text = board(&Board::All(&status()), Paint(false));
        let expected = "\
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
        let colored = board(&Board::All(&status), Paint(true));
        assert!(colored.contains("\u{1b}[32mhealthy\u{1b}[0m    "), "{colored}");
    }
}
