//! The keys `tls` of a listener and of a version: the files are read here, so that what is wrong with them has a line.
use super::diagnostic::Diagnostic;
use super::effective::{Page, text};
use super::keys::{Key, Shape, key};
use super::reader::{Reader, Section};
use super::scalar::{Complaint, Read};
use super::tree::{Node, Value};
use crate::table::{ListenerPlan, ReplicaPlan, RoutePlan, Scheme};
use crate::tls::{ClientSettings, ClientTls, Fault, ServerFiles, ServerTls};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[rustfmt::skip]
pub(super) static SERVER_TLS: &[Key] = &[
    key("cert", Shape::Text, "", "A PEM file: the certificate, then those that lead to its authority. Read again when it changes. Required."),
    key("key", Shape::Text, "", "A PEM file with its private key, without a passphrase. Required."),
    key("client_ca", Shape::Text, "", "A PEM file of authorities: clients must show a certificate that one of them signed."),
];

#[rustfmt::skip]
pub(super) static CLIENT_TLS: &[Key] = &[
    key("ca", Shape::Text, "", "A PEM file of authorities that sign the replicas' certificates. Default: those that this machine trusts."),
    key("cert", Shape::Text, "", "A PEM file: the certificate to show to replicas that ask for one."),
    key("key", Shape::Text, "", "A PEM file with its private key."),
    key("server_name", Shape::Text, "", "The name that must be in the replicas' certificates. Default: the host of each URL."),
    key("insecure", Shape::Flag, "false", "`true`: take any certificate, from anybody."),
];

