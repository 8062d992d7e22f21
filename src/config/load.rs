//! From a file to a checked plan.
use super::diagnostic::{Diagnostic, Diagnostics};
use super::keys;
use super::reader::{Env, Reader};
use super::secret::io_reason;
use super::tree;
use crate::table::Plan;
use std::io::Read as _;
use std::path::Path;

const LONGEST: u64 = 8 << 20;

/// A file that may be used.
#[derive(Clone)]
pub struct Checked {
    pub plan: Plan,
    pub warnings: Diagnostics,
    /// Of the text: xxh3, 128 bits, in hexadecimal.
    pub text_hash: String,
    pub text: String,
}

impl Checked {
    /// "2 models, 3 versions, 7 replicas, 1 listener".
    pub fn plan_summary(&self) -> String {
        let plural = |count: usize, noun: &str| match count {
            1 => format!("1 {noun}"),
            _ => format!("{count} {noun}s"),
        };
        let versions = || self.plan.models.iter().flat_map(|model| &model.versions);
        let parts = [
            plural(self.plan.models.len(), "model"),
            plural(versions().count(), "version"),
            plural(versions().map(|version| version.replicas.len()).sum(), "replica"),
            plural(self.plan.listeners.len(), "listener"),
        ];
        parts.join(", ")
    }
}

impl std::fmt::Debug for Checked {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked")
            .field("plan", &self.plan)
            .field("warnings", &self.warnings)
            .field("text_hash", &self.text_hash)
            .finish_non_exhaustive()
    }
}

/// What is reported of a file whose reading failed inside Evener.
pub fn unreadable(path: &Path, why: &str) -> Box<Diagnostics> {
    let name = path.display().to_string();
    let message = format!("cannot read `{name}`: {why}");
    let found = Diagnostic::error("unreadable-file", 0..0, message);
    Box::new(Diagnostics::new(&name, String::new(), Vec::new(), vec![found]))
}

/// Reads and checks a file. The environment is an argument: only `cli` reads the real one.
pub fn load(path: &Path, env: Env<'_>) -> Result<Checked, Box<Diagnostics>> {
    let name = path.display().to_string();
    let fail = |code, message: String, label: &str, help: &str| {
        let mut diagnostic = Diagnostic::error(code, 0..0, message).label(label);
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        Box::new(Diagnostics::new(&name, String::new(), Vec::new(), vec![diagnostic]))
    };
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => {
            let message = format!("cannot read `{name}`: {}", io_reason(&error));
            return Err(fail("unreadable-file", message, "", ""));
        }
        Ok(length) if length as u64 > LONGEST => {
            let message = format!("`{name}` is larger than 8 MiB");
            return Err(fail("file-too-large", message, "", "is this the right file?"));
        }
        Ok(_) => {}
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse_text(text, &name, env),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            // Quoted with a mark in place of what is not text; the place before it is the same.
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let secrets = super::secrets::of_text(&text);
            let found = Diagnostic::error("not-utf8", at..at + 3, "the file is not UTF-8")
                .label("not a character")
                .help("save it as UTF-8");
            Err(Box::new(Diagnostics::new(&name, text, secrets, vec![found])))
        }
    }
}

/// Checks a text; `file` is only its name.
pub fn parse_text(text: String, file: &str, env: Env<'_>) -> Result<Checked, Box<Diagnostics>> {
    let tree = tree::parse(&text, env);
    let mut reader = Reader { source: &text, env, found: tree.found, replicas: Vec::new() };
    let plan = tree.root.as_ref().map(|root| {
        let top = reader.section(root, root.span.clone(), keys::TOP, String::new());
        let models = reader.models(&top);
        let listeners = reader.listeners(&top);
        let routes = reader.routes(&top, &models);
        reader.check_client_cas(&top, &listeners, &routes);
        let telemetry = reader.inner(&top, "telemetry", keys::TELEMETRY);
        let (access_log, decision_log) = reader.logs(&telemetry);
        let keys = reader.keys(&top, &models);
        reader.check_sticky_keys(&top, &models);
        let admin = reader.admin(&top, &listeners);
        reader.check_rounds(&listeners, &admin);
        Plan {
            admin,
            listeners,
            threads: reader.threads(&top),
            buffers: reader.size(&top, "buffers"),
            routes,
            default_model: reader.default_model(&top, &models),
            models: models.into_iter().map(std::sync::Arc::new).collect(),
            keys,
            jwt: reader.jwt(&top),
            access_log,
            decision_log,
            otlp: reader.otlp(&telemetry),
            state_dir: reader.state_dir(&top),
            shutdown: reader.shutdown(&top),
            tests: reader.tests(&top),
        }
    });
    let found = std::mem::take(&mut reader.found);
    let diagnostics = Diagnostics::new(file, text.clone(), tree.secrets, found);
    match plan {
        Some(plan) if !diagnostics.has_errors() => {
            let text_hash = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()));
            Ok(Checked { plan, warnings: diagnostics, text_hash, text })
        }
        _ => Err(Box::new(diagnostics)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{ClientLimits, Timeouts};

    const MINIMAL: &str = "listeners: [{address: 127.0.0.1:0}]\n\
                           models: {m: {versions: {v1: [http://a:1]}}}\n";

    #[test]
    fn the_tables_defaults_are_those_of_the_plan() {
        let plan = parse_text(MINIMAL.to_owned(), "x", &|_| None).unwrap().plan;
        assert_eq!(plan.listeners[0].client, ClientLimits::default());
        assert_eq!(plan.models[0].timeouts, Timeouts::default());
        assert_eq!(plan.default_model.as_deref(), Some("m"));
        assert_eq!(plan.state_dir, Path::new("./.evener"));
    }

    #[test]
    fn the_hash_is_of_the_text() {
        let hash = |text: String| parse_text(text, "x", &|_| None).unwrap().text_hash;
        assert_eq!(hash(MINIMAL.to_owned()), hash(MINIMAL.to_owned()));
        assert_ne!(hash(MINIMAL.to_owned()), hash(format!("{MINIMAL}# more\n")));
        assert_eq!(hash(MINIMAL.to_owned()).len(), 32);
    }

    #[test]
    fn ten_thousand_replicas_are_read() {
        use std::fmt::Write as _;
        let mut text = MINIMAL.replace("[http://a:1]", "");
        text = text.replace(
            "models: {m: {versions: {v1: }}}\n",
            "models:\n  m:\n    versions:\n      v1:\n",
        );
        for index in 0..10_000 {
            let _ = writeln!(text, "        - http://10.0.{}.{}:8000", index / 256, index % 256);
        }
        let plan = parse_text(text, "x", &|_| None).unwrap().plan;
        assert_eq!(plan.models[0].versions[0].replicas.len(), 10_000);
    }
}
