//! The keys of a model, and what models must not do to one another.
use super::canary::Around;
use super::diagnostic::Diagnostic;
use super::inherit;
use super::keys;
use super::reader::{Reader, Section};
use super::scalar::{Complaint, Read};
use super::server::name_of;
use super::tree::{Entry, Node, Value};
use crate::balance::Policy;
use crate::health::{EjectionPlan, HedgePlan, ProbePlan, RetryPlan};
use crate::table::{Answers, KeySource, Kind, ModelPlan, SplitSecret, Timeouts};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

/// What a model may inherit.
struct Settings {
    kind: Kind,
    answers: Answers,
    hash_on: Vec<KeySource>,
    split_secret: Option<SplitSecret>,
    allow_pin: bool,
    balance: Policy,
    health: Option<ProbePlan>,
    ejection: Option<EjectionPlan>,
    fail_open: bool,
    slow_start: Duration,
    timeouts: Timeouts,
    retries: RetryPlan,
    hedge: Option<HedgePlan>,
    heartbeat: Option<Duration>,
    max_buffered_body: u64,
}

/// An alias, whose it is, and where.
struct Alias {
    name: String,
    model: String,
    place: Range<usize>,
}

impl Reader<'_> {
    pub(super) fn models(&mut self, top: &Section<'_>) -> Vec<ModelPlan> {
        let defaults = top.get("defaults").map(|entry| &entry.value);
        if let Some(entry) = top.get("defaults") {
            let (place, path) = (entry.key_span.clone(), "defaults".to_owned());
            let section = self.section(&entry.value, place, keys::INHERITED, path);
            self.settings(&section);
            self.mirror_defaults(&section);
        }
        let entries = self.map(top, "models");
        let written = top.get("models");
        if entries.is_empty()
            && written
                .is_none_or(|entry| entry.value.is_null() || entry.value.noun() == "a mapping")
        {
            let place = written.map_or(top.span.clone(), |entry| entry.key_span.clone());
            self.report(
                Diagnostic::error("no-models", place, "the file has no models")
                    .label("there is nothing to serve")
                    .help("add `models: {chat: {versions: {v1: [http://10.0.0.1:8000]}}}`"),
            );
        }
        let mut aliases = Vec::new();
        let plans: Vec<ModelPlan> =
            entries.iter().map(|entry| self.model(entry, defaults, &mut aliases)).collect();
        self.check_aliases(&aliases, &plans);
        plans
    }

    fn model(
        &mut self,
        entry: &Entry,
        defaults: Option<&Node>,
        aliases: &mut Vec<Alias>,
    ) -> ModelPlan {
        let name = entry.key.clone();
        let path = format!("models.{name}");
        if let Err(complaint) = model_name(&name) {
            self.complain(&path, entry.key_span.clone(), complaint);
        }
        let node = inherit::merged(defaults, &entry.value);
        let section = self.section(&node, entry.key_span.clone(), keys::MODEL, path);
        let found = self.items(&section, "aliases", "a name", name_of);
        let own: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
        aliases.extend(found.into_iter().map(|(alias, place)| Alias {
            name: alias,
            model: name.clone(),
            place,
        }));
        let usable = matches!(entry.value.value, Value::Map(_)) || entry.value.is_null();
        let versions = if usable { self.versions(&section, &name) } else { Vec::new() };
        let split = self.split(&section, &name, &versions);
        let settings = self.settings(&section);
        let sticky = !settings.hash_on.is_empty();
        let around = Around { name: &name, versions: &versions, split: &split, sticky };
        let canary = self.canary(&section, &around);
        let written = entry.value.entries().iter().any(|entry| entry.key == "mirror");
        let mirror = self.mirror(&section, &name, &versions, written);
        let plan = ModelPlan {
            name,
            aliases: own,
            kind: settings.kind,
            answers: settings.answers,
            versions,
            split,
            hash_on: settings.hash_on,
            split_secret: settings.split_secret,
            allow_pin: settings.allow_pin,
            balance: settings.balance,
            health: settings.health,
            ejection: settings.ejection,
            fail_open: settings.fail_open,
            slow_start: settings.slow_start,
            timeouts: settings.timeouts,
            retries: settings.retries,
            hedge: settings.hedge,
            heartbeat: settings.heartbeat,
            max_buffered_body: settings.max_buffered_body,
            canary,
            mirror,
        };
        self.check_mirror(&section, &plan);
        plan
    }

    fn settings(&mut self, section: &Section<'_>) -> Settings {
        let hash_on = self.items(section, "hash_on", "the name of a source", key_source);
        Settings {
            kind: match self.word(section, "kind") {
                "llm" => Kind::Llm,
                "predict" => Kind::Predict,
                "raw" => Kind::Raw,
                _ => Kind::Auto,
            },
            answers: match self.word(section, "answers") {
                "client" => Answers::Client,
                _ => Answers::Upstream,
            },
            hash_on: hash_on.into_iter().map(|(source, _)| source).collect(),
            split_secret: self
                .kept_secret(section, "split_secret")
                .map(|(secret, _)| SplitSecret(secret.into())),
            allow_pin: self.flag(section, "allow_pin"),
            balance: match self.word(section, "balance") {
                "least_request" => Policy::LeastRequest,
                "p2c" => Policy::P2c,
                "round_robin" => Policy::RoundRobin,
                "random" => Policy::Random,
                "hash" => Policy::Hash,
                _ => Policy::LeastLoad,
            },
            health: self.health(section),
            ejection: self.ejection(section),
            fail_open: self.flag(section, "fail_open"),
            slow_start: self.duration(section, "slow_start"),
            timeouts: self.timeouts(section),
            retries: self.retries(section),
            hedge: self.hedge(section),
            heartbeat: self.heartbeat(section),
            max_buffered_body: self.size(section, "max_buffered_body"),
        }
    }

    fn timeouts(&mut self, model: &Section<'_>) -> Timeouts {
        let section = self.inner(model, "timeouts", keys::TIMEOUTS);
        let total = self.duration(&section, "total");
        Timeouts {
            connect: self.within(&section, "connect", total),
            first_byte: self.within(&section, "first_byte", total),
            between_chunks: self.within(&section, "between_chunks", total),
            total,
            tunnel: self.duration(&section, "tunnel"),
        }
    }

    /// A phase cannot outlast the whole. What was not written gives way; what was is a contradiction.
    fn within(&mut self, section: &Section<'_>, name: &str, total: Duration) -> Duration {
        let phase = self.duration(section, name);
        if phase > total && section.has(name) {
            let place = section.place_of(name);
            let shown = super::scalar::show_duration;
            let what = format!("is {}, longer than `total`, {}", shown(phase), shown(total));
            let complaint =
                Complaint::new("contradicting-timeouts", what, "would never be reached");
            let help = format!("shorten it, or raise `total` above {}", shown(phase));
            self.complain(&section.path_of(name), place, complaint.help(help));
        }
        phase.min(total)
    }

    fn check_aliases(&mut self, aliases: &[Alias], plans: &[ModelPlan]) {
        let mut taken: HashMap<&str, &str> = HashMap::new();
        for alias in aliases {
            let Alias { name, model, place } = alias;
            if plans.iter().any(|plan| plan.name == *name) {
                let message = format!("alias `{name}` of model `{model}` is the name of a model");
                self.report(
                    Diagnostic::error("alias-is-model", place.clone(), message)
                        .label("already a model")
                        .help("a name can lead to one model only; leave the alias out"),
                );
            } else if let Some(other) = taken.insert(name, model) {
                let message = if other == model {
                    format!("model `{model}` has the alias `{name}` twice")
                } else {
                    format!("models `{other}` and `{model}` share the alias `{name}`")
                };
                self.report(
                    Diagnostic::error("duplicate-alias", place.clone(), message)
                        .label("already taken")
                        .help("a name can lead to one model only"),
                );
            }
        }
    }
}

