//! The keys of the process: listeners, admin, telemetry, state, shutdown.
use super::address;
use super::diagnostic::Diagnostic;
use super::keys;
use super::reader::{Reader, Section, one_of};
use super::scalar::{self, Complaint};
use crate::table::{
    AdminPlan, ClientLimits, ListenAddress, ListenerPlan, LogPlan, LogTarget, Rotation, Secret,
    ShutdownPlan,
};
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;

impl Reader<'_> {
    pub(super) fn listeners(&mut self, top: &Section<'_>) -> Vec<ListenerPlan> {
        let nodes = self.list(top, "listeners");
        let written = top.get("listeners");
        if nodes.is_empty()
            && written.is_none_or(|entry| entry.value.is_null() || entry.value.noun() == "a list")
        {
            let place = written.map_or(top.span.clone(), |entry| entry.key_span.clone());
            self.report(
                Diagnostic::error("no-listeners", place, "the file has no listeners")
                    .label("nobody could connect")
                    .help("add `listeners: [{address: \"0.0.0.0:8080\"}]`"),
            );
        }
        let mut plans = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        let mut addresses: Vec<(ListenAddress, String)> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("listeners[{index}]");
            let section = self.section(node, node.span.clone(), keys::LISTENER, path);
            let Some((plan, place)) = self.listener(&section) else { continue };
            let fixed = !matches!(plan.address, ListenAddress::Tcp(address) if address.port() == 0);
            let taken = addresses.iter().find(|(address, _)| fixed && *address == plan.address);
            if let Some((_, other)) = taken {
                let message = format!("two listeners have the address of `{other}`");
                let twice = Diagnostic::error("duplicate-address", place, message);
                self.report(twice.label("already taken").help("give each its own port"));
            } else if !names.insert(plan.name.clone()) {
                let message = format!("two listeners are called `{}`", plan.name);
                let place = if section.has("name") { section.place_of("name") } else { place };
                self.report(
                    Diagnostic::error("duplicate-listener", place, message)
                        .label("already taken")
                        .help("give each its own `name`: it is their identity across reloads"),
                );
            }
            addresses.push((plan.address.clone(), plan.name.clone()));
            plans.push(plan);
        }
        plans
    }

    fn listener(&mut self, section: &Section<'_>) -> Option<(ListenerPlan, Range<usize>)> {
        let trusted_proxies = self.items(section, "trusted_proxies", "a network", address::network);
        let tls = self.server_tls(section);
        let proxy_protocol = self.flag(section, "proxy_protocol");
        if proxy_protocol && !section.has("trusted_proxies") {
            self.untrusted_proxy_protocol(section);
        }
        let debug_headers = self.flag(section, "debug_headers");
        let client = self.client(section);
        let name = self.optional(section, "name", name_of);
        let Some(entry) = section.get("address") else {
            // Something else than a mapping was reported as such.
            if !section.entries.is_empty() {
                self.missing(section, "address", "address: 0.0.0.0:8080");
            }
            return None;
        };
        let text = self.text(section, "address")?;
        let address = self.optional(section, "address", address::listen)?;
        let plan = ListenerPlan {
            name: name.unwrap_or(text),
            address,
            tls,
            proxy_protocol,
            trusted_proxies: trusted_proxies.into_iter().map(|(network, _)| network).collect(),
            debug_headers,
            client,
        };
        Some((plan, entry.place()))
    }

    fn untrusted_proxy_protocol(&mut self, section: &Section<'_>) {
        let message = "PROXY headers are taken from `trusted_proxies` alone, and there are none";
        self.report(
            Diagnostic::error("missing-key", section.place_of("proxy_protocol"), message)
                .label("nobody could send one")
                .help("add for example `trusted_proxies: [10.0.0.0/8]`"),
        );
    }

    fn client(&mut self, listener: &Section<'_>) -> ClientLimits {
        let section = self.inner(listener, "client", keys::CLIENT);
        ClientLimits {
            header_timeout: self.duration(&section, "header_timeout"),
            body_timeout: self.duration(&section, "body_timeout"),
            min_rate: self.min_rate(&section, "min_rate"),
            write_timeout: self.duration(&section, "write_timeout"),
            half_close: self.flag(&section, "half_close"),
            idle_timeout: self.duration(&section, "idle_timeout"),
            max_header_bytes: self.size(&section, "max_header_bytes"),
            max_headers: self.count(&section, "max_headers") as usize,
            max_body: self.size(&section, "max_body"),
            max_connections: self.count(&section, "max_connections") as usize,
        }
    }

    pub(super) fn admin(&mut self, top: &Section<'_>, listeners: &[ListenerPlan]) -> AdminPlan {
        let section = self.inner(top, "admin", keys::ADMIN);
        let address = self.parsed_or_default(&section, "address", address::socket);
        let place = section.place_of("address");
        let token = self.token(&section);
        if !address.ip().is_loopback() && !section.has("token") {
            let message = format!("the admin API would be open to the network at `{address}`");
            self.report(
                Diagnostic::error("open-admin", place.clone(), message)
                    .label("not loopback, and no token")
                    .help("set `admin.token`, or listen on `127.0.0.1`"),
            );
        }
        let same = listeners.iter().find(|plan| plan.address == ListenAddress::Tcp(address));
        if let Some(listener) = same.filter(|_| address.port() != 0) {
            let message = format!("`admin.address` is the address of listener `{}`", listener.name);
            let twice = Diagnostic::error("duplicate-address", place, message);
            self.report(twice.label("already taken").help("give each its own port"));
        }
        let opened = |text: &str| one_of(text, &["health", "metrics"]);
        let open = if section.has("open") {
            let items = self.items(&section, "open", "a word", opened);
            items.into_iter().map(|(word, _)| word).collect()
        } else {
            vec!["health", "metrics"]
        };
        AdminPlan {
            address,
            token,
            open_health: open.contains(&"health"),
            open_metrics: open.contains(&"metrics"),
        }
    }

    fn token(&mut self, section: &Section<'_>) -> Option<Secret> {
        let entry = section.get("token").filter(|entry| !entry.value.is_null())?;
        let (path, place) = (section.path_of("token"), entry.place());
        let (token, kept_elsewhere) = self.secret(&entry.value, place.clone(), &path)?;
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = if token.is_empty() {
                "is empty"
            } else {
                "holds characters that no header can carry"
            };
            self.complain(&path, place, Complaint::new("bad-secret", what, "not a token"));
            return None;
        }
        if !kept_elsewhere {
            self.warn_of_literal(place, &path);
        }
        Some(Secret(token))
    }

    pub(super) fn threads(&mut self, top: &Section<'_>) -> Option<usize> {
        self.parsed_or_default(top, "threads", |text| match text {
            "auto" => Ok(None),
            text => scalar::count(text, 1, 1024)
                .map(|threads| Some(threads as usize))
                .map_err(|complaint| complaint.help("write `auto`, or how many")),
        })
    }

    /// The access log, and that of decisions.
    pub(super) fn logs(&mut self, telemetry: &Section<'_>) -> (Option<LogPlan>, Option<LogPlan>) {
        let is_off = |name| telemetry.get(name).is_some_and(|entry| entry.value.is_null());
        let access_log = (!is_off("access_log")).then(|| self.access_log(telemetry));
        let decision_log = (telemetry.has("decision_log") && !is_off("decision_log"))
            .then(|| self.decision_log(telemetry, access_log.as_ref()))
            .flatten();
        (access_log, decision_log)
    }

    fn access_log(&mut self, telemetry: &Section<'_>) -> LogPlan {
        let section = self.inner(telemetry, "access_log", keys::ACCESS_LOG);
        let file = self.parsed_or_default(&section, "file", log_target);
        self.word(&section, "format");
        let percent = self.parsed_or_default(&section, "sample", scalar::part);
        LogPlan { file, sample: percent / 100.0, rotate: None }
    }

    fn decision_log(
        &mut self,
        telemetry: &Section<'_>,
        access_log: Option<&LogPlan>,
    ) -> Option<LogPlan> {
        let section = self.inner(telemetry, "decision_log", keys::DECISION_LOG);
        if !section.has("file") {
            self.missing(&section, "file", "file: decisions.jsonl");
        }
        let file = self.optional(&section, "file", log_target);
        let percent = self.parsed_or_default(&section, "sample", scalar::part);
        let bytes = self.size(&section, "rotate");
        let keep = u32::try_from(self.count(&section, "keep")).unwrap_or(u32::MAX);
        let file = file?;
        if access_log.is_some_and(|access| access.file == file) {
            let message =
                "`decision_log.file` is where the access log goes, whose lines look alike";
            let found = Diagnostic::error("same-file", section.place_of("file"), message);
            self.report(found.label("written by two").help("write another path"));
        }
        Some(LogPlan { file, sample: percent / 100.0, rotate: Some(Rotation { bytes, keep }) })
    }

    pub(super) fn state_dir(&mut self, top: &Section<'_>) -> PathBuf {
        let section = self.inner(top, "state", keys::STATE);
        let written = self.optional(&section, "dir", |text| match text {
            "" => Err(Complaint::new("bad-path", "is empty", "not a path")),
            path => Ok(PathBuf::from(path)),
        });
        written.unwrap_or_else(|| {
            // systemd lists several folders with colons between them.
            let given = (self.env)("STATE_DIRECTORY").filter(|dir| !dir.is_empty());
            let first = given.as_deref().and_then(|dirs| dirs.split(':').next());
            PathBuf::from(first.unwrap_or("./.evener"))
        })
    }

    pub(super) fn shutdown(&mut self, top: &Section<'_>) -> ShutdownPlan {
        let section = self.inner(top, "shutdown", keys::SHUTDOWN);
        ShutdownPlan {
            notice: self.duration(&section, "notice"),
            drain: self.duration(&section, "drain"),
        }
    }
}

/// A name people can type and terminals can show.
pub(super) fn name_of(text: &str) -> scalar::Read<String> {
    let what = if text.is_empty() {
        "is empty"
    } else if text.chars().any(char::is_control) || text.trim() != text {
        "holds control characters, or spaces around it"
    } else if text.len() > 256 {
        "is longer than 256 bytes"
    } else {
        return Ok(text.to_owned());
    };
    Err(Complaint::new("bad-name", what, "not a name"))
}

fn log_target(text: &str) -> scalar::Read<LogTarget> {
    match text {
        "stdout" => Ok(LogTarget::Stdout),
        "stderr" => Ok(LogTarget::Stderr),
        "" => Err(Complaint::new("bad-path", "is empty", "not a path")),
        path => Ok(LogTarget::File(PathBuf::from(path))),
    }
}
