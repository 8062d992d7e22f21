//! Routes, and the tests of them that a file carries.
use super::address::is_host;
use super::diagnostic::Diagnostic;
use super::header;
use super::hints;
use super::keys;
use super::reader::{Reader, Section};
use super::route_path::{capture_of, path_of, path_pattern, rewrite_of};
use super::scalar::{Complaint, Read};
use crate::table::{ModelPlan, NameSource, PathPattern, RoutePlan, RouteTarget, TestPlan};

impl Reader<'_> {
    pub(super) fn routes(&mut self, top: &Section<'_>, models: &[ModelPlan]) -> Vec<RoutePlan> {
        let mut plans = Vec::new();
        for (index, node) in self.list(top, "routes").iter().enumerate() {
            let path = format!("routes[{index}]");
            let section = self.section(node, node.span.clone(), keys::ROUTE, path);
            plans.push(self.route(&section, models));
        }
        plans
    }

    fn route(&mut self, section: &Section<'_>, models: &[ModelPlan]) -> RoutePlan {
        let wanted = self.inner(section, "match", keys::MATCH);
        let rewrite = self.inner(section, "rewrite", keys::REWRITE);
        let path = self.optional(&wanted, "path", path_pattern);
        let text_of = |text: &str| Ok(text.to_owned());
        let captures: Vec<&str> = path.iter().flat_map(PathPattern::captures).collect();
        // Where the path itself is wrong, nobody knows what it captures.
        let captures = (path.is_some() || !wanted.has("path")).then_some(captures.as_slice());
        RoutePlan {
            line: self.line_of(section.span.start),
            host: self.optional(&wanted, "host", host_pattern),
            method: self.optional(&wanted, "method", method),
            headers: self.header_pairs(&wanted, "headers"),
            query: self.pairs(&wanted, "query", text_of, text_of),
            cookies: self.pairs(&wanted, "cookies", header::cookie_name, text_of),
            target: self.target(section, models, captures),
            rewrite_path: self.optional(&rewrite, "path", |text| rewrite_of(text, captures)),
            rewrite_host: self.optional(&rewrite, "host", host_and_port),
            path,
        }
    }

    /// `captures`: those of the path; `None`: it could not be read.
    fn target(
        &mut self,
        section: &Section<'_>,
        models: &[ModelPlan],
        captures: Option<&[&str]>,
    ) -> RouteTarget {
        if let (Some(entry), true) = (section.get("model_from"), section.has("model")) {
            let complaint =
                Complaint::new("conflicting-keys", "does not go with `model`", "which of the two?");
            let help = "`model` is a fixed one, `model_from` looks for its name";
            let path = section.path_of("model_from");
            self.complain(&path, entry.key_span.clone(), complaint.help(help));
        }
        let written = section.get("model").and_then(|entry| entry.value.text());
        if let Some(capture) = written.and_then(|text| text.strip_prefix('{')?.strip_suffix('}')) {
            let known = self.optional(section, "model", |_| capture_of(capture, captures));
            return RouteTarget::Captured(known.unwrap_or_default());
        }
        // `{model}` without quotes is a mapping to YAML.
        if let Some(entry) = section.get("model")
            && let [inside] = entry.value.entries()
            && inside.value.is_null()
        {
            let complaint = Complaint::new("wrong-type", "is a mapping to YAML", "not text");
            let help = format!("in quotes it is a capture: `model: \"{{{}}}\"`", inside.key);
            self.complain(&section.path_of("model"), entry.place(), complaint.help(help));
            return RouteTarget::Captured(String::new());
        }
        if section.has("model") {
            let name = self.known_model(section, "model", models).unwrap_or_default();
            return RouteTarget::Model(name);
        }
        let sources = if section.has("model_from") {
            let items = self.items(section, "model_from", "the name of a source", name_source);
            items.into_iter().map(|(source, _)| source).collect()
        } else {
            vec![NameSource::Body, NameSource::Path]
        };
        RouteTarget::Find(sources)
    }

    /// The model that a key names, by its name or an alias.
    fn known_model(
        &mut self,
        section: &Section<'_>,
        key: &str,
        models: &[ModelPlan],
    ) -> Option<String> {
        let word = self.text(section, key)?;
        let named = |plan: &&ModelPlan| plan.name == word || plan.aliases.contains(&word);
        if let Some(plan) = models.iter().find(named) {
            return Some(plan.name.clone());
        }
        let names: Vec<&str> = models.iter().map(|plan| plan.name.as_str()).collect();
        let path = section.path_of(key);
        let message = format!("`{path}` names model `{word}`, which does not exist");
        let place = section.place_of(key);
        self.report(
            Diagnostic::error("unknown-model", place, message)
                .label("no such model")
                .help(hints::choices(&word, "models", &names)),
        );
        None
    }

    /// The written one; else the only one.
    pub(super) fn default_model(
        &mut self,
        top: &Section<'_>,
        models: &[ModelPlan],
    ) -> Option<String> {
        if top.has("default_model") {
            return self.known_model(top, "default_model", models);
        }
        match models {
            [only] => Some(only.name.clone()),
            _ => None,
        }
    }

    pub(super) fn tests(&mut self, top: &Section<'_>) -> Vec<TestPlan> {
        let mut plans = Vec::new();
        for (index, node) in self.list(top, "tests").iter().enumerate() {
            let path = format!("tests[{index}]");
            let section = self.section(node, node.span.clone(), keys::TEST, path);
            plans.extend(self.test(&section));
        }
        plans
    }

    fn test(&mut self, section: &Section<'_>) -> Option<TestPlan> {
        let request = self.inner(section, "request", keys::TEST_REQUEST);
        let expect = self.inner(section, "expect", keys::TEST_EXPECT);
        let model = self.text(&request, "model");
        let default = if model.is_some() { "POST" } else { "GET" };
        let path = self.optional(&request, "path", request_path);
        let plan = TestPlan {
            line: self.line_of(section.span.start),
            method: self.optional(&request, "method", method).unwrap_or_else(|| default.to_owned()),
            host: self.optional(&request, "host", host_and_port),
            path: path.unwrap_or_default(),
            model,
            key: self.text(&request, "key"),
            headers: self.header_pairs(&request, "headers"),
            expect_model: self.text(&expect, "model"),
            expect_version: self.text(&expect, "version"),
        };
        if !request.has("path") {
            self.missing(&request, "path", "path: /v1/chat/completions");
            return None;
        }
        if !expect.has("model") && !expect.has("version") {
            self.missing(&expect, "model", "expect: {model: chat, version: v1}");
            return None;
        }
        Some(plan)
    }

    fn line_of(&self, byte: usize) -> usize {
        1 + self.source[..byte].matches('\n').count()
    }
}

