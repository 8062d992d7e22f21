//! The keys `keys` and `jwt`: who may ask, for what, and how much.
use super::diagnostic::Diagnostic;
use super::effective::{Page, list, quoted, text};
use super::hints;
use super::keys::{Key, Shape, key};
use super::reader::{Reader, Section};
use super::render::MASKED_HASH;
use super::scalar::{Complaint, Read};
use super::secret::io_reason;
use super::server::name_of;
use super::tree::Value;
use crate::access::{Digest, Jwks, PerMinute, TokenTerms};
use crate::table::{JwtPlan, KeyPlan, KeySource, Limits, ModelPlan};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No set of keys is longer; a device such as /dev/zero would never end.
const LONGEST: u64 = 1 << 20;
/// A limit that is none.
const MOST: u64 = 1_000_000_000_000;
const MAKE_ONE: &str =
    "run `evener key new NAME`, or hash the key that exists: `printf %s \"$KEY\" | sha256sum`";

#[rustfmt::skip]
pub(super) static KEY: &[Key] = &[
    key("name", Shape::Text, "", "What logs call it; its identity across reloads. Required."),
    key("hash", Shape::Secret, "", "`sha256:` and the SHA-256 of the key in hexadecimal; `evener key new NAME` makes both. Required without `jwt`."),
    key("models", Shape::List(&Shape::Text), "", "What it may ask for. Default: all."),
    key("limits", Shape::Section(LIMITS), "{}", "How much it may use, in this process. Default: no limit."),
];

#[rustfmt::skip]
static LIMITS: &[Key] = &[
    key("requests_per_minute", Shape::Count { least: 1, most: MOST }, "", "No minute has more; all may come at once."),
    key("tokens_per_minute", Shape::Count { least: 1, most: MOST }, "", "Of prompts and answers together; reserved before a request, settled after it."),
];

#[rustfmt::skip]
pub(super) static JWT: &[Key] = &[
    key("keys", Shape::Text, "", "The file of the issuer's public keys, a JWK set; it is read again when it changes. Required."),
    key("issuer", Shape::Text, "", "What `iss` must be. Required."),
    key("audience", Shape::Text, "", "What `aud` must be, or hold. Required."),
    key("claim", Shape::Text, "sub", "The claim whose value is the `name` of a key."),
];

