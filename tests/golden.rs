//! Configuration files and what is said of them: `tests/golden/<case>.yaml` with its `.out`.
//!
//! `UPDATE=1 cargo test --test golden` writes the answers anew.
use evener::config::{self, CODES, Diagnostic, Diagnostics, Severity};
use evener::dialect::paths_reference;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The environment of all cases.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "REPLICA_HOST" => "10.0.0.9",
        "EVENER_ADMIN_TOKEN" => "from-the-environment",
        "EMPTY" => "",
        "STATE_DIRECTORY" => "/var/lib/evener",
        _ => return None,
    };
    Some(value.to_owned())
}

fn updating() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the switch of golden tests")]
    std::env::var("UPDATE").is_ok()
}

/// Compares with the file, or writes it.
fn settle(file: &Path, actual: &str) -> Option<String> {
    if updating() {
        std::fs::write(file, actual).expect("tests/golden can be written");
        return None;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    (expected != actual)
        .then(|| format!("--- {} expected:\n{expected}\n--- but is:\n{actual}", file.display()))
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/golden").expect("tests run at the top");
    let files = entries.map(|entry| entry.expect("a folder can be listed").path());
    let mut cases: Vec<PathBuf> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    cases.sort();
    cases
}

fn diagnostics_of(file: &Path) -> Diagnostics {
    config::load(file, &env).map_or_else(|found| *found, |checked| checked.warnings)
}

#[test]
fn every_case_is_answered_as_before() {
    let mut wrong = Vec::new();
    for file in cases() {
        let mut answer = diagnostics_of(&file).render_text(false);
        if let Ok(checked) = config::load(&file, &env) {
            let _ = writeln!(answer, "ok: {}", checked.plan_summary());
            let good = file.file_name().unwrap().to_string_lossy().starts_with("good-");
            if good {
                answer.push_str(&config::effective_yaml(&checked.plan));
            }
        }
        wrong.extend(settle(&file.with_extension("out"), &answer));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_has_a_case() {
    // These come from elsewhere: from a reload (`tests/e2e`), from the tests of a file, from the machine, from the state,
    // from a build without a feature, and from below.
    const ELSEWHERE: [&str; 9] = [
        "cannot-listen",
        "few-descriptors",
        "failed-test",
        "file-too-large",
        "needs-restart",
        "not-available",
        "promoted-split",
        "unreadable-file",
        "unusable-file",
    ];
    let mut seen = BTreeSet::from(ELSEWHERE);
    for file in cases() {
        seen.extend(diagnostics_of(&file).items().iter().map(|item| item.code));
    }
    let missing: Vec<&&str> = CODES.iter().filter(|code| !seen.contains(**code)).collect();
    assert!(missing.is_empty(), "no case in tests/golden shows {missing:?}");
}

#[test]
fn no_secret_is_ever_quoted() {
    for file in cases() {
        let diagnostics = diagnostics_of(&file);
        let said = format!("{}{}", diagnostics.render_text(true), diagnostics.to_json());
        assert!(!said.contains("hunter2"), "{}: {said}", file.display());
        if let Ok(checked) = config::load(&file, &env) {
            let shown = format!("{checked:?}{}", config::effective_yaml(&checked.plan));
            assert!(!shown.contains("hunter2"), "{}: {shown}", file.display());
        }
    }
}

#[test]
fn the_effective_configuration_reads_back_as_the_same_plan() {
    for file in cases() {
        let Ok(checked) = config::load(&file, &env) else { continue };
        let shown = config::effective_yaml(&checked.plan);
        let again = config::read_back(&shown, "effective.yaml")
            .unwrap_or_else(|found| panic!("{}: {found}\n{shown}", file.display()));
        // Lines and secrets are what cannot be the same; shown once more, everything else is.
        assert_eq!(config::effective_yaml(&again.plan), shown, "{}", file.display());
        let mut plan = again.plan;
        let mut first = checked.plan;
        for plan in [&mut plan, &mut first] {
            plan.admin.token = None;
            plan.keys.iter_mut().for_each(|key| key.hash = None);
            plan.otlp.iter_mut().for_each(|otlp| otlp.headers.clear());
            plan.routes.iter_mut().for_each(|route| route.line = 0);
            plan.tests.iter_mut().for_each(|test| test.line = 0);
            for model in plan.models.iter_mut().map(std::sync::Arc::make_mut) {
                model.split_secret = None;
                if let Some(canary) = &mut model.canary {
                    canary.notify = None;
                }
                for version in &mut model.versions {
                    version.headers.set.clear();
                }
            }
        }
        assert_eq!(plan, first, "{}", file.display());
    }
}

#[test]
fn a_file_that_is_not_there_is_said_so() {
    let found = config::load(Path::new("tests/golden/none.yaml"), &env).unwrap_err();
    let said =
        "error[unreadable-file]: cannot read `tests/golden/none.yaml`: there is no such file\n";
    assert!(found.render_text(false).starts_with(said), "{found}");
}

#[test]
fn a_directory_is_no_file() {
    let found = config::load(Path::new("tests/golden"), &env).unwrap_err();
    assert_eq!(found.items()[0].code, "unreadable-file");
    assert!(found.items()[0].message.ends_with("it is a directory"), "{found}");
}

#[test]
fn a_huge_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("huge.yaml");
    std::fs::write(&file, vec![b'#'; (8 << 20) + 1]).unwrap();
    assert_eq!(config::load(&file, &env).unwrap_err().items()[0].code, "file-too-large");
}

#[test]
fn a_secret_comes_from_its_file_without_the_newline() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0}}]\nadmin: {{token: \"file:{}\"}}\n\
         models: {{m: {{versions: {{v1: [http://a:1]}}}}}}\n",
        file.display()
    );
    let checked = config::parse_text(text, "x.yaml", &env).unwrap();
    assert_eq!(checked.plan.admin.token.unwrap().0, "hunter2");
    assert!(checked.warnings.is_empty());
}