/// A test may carry a query.
fn request_path(text: &str) -> Read<String> {
    path_of(text.split('?').next().unwrap_or(text))?;
    Ok(text.to_owned())
}

fn host_pattern(text: &str) -> Read<String> {
    let host = text.strip_prefix("*.").unwrap_or(text);
    if host.parse::<std::net::IpAddr>().is_ok() || is_host(host) {
        // The dot that ends a full name is removed from what clients send, too.
        return Ok(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase());
    }
    let what = format!("is `{text}`, which is not a host");
    let complaint = Complaint::new("bad-host", what, "not a host");
    Err(complaint.help("write it without scheme and port: `api.example.com`, `*.example.com`"))
}

fn host_and_port(text: &str) -> Read<String> {
    let good = text
        .parse::<http::uri::Authority>()
        .is_ok_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    let what = format!("is `{text}`, which is not a host");
    if good { Ok(text.to_owned()) } else { Err(Complaint::new("bad-host", what, "not a host")) }
}

fn method(text: &str) -> Read<String> {
    let upper = text.to_ascii_uppercase();
    match http::Method::from_bytes(upper.as_bytes()) {
        Ok(_) if !upper.is_empty() => Ok(upper),
        Ok(_) | Err(_) => {
            let what = format!("is `{text}`, which is not a method");
            Err(Complaint::new("bad-method", what, "not a method").help("write for example `POST`"))
        }
    }
}

fn name_source(text: &str) -> Read<NameSource> {
    match text.split_once(':') {
        Some(("header", name)) => {
            header::name(name).map(|name| NameSource::Header(name.as_str().to_owned()))
        }
        Some(("query", name)) if !name.is_empty() => Ok(NameSource::Query(name.to_owned())),
        None if text == "body" => Ok(NameSource::Body),
        None if text == "path" => Ok(NameSource::Path),
        _ => {
            let what = format!("holds `{text}`, where no name is found");
            Err(Complaint::new("unknown-value", what, "unknown source")
                .help("values: body, path, `header:NAME`, `query:NAME`"))
        }
    }
}