impl Reader<'_> {
    pub(super) fn server_tls(&mut self, listener: &Section<'_>) -> Option<Arc<ServerTls>> {
        let entry = listener.get("tls").filter(|entry| !entry.value.is_null())?;
        let path = listener.path_of("tls");
        let sections: Vec<Section<'_>> = match &entry.value.value {
            Value::List(nodes) => {
                let nodes = nodes.iter().enumerate();
                let named = nodes.map(|(i, node)| (node, format!("{path}[{i}]")));
                named
                    .map(|(node, path)| self.section(node, node.span.clone(), SERVER_TLS, path))
                    .collect()
            }
            Value::Map(_) | Value::Scalar(_) => {
                vec![self.section(&entry.value, entry.key_span.clone(), SERVER_TLS, path)]
            }
        };
        if sections.is_empty() {
            self.report(
                Diagnostic::error("missing-key", entry.place(), "`tls` lists no certificate")
                    .label("no certificate")
                    .help("add `{cert: tls.crt, key: tls.key}`, or take `tls` out"),
            );
            return None;
        }
        let read: Vec<_> = sections.iter().map(|section| self.server_files(section)).collect();
        let files = read.into_iter().collect::<Option<Vec<ServerFiles>>>()?;
        match ServerTls::load(files) {
            Ok(tls) => {
                for (i, why) in tls.untimely() {
                    self.warn_of_dates(&sections[i], &why);
                }
                Some(Arc::new(tls))
            }
            Err(faults) => {
                for (i, fault) in faults {
                    self.report_fault(&sections[i], &fault);
                }
                None
            }
        }
    }

    fn server_files(&mut self, section: &Section<'_>) -> Option<ServerFiles> {
        // Something else than a mapping was reported as such.
        for (name, example) in [("cert", "cert: tls.crt"), ("key", "key: tls.key")] {
            if !section.entries.is_empty() && !section.has(name) {
                self.missing(section, name, example);
            }
        }
        let client_ca = self.optional(section, "client_ca", path);
        let cert = self.optional(section, "cert", path);
        let key = self.optional(section, "key", path);
        Some(ServerFiles { cert: cert?, key: key?, client_ca })
    }

    /// Certificates whose `client_ca` differ guard different things. A request is bound to the certificate of its host, so
    /// routes keep them apart only by `host`.
    pub(super) fn check_client_cas(
        &mut self,
        top: &Section<'_>,
        plans: &[ListenerPlan],
        routes: &[RoutePlan],
    ) {
        for (node, plan) in self.list(top, "listeners").iter().zip(plans) {
            let Some(tls) = &plan.tls else { continue };
            let files = tls.files();
            let ca = |at: usize| files[at].client_ca.as_deref();
            let Some(other) = (1..files.len()).find(|at| ca(*at) != ca(0)) else { continue };
            let mixes = |chosen: Vec<usize>| chosen.iter().any(|at| ca(*at) != ca(chosen[0]));
            let mixing = routes.iter().find(|route| {
                let pattern = route.host.as_deref().unwrap_or("*");
                mixes(tls.chosen_by_pattern(pattern))
            });
            if !routes.is_empty() && mixing.is_none() {
                continue;
            }
            let open = (0..files.len()).find(|at| ca(*at).is_none());
            let place = place_of_certificate(node, open.unwrap_or(other));
            let by = match mixing {
                Some(route) => format!("the route in line {}", route.line),
                None => "every path".to_owned(),
            };
            let (found, label) = if open.is_some() {
                let message = format!(
                    "{by} is open to clients without a certificate: some of this listener have a `client_ca`, and this one \
                     has not"
                );
                let found = Diagnostic::error("conflicting-keys", place, message);
                (found, "a client that asks for this name needs no certificate")
            } else {
                let message = format!(
                    "{by} is open to clients of each `client_ca` of this listener: they differ, and nothing keeps them apart"
                );
                let found = Diagnostic::warning("mixed-client-ca", place, message);
                (found, "another authority than that of the first")
            };
            let help = "give each route a `match.host` of one certificate, use a listener for each `client_ca`, or \
                        give all the same";
            self.report(found.label(label).help(help));
        }
    }

    /// What a version says of TLS; `None` where no replica is spoken to over it.
    pub(super) fn client_tls(
        &mut self,
        version: Option<&Section<'_>>,
        place: &Range<usize>,
        replicas: &[(ReplicaPlan, Range<usize>)],
    ) -> Option<Arc<ClientTls>> {
        let section = version
            .filter(|version| version.has("tls"))
            .map(|version| self.inner(version, "tls", CLIENT_TLS));
        let settings = match &section {
            Some(section) => self.client_settings(section)?,
            None => ClientSettings::default(),
        };
        let secure =
            |replica: &ReplicaPlan| matches!(replica.url.scheme, Scheme::Https | Scheme::Grpcs);
        if !replicas.iter().any(|(replica, _)| secure(replica)) {
            if let Some(section) = section {
                let message = "no replica of this version is spoken to over TLS";
                let idle = Diagnostic::warning("idle-tls", section.span, message);
                self.report(idle.label("does nothing").help("write `https://` in their URLs"));
            }
            return None;
        }
        let here = section.unwrap_or_else(|| Section {
            path: String::new(),
            keys: CLIENT_TLS,
            entries: &[],
            span: place.clone(),
        });
        let tls = match ClientTls::load(settings) {
            Ok(tls) => tls,
            Err(fault) => {
                self.report_fault(&here, &fault);
                return None;
            }
        };
        if let Some(why) = tls.untimely() {
            self.warn_of_dates(&here, &why);
        }
        for (replica, place) in replicas.iter().filter(|(replica, _)| secure(replica)) {
            if tls.name_of(&replica.url.address).is_none() {
                let message = format!(
                    "no certificate can be for the host of `{}`: nothing would be verified",
                    replica.url.text
                );
                let nameless = Diagnostic::error("unverifiable-name", place.clone(), message);
                self.report(
                    nameless
                        .label("not a name for a certificate")
                        .help("set `tls: {server_name: NAME}` of the version, or `insecure: true`"),
                );
            }
        }
        Some(Arc::new(tls))
    }

    fn client_settings(&mut self, section: &Section<'_>) -> Option<ClientSettings> {
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            if section.has(one) && !section.has(other) {
                self.missing(section, other, &format!("{other}: client.{other}"));
                return None;
            }
        }
        let insecure = self.flag(section, "insecure");
        if insecure {
            let place = section.place_of("insecure");
            if section.has("ca") || section.has("server_name") {
                let message =
                    "`insecure` asks nobody who answers; `ca` and `server_name` say who may";
                let found = Diagnostic::error("conflicting-keys", place, message);
                self.report(found.label("one or the other").help("take `insecure` out"));
                return None;
            }
            let message = "the replicas of this version are not verified: anybody may answer";
            let found = Diagnostic::warning("insecure-tls", place, message);
            self.report(
                found.label("no protection from who is in between").help("name their `ca`"),
            );
        }
        let ca = self.optional(section, "ca", path);
        let cert = self.optional(section, "cert", path);
        let key = self.optional(section, "key", path);
        let server_name = self.optional(section, "server_name", server_name);
        Some(ClientSettings { ca, identity: cert.zip(key), server_name, insecure })
    }

    fn report_fault(&mut self, section: &Section<'_>, fault: &Fault) {
        let what = match fault.path.as_str() {
            "" => fault.why.clone(),
            path => format!("names `{path}`, which {}", fault.why),
        };
        let owner = if section.path.is_empty() { "tls" } else { &section.path };
        let path = format!("{owner}.{}", fault.key);
        let complaint = Complaint::new("bad-certificate", what, "of no use");
        self.complain(&path, section.place_of(fault.key), complaint);
    }

    fn warn_of_dates(&mut self, section: &Section<'_>, why: &str) {
        let message = format!("the certificate of `{}` {why}", section.path_of("cert"));
        let found = Diagnostic::warning("untimely-certificate", section.place_of("cert"), message);
        self.report(found.label("nobody will take it").help("renew it"));
    }
}

