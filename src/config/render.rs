//! Diagnostics as text in the form compilers made familiar, and as JSON.
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use std::ops::Range;

/// Stands where a secret was.
pub(super) const MASK: &str = "***";
/// Stands where the hash of a key was.
pub(super) const MASKED_HASH: &str = "sha256:***";

pub(super) fn text(all: &Diagnostics, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut out = String::new();
    for item in all.items() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&one(all, item, &renderer));
        out.push('\n');
    }
    out
}

pub(super) fn json(all: &Diagnostics) -> serde_json::Value {
    let one = |item: &Diagnostic| {
        serde_json::json!({
            "code": item.code,
            "severity": item.severity.as_str(),
            "message": item.message,
            "file": all.file,
            "line": item.line,
            "column": item.column,
            "help": item.help,
        })
    };
    all.items().iter().map(one).collect()
}

fn one(all: &Diagnostics, item: &Diagnostic, renderer: &Renderer) -> String {
    let level = match item.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(item.message.as_str()).id(item.code);
    let line = line_of(&all.source, item.span.start);
    let (quoted, span) = quote(all, &line, &item.span);
    let mut group = if all.source.is_empty() {
        title.element(Origin::path(all.file.as_str()))
    } else {
        let mark = AnnotationKind::Primary.span(span);
        let mark = if item.label.is_empty() { mark } else { mark.label(item.label.as_str()) };
        title.element(
            Snippet::source(quoted.as_str())
                .path(all.file.as_str())
                .line_start(item.line)
                .annotation(mark),
        )
    };
    if let Some(help) = &item.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    tidy(&renderer.render(&[group]), all, item)
}

/// The byte range of the line around `byte`, without its end.
fn line_of(source: &str, byte: usize) -> Range<usize> {
    let byte = byte.min(source.len());
    let start = source[..byte].rfind('\n').map_or(0, |newline| newline + 1);
    let end = source[start..].find(['\n', '\r']).map_or(source.len(), |length| start + length);
    start..end
}

/// The text without its secrets, also those in comments.
pub(super) fn masked(all: &Diagnostics) -> String {
    let mut secrets = all.secrets.clone();
    secrets.extend(super::secrets::of_comments(&all.source));
    secrets.sort_by_key(|secret| secret.start);
    let (mut text, mut at) = (String::new(), 0);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if secret.start >= at {
            text.push_str(&all.source[at..secret.start]);
            text.push_str(MASK);
        }
        at = at.max(secret.end);
    }
    text + &all.source[at..]
}

/// What is shorter may be part of any word.
const LEAST: usize = 4;

/// Masks secrets of the file in a text that tells of a value: what follows a key as in the file, and holds one of them.
pub(super) fn mask_values(all: &Diagnostics, text: &mut String) {
    let known = || all.secrets.iter().map(|secret| all.source[secret.clone()].trim());
    for value in super::secrets::of_text(text).into_iter().rev() {
        if known().any(|secret| secret.len() >= LEAST && text[value.clone()].contains(secret)) {
            text.replace_range(value, &format!(" {MASK}"));
        }
    }
}

/// The line with its secrets masked, and where `span` is in it.
fn quote(all: &Diagnostics, line: &Range<usize>, span: &Range<usize>) -> (String, Range<usize>) {
    let mut quoted = String::new();
    let mut at = line.start;
    // Places in the file, and where they went in the quotation.
    let (mut start, mut end) = (None, None);
    let mut secrets: Vec<&Range<usize>> = all.secrets.iter().collect();
    secrets.sort_by_key(|secret| secret.start);
    for secret in secrets {
        let from = secret.start.max(at);
        let to = secret.end.min(line.end);
        if from >= to {
            continue;
        }
        let keep = |place: usize| (place >= at && place <= from).then(|| quoted.len() + place - at);
        start = start.or_else(|| keep(span.start));
        end = end.or_else(|| keep(span.end));
        quoted.push_str(&all.source[at..from]);
        if (from..to).contains(&span.start) {
            start = start.or(Some(quoted.len()));
        }
        quoted.push_str(MASK);
        if span.end > from && span.end <= to {
            end = Some(quoted.len());
        }
        at = to;
    }
    let keep = |place: usize| quoted.len() + place.clamp(at, line.end) - at;
    let start = start.unwrap_or_else(|| keep(span.start));
    let end = end.unwrap_or_else(|| keep(span.end)).max(start);
    quoted.push_str(&all.source[at..line.end]);
    (quoted, start..end)
}

/// Two touches on what the renderer made: the column is that of the file even behind a mask, and no
/// empty gutter stands between the quoted line and the help.
fn tidy(rendered: &str, all: &Diagnostics, item: &Diagnostic) -> String {
    let mut lines: Vec<String> = Vec::new();
    let shown = format!("{}:{}:", all.file, item.line);
    for line in rendered.lines() {
        if lines.len() < 3
            && line.contains("-->")
            && let Some(at) = line.find(&shown)
        {
            let rest = line[at + shown.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
            lines.push(format!("{}{shown}{}{rest}", &line[..at], item.column));
            continue;
        }
        let is_help = bare(line).trim_start().starts_with("= help");
        if is_help && lines.last().is_some_and(|last| bare(last).trim() == "|") {
            lines.pop();
        }
        lines.push(line.to_owned());
    }
    lines.join("\n")
}

/// Without the colors.
fn bare(line: &str) -> String {
    let mut out = String::new();
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '\u{1b}' => escaped = true,
            _ if escaped => escaped = !c.is_ascii_alphabetic(),
            _ => out.push(c),
        }
    }
    out
}