impl Reader<'_> {
    pub(super) fn keys(&mut self, top: &Section<'_>, models: &[ModelPlan]) -> Vec<KeyPlan> {
        let nodes = self.list(top, "keys");
        if let Some(entry) = top.get("keys")
            && (entry.value.is_null()
                || matches!(&entry.value.value, Value::List(l) if l.is_empty()))
        {
            let message = "`keys` is empty: a list that lets nobody in, or lets everybody in?";
            let found = Diagnostic::error("no-keys", entry.key_span.clone(), message);
            let help = "add a key (`evener key new NAME`), or leave `keys` out to let everybody in";
            self.report(found.label("no key").help(help));
        }
        let by_token = top.has("jwt");
        let mut plans: Vec<KeyPlan> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("keys[{index}]");
            let section = self.section(node, node.span.clone(), KEY, path);
            let Some(plan) = self.key_plan(&section, models, by_token) else { continue };
            if plans.iter().any(|other| other.name == plan.name) {
                let message = format!("two keys are called `{}`", plan.name);
                let place = section.place_of("name");
                let found = Diagnostic::error("duplicate-name", place, message);
                let help = "give each its own `name`: it is in logs, and limits belong to it";
                self.report(found.label("already taken").help(help));
            }
            let same = plans.iter().find(|other| plan.hash.is_some() && other.hash == plan.hash);
            if let Some(other) = same {
                let message = format!("keys `{}` and `{}` have one hash", other.name, plan.name);
                let found = Diagnostic::error("duplicate-hash", section.place_of("hash"), message);
                self.report(found.label("the same secret").help("give each a key of its own"));
            }
            plans.push(plan);
        }
        plans
    }

    fn key_plan(
        &mut self,
        section: &Section<'_>,
        models: &[ModelPlan],
        by_token: bool,
    ) -> Option<KeyPlan> {
        let name = self.optional(section, "name", name_of);
        let hash = self.hash(section);
        let allowed = self.models_of(section, models);
        let limits = self.limits(section);
        if section.entries.is_empty() {
            // Something else than a mapping was reported as such.
            return None;
        }
        if !section.has("name") {
            self.missing(section, "name", "name: mobile");
        }
        if !section.has("hash") && !by_token {
            let found = Diagnostic::error("missing-key", section.span.clone(), {
                format!("`{}` lacks `hash`, by which its secret is known", section.path)
            });
            self.report(found.label("no `hash`").help(MAKE_ONE));
        }
        Some(KeyPlan { name: name?, hash, models: allowed, limits })
    }

    fn hash(&mut self, section: &Section<'_>) -> Option<Digest> {
        let entry = section.get("hash").filter(|entry| !entry.value.is_null())?;
        let (path, place) = (section.path_of("hash"), entry.place());
        let (text, _) = self.secret(&entry.value, place.clone(), &path)?;
        digest(&text).map_err(|complaint| self.complain(&path, place, complaint)).ok()
    }

    /// `None`: all.
    fn models_of(&mut self, key: &Section<'_>, models: &[ModelPlan]) -> Option<Vec<String>> {
        if !key.has("models") {
            return None;
        }
        let path = key.path_of("models");
        let items = self.items(key, "models", "the name of a model", |text| Ok(text.to_owned()));
        if items.is_empty() && self.list(key, "models").is_empty() {
            let place = key.place_of("models");
            let found = Diagnostic::error("no-models", place, format!("`{path}` is empty"));
            let help = "name the models that it may use, or leave `models` out for all";
            self.report(found.label("it could use none").help(help));
        }
        let mut allowed: Vec<String> = Vec::new();
        for (word, place) in items {
            if let Some(name) = self.model_named(&word, &path, place, models)
                && !allowed.contains(&name)
            {
                allowed.push(name);
            }
        }
        Some(allowed)
    }

    fn model_named(
        &mut self,
        word: &str,
        path: &str,
        place: Range<usize>,
        models: &[ModelPlan],
    ) -> Option<String> {
        let named = |plan: &&ModelPlan| {
            plan.name == word || (word != "*" && plan.aliases.iter().any(|alias| alias == word))
        };
        if let Some(plan) = models.iter().find(named) {
            return Some(plan.name.clone());
        }
        let names: Vec<&str> = models.iter().map(|plan| plan.name.as_str()).collect();
        let help = if word == "*" {
            "leave `models` out for all of them".to_owned()
        } else {
            hints::choices(word, "models", &names)
        };
        let message = format!("`{path}` names model `{word}`, which does not exist");
        let found = Diagnostic::error("unknown-model", place, message);
        self.report(found.label("no such model").help(help));
        None
    }

    fn limits(&mut self, key: &Section<'_>) -> Limits {
        let section = self.inner(key, "limits", LIMITS);
        let mut limit = |name| self.optional_count(&section, name).and_then(PerMinute::new);
        Limits { requests: limit("requests_per_minute"), tokens: limit("tokens_per_minute") }
    }

    pub(super) fn jwt(&mut self, top: &Section<'_>) -> Option<JwtPlan> {
        if !top.has("jwt") {
            return None;
        }
        let section = self.inner(top, "jwt", JWT);
        for (name, example) in [
            ("keys", "keys: jwks.json"),
            ("issuer", "issuer: https://id.example.com"),
            ("audience", "audience: evener"),
        ] {
            if !section.has(name) && !section.entries.is_empty() {
                self.missing(&section, name, example);
            }
        }
        if !top.has("keys") {
            let place = section.span.clone();
            let message = "`jwt` names keys by its tokens, and the file has no `keys`";
            let found = Diagnostic::error("no-keys", place, message);
            let help = "add `keys: [{name: alice}]`, with a name for each value of the claim";
            self.report(found.label("nobody could be named").help(help));
        }
        let terms = TokenTerms {
            issuer: self.text(&section, "issuer").unwrap_or_default(),
            audience: self.text(&section, "audience").unwrap_or_default(),
            claim: self.text_or_default(&section, "claim"),
        };
        let file = PathBuf::from(self.text(&section, "keys")?);
        match read_jwks(&file) {
            Ok(keys) => Some(JwtPlan { file, keys: Arc::new(keys), terms }),
            Err(why) => {
                let message = format!("`jwt.keys` cannot be used: {why}");
                let place = section.place_of("keys");
                let found = Diagnostic::error("bad-jwks", place, message);
                let help = "it is the path of a JWK set, as issuers publish it at their `jwks_uri`";
                self.report(found.label("no keys in it").help(help));
                None
            }
        }
    }

    /// A sticky key that no request can have.
    pub(super) fn check_sticky_keys(&mut self, top: &Section<'_>, models: &[ModelPlan]) {
        let keyed = |plan: &&ModelPlan| plan.hash_on.contains(&KeySource::ApiKey);
        if let (Some(plan), false) = (models.iter().find(keyed), top.has("keys")) {
            let message = format!(
                "`hash_on` of model `{}` names `api_key`, and the file has no `keys`",
                plan.name
            );
            let span = self.source.find("api_key").map_or(0..0, |at| at..at + "api_key".len());
            let found = Diagnostic::warning("no-keys", span, message);
            self.report(found.label("never present").help("add `keys`, or another source"));
        }
    }
}

