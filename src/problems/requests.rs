//! Models and versions whose requests fail.
use super::facts::{Facts, ModelFacts, Outcomes};
use super::failing::{Failing, Grade, REQUESTS, Verdict};
use super::found::{Code, Found, Severity};
use super::words::{counts, rate};
use crate::stats::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The recent requests of everything that gets some.
#[derive(Debug)]
pub(super) struct Requests {
    models: BTreeMap<Arc<str>, Tracks>,
    nameless: Failing,
}

#[derive(Debug)]
struct Tracks {
    /// Requests that ended before they had a version. Where there is only one version, they count as its own.
    unplaced: Failing,
    versions: BTreeMap<Arc<str>, Failing>,
}

impl Default for Requests {
    fn default() -> Self {
        Self { models: BTreeMap::new(), nameless: Failing::new(REQUESTS) }
    }
}

impl Requests {
    pub(super) fn look(&mut self, facts: &Facts, found: &mut Vec<Found>) {
        self.models.retain(|name, _| facts.models.iter().any(|model| model.name == *name));
        for model in &facts.models {
            let tracks = self.models.entry(Arc::clone(&model.name));
            let tracks = tracks.or_insert_with(|| Tracks {
                unplaced: Failing::new(REQUESTS),
                versions: BTreeMap::new(),
            });
            tracks.look(model, facts.now, found);
        }
        // A process that ends refuses by intent.
        let nameless = if facts.process.ends { Outcomes::default() } else { facts.nameless };
        if let Some(verdict) = self.nameless.look(&nameless, facts.now) {
            found.push(nameless_fail(&verdict));
        }
    }
}

impl Tracks {
    fn look(&mut self, model: &ModelFacts, now: Moment, found: &mut Vec<Found>) {
        self.versions.retain(|name, _| model.versions.iter().any(|version| version.name == *name));
        let alone = model.versions.len() == 1;
        for version in &model.versions {
            let track = self.versions.entry(Arc::clone(&version.name));
            let track = track.or_insert_with(|| Failing::new(REQUESTS));
            let all = version.outcomes.plus(&model.unplaced);
            let verdict = track.look(if alone { &all } else { &version.outcomes }, now);
            let subject = (!alone).then_some(&version.name);
            found.extend(verdict.map(|verdict| fail(model, subject, &verdict)));
        }
        let unplaced = if alone { Outcomes::default() } else { model.unplaced };
        let verdict = self.unplaced.look(&unplaced, now);
        found.extend(verdict.map(|verdict| fail(model, None, &verdict)));
    }
}

fn fail(model: &ModelFacts, version: Option<&Arc<str>>, verdict: &Verdict) -> Found {
    let name = &model.name;
    let subject = version.map_or_else(|| name.to_string(), |version| format!("{name}/{version}"));
    let (severity, rank) = match verdict.grade {
        Grade::Many => (Severity::Critical, 1),
        Grade::Some => (Severity::Warning, 3),
    };
    let (rate, counts) = (rate(&verdict.seen), counts(&verdict.seen));
    let kind = verdict.kind.name();
    Found {
        code: Code::RequestsFail,
        severity,
        rank,
        model: Some(Arc::clone(name)),
        sentence: format!("{rate} of the requests for {subject} fail ({counts}, most by {kind})"),
        what_to_do: format!("look at `evener tap --model {name} --errors`"),
        dated: false,
        stage: u8::from(verdict.grade == Grade::Many),
        again: format!("{subject} works again: its requests succeed"),
        subject,
    }
}

fn nameless_fail(verdict: &Verdict) -> Found {
    let (rate, counts) = (rate(&verdict.seen), counts(&verdict.seen));
    Found {
        code: Code::RequestsFail,
        severity: Severity::Critical,
        rank: 1,
        subject: "evener".to_owned(),
        model: None,
        sentence: format!(
            "Evener refuses {rate} of the requests whose model it does not know yet ({counts})"
        ),
        what_to_do: "look at the Errors page, or `evener tap --errors`".to_owned(),
        dated: false,
        stage: u8::from(verdict.grade == Grade::Many),
        again: "Evener works again: it takes requests".to_owned(),
    }
}