#[test]
fn a_diagnostic_can_be_added_at_a_line() {
    let text = std::fs::read_to_string("conf/minimal.yaml").unwrap();
    let mut found = config::parse_text(text, "x.yaml", &env).unwrap().warnings;
    let span = found.line_span(2);
    found.push(Diagnostic::error("failed-test", span, "a test fails").label("goes elsewhere"));
    assert_eq!((found.items()[0].severity, found.items()[0].line), (Severity::Error, 2));
    assert!(found.has_errors());
    assert!(found.render_text(false).contains("goes elsewhere"), "{found}");
}

#[test]
fn diagnostics_as_json_have_a_place_and_a_way_out() {
    let json = diagnostics_of(Path::new("tests/golden/unknown-version.yaml")).to_json();
    assert_eq!(json[0]["code"], "unknown-version");
    assert_eq!(json[0]["severity"], "error");
    assert_eq!(json[0]["file"], "tests/golden/unknown-version.yaml");
    assert_eq!((&json[0]["line"], &json[0]["column"]), (&7.into(), &28.into()));
    assert!(json[0]["help"].as_str().unwrap().starts_with("did you mean `v2`?"));
}

#[test]
fn the_files_we_ship_are_good() {
    for file in ["conf/evener.yaml", "conf/minimal.yaml"] {
        let found = diagnostics_of(Path::new(file));
        assert!(found.is_empty(), "{found}");
    }
}

#[test]
fn the_shipped_file_shows_every_key() {
    let text = std::fs::read_to_string("conf/evener.yaml").unwrap();
    let reference = config::reference();
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for path in rows {
        let name = path.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("{name}:")), "conf/evener.yaml does not show `{path}`");
    }
}

#[test]
fn the_references_of_keys_and_paths_are_current() {
    let file = Path::new("conf/README.md");
    let mut text = std::fs::read_to_string(file).unwrap();
    for (what, reference) in [("keys", config::reference()), ("paths", paths_reference())] {
        let begin = format!("<!-- {what}: made by `UPDATE=1 cargo test --test golden` -->\n");
        let end = format!("<!-- end of {what} -->");
        let (before, rest) = text.split_once(&begin).expect("conf/README.md has the first marker");
        let (_, after) = rest.split_once(&end).expect("conf/README.md has the last marker");
        text = format!("{before}{begin}\n{reference}\n{end}{after}");
    }
    assert_eq!(settle(file, &text), None, "run it with UPDATE=1");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_edit_of_a_file_makes_it_panic_or_tell_its_secret(
        at in 0.0_f64..1.0,
        cut in 0_usize..20,
        typed in r#"[ \n\t{}\[\]:,"'&*!|>%@`#$\-a-z0-9é]{0,6}"#,
    ) {
        let text = std::fs::read_to_string("conf/evener.yaml").unwrap();
        let text = text.replace("token: null", "token: hunter2");
        let chars: Vec<char> = text.chars().collect();
        let at = (at * chars.len() as f64) as usize;
        let rest = &chars[(at + cut).min(chars.len())..];
        let edited: String = chars[..at].iter().copied().chain(typed.chars()).chain(rest.iter().copied()).collect();
        let found = match config::parse_text(edited, "x.yaml", &env) {
            Ok(checked) => {
                let shown = config::effective_yaml(&checked.plan);
                prop_assert!(config::read_back(&shown, "x.yaml").is_ok());
                checked.warnings
            }
            Err(found) => *found,
        };
        let said = found.render_text(false);
        // An edit within the secret or its key makes it something else.
        prop_assert!(!said.contains("token: hunter2"), "{said}");
    }
}
