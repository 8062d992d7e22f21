//! The versions of a model, their replicas, and the split among them.
use super::address;
use super::diagnostic::Diagnostic;
use super::hints;
use super::keys;
use super::reader::{Reader, Section, join};
use super::scalar::{self, Complaint, Read};
use super::server::name_of;
use super::tree::{Entry, Node, Value};
use crate::table::{HeaderEdits, ReplicaPlan, VersionPlan};
use std::collections::HashMap;
use std::ops::Range;

/// Shares may miss 100 by this much: `33.33` three times is meant well.
const TOLERANCE: f64 = 0.01 + 1e-9;

impl Reader<'_> {
    pub(super) fn versions(&mut self, model: &Section<'_>, name: &str) -> Vec<VersionPlan> {
        let entries = self.map(model, "versions");
        let written = model.get("versions");
        let mistyped = written.is_some_and(|entry| {
            !entry.value.is_null() && !matches!(entry.value.value, Value::Map(_))
        });
        if entries.is_empty() && !mistyped {
            let place = written.map_or(model.span.clone(), |entry| entry.key_span.clone());
            let message = format!("model `{name}` has no versions, and so no replicas");
            self.report(
                Diagnostic::error("no-replicas", place, message)
                    .label("nothing would serve it")
                    .help("add `versions: {v1: [http://10.0.0.1:8000]}`"),
            );
        }
        entries.iter().map(|entry| self.version(entry, model, name)).collect()
    }

    fn version(&mut self, entry: &Entry, model: &Section<'_>, owner: &str) -> VersionPlan {
        let name = entry.key.clone();
        let path = join(&model.path_of("versions"), &name);
        if let Err(complaint) = version_name(&name) {
            self.complain(&path, entry.key_span.clone(), complaint);
        }
        let place = entry.key_span.clone();
        let (nodes, upstream_model, section, headers, mistyped) = match &entry.value.value {
            Value::List(nodes) => (nodes.as_slice(), None, None, HeaderEdits::default(), false),
            Value::Map(_) => {
                let section =
                    self.section(&entry.value, place.clone(), keys::VERSION, path.clone());
                let nodes = self.list(&section, "replicas");
                let mistyped = nodes.is_empty()
                    && section.has("replicas")
                    && section.get("replicas").is_some_and(|entry| entry.value.noun() != "a list");
                let upstream_model = self.optional(&section, "upstream_model", name_of);
                let headers = self.header_edits(&section);
                (nodes, upstream_model, Some(section), headers, mistyped)
            }
            Value::Scalar(_) => {
                let mistyped = !entry.value.is_null();
                if mistyped {
                    let wanted = "a list of replicas, or a mapping";
                    self.wrong_type(&path, entry.place(), &entry.value, wanted);
                }
                (&[][..], None, None, HeaderEdits::default(), mistyped)
            }
        };
        if nodes.is_empty() && !mistyped {
            let message = format!("version `{name}` of model `{owner}` has no replicas");
            self.report(
                Diagnostic::error("no-replicas", place, message)
                    .label("nothing would serve it")
                    .help(format!("add for example `{name}: [http://10.0.0.1:8000]`")),
            );
        }
        let replicas = self.replicas(nodes, &path, owner, &name);
        let tls = self.client_tls(section.as_ref(), &entry.key_span, &replicas);
        let replicas = replicas.into_iter().map(|(replica, _)| replica).collect();
        VersionPlan { name, replicas, upstream_model, tls, headers }
    }

    fn replicas(
        &mut self,
        nodes: &[Node],
        path: &str,
        model: &str,
        version: &str,
    ) -> Vec<(ReplicaPlan, Range<usize>)> {
        let mut plans = Vec::with_capacity(nodes.len());
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{path}.replicas[{index}]");
            let Some((plan, place)) = self.replica(node, path) else { continue };
            // `http://a` and `http://a:80` are one replica.
            let address = plan.url.address.clone();
            if let Some(first) = seen.insert(address, index) {
                let message = format!(
                    "version `{version}` of model `{model}` has the replica `{}` twice",
                    plan.url.text
                );
                self.report(
                    Diagnostic::error("duplicate-replica", place.clone(), message)
                        .label("already there")
                        .help(format!(
                            "it is also number {} of the list; for more load set its `weight`",
                            first + 1
                        )),
                );
            }
            self.replicas.push((plan.url.clone(), place.clone()));
            plans.push((plan, place));
        }
        plans
    }

    fn replica(&mut self, node: &Node, path: String) -> Option<(ReplicaPlan, Range<usize>)> {
        if !matches!(node.value, Value::Map(_)) {
            let wanted = "a URL, or a mapping with one";
            let url = self.parse(node, node.span.clone(), &path, wanted, address::replica)?;
            return Some((ReplicaPlan { url, weight: 1.0, slots: None }, node.span.clone()));
        }
        let section = self.section(node, node.span.clone(), keys::REPLICA, path);
        let weight = self.parsed_or_default(&section, "weight", |text| {
            let weight = scalar::number(text)?;
            if weight > 0.0 && (1e-6..=1e6).contains(&weight) {
                return Ok(weight as f32);
            }
            let what = format!("is `{text}`; it must be above 0");
            let help = "to send it nothing, drain it or leave it out";
            Err(Complaint::new("out-of-range", what, "not above 0").help(help))
        });
        let slots = self.optional_count(&section, "slots").map(|slots| slots as u32);
        let Some(entry) = section.get("url") else {
            self.missing(&section, "url", "url: http://10.0.0.1:8000");
            return None;
        };
        let url = self.optional(&section, "url", address::replica)?;
        Some((ReplicaPlan { url, weight, slots }, entry.place()))
    }

    /// Fractions, one for each of `versions`.
    pub(super) fn split(
        &mut self,
        model: &Section<'_>,
        name: &str,
        versions: &[VersionPlan],
    ) -> Vec<f64> {
        let even = || vec![1.0 / versions.len() as f64; versions.len()];
        let entries = self.map(model, "split");
        let Some(written) = model.get("split").filter(|entry| !entry.value.is_null()) else {
            if versions.len() > 1 {
                self.missing_split(model, name, versions);
            }
            return even();
        };
        if !matches!(written.value.value, Value::Map(_)) {
            return even();
        }
        let mut shares = vec![0.0; versions.len()];
        let (mut sum, mut complete) = (0.0, true);
        for entry in entries {
            let Some(share) = self.share(entry, model) else {
                complete = false;
                continue;
            };
            sum += share;
            match versions.iter().position(|version| version.name == entry.key) {
                Some(index) => shares[index] = share,
                None => self.unknown_version(
                    "split",
                    (&*entry.key, entry.key_span.clone()),
                    name,
                    versions,
                ),
            }
        }
        if complete && (sum - 100.0).abs() > TOLERANCE {
            let message = format!("`split` of model `{name}` sums to {}, not 100", shown(sum));
            self.report(
                Diagnostic::error("split-sum", written.key_span.clone(), message)
                    .label(format!("{} percent", shown(sum)))
                    .help("shares are percents; those of all versions together are 100"),
            );
        }
        let known: f64 = shares.iter().sum();
        if known <= 0.0 {
            return even();
        }
        shares.into_iter().map(|share| share / known).collect()
    }

    fn share(&mut self, entry: &Entry, model: &Section<'_>) -> Option<f64> {
        let path = join(&model.path_of("split"), &entry.key);
        self.parse(
            &entry.value,
            entry.place(),
            &path,
            "a percentage",
            |text| match scalar::percent(text)? {
                share if share < 0.0 => {
                    let what = format!("is `{text}`, less than nothing");
                    Err(Complaint::new("negative-share", what, "below 0")
                        .help("0 keeps a version without requests"))
                }
                share => Ok(share),
            },
        )
    }

    /// A key of a model names a version that is not there.
    pub(super) fn unknown_version(
        &mut self,
        key: &str,
        (word, place): (&str, Range<usize>),
        model: &str,
        versions: &[VersionPlan],
    ) {
        let names: Vec<&str> = versions.iter().map(|version| version.name.as_str()).collect();
        let message =
            format!("`{key}` of model `{model}` names version `{word}`, which it does not have");
        self.report(
            Diagnostic::error("unknown-version", place, message)
                .label("no such version")
                .help(hints::choices(word, &format!("versions of `{model}`"), &names)),
        );
    }

    fn missing_split(&mut self, model: &Section<'_>, name: &str, versions: &[VersionPlan]) {
        let place =
            model.get("versions").map_or(model.span.clone(), |entry| entry.key_span.clone());
        let rest = versions.iter().skip(1).map(|version| format!(", {}: 0", version.name));
        let example = format!("split: {{{}: 100{}}}", versions[0].name, rest.collect::<String>());
        let message =
            format!("model `{name}` has {} versions and no `split` among them", versions.len());
        self.report(
            Diagnostic::error("missing-split", place, message)
                .label("which share has each?")
                .help(format!("add for example `{example}`")),
        );
    }
}

/// A number without the dust of floating point.
fn shown(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Versions are addressed as MODEL/VERSION on the command line.
fn version_name(text: &str) -> Read<String> {
    if text.contains('/') || text.contains(char::is_whitespace) {
        let what = "has a name with a slash or a space";
        return Err(Complaint::new("bad-name", what, "not a name for a version"));
    }
    name_of(text)
}
