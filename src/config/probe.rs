//! The key `health`: how replicas are probed.
use super::keys;
use super::reader::{Reader, Section};
use super::route_path::path_of;
use super::scalar::{Complaint, Read, show_duration};
use super::tree::Value;
use crate::health::{ProbeKind, ProbePlan};
use std::ops::RangeInclusive;

type Statuses = Vec<RangeInclusive<u16>>;

impl Reader<'_> {
    pub(super) fn health(&mut self, model: &Section<'_>) -> Option<ProbePlan> {
        if self.switched_off(model, "health") {
            return None;
        }
        let section = self.inner(model, "health", keys::HEALTH);
        let ask = self.question(&section);
        let grpc = self.text(&section, "grpc");
        let every = self.duration(&section, "every");
        let timeout = self.duration(&section, "timeout");
        if section.has("timeout") && timeout >= every {
            let place = section.place_of("timeout");
            let what = format!(
                "is {}, not shorter than `every`, {}",
                show_duration(timeout),
                show_duration(every)
            );
            let complaint = Complaint::new("probe-timeout", what, "too long");
            let help = "a probe ends before the next begins: shorten it, or raise `every`";
            self.complain(&section.path_of("timeout"), place, complaint.help(help));
        }
        let timeout = if section.has("timeout") { timeout } else { timeout.min(every / 2) };
        let fall = self.count(&section, "fall") as u32;
        let rise = self.count(&section, "rise") as u32;
        Some(ProbePlan { ask, grpc, every, timeout, fall, rise })
    }

    /// Is the section `false`, or something else that is no section?
    pub(super) fn switched_off(&mut self, model: &Section<'_>, name: &str) -> bool {
        let Some(entry) = model.get(name).filter(|entry| !entry.value.is_null()) else {
            return false;
        };
        let Value::Scalar(scalar) = &entry.value.value else { return false };
        if scalar.text != "false" && !scalar.broken {
            let path = model.path_of(name);
            self.wrong_type(&path, entry.place(), &entry.value, "a mapping of keys, or `false`");
        }
        true
    }

    fn question(&mut self, section: &Section<'_>) -> ProbeKind {
        let tcp = self.flag(section, "tcp");
        let path = self.optional(section, "path", path_of);
        let post = self.optional(section, "post", path_of);
        let body = self.text_or_default(section, "body");
        let expect = self.expect(section);
        let tcp_written = section.has("tcp") && tcp;
        let conflict = match (section.has("path"), section.has("post"), tcp_written) {
            (true, true, _) => Some(("post", "does not go with `path`")),
            (true, false, true) => Some(("tcp", "does not go with `path`")),
            (false, true, true) => Some(("tcp", "does not go with `post`")),
            (false, false, _) if section.has("expect") => {
                Some(("expect", "does not go with a probe that only connects"))
            }
            (_, false, _) if section.has("body") => Some(("body", "does not go without `post`")),
            (false, false, _) if !tcp && !section.has("grpc") => {
                Some(("tcp", "is `false`, and nothing else is asked"))
            }
            _ => None,
        };
        if let Some((key, what)) = conflict {
            let place =
                section.get(key).map_or(section.span.clone(), |entry| entry.key_span.clone());
            let complaint = Complaint::new("conflicting-keys", what, "what is asked?");
            let help = "a probe is one of `tcp: true`, `path: /health`, `post: /path` with a `body`, and beside it `grpc: NAME` for replicas that speak HTTP/2; `health: false` for none";
            self.complain(&section.path_of(key), place, complaint.help(help));
        }
        match (path, post) {
            (_, Some(path)) => ProbeKind::Post { path, body, expect },
            (Some(path), None) => ProbeKind::Get { path, expect },
            (None, None) => ProbeKind::Tcp,
        }
    }

    fn expect(&mut self, section: &Section<'_>) -> Statuses {
        let listed = section.get("expect").is_some_and(|e| matches!(e.value.value, Value::List(_)));
        if listed {
            let items = self.items(section, "expect", "a status", statuses);
            return items.into_iter().flat_map(|(ranges, _)| ranges).collect();
        }
        self.parsed_or_default(section, "expect", statuses)
    }
}

/// `200`, `200-399`, `2xx`, and several with commas between them.
fn statuses(text: &str) -> Read<Statuses> {
    let one = |part: &str| -> Option<RangeInclusive<u16>> {
        if let Some(class) = part.strip_suffix("xx") {
            let class: u16 = class.parse().ok().filter(|class| *class < 10)?;
            return Some(class * 100..=class * 100 + 99);
        }
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.trim().parse().ok()?..=to.trim().parse().ok()?)
    };
    let bad = || {
        Complaint::new("bad-status", format!("holds `{text}`, which is no status"), "not a status")
            .help("write `200`, `200-399` or `2xx`; statuses are from 100 to 599")
    };
    text.split(',')
        .map(|part| {
            let range = one(part.trim()).ok_or_else(bad)?;
            let sane = *range.start() >= 100 && *range.end() <= 599 && !range.is_empty();
            sane.then_some(range).ok_or_else(bad)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbers_ranges_or_classes() {
        assert_eq!(statuses("200").unwrap(), [200..=200]);
        assert_eq!(statuses("200-399").unwrap(), [200..=399]);
        assert_eq!(statuses("2xx, 404").unwrap(), [200..=299, 404..=404]);
        for bad in ["", "20", "600", "399-200", "xx", "999xx", "ok"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }
}
