//! The demo tells its story, keeps its promises, and leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "what starts the demo is test code too")]
use std::fs;
use std::process::Command;

/// Plays it to its end. Returns what it told.
fn plays(args: &[&str], sentences: &[&str]) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let demo = Command::new(env!("CARGO_BIN_EXE_evener"))
        .args(["demo", "--headless"])
        .args(args)
        .env("TMPDIR", temporary.path())
        .env_remove("EVENER_LOG")
        .output()
        .unwrap();
    let (told, complained) =
        (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{}\n{told}\n{complained}", demo.status);
    for sentence in sentences {
        assert!(told.contains(sentence), "`{sentence}` is missing in:\n{told}");
    }
    assert!(told.lines().filter(|line| line.contains(" req/s ")).count() >= 15, "{told}");
    assert!(!told.contains('\x1b'), "colors are for terminals");
    assert_eq!(complained, "");
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    told.into_owned()
}

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing_behind() {
    let sentences = [
        "proxy       http://127.0.0.1:",
        "admin page  http://127.0.0.1:",
        "curl -i http://127.0.0.1:",
        "1. A slow replica.",
        "2. The split.",
        "3. A death.",
        "Its health check took it out after",
        "It passes its health check again after",
        "4. A reload.",
        "Generation 2 serves after",
        "0 requests failed meanwhile.",
        "Everything that was promised happened.",
        "conf/evener.yaml",
    ];
    plays(&[], &sentences);
}

#[test]
fn a_canary_that_breaks_is_rolled_back_on_stage() {
    let sentences = [
        "1. A good start.",
        "It was no worse than v1, so it gets 25 %.",
        "2. It breaks.",
        "its share is cut to 10 %",
        "[rolled_back] v2 was rolled back: errors in ",
        "requests, v2 0.",
        "Everything that was promised happened.",
    ];
    plays(&["--break", "v2"], &sentences);
}
