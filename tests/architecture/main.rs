//! The house rules: who may import whom, how large a file may be, and what the deciding rooms never touch.
mod circles;

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

/// Licences under which nothing is asked of who passes the binary on but to name them.
const LICENCES: [&str; 13] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that are not to come in, with those that may bring them all the same.
const BANNED: [(&str, &[&str]); 6] = [
    // TLS is rustls with ring; nothing links a C library of TLS.
    ("openssl-sys", &[]),
    ("native-tls", &[]),
    ("aws-lc-sys", &[]),
    // Their build needs cmake or minutes.
    ("zstd-sys", &[]),
    ("libz-ng-sys", &[]),
    // jiff tells the time here.
    ("chrono", &["pingora-core"]),
];

/// A package of Cargo.lock: its name, where it comes from, and what it depends on.
struct Package {
    name: String,
    source: Option<String>,
    dependencies: Vec<String>,
}

fn packages() -> Vec<Package> {
    let lock = fs::read_to_string("Cargo.lock").expect("tests run at the top");
    let value = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?;
        Some(value.to_owned())
    };
    let package = |text: &str| Package {
        name: text.lines().find_map(|line| value(line, "name")).expect("each has a name"),
        source: text.lines().find_map(|line| value(line, "source")),
        dependencies: text
            .lines()
            .filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next())
            .map(str::to_owned)
            .collect(),
    };
    lock.split("[[package]]").skip(1).map(package).collect()
}

#[test]
fn dependencies_come_from_one_registry_and_none_is_banned() {
    let packages = packages();
    assert!(packages.len() > 100, "{} packages are read", packages.len());
    let mut wrong = Vec::new();
    let mut registries: Vec<&str> =
        packages.iter().filter_map(|package| package.source.as_deref()).collect();
    registries.sort_unstable();
    registries.dedup();
    if registries.len() != 1 || !registries[0].starts_with("registry+") {
        wrong.push(format!("dependencies come from {registries:?}"));
    }
    for package in &packages {
        let here = ["evener", "brotli", "flate2", "zstd"].contains(&package.name.as_str());
        if package.source.is_none() != here {
            wrong.push(format!("`{}` is not where it is expected", package.name));
        }
        for (banned, by) in BANNED {
            let brings = package.dependencies.iter().any(|dependency| dependency == banned);
            if brings && !by.contains(&package.name.as_str()) {
                wrong.push(format!("`{}` brings `{banned}`", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_licence_is_one_of_the_known_ones() {
    let listed = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .expect("cargo runs this test");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("it is JSON");
    let mut wrong = Vec::new();
    for package in listed["packages"].as_array().expect("a list") {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_open(licence) {
            wrong.push(format!("{}: {licence}", package["name"]));
        }
    }
    assert!(wrong.is_empty(), "licences that nobody looked at:\n{}", wrong.join("\n"));
}

/// Is one side of each choice known, and every part that comes on top? As SPDX writes it, and the slash of old.
fn is_open(licence: &str) -> bool {
    let licence = licence.replace('/', " OR ").replace(['(', ')'], "");
    let known = |name: &str| LICENCES.contains(&name.trim());
    licence.split(" AND ").all(|part| part.split(" OR ").any(known))
}

#[test]
fn a_licence_is_open_when_one_side_of_each_choice_is() {
    for open in ["MIT", "MIT/Apache-2.0", "MIT OR GPL-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(is_open(open), "{open}");
    }
    for closed in ["GPL-3.0", "MIT AND GPL-3.0", "none", "SSPL-1.0 OR BUSL-1.1"] {
        assert!(!is_open(closed), "{closed}");
    }
}

/// What is written beside the project stays beside it.
#[test]
fn no_file_names_a_source_that_is_not_in_the_tree() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&["src", "tests", "benches"]) {
        for line in text.lines() {
            let named = line.split(|c: char| !c.is_ascii_alphanumeric() && !"._-/".contains(c));
            let is_page = |name: &&str| Path::new(name).extension().is_some_and(|ext| ext == "md");
            // An address starts with two slashes here.
            for name in named.filter(is_page).filter(|name| !name.starts_with("//")) {
                let dir = file.parent().expect("a file is in a folder");
                let there = [Path::new("").join(name), dir.join(name), Path::new("src").join(name)];
                if !there.iter().any(|path| path.exists()) {
                    wrong.push(format!("{}: `{name}`", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
