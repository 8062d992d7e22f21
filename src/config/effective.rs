//! The plan as YAML with every default written out and secrets masked; it reads back as the same plan.
use super::effective_options::{canary, ejection, hedge, retries};
use super::render::MASK;
use super::scalar::{show_duration, show_rate, show_size};
use super::secrets::shown;
use crate::dialect::masked_query;
use crate::health::{ProbeKind, ProbePlan};
use crate::table::{
    Answers, Kind, ListenAddress, ListenerPlan, LogPlan, LogTarget, ModelPlan, Plan, RoutePlan,
    RouteTarget, TestPlan, VersionPlan, in_percent,
};
use std::fmt::{Display, Write as _};

/// The whole configuration as it is in effect.
pub fn effective_yaml(plan: &Plan) -> String {
    let mut out = Page::default();
    out.block("listeners", &plan.listeners, listener);
    out.open("admin");
    out.line("address", text(&plan.admin.address.to_string()));
    out.line("token", if plan.admin.token.is_some() { quoted(MASK) } else { "null".to_owned() });
    let opened = [("health", plan.admin.open_health), ("metrics", plan.admin.open_metrics)];
    out.line("open", list(opened.iter().filter(|(_, open)| *open).map(|(word, _)| word)));
    out.close();
    out.line("threads", plan.threads.map_or_else(|| "auto".to_owned(), |n| n.to_string()));
    out.line("buffers", show_size(plan.buffers));
    out.block("routes", &plan.routes, route);
    out.line("default_model", plan.default_model.as_deref().map_or("null".to_owned(), text));
    out.open("models");
    for each in &plan.models {
        model(&mut out, each);
    }
    out.close();
    super::access::show(&mut out, &plan.keys, plan.jwt.as_ref());
    out.open("telemetry");
    log(&mut out, "access_log", plan.access_log.as_ref());
    log(&mut out, "decision_log", plan.decision_log.as_ref());
    super::otlp::show(&mut out, plan.otlp.as_ref());
    out.close();
    out.open("state");
    out.line("dir", text(&plan.state_dir.to_string_lossy()));
    out.close();
    out.open("shutdown");
    out.line("notice", show_duration(plan.shutdown.notice));
    out.line("drain", show_duration(plan.shutdown.drain));
    out.close();
    out.block("tests", &plan.tests, test);
    out.text
}

/// The lines that give a model these shares, by version.
pub fn split_yaml<'a>(model: &str, shares: impl IntoIterator<Item = (&'a str, f64)>) -> String {
    let share = |(version, share)| format!("{}: {}", text(version), in_percent(share));
    let shares: Vec<String> = shares.into_iter().map(share).collect();
    format!("models:\n  {}:\n    split: {{{}}}\n", text(model), shares.join(", "))
}

fn listener(out: &mut Page, plan: &ListenerPlan) {
    out.line(
        "address",
        match &plan.address {
            ListenAddress::Tcp(address) => text(&address.to_string()),
            ListenAddress::Unix(path) => text(&format!("unix:{}", path.display())),
        },
    );
    out.line("name", text(&plan.name));
    super::tls::show_server(out, plan.tls.as_deref());
    out.line("proxy_protocol", plan.proxy_protocol);
    out.line(
        "trusted_proxies",
        list(plan.trusted_proxies.iter().map(|network| text(&network.to_string()))),
    );
    out.line("debug_headers", plan.debug_headers);
    let client = &plan.client;
    out.open("client");
    out.line("header_timeout", show_duration(client.header_timeout));
    out.line("body_timeout", show_duration(client.body_timeout));
    out.line("min_rate", client.min_rate.map_or_else(|| "null".to_owned(), show_rate));
    out.line("write_timeout", show_duration(client.write_timeout));
    out.line("half_close", client.half_close);
    out.line("idle_timeout", show_duration(client.idle_timeout));
    out.line("max_header_bytes", show_size(client.max_header_bytes));
    out.line("max_headers", client.max_headers);
    out.line("max_body", show_size(client.max_body));
    out.line("max_connections", client.max_connections);
    out.close();
}