fn model_name(text: &str) -> Read<String> {
    if text == "*" {
        let complaint = Complaint::new("bad-name", "is not a name", "matches no request");
        return Err(complaint.help("to catch every unknown name write `aliases: [\"*\"]`"));
    }
    name_of(text)
}

fn key_source(text: &str) -> Read<KeySource> {
    let bad = |what: &str| {
        Complaint::new("unknown-value", format!("holds `{text}`, {what}"), "unknown source").help(
            "values: `header:NAME`, `cookie:NAME`, `query:NAME`, `json:FIELD`, api_key, client_ip",
        )
    };
    match text.split_once(':') {
        Some(("header", name)) => {
            super::header::name(name).map(|name| KeySource::Header(name.as_str().to_owned()))
        }
        Some(("cookie", name)) => super::header::cookie_name(name).map(KeySource::Cookie),
        Some(("query", "")) => Err(bad("which names no parameter")),
        Some(("query", name)) => Ok(KeySource::Query(name.to_owned())),
        Some(("json", "")) => Err(bad("which names no field")),
        Some(("json", field)) => Ok(KeySource::Json(field.to_owned())),
        None if text == "client_ip" => Ok(KeySource::ClientIp),
        None if text == "api_key" => Ok(KeySource::ApiKey),
        _ => Err(bad("which is no source of a key")),
    }
}
