//! Canaries that wait for somebody, and mirrors whose copies get no answer.
use super::facts::{Facts, MirrorFacts, ModelFacts, Outcomes};
use super::failing::{COPIES, Failing};
use super::found::{Code, Found, Severity};
use super::words::{counts, rate};
use crate::canary::State;
use crate::health::Class;
use std::collections::BTreeMap;
use std::sync::Arc;

fn of(model: &ModelFacts, code: Code, severity: Severity, rank: u8) -> Found {
    Found {
        code,
        severity,
        rank,
        subject: model.name.to_string(),
        model: Some(Arc::clone(&model.name)),
        sentence: String::new(),
        what_to_do: String::new(),
        dated: false,
        stage: 0,
        again: String::new(),
    }
}

/// What a canary wants somebody to decide.
pub(super) fn look(model: &ModelFacts, found: &mut Vec<Found>) {
    let Some(canary) = &model.canary else { return };
    let (name, candidate) = (&model.name, &canary.candidate);
    let (code, severity, rank, is, what_to_do) = match canary.state {
        State::Failing => (
            Code::CanaryFailing,
            Severity::Critical,
            2,
            "is failing",
            format!(
                "`evener canary status {name}` says what was seen; it is rolled back if it goes on"
            ),
        ),
        State::Paused => (
            Code::CanaryPaused,
            Severity::Warning,
            4,
            "is paused",
            format!("`evener canary resume {name}` goes on, `promote` or `abort` ends it"),
        ),
        State::Undecided => (
            Code::CanaryUndecided,
            Severity::Warning,
            4,
            "is undecided",
            format!("`evener canary resume {name}` goes on, `promote` or `abort` ends it"),
        ),
        State::RolledBack => (
            Code::CanaryRolledBack,
            Severity::Warning,
            4,
            "is rolled back",
            format!("repair it and `evener canary start {name}`, or take `canary` out of the file"),
        ),
        State::Idle | State::Collecting | State::Passing | State::Promoted => return,
    };
    let sentence = format!("The canary {candidate} of {name} {is}");
    found.push(Found { sentence, what_to_do, ..of(model, code, severity, rank) });
}

/// What became of the copies of each model.
#[derive(Debug, Default)]
pub(super) struct Mirrors(BTreeMap<Arc<str>, Failing>);

impl Mirrors {
    pub(super) fn look(&mut self, facts: &Facts, found: &mut Vec<Found>) {
        let mirrors = |name: &Arc<str>| {
            facts.models.iter().any(|model| model.name == *name && model.mirror.is_some())
        };
        self.0.retain(|name, _| mirrors(name));
        for model in &facts.models {
            let Some(MirrorFacts { to, answered, failed }) = &model.mirror else { continue };
            let mut outcomes = Outcomes { good: *answered, ..Outcomes::default() };
            outcomes.failed[Class::Reset as usize] = *failed;
            let track = self.0.entry(Arc::clone(&model.name));
            let track = track.or_insert_with(|| Failing::new(COPIES));
            let Some(verdict) = track.look(&outcomes, facts.now) else { continue };
            let (name, rate, counts) = (&model.name, rate(&verdict.seen), counts(&verdict.seen));
            found.push(Found {
                sentence: format!(
                    "{rate} of the copies of {name}'s requests get no good answer from {to} ({counts})"
                ),
                what_to_do: format!(
                    "look at `evener mirror report {name}`, or take `mirror` out of the file"
                ),
                again: format!("The mirror of {name} works again"),
                ..of(model, Code::MirrorFails, Severity::Warning, 4)
            });
        }
    }
}
