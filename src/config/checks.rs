//! The checks of a canary: what is compared, how much worse it may be, and when an answer is a bad one.
use super::canary_keys;
use super::reader::{Reader, Section, join, one_of};
use super::scalar::{self, Complaint, Read};
use super::tree::Value;
use crate::canary::{Check, Margin, Metric, OutputRules};

impl Reader<'_> {
    pub(super) fn checks(&mut self, canary: &Section<'_>) -> Vec<Check> {
        if !canary.has("checks") {
            return Check::usual();
        }
        let path = canary.path_of("checks");
        let nodes = self.list(canary, "checks");
        let mut checks: Vec<Check> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let section = self.section(node, node.span.clone(), canary_keys::CHECK, path.clone());
            let Some(check) = self.check(&section) else { continue };
            let name = check.metric.name();
            if checks.iter().any(|other| other.metric.name() == name) {
                let what = format!("checks `{name}` a second time");
                let complaint = Complaint::new("duplicate-check", what, "already checked");
                self.complain(&path, node.span.clone(), complaint);
            }
            checks.push(check);
        }
        if nodes.is_empty()
            && matches!(canary.get("checks"), Some(entry) if matches!(entry.value.value, Value::List(_)))
        {
            let what = "is empty: a candidate would be promoted whatever it does";
            let complaint = Complaint::new("no-checks", what, "no checks");
            let help = "leave `checks` out for those of the reference";
            self.complain(&path, canary.place_of("checks"), complaint.help(help));
        }
        // The usual ones written out are the usual ones.
        let same = |usual: &Check, own: &Check| {
            let rules =
                usual.metric.rules().map(|rules| OutputRules { optional: false, ..rules.clone() });
            let names = usual.metric.name() == own.metric.name() && usual.at_most == own.at_most;
            names && rules.as_ref() == own.metric.rules()
        };
        let usual = Check::usual();
        let all = usual.len() == checks.len()
            && usual.iter().zip(&checks).all(|(usual, own)| same(usual, own));
        if all { usual } else { checks }
    }

    fn check(&mut self, section: &Section<'_>) -> Option<Check> {
        if !section.has("metric") {
            if !section.entries.is_empty() {
                self.missing(section, "metric", "metric: errors");
            }
            return None;
        }
        let known = self.optional(section, "metric", |text| one_of(text, &Metric::NAMES));
        let mut metric = Metric::of_name(known?)?;
        let rules = self.rules(section);
        if let Metric::BadOutput(own) = &mut metric {
            *own = rules;
        } else if section.has("when") {
            let name = metric.name();
            let what = format!("says when an output is bad, which `{name}` does not ask");
            let complaint = Complaint::new("conflicting-keys", what, "only for `bad_output`");
            self.complain(&section.path_of("when"), section.place_of("when"), complaint);
        }
        let (right, wrong) = bound_keys(&metric);
        if section.has(wrong) {
            let name = metric.name();
            let what = format!("does not go with `{name}`, which is bounded by `{right}`");
            let complaint = Complaint::new("conflicting-keys", what, "the wrong bound");
            self.complain(&section.path_of(wrong), section.place_of(wrong), complaint);
        }
        let at_most = if metric.is_better_above() {
            let least = self.optional(section, "at_least", least);
            least.unwrap_or_else(|| Margin::usual(&metric))
        } else {
            self.at_most(section, &metric)
        };
        Some(Check { metric, at_most })
    }

    /// One bound or several; the widest holds.
    fn at_most(&mut self, section: &Section<'_>, metric: &Metric) -> Margin {
        let none = Margin { points: 0.0, times: 1.0 };
        let amounts = metric.compares_amounts();
        let read = |text: &str| bound(text, amounts);
        let path = section.path_of("at_most");
        let bounds: Vec<Margin> = match section.get("at_most") {
            Some(entry) if section.has("at_most") => match &entry.value.value {
                Value::List(_) => {
                    let items = self.items(section, "at_most", "a margin", read);
                    items.into_iter().map(|(bound, _)| bound).collect()
                }
                Value::Scalar(_) | Value::Map(_) => self
                    .parse(&entry.value, entry.place(), &path, "a margin", read)
                    .into_iter()
                    .collect(),
            },
            _ => vec![Margin::usual(metric)],
        };
        bounds.into_iter().fold(none, |all, one| Margin {
            points: all.points.max(one.points),
            times: all.times.max(one.times),
        })
    }

    fn rules(&mut self, check: &Section<'_>) -> OutputRules {
        if !check.has("when") {
            return OutputRules::usual();
        }
        let section = self.inner(check, "when", canary_keys::WHEN);
        let path = section.path_of("json");
        let mut json = Vec::new();
        for entry in self.map(&section, "json") {
            let path = join(&path, &entry.key);
            if !entry.key.starts_with('/') {
                let what = "is not a JSON pointer: it does not begin with `/`";
                let complaint = Complaint::new("bad-path", what, "not a JSON pointer");
                self.complain(
                    &path,
                    entry.key_span.clone(),
                    complaint.help("as `/choices/0/finish_reason`"),
                );
            }
            let value = self.parse(&entry.value, entry.place(), &path, "a single value", |text| {
                Ok(text.to_owned())
            });
            json.extend(value.map(|value| (entry.key.clone(), value)));
        }
        let rules = OutputRules {
            empty: self.flag(&section, "empty"),
            json_invalid: self.flag(&section, "json_invalid"),
            truncated: self.flag(&section, "truncated"),
            matches: self.optional(&section, "matches", pattern),
            json,
            optional: false,
        };
        if rules.is_empty() && !section.has("matches") {
            let what = "names no rule: no output would ever be bad";
            let complaint = Complaint::new("no-checks", what, "no rule").help("as `{empty: true}`");
            self.complain(&check.path_of("when"), check.place_of("when"), complaint);
        }
        rules
    }
}

