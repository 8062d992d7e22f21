//! The demo tells its story, keeps its promises, and leaves nothing behind.
use std::fs;
use std::process::Command;

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let demo = Command::new(env!("CARGO_BIN_EXE_evener"))
        .args(["demo", "--headless"])
        .env("TMPDIR", temporary.path())
        .env_remove("EVENER_LOG")
        .output()
        .unwrap();
    let (told, complained) =
        (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{}\n{told}\n{complained}", demo.status);
    for sentence in [
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
    ] {
        assert!(told.contains(sentence), "`{sentence}` is missing in:\n{told}");
    }
    assert!(told.lines().filter(|line| line.contains(" req/s ")).count() >= 15, "{told}");
    assert!(!told.contains('\x1b'), "colors are for terminals");
    assert_eq!(complained, "");
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