/// Where the entry of this number stands in the `tls` of a listener.
fn place_of_certificate(listener: &Node, number: usize) -> Range<usize> {
    let field = |node: &Node, name: &str| match &node.value {
        Value::Map(entries) => entries.iter().position(|entry| entry.key == name),
        Value::List(_) | Value::Scalar(_) => None,
    };
    let Value::Map(entries) = &listener.value else { return listener.span.clone() };
    let tls = field(listener, "tls").map(|at| &entries[at].value.value);
    let Some(node) = tls.and_then(|tls| match tls {
        Value::List(nodes) => nodes.get(number),
        Value::Map(_) | Value::Scalar(_) => None,
    }) else {
        return listener.span.clone();
    };
    match (&node.value, field(node, "client_ca").or_else(|| field(node, "cert"))) {
        (Value::Map(entries), Some(at)) => entries[at].place(),
        _ => node.span.clone(),
    }
}

fn path(text: &str) -> Read<PathBuf> {
    match text {
        "" => Err(Complaint::new("bad-path", "is empty", "not a path")),
        path => Ok(PathBuf::from(path)),
    }
}

fn server_name(text: &str) -> Read<String> {
    if ClientTls::may_be_named(text) {
        return Ok(text.to_owned());
    }
    let what = format!("is `{text}`, which is neither a DNS name nor an IP address");
    Err(Complaint::new("bad-host", what, "not a name for a certificate"))
}

/// The key of a listener.
pub(super) fn show_server(out: &mut Page, tls: Option<&ServerTls>) {
    let Some(tls) = tls else { return out.line("tls", "null") };
    out.block("tls", tls.files(), |out, files| {
        out.line("cert", shown(&files.cert));
        out.line("key", shown(&files.key));
        if let Some(path) = &files.client_ca {
            out.line("client_ca", shown(path));
        }
    });
}

fn shown(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// The key of a version.
pub(super) fn show_client(out: &mut Page, tls: Option<&ClientTls>) {
    let Some(ClientSettings { ca, identity, server_name, insecure }) = tls.map(ClientTls::settings)
    else {
        return;
    };
    out.open("tls");
    if let Some(path) = ca {
        out.line("ca", shown(path));
    }
    if let Some((cert, key)) = identity {
        out.line("cert", shown(cert));
        out.line("key", shown(key));
    }
    out.some("server_name", server_name.as_deref());
    out.line("insecure", insecure);
    out.close();
}
