//! The key `mirror`: a copied share of the requests, and how the answers to it are compared.
use super::diagnostic::Diagnostic;
use super::effective::{Page, list, text};
use super::hints;
use super::keys;
use super::reader::{Reader, Section};
use super::scalar::{self, Complaint, Read, show_duration};
use crate::mirror::{Facet, MirrorPlan};
use crate::table::{Kind, ModelPlan, VersionPlan};

impl Reader<'_> {
    /// Checks what `defaults` hold for all; which version is meant is known only in a model.
    pub(super) fn mirror_defaults(&mut self, defaults: &Section<'_>) {
        if !self.switched_off(defaults, "mirror") {
            let section = self.inner(defaults, "mirror", keys::MIRROR);
            self.mirror_plan(&section, String::new());
        }
    }

    /// `own`: the model itself has the key. What it only inherits may lack `to`, and then nothing is mirrored.
    pub(super) fn mirror(
        &mut self,
        model: &Section<'_>,
        name: &str,
        versions: &[VersionPlan],
        own: bool,
    ) -> Option<MirrorPlan> {
        if !model.has("mirror") || self.switched_off(model, "mirror") {
            return None;
        }
        let section = self.inner(model, "mirror", keys::MIRROR);
        let to = self.text(&section, "to");
        match &to {
            None if own && !section.has("to") => self.missing(&section, "to", "to: v2"),
            Some(to) if versions.iter().all(|version| version.name != *to) => {
                self.unknown_version("mirror.to", (to, section.place_of("to")), name, versions);
            }
            None | Some(_) => {}
        }
        let named = to.is_some();
        let plan = self.mirror_plan(&section, to.unwrap_or_default());
        named.then_some(plan)
    }

    /// Says so where nothing would ever be copied: what is silent looks like what agrees.
    pub(super) fn check_mirror(&mut self, model: &Section<'_>, plan: &ModelPlan) {
        let Some(mirror) = &plan.mirror else { return };
        let (to, name) = (&mirror.to, &plan.name);
        let mut shares = plan.versions.iter().zip(&plan.split);
        let serves_all = shares.any(|(version, share)| version.name == *to && *share >= 1.0);
        let (why, help) = if plan.kind == Kind::Raw {
            ("its `kind` is `raw`".to_owned(), "write `kind: predict` if it may be asked twice")
        } else if serves_all {
            (format!("version `{to}` serves all of them itself"), "take it out")
        } else {
            return;
        };
        let message = format!("no request of model `{name}` will be copied: {why}");
        let found = Diagnostic::warning("idle-mirror", model.place_of("mirror"), message);
        self.report(found.label("copies nothing").help(help));
    }

    fn mirror_plan(&mut self, section: &Section<'_>, to: String) -> MirrorPlan {
        let listed = self.items(section, "compare", "a facet", facet);
        let mut compare: Vec<Facet> = if section.has("compare") {
            listed.into_iter().map(|(facet, _)| facet).collect()
        } else {
            Facet::WORDS.into_iter().filter_map(Facet::of_word).collect()
        };
        compare.sort_unstable();
        compare.dedup();
        MirrorPlan {
            to,
            percent: self.parsed_or_default(section, "percent", scalar::part),
            compare,
            tolerance: self.parsed_or_default(section, "tolerance", tolerance),
            concurrency: self.count(section, "concurrency") as u32,
            timeout: self.duration(section, "timeout"),
            keep_worst: self.count(section, "keep_worst") as usize,
            redact: self
                .items(section, "redact", "a path", path)
                .into_iter()
                .map(|p| p.0)
                .collect(),
        }
    }
}

/// As it is in effect.
pub(super) fn show(out: &mut Page, plan: Option<&MirrorPlan>) {
    let Some(plan) = plan else { return out.line("mirror", false) };
    out.open("mirror");
    out.line("to", text(&plan.to));
    out.line("percent", plan.percent);
    out.line("compare", list(plan.compare.iter().map(|facet| facet.word())));
    out.line("tolerance", plan.tolerance);
    out.line("concurrency", plan.concurrency);
    out.line("timeout", show_duration(plan.timeout));
    out.line("keep_worst", plan.keep_worst);
    out.line("redact", list(plan.redact.iter().map(|path| text(path))));
    out.close();
}

fn facet(text: &str) -> Read<Facet> {
    Facet::of_word(text).ok_or_else(|| {
        let what = format!("holds `{text}`, in which answers cannot be compared");
        let help = hints::choices(text, "values", &Facet::WORDS);
        Complaint::new("unknown-value", what, "unknown facet").help(help)
    })
}

fn tolerance(text: &str) -> Read<f64> {
    match scalar::number(text)? {
        tolerance if (0.0..=1.0).contains(&tolerance) => Ok(tolerance),
        _ => {
            let what = format!("is `{text}`, which is not between 0 and 1");
            let help = "`1e-6` takes rounding for equal, `0.01` one percent";
            Err(Complaint::new("out-of-range", what, "not between 0 and 1").help(help))
        }
    }
}

/// `inputs.card_number`.
fn path(text: &str) -> Read<String> {
    if text.split('.').all(|key| !key.is_empty()) {
        return Ok(text.to_owned());
    }
    let what = format!("holds `{text}`, which has an empty key");
    let help = "write the keys to the field with dots between, as `inputs.card_number`";
    Err(Complaint::new("bad-path", what, "not a path of keys").help(help))
}
