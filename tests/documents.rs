//! The documents keep their word: their YAML is accepted, and they name every metric and no other.
use evener::config::parse_text;
use evener::observe::{METRICS, MetricKind};
use std::fmt::Write as _;
use std::fs;

const REFERENCE: &str = "conf/README.md";
const DOCUMENTS: [&str; 3] = ["README.md", REFERENCE, "systemd/README.md"];
const BEGIN: &str = "<!-- metrics: written by `UPDATE=1 cargo test --test documents` -->\n";
const END: &str = "<!-- end of metrics -->";

#[expect(clippy::panic, reason = "what a test cannot go on without")]
fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[expect(clippy::panic, reason = "so that the diagnostics are seen")]
fn accept(text: &str, whence: &str) {
    if let Err(found) = parse_text(text.to_owned(), whence, &|_| None) {
        panic!("{whence} is not accepted:\n{}", found.render_text(false));
    }
}

#[test]
fn every_yaml_in_the_documents_is_accepted() {
    let mut seen = 0;
    for document in DOCUMENTS {
        for block in blocks(&read(document), "yaml").iter().filter(|b| b.contains("listeners:")) {
            accept(block, document);
            seen += 1;
        }
    }
    for file in ["conf/minimal.yaml", "conf/evener.yaml"] {
        accept(&read(file), file);
    }
    assert!(seen > 0, "README.md shows a configuration");
}

#[test]
fn the_reference_lists_every_metric() {
    let mut table = String::from("\n| metric | type | labels | |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels = metric.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
        writeln!(table, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help).unwrap();
    }
    table.push('\n');
    let text = read(REFERENCE);
    let (before, rest) = text.split_once(BEGIN).expect("the mark where metrics begin");
    let (present, after) = rest.split_once(END).expect("the mark where they end");
    if present == table {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "the switch of golden tests")]
    let updating = std::env::var("UPDATE").is_ok();
    assert!(updating, "{REFERENCE} is out of date: UPDATE=1 cargo test --test documents");
    fs::write(REFERENCE, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in DOCUMENTS {
        let base = std::path::Path::new(document).parent().unwrap();
        for target in read(document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            let local = !path.is_empty() && !path.contains("://");
            assert!(!local || base.join(path).exists(), "{document} links to {target}");
        }
    }
}