/// The keys in a file. It may be any: what is wrong with it is said without its text.
pub fn read_jwks(file: &Path) -> Result<Jwks, String> {
    let mut text = String::new();
    let read =
        open_plain(file)
            .and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text))
            .map_err(|error| format!("cannot read `{}`: {}", file.display(), io_reason(&error)))?;
    if read as u64 > LONGEST {
        return Err(format!("`{}` is longer than {LONGEST} bytes", file.display()));
    }
    Jwks::parse(&text).map_err(|why| format!("`{}`: {why}", file.display()))
}

/// It is read again and again: a pipe would hold up whoever does.
fn open_plain(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let plain = file.metadata()?.is_file();
    plain.then_some(file).ok_or_else(|| io::Error::other("it is not a plain file"))
}

/// What is no hash is probably the key itself, and is not repeated.
fn digest(text: &str) -> Read<Digest> {
    let Some(hex) = text.strip_prefix("sha256:") else {
        let what = "is not `sha256:` and 64 hexadecimal digits: a key itself does not belong here";
        return Err(Complaint::new("bad-hash", what, "not a hash").help(MAKE_ONE));
    };
    let complaint = |what: String| Complaint::new("bad-hash", what, "not a hash").help(MAKE_ONE);
    let digest = Digest::parse(text).ok_or_else(|| {
        complaint(match hex.len() {
            64 => "holds something else than hexadecimal digits after `sha256:`".to_owned(),
            n => format!("has {n} characters after `sha256:`; a SHA-256 has 64 hexadecimal digits"),
        })
    })?;
    if digest == Digest::of(b"") || digest == Digest::of(b"\n") {
        return Err(complaint("is the hash of nothing".to_owned()));
    }
    Ok(digest)
}

/// As they are in effect. Hashes are masked: one of a weak key tells the key to who tries many.
pub(super) fn show(out: &mut Page, all: &[KeyPlan], jwt: Option<&JwtPlan>) {
    if !all.is_empty() {
        out.block("keys", all, |out, plan| {
            out.line("name", text(&plan.name));
            if plan.hash.is_some() {
                out.line("hash", quoted(MASKED_HASH));
            }
            if let Some(models) = &plan.models {
                out.line("models", list(models.iter().map(|name| text(name))));
            }
            out.open("limits");
            let Limits { requests, tokens } = plan.limits;
            for (name, limit) in [("requests_per_minute", requests), ("tokens_per_minute", tokens)]
            {
                if let Some(limit) = limit {
                    out.line(name, limit.get());
                }
            }
            out.close();
        });
    }
    if let Some(plan) = jwt {
        out.open("jwt");
        out.line("keys", quoted(&plan.file.to_string_lossy()));
        out.line("issuer", quoted(&plan.terms.issuer));
        out.line("audience", quoted(&plan.terms.audience));
        out.line("claim", quoted(&plan.terms.claim));
        out.close();
    }
}

/// The lines of a key that was just made.
pub fn key_yaml(name: &str, hash: Digest) -> String {
    format!("keys:\n  - {{name: {}, hash: \"{hash}\"}}\n", text(name))
}

/// Is this a name that a key can have? If not, what is wrong with it.
pub fn check_key_name(name: &str) -> Result<(), String> {
    name_of(name).map(drop).map_err(|complaint| complaint.what)
}
