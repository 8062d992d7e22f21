//! Replicas that answer 404 to every request, because they serve a model of another name.
use super::facts::{AnswerFacts, Facts, ModelFacts, VersionFacts};
use super::found::{Code, Found, Severity};
use super::serves::Serves;
use super::words::count;
use crate::stats::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A replica is asked what it serves so often, at most.
const AGAIN: Duration = Duration::from_mins(1);
/// A 404 that came before this says nothing of now.
const OLD: Duration = Duration::from_hours(1);
/// 404s in a row that speak against a replica which worked within [`OLD`].
const SEVERAL: u64 = 20;
/// Names that are said, at most.
const SAID: usize = 3;

/// Model, version, and the replica's URL.
pub type ReplicaName = (Arc<str>, Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Track {
    not_found: u64,
    good: u64,
    /// 404s since the last success, and when the last one came.
    in_a_row: u64,
    last: Moment,
    /// When it last succeeded, as far as that was seen.
    good_at: Option<Moment>,
    /// When it was asked what it serves, and for which names.
    asked: Option<(Moment, Vec<String>)>,
}

/// What replicas answered lately.
#[derive(Debug, Default)]
pub(super) struct Names {
    tracks: BTreeMap<ReplicaName, Track>,
}

impl Track {
    /// Returns whether it answers nothing but 404.
    fn look(&mut self, answers: &AnswerFacts, now: Moment) -> bool {
        let not_found = answers.not_found.saturating_sub(self.not_found);
        let good = answers.good.saturating_sub(self.good);
        (self.not_found, self.good) = (answers.not_found, answers.good);
        if not_found > 0 {
            self.in_a_row += not_found;
            self.last = now;
        }
        if good > 0 {
            self.good_at = Some(now);
        }
        if good > 0 || now.since(self.last) > OLD {
            self.in_a_row = 0;
        }
        // One that worked a moment ago may lack what a single client asks for.
        let worked = self.good_at.is_some_and(|at| now.since(at) <= OLD);
        self.in_a_row >= if worked { SEVERAL } else { 1 }
    }
}

impl Names {
    /// Finds those that serve another model, and names those that should be asked what they serve.
    pub(super) fn look(&mut self, facts: &Facts, found: &mut Vec<Found>) -> Vec<ReplicaName> {
        let mut ask = Vec::new();
        let mut kept = BTreeMap::new();
        for model in &facts.models {
            for version in &model.versions {
                let mut wrong = Vec::new();
                for answers in &version.answers {
                    let name = (
                        Arc::clone(&model.name),
                        Arc::clone(&version.name),
                        Arc::clone(&answers.url),
                    );
                    let mut track = self.tracks.remove(&name).unwrap_or_default();
                    if track.look(answers, facts.now) {
                        let stale = |(at, wanted): &(Moment, Vec<String>)| {
                            facts.now.since(*at) >= AGAIN || *wanted != version.wanted
                        };
                        if track.asked.as_ref().is_none_or(stale) {
                            track.asked = Some((facts.now, version.wanted.clone()));
                            ask.push(name.clone());
                        }
                        wrong.extend(Wrong::of(version, answers, track.in_a_row));
                    } else {
                        track.asked = None;
                    }
                    kept.insert(name, track);
                }
                found.extend(tell(model, version, &wrong));
            }
        }
        self.tracks = kept;
        ask
    }
}

/// A replica that serves something else.
struct Wrong<'a> {
    url: &'a str,
    serves: &'a Serves,
    not_found: u64,
}

impl<'a> Wrong<'a> {
    /// `None`: it serves what it is asked for, or does not say what.
    fn of(version: &VersionFacts, answers: &'a AnswerFacts, not_found: u64) -> Option<Self> {
        let serves = answers.serves.as_deref()?;
        let is_wrong = serves.has(&version.wanted) == Some(false);
        is_wrong.then_some(Self { url: &answers.url, serves, not_found })
    }
}

fn tell(model: &ModelFacts, version: &VersionFacts, wrong: &[Wrong<'_>]) -> Option<Found> {
    let first = wrong.first()?;
    let subject = format!("{}/{}", model.name, version.name);
    let asked = version.wanted.first().map_or(&*model.name, String::as_str);
    let not_found = wrong.iter().map(|wrong| wrong.not_found).sum::<u64>();
    let answered = version.answers.iter().filter(|answers| answers.good + answers.not_found > 0);
    let all = wrong.len() == answered.count();
    let whose = if all {
        format!(
            "{subject} answers every request with 404 ({} in a row)",
            count(not_found, "request")
        )
    } else {
        format!("{} of {subject} answers every request with 404", first.url)
    };
    let (some, more) = first.serves.some(SAID);
    let mut said: Vec<String> = some.iter().map(|name| format!("`{name}`")).collect();
    if more > 0 {
        said.push(format!("{more} more"));
    }
    let served = said.join(", ");
    let place = format!("version `{}` of model `{}`", version.name, model.name);
    let what_to_do = match first.serves.only() {
        Some(only) if all => format!("write `upstream_model: {}` in {place}", scalar(only)),
        // Which of them is meant only its operator knows.
        None if all => {
            format!(
                "write the one that is meant as `upstream_model` in {place}, or serve `{asked}`"
            )
        }
        Some(_) | None => {
            format!("start it with the name `{asked}`, or take it out of the file")
        }
    };
    let severity = if all { Severity::Critical } else { Severity::Warning };
    Some(Found {
        code: Code::WrongModelName,
        severity,
        rank: if all { 1 } else { 2 },
        model: Some(Arc::clone(&model.name)),
        sentence: format!("{whose}, because it serves {served} and not `{asked}`"),
        what_to_do,
        dated: false,
        stage: 0,
        again: format!("{subject} works again: its replicas know the model"),
        subject,
    })
}

/// As YAML takes it.
fn scalar(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.escape_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_yaml_would_misread_is_quoted() {
        assert_eq!(scalar("meta-llama/Llama-3.1-8B-Instruct"), "meta-llama/Llama-3.1-8B-Instruct");
        assert_eq!(scalar("llama3:8b"), "\"llama3:8b\"");
        assert_eq!(scalar("1.5"), "\"1.5\"");
    }
}
