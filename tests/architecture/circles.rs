//! Inside a room: no files that import each other in a circle, and no type whose methods stand all over it.
use super::{code_lines, shipped, sources};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// Rooms that still have circles, with the files in each of them. What is mended leaves the list.
const CIRCLES: [(&str, &[usize]); 2] = [("cli", &[2, 5]), ("config", &[4, 14])];

/// Files that may hold methods of one type.
const MOST_FILES: usize = 3;
/// Types that have more, with how many. What is mended leaves the list.
const SCATTERED: [(&str, &str, usize); 8] = [
    ("canary", "RollOut", 11),
    ("config", "Reader", 18),
    ("control", "Core", 5),
    ("control", "Runner", 7),
    ("fleet", "Replica", 4),
    ("proxy", "Exchange", 25),
    ("proxy", "Record", 4),
    ("table", "Table", 4),
];

/// What ships of each file of a room, by its module path in it. The room's own `mod.rs` is its door, and imports all.
fn modules(room: &str) -> BTreeMap<String, String> {
    let dir = format!("src/{room}");
    let files = sources(&[&dir]);
    let named = files.iter().filter_map(|(file, text)| {
        let inside = file.strip_prefix(&dir).expect("it was found there").with_extension("");
        let path: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let path = path.join("::");
        let path = path.strip_suffix("::mod").unwrap_or(&path).to_owned();
        (path != "mod").then(|| (path, shipped(text).to_owned()))
    });
    named.collect()
}

fn parent(path: &str) -> &str {
    path.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// The names that a path begins with behind its last `::`: the one, or those in braces.
fn heads(rest: &str) -> Vec<&str> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').count();
    let Some(inside) = rest.strip_prefix('{') else { return vec![&rest[..name(rest)]] };
    let (mut heads, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, c) in inside.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => begins |= depth == 0,
            c if begins && !c.is_whitespace() => {
                begins = false;
                heads.push(&inside[at..at + name(&inside[at..])]);
            }
            _ => {}
        }
    }
    heads
}

/// The modules that a text names, by their paths in its room.
fn named(room: &str, path: &str, text: &str) -> BTreeSet<String> {
    let code: String = code_lines(text).flat_map(|line| [line, "\n"]).collect();
    let root = format!("crate::{room}::");
    let below = code.match_indices(&root).map(|(at, _)| ("", &code[at + root.len()..]));
    let is_first =
        |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || ":_".contains(c));
    let ups = code.match_indices("super::").filter(|(at, _)| is_first(*at));
    let beside = ups.map(|(at, _)| {
        let (mut base, mut rest) = (parent(path), &code[at + "super::".len()..]);
        while let Some(further) = rest.strip_prefix("super::") {
            (base, rest) = (parent(base), further);
        }
        (base, rest)
    });
    let full = |base: &str, name: &str| {
        if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") }
    };
    below
        .chain(beside)
        .flat_map(|(base, rest)| heads(rest).into_iter().map(move |n| full(base, n)))
        .collect()
}

/// Which modules of its room each one names.
fn imports(room: &str) -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules(room);
    let of = |path: &str, text: &str| -> BTreeSet<String> {
        let others = named(room, path, text).into_iter().filter(|name| name != path);
        others.filter(|name| modules.contains_key(name)).collect()
    };
    modules.iter().map(|(path, text)| (path.clone(), of(path, text))).collect()
}

/// All that is named from here, at whatever remove.
fn reached<'a>(
    imports: &'a BTreeMap<String, BTreeSet<String>>,
    from: &'a str,
) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(path) = next.pop() {
        next.extend(imports[path].iter().map(String::as_str).filter(|name| reached.insert(*name)));
    }
    reached
}

/// The circles of a graph, each by its members.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<&str>> {
    let all: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|path| (path.as_str(), reached(imports, path))).collect();
    let circle_of = |path: &&str| -> Vec<&str> {
        all[*path].iter().filter(|other| all[**other].contains(*path)).copied().collect()
    };
    let in_one = all.iter().filter(|(path, reached)| reached.contains(*path));
    in_one.map(|(path, _)| circle_of(path)).collect()
}

fn rooms() -> Vec<String> {
    let all = std::fs::read_dir("src").expect("tests run at the top");
    let dirs =
        all.map(|entry| entry.expect("a folder can be listed").path()).filter(|path| path.is_dir());
    let mut rooms: Vec<String> = dirs
        .map(|path| path.file_name().expect("it has a name").to_string_lossy().into_owned())
        .collect();
    rooms.sort();
    rooms
}

#[test]
fn no_files_of_a_room_import_each_other_in_a_circle() {
    for room in rooms() {
        let imports = imports(&room);
        let circles = circles(&imports);
        let mut found: Vec<usize> = circles.iter().map(Vec::len).collect();
        found.sort_unstable();
        let known = CIRCLES.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, of)| of);
        assert_eq!(found, known, "circles of src/{room}, by their size: {circles:#?}");
    }
}

#[test]
fn imports_are_found_however_they_are_written() {
    let found = |text: &str| Vec::from_iter(named("proxy", "limits::words", text));
    assert_eq!(found("use super::pass::Pass;"), ["limits::pass"]);
    assert_eq!(
        found("use super::super::{body, exchange::{End, Exchange}, call::*};"),
        ["body", "call", "exchange"]
    );
    assert_eq!(found("use crate::proxy::{\n    body::Body,\n    call,\n};"), ["body", "call"]);
    assert_eq!(found("let x = super::chance::draw();"), ["limits::chance"]);
    assert!(
        found("//! See [`body`](super::super::body).\nuse crate::table::{Table, Wish};").is_empty()
    );
}

#[test]
fn a_circle_is_found_and_a_line_is_none() {
    let graph = |arrows: &[(&str, &str)]| {
        let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
        for (from, to) in arrows {
            graph.entry((*to).to_owned()).or_default();
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    let line = graph(&[("a", "b"), ("b", "c"), ("a", "c")]);
    assert!(circles(&line).is_empty());
    let both = graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "f"), ("f", "e")]);
    let found: Vec<Vec<&str>> = circles(&both).into_iter().collect();
    assert_eq!(found, [vec!["a", "b", "c"], vec!["e", "f"]]);
}

#[test]
fn the_methods_of_a_type_stand_in_few_files() {
    let method_block = Regex::new(r"(?m)^impl(?:<[^>]*>)? ([A-Z]\w*)(?:<[^>]*>)? \{").unwrap();
    let mut found = Vec::new();
    for room in rooms() {
        let mut files = BTreeMap::<String, BTreeSet<String>>::new();
        for (path, text) in modules(&room) {
            for block in method_block.captures_iter(&text) {
                files.entry(block[1].to_owned()).or_default().insert(path.clone());
            }
        }
        let many = files.into_iter().filter(|(_, files)| files.len() > MOST_FILES);
        found.extend(many.map(|(name, files)| (room.clone(), name, files.len())));
    }
    let known = SCATTERED.map(|(room, name, n)| (room.to_owned(), name.to_owned(), n));
    assert_eq!(found, known, "types whose methods stand in more than {MOST_FILES} files");
}