const FORMS: &str = "write `+0.5%` for percentage points, or `1.5x` for times as much";

/// `+0.5%`: percentage points more; `1.5x`: times as much.
fn bound(text: &str, amounts: bool) -> Read<Margin> {
    let bad = |what: String, help: &str| {
        Err(Complaint::new("bad-margin", what, "not a margin").help(help))
    };
    if let Some(times) = text.strip_suffix(['x', '×']) {
        return match scalar::number(times.trim_end()) {
            Ok(times) if (1.0..=1000.0).contains(&times) => Ok(Margin { points: 0.0, times }),
            Ok(_) => bad(
                format!("is `{text}`; it must be between 1x and 1000x"),
                "`1x` allows no more than the others have",
            ),
            Err(_) => bad(format!("is `{text}`, which is no margin"), FORMS),
        };
    }
    let Some(points) = text.strip_prefix('+').and_then(|rest| rest.strip_suffix('%')) else {
        return bad(format!("is `{text}`, which is no margin"), FORMS);
    };
    if amounts {
        let what = format!("is `{text}`, but what is compared are times or counts, not rates");
        return bad(what, "write for example `1.1x`");
    }
    match scalar::number(points.trim()) {
        Ok(points) if (0.0..100.0).contains(&points) => {
            Ok(Margin { points: points / 100.0, times: 1.0 })
        }
        _ => bad(format!("is `{text}`; it must be between +0% and +100%"), FORMS),
    }
}

/// The key that bounds a metric, and the one that does not.
fn bound_keys(metric: &Metric) -> (&'static str, &'static str) {
    if metric.is_better_above() { ("at_least", "at_most") } else { ("at_most", "at_least") }
}

/// `0.8x`: at least so much of what the others have.
fn least(text: &str) -> Read<Margin> {
    let bad = |what: String| {
        let complaint = Complaint::new("bad-margin", what, "not a margin");
        Err(complaint.help("write for example `0.8x`: at least 0.8 times what the others have"))
    };
    let times =
        text.strip_suffix(['x', '×']).and_then(|times| scalar::number(times.trim_end()).ok());
    match times {
        Some(times) if (0.001..=1.0).contains(&times) => {
            Ok(Margin { points: 0.0, times: 1.0 / times })
        }
        Some(_) => bad(format!("is `{text}`; it must be between 0.001x and 1x")),
        None => bad(format!("is `{text}`, which is no margin")),
    }
}

fn pattern(text: &str) -> Read<String> {
    match regex::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let why = error.to_string();
            let why =
                why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let what = format!("is no regular expression: {why}");
            Err(Complaint::new("bad-pattern", what, "not a regular expression"))
        }
    }
}
