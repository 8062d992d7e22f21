//! The list itself: which problems are there, since when, and what changed.
use super::canaries::{self, Mirrors};
use super::facts::Facts;
use super::found::{Code, Found, Problem, Severity};
use super::fruitless::Fruitless;
use super::names::{Names, ReplicaName};
use super::process::{self, Losses};
use super::requests::Requests;
use super::words::lasted;
use super::{certificates, fleet};
use crate::stats::Moment;
use std::collections::BTreeMap;

/// Remembers what was seen, to tell what is new.
#[derive(Debug, Default)]
pub struct Problems {
    requests: Requests,
    names: Names,
    fruitless: Fruitless,
    mirrors: Mirrors,
    losses: Losses,
    open: BTreeMap<(Code, String), Open>,
    list: Vec<Problem>,
    /// Replicas that should be asked which models they serve.
    ask: Vec<ReplicaName>,
}

#[derive(Debug)]
struct Open {
    found: Found,
    since: (Moment, jiff::Timestamp),
    seen: Moment,
    told: u8,
}

/// What is to be told of a problem that nobody else tells of.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is new, or worse than it was.
    Came(Problem),
    /// It is over. In one sentence, with how long it was there.
    Over(String),
}

impl Problems {
    /// Looks at everything; about once a second.
    pub fn look(&mut self, facts: &Facts) -> Vec<Change> {
        let mut found = Vec::new();
        for model in &facts.models {
            fleet::look(model, &mut found);
            canaries::look(model, &mut found);
        }
        self.requests.look(facts, &mut found);
        self.ask = self.names.look(facts, &mut found);
        self.fruitless.look(facts, &mut found);
        self.mirrors.look(facts, &mut found);
        for certificate in &facts.certificates {
            certificates::look(certificate, facts.wall.as_second(), &mut found);
        }
        process::file(&facts.file, &mut found);
        process::look(&facts.process, &mut found);
        self.losses.look(facts, &mut found);
        let mut changes = self.enter(found, facts);
        changes.extend(self.end(facts.now));
        self.list = self.open.values().map(|open| open.problem(facts.wall)).collect();
        self.list.sort_by(|a, b| {
            (a.rank, a.severity, &a.subject).cmp(&(b.rank, b.severity, &b.subject))
        });
        changes
    }

    fn enter(&mut self, found: Vec<Found>, facts: &Facts) -> Vec<Change> {
        let mut changes = Vec::new();
        for found in found {
            let key = (found.code, found.subject.clone());
            let open = self.open.entry(key);
            let fresh = matches!(open, std::collections::btree_map::Entry::Vacant(_));
            let open = open.or_insert_with(|| Open {
                found: found.clone(),
                since: (facts.now, facts.wall),
                seen: facts.now,
                told: 0,
            });
            (open.found, open.seen) = (found, facts.now);
            let Found { code, stage, severity, .. } = open.found;
            let news = fresh || stage > open.told;
            open.told = open.told.max(stage);
            if news && !code.is_told_elsewhere() && severity != Severity::Notice {
                changes.push(Change::Came(open.problem(facts.wall)));
            }
        }
        changes
    }

    fn end(&mut self, now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        self.open.retain(|(code, _), open| {
            let gone = now.since(open.seen);
            let over = gone > std::time::Duration::ZERO && gone >= code.lingers();
            if over && !code.is_told_elsewhere() && open.found.severity != Severity::Notice {
                let took = lasted(open.seen.since(open.since.0));
                changes.push(Change::Over(format!("{} (it lasted {took})", open.found.again)));
            }
            !over
        });
        changes
    }

    /// Worst first.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Replicas that should be asked which models they serve: each answers nothing but 404.
    pub fn ask(&self) -> &[ReplicaName] {
        &self.ask
    }
}

impl Open {
    fn problem(&self, wall: jiff::Timestamp) -> Problem {
        Problem::of(&self.found, self.since.1, wall)
    }
}

#[cfg(test)]
mod tests;