fn route(out: &mut Page, plan: &RoutePlan) {
    out.open("match");
    out.some("host", plan.host.as_deref());
    let path = plan.path.as_ref().map(ToString::to_string);
    out.some("path", path.as_deref());
    out.some("method", plan.method.as_deref());
    for (key, pairs) in
        [("headers", &plan.headers), ("query", &plan.query), ("cookies", &plan.cookies)]
    {
        out.pairs(key, pairs.iter().map(|(name, value)| (name.as_str(), text(shown(name, value)))));
    }
    out.close();
    match &plan.target {
        RouteTarget::Model(name) => out.line("model", text(name)),
        RouteTarget::Captured(name) => out.line("model", text(&format!("{{{name}}}"))),
        RouteTarget::Find(sources) => {
            out.line("model_from", list(sources.iter().map(|source| text(&source.to_string()))));
        }
    }
    out.open("rewrite");
    out.some("path", plan.rewrite_path.as_deref());
    out.some("host", plan.rewrite_host.as_deref());
    out.close();
}

fn model(out: &mut Page, plan: &ModelPlan) {
    out.open(&text(&plan.name));
    out.line("aliases", list(plan.aliases.iter().map(|alias| text(alias))));
    out.open("versions");
    for each in &plan.versions {
        version(out, each);
    }
    out.close();
    out.open("split");
    for (version, share) in plan.versions.iter().zip(&plan.split) {
        // The shortest number that reads back as this fraction of 100.
        out.line(&text(&version.name), share * 100.0);
    }
    out.close();
    match &plan.canary {
        Some(plan) => canary(out, plan),
        None => out.line("canary", "null"),
    }
    out.line(
        "kind",
        match plan.kind {
            Kind::Auto => "auto",
            Kind::Llm => "llm",
            Kind::Predict => "predict",
            Kind::Raw => "raw",
        },
    );
    let answers = match plan.answers {
        Answers::Upstream => "upstream",
        Answers::Client => "client",
    };
    out.line("answers", answers);
    out.line("hash_on", list(plan.hash_on.iter().map(|source| text(&source.to_string()))));
    let secret = plan.split_secret.as_ref();
    out.line("split_secret", secret.map_or_else(|| "null".to_owned(), |_| quoted(MASK)));
    out.line("allow_pin", plan.allow_pin);
    out.line("balance", plan.balance.name());
    match &plan.health {
        Some(probe) => health(out, probe),
        None => out.line("health", false),
    }
    match &plan.ejection {
        Some(plan) => ejection(out, plan),
        None => out.line("ejection", false),
    }
    out.line("fail_open", plan.fail_open);
    out.line("slow_start", show_duration(plan.slow_start));
    out.open("timeouts");
    out.line("connect", show_duration(plan.timeouts.connect));
    out.line("first_byte", show_duration(plan.timeouts.first_byte));
    out.line("between_chunks", show_duration(plan.timeouts.between_chunks));
    out.line("total", show_duration(plan.timeouts.total));
    out.line("tunnel", show_duration(plan.timeouts.tunnel));
    out.close();
    retries(out, &plan.retries);
    match &plan.hedge {
        Some(plan) => hedge(out, plan),
        None => out.line("hedge", false),
    }
    out.line("stream_heartbeat", plan.heartbeat.map_or("false".to_owned(), show_duration));
    out.line("max_buffered_body", show_size(plan.max_buffered_body));
    super::mirror::show(out, plan.mirror.as_ref());
    out.close();
}

fn version(out: &mut Page, plan: &VersionPlan) {
    out.open(&text(&plan.name));
    out.open("replicas");
    for replica in &plan.replicas {
        let slots = replica.slots.map_or_else(|| "null".to_owned(), |slots| slots.to_string());
        let (url, weight) = (text(&replica.url.text), replica.weight);
        out.item(&format!("{{url: {url}, weight: {weight}, slots: {slots}}}"));
    }
    out.close();
    out.some("upstream_model", plan.upstream_model.as_deref());
    super::tls::show_client(out, plan.tls.as_deref());
    out.open("headers");
    // What a replica is sent to know its clients by has many names.
    out.pairs("set", plan.headers.set.iter().map(|(name, _)| (name.as_str(), quoted(MASK))));
    out.line("remove", list(&plan.headers.remove));
    out.close();
    out.close();
}

