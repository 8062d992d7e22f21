//! The table of known paths in conf/README.md, made from the rows.
use super::{Duty, GROUPS, Group, ModelAt, Row};
use std::fmt::Write as _;

/// Markdown: a line for each API.
pub fn paths_reference() -> String {
    let mut out = "| API, below | a model works on it | facts | management | health |\n\
                   | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for group in GROUPS {
        let bases = group.bases.iter().filter(|base| !base.is_empty());
        let bases: Vec<String> = bases.map(|base| format!("`{base}`")).collect();
        let below =
            if bases.is_empty() { String::new() } else { format!(": {}", bases.join(", ")) };
        let _ = writeln!(
            out,
            "| {}{below} | {} | {} | {} | {} |",
            group.title,
            paths(group, |duty| duty == Duty::Inference),
            paths(group, |duty| matches!(duty, Duty::Lookup | Duty::Page)),
            paths(group, |duty| duty == Duty::Management),
            if group.health.is_empty() { String::new() } else { format!("`{}`", group.health) },
        );
    }
    out
}

fn paths(group: &Group, which: impl Fn(Duty) -> bool) -> String {
    let rows = group.rows.iter().filter(|row| which(row.duty));
    let paths: Vec<String> = rows.map(|row| shown(group, row)).collect();
    paths.join(", ")
}

/// A path with what is not usual of it.
fn shown(group: &Group, row: &Row) -> String {
    let path = if row.path.is_empty() { group.bases[0] } else { row.path };
    let mut notes = Vec::new();
    match row.model {
        ModelAt::KnownBody if row.duty == Duty::Inference => {
            notes.push("a known `model`".to_owned());
        }
        ModelAt::Query(parameter) => notes.push(format!("`?{parameter}=`")),
        ModelAt::Path | ModelAt::Body | ModelAt::KnownBody => {}
    }
    let tunnel = matches!(row.model, ModelAt::Query(_));
    if row.duty == Duty::Inference && !row.repeats && !tunnel {
        notes.push("not repeated".to_owned());
    }
    if row.local.is_some() {
        notes.push("by Evener".to_owned());
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    format!("`{path}`{notes}")
}
