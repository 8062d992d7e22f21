//! The house rules: who may import whom, how large a file may be, and what the deciding rooms never touch.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms it may import from.
const ROOMS: &[(&str, &[&str])] = &[
    ("stats", &[]),
    ("access", &["stats"]),
    ("balance", &["stats"]),
    ("health", &["stats"]),
    ("dialect", &[]),
    ("canary", &["stats"]),
    ("mirror", &["dialect"]),
    ("problems", &["stats", "canary", "health"]),
    ("tls", &[]),
    ("wire", &["stats", "tls"]),
    ("fleet", &["stats", "access", "canary", "balance", "health", "dialect", "mirror", "wire"]),
    (
        "table",
        &[
            "stats", "access", "canary", "balance", "health", "dialect", "mirror", "tls", "wire",
            "fleet",
        ],
    ),
    (
        "config",
        &["stats", "access", "canary", "balance", "health", "dialect", "mirror", "tls", "table"],
    ),
    ("flow", &["stats", "dialect", "health", "wire", "fleet", "table"]),
    (
        "observe",
        &["stats", "canary", "balance", "health", "dialect", "mirror", "wire", "fleet", "table"],
    ),
    (
        "proxy",
        &[
            "stats", "access", "canary", "balance", "health", "dialect", "mirror", "tls", "wire",
            "fleet", "table", "flow", "observe",
        ],
    ),
    (
        "control",
        &[
            "stats", "access", "canary", "balance", "health", "dialect", "mirror", "tls", "wire",
            "fleet", "table", "config", "observe", "proxy",
        ],
    ),
    (
        "admin",
        &[
            "stats", "access", "canary", "balance", "health", "dialect", "mirror", "problems",
            "tls", "fleet", "table", "config", "control", "observe",
        ],
    ),
    ("mock", &["stats", "dialect"]),
];

/// The rooms that decide: no clock, socket, file, lock, log or task.
const PURE: [&str; 8] =
    ["stats", "access", "canary", "balance", "health", "dialect", "mirror", "problems"];
const IMPURE_WORDS: [&str; 9] = [
    "tokio::",
    "async fn",
    "std::net",
    "std::fs",
    "tracing::",
    "Mutex",
    "RwLock",
    "Atomic",
    "Instant::now",
];
/// `stats::clock` is where time comes in.
const EXEMPT: &str = "stats/clock.rs";

const MOST_LINES: usize = 400;
const EMPTY_WORDS: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("tests run at the top") {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every source file with its text.
fn sources(dirs: &[&str]) -> BTreeMap<PathBuf, String> {
    let files = dirs.iter().flat_map(|dir| rust_files(Path::new(dir)));
    files.map(|file| (file.clone(), fs::read_to_string(&file).expect("sources are text"))).collect()
}

/// The part of a file that ships: before its unit tests.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn rooms_import_only_downward() {
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        for (file, text) in sources(&[&format!("src/{room}")]) {
            // Tests may build a table out of a text.
            if file.ends_with("tests.rs") {
                continue;
            }
            for line in code_lines(shipped(&text)) {
                for imported in line.match_indices("crate::").map(|(at, _)| &line[at + 7..]) {
                    let name: String =
                        imported.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    let known = ROOMS.iter().any(|(other, _)| *other == name) || name == "cli";
                    if known && name != *room && !allowed.contains(&name.as_str()) {
                        wrong.push(format!("{}: `{room}` may not import `{name}`", file.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_has_a_rule() {
    let rooms = fs::read_dir("src").expect("tests run at the top");
    let rooms = rooms.map(|entry| entry.expect("a folder can be listed").path());
    for room in rooms.filter(|path| path.is_dir()) {
        let name = room.file_name().unwrap().to_string_lossy().into_owned();
        let ruled = name == "cli" || ROOMS.iter().any(|(room, _)| *room == name);
        assert!(ruled, "src/{name} has no line in ROOMS");
    }
}

#[test]
fn rooms_that_decide_stay_pure() {
    let mut wrong = Vec::new();
    for room in PURE {
        for (file, text) in sources(&[&format!("src/{room}")]) {
            if file.ends_with(EXEMPT) {
                continue;
            }
            for line in code_lines(shipped(&text)) {
                wrong.extend(
                    IMPURE_WORDS
                        .iter()
                        .filter(|word| line.contains(**word))
                        .map(|word| format!("{}: `{word}` in `{}`", file.display(), line.trim())),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_begins_with_what_it_is_for_and_stays_small() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&["src", "tests", "benches"]) {
        let name = file.file_stem().unwrap().to_string_lossy();
        let first = text.lines().next().unwrap_or_default();
        if !(first.starts_with("//! ") || first.starts_with("#![doc")) {
            wrong.push(format!("{} does not begin with a `//!` sentence", file.display()));
        }
        if text.lines().count() > MOST_LINES {
            wrong.push(format!("{} has more than {MOST_LINES} lines", file.display()));
        }
        if EMPTY_WORDS.contains(&&*name) {
            wrong.push(format!("{} has a name that says nothing", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