fn health(out: &mut Page, plan: &ProbePlan) {
    out.open("health");
    match &plan.ask {
        ProbeKind::Tcp => out.line("tcp", true),
        ProbeKind::Get { path, .. } => out.line("path", text(path)),
        ProbeKind::Post { path, body, .. } => {
            out.line("post", text(path));
            out.line("body", quoted(body));
        }
    }
    match &plan.ask {
        ProbeKind::Get { expect, .. } | ProbeKind::Post { expect, .. } => {
            let range = |range: &std::ops::RangeInclusive<u16>| {
                text(&format!("{}-{}", range.start(), range.end()))
            };
            out.line("expect", list(expect.iter().map(range)));
        }
        ProbeKind::Tcp => {}
    }
    if let Some(name) = &plan.grpc {
        out.line("grpc", quoted(name));
    }
    out.line("every", show_duration(plan.every));
    out.line("timeout", show_duration(plan.timeout));
    out.line("fall", plan.fall);
    out.line("rise", plan.rise);
    out.close();
}

fn log(out: &mut Page, name: &str, plan: Option<&LogPlan>) {
    let Some(plan) = plan else { return out.line(name, "null") };
    out.open(name);
    out.line(
        "file",
        match &plan.file {
            LogTarget::Stdout => "stdout".to_owned(),
            LogTarget::Stderr => "stderr".to_owned(),
            LogTarget::File(path) => text(&path.to_string_lossy()),
        },
    );
    out.line("sample", plan.sample * 100.0);
    match &plan.rotate {
        None => out.line("format", "json"),
        Some(rotation) => {
            out.line("rotate", show_size(rotation.bytes));
            out.line("keep", rotation.keep);
        }
    }
    out.close();
}

/// A path whose query may hold secrets.
fn masked(path: &str) -> String {
    match path.split_once('?') {
        Some((path, query)) => format!("{path}?{}", masked_query(query)),
        None => path.to_owned(),
    }
}

fn test(out: &mut Page, plan: &TestPlan) {
    out.open("request");
    out.line("method", text(&plan.method));
    out.some("host", plan.host.as_deref());
    out.line("path", text(&masked(&plan.path)));
    out.some("model", plan.model.as_deref());
    out.some("key", plan.key.as_deref());
    let headers = plan.headers.iter();
    out.pairs("headers", headers.map(|(name, value)| (name.as_str(), text(shown(name, value)))));
    out.close();
    out.open("expect");
    out.some("model", plan.expect_model.as_deref());
    out.some("version", plan.expect_version.as_deref());
    out.close();
}

/// YAML under construction.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    depth: usize,
    /// The next line begins an item of a list.
    dash: bool,
    /// Where the line of each open key ends, to tell an empty mapping from one with keys.
    opened: Vec<usize>,
}

impl Page {
    fn start(&mut self) {
        let indent = self.depth * 2 - if self.dash { 2 } else { 0 };
        self.text.push_str(&" ".repeat(indent));
        if std::mem::take(&mut self.dash) {
            self.text.push_str("- ");
        }
    }

    pub(super) fn line(&mut self, key: &str, value: impl Display) {
        self.start();
        let _ = writeln!(self.text, "{key}: {value}");
    }

    pub(super) fn some(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(key, text(value));
        }
    }

    pub(super) fn open(&mut self, key: &str) {
        self.start();
        let _ = writeln!(self.text, "{key}:");
        self.opened.push(self.text.len());
        self.depth += 1;
    }

    pub(super) fn close(&mut self) {
        self.depth -= 1;
        if self.opened.pop() == Some(self.text.len()) {
            self.text.truncate(self.text.len() - 1);
            self.text.push_str(" {}\n");
        }
    }

    pub(super) fn item(&mut self, value: &str) {
        self.start();
        let _ = writeln!(self.text, "- {value}");
    }

    pub(super) fn block<T>(&mut self, key: &str, items: &[T], write: fn(&mut Self, &T)) {
        if items.is_empty() {
            return self.line(key, "[]");
        }
        self.open(key);
        self.depth += 1;
        for item in items {
            self.dash = true;
            write(self, item);
        }
        self.depth -= 1;
        self.close();
    }

    pub(super) fn pairs<'a>(&mut self, key: &str, pairs: impl Iterator<Item = (&'a str, String)>) {
        self.open(key);
        for (name, value) in pairs {
            self.line(&text(name), value);
        }
        self.close();
    }
}

pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// Bare where nothing could be misread, else in quotes.
pub(super) fn text(value: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let begins = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    // Other readers of YAML take these for something else than text.
    let word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word));
    if begins && !word && value.chars().all(bare) { value.to_owned() } else { quoted(value) }
}

/// In double quotes, as JSON has them; `${` is kept from being a variable.
pub(super) fn quoted(value: &str) -> String {
    serde_json::Value::from(value.replace("${", "$${")).to_string()
}
