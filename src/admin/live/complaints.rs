//! What clients were answered that they did not want, grouped, with when it was first and last seen.
use crate::dialect::grpc::{GrpcStatus, code_word};
use crate::fleet::{ModelState, Tally};
use crate::health::Class;
use crate::observe::Meters;
use crate::table::{Model, Table};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Groups told in one message: those seen last.
const TOLD: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    model: Arc<str>,
    /// Empty: it had none yet.
    version: Arc<str>,
    status: u16,
    what: &'static str,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    count: u64,
    first: i64,
    last: i64,
}

/// Answers of one kind. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Complaint {
    model: String,
    version: String,
    #[serde(serialize_with = "as_word")]
    status: u16,
    /// The outcome, or the code of a refusal.
    what: &'static str,
    count: u64,
    first: i64,
    last: i64,
}

/// A number, or `"grpc-14"`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn as_word<S: Serializer>(code: &u16, out: S) -> Result<S::Ok, S::Error> {
    match GrpcStatus::of_code(*code) {
        Some(_) => out.serialize_str(&code_word(*code)),
        None => out.serialize_u16(*code),
    }
}

/// All groups since the process began.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    outcomes: BTreeMap<Kind, Seen>,
    refusals: BTreeMap<Kind, Seen>,
}

impl Complaints {
    /// A second has passed.
    pub(super) fn look(&mut self, table: &Table, meters: &Meters, unix_ms: i64) {
        let nobody: Arc<str> = Arc::from("");
        let listed = |kind: &Kind| {
            let model = table.model(&kind.model).filter(|model| model.name == kind.model);
            let named = |model: &Arc<Model>| {
                kind.version.is_empty() || model.versions.iter().any(|v| v.name == kind.version)
            };
            kind.model.is_empty() || model.is_some_and(named)
        };
        self.outcomes.retain(|kind, _| listed(kind));
        self.refusals.retain(|kind, _| listed(kind));
        for model in &table.models {
            for version in &model.versions {
                let of = (&model.name, &version.name);
                note(&mut self.outcomes, of, outcomes(&version.state.requests), unix_ms);
            }
            self.unplaced(&model.name, &nobody, &model.state, unix_ms);
        }
        self.unplaced(&nobody, &nobody, &meters.nameless, unix_ms);
    }

    fn unplaced(&mut self, model: &Arc<str>, version: &Arc<str>, state: &ModelState, unix_ms: i64) {
        let of = (model, version);
        note(&mut self.outcomes, of, outcomes(&state.requests), unix_ms);
        let refusals = state.refusals.counts().map(|(code, n)| (code.status(), code.name(), n));
        note(&mut self.refusals, of, refusals, unix_ms);
    }

    /// What clients got, and why Evener answered itself.
    pub(super) fn told(&self) -> (Vec<Complaint>, Vec<Complaint>) {
        (latest(&self.outcomes), latest(&self.refusals))
    }
}

fn outcomes(tally: &Tally) -> impl Iterator<Item = (u16, &'static str, u64)> + '_ {
    let unwanted = tally.counts().filter(|(_, class, _)| *class != Class::Success);
    unwanted.map(|(status, class, n)| (status, class.name(), n))
}

fn note(
    groups: &mut BTreeMap<Kind, Seen>,
    (model, version): (&Arc<str>, &Arc<str>),
    counts: impl Iterator<Item = (u16, &'static str, u64)>,
    unix_ms: i64,
) {
    for (status, what, count) in counts {
        let kind = Kind { model: Arc::clone(model), version: Arc::clone(version), status, what };
        let seen = groups.entry(kind).or_insert(Seen { count: 0, first: unix_ms, last: unix_ms });
        if seen.count != count {
            *seen = Seen { count, last: unix_ms, ..*seen };
        }
    }
}

fn latest(groups: &BTreeMap<Kind, Seen>) -> Vec<Complaint> {
    let mut told: Vec<_> = groups.iter().collect();
    told.sort_by_key(|(_, seen)| std::cmp::Reverse((seen.last, seen.count)));
    let complaint = |(kind, seen): (&Kind, &Seen)| Complaint {
        model: kind.model.to_string(),
        version: kind.version.to_string(),
        status: kind.status,
        what: kind.what,
        count: seen.count,
        first: seen.first,
        last: seen.last,
    };
    told.into_iter().take(TOLD).map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::dialect::RefusalCode;
    use crate::fleet::Fleet;
    use crate::stats::Moment;
    use crate::table::Overrides;

    #[test]
    fn a_group_knows_when_it_was_first_and_last_seen() {
        let text = "listeners: [{address: '127.0.0.1:0'}]\n\
            models: {m: {versions: {v: ['http://a:1']}}}\n";
        let plan = Arc::new(parse_text(text.to_owned(), "test", &|_| None).unwrap().plan);
        let (over, fleet) = (Overrides::default(), Fleet::default());
        let table = Table::build(1, &plan, &over, &fleet, None, &mut || 0, Moment::ZERO);
        let (meters, mut complaints) = (Meters::default(), Complaints::default());
        let version = &table.models[0].versions[0].state;
        version.requests.add(200, Class::Success);
        complaints.look(&table, &meters, 1000);
        assert_eq!(complaints.told(), (vec![], vec![]), "success is no complaint");
        for at in [2000, 3000, 4000] {
            if at < 4000 {
                version.requests.add(503, Class::Overloaded);
            }
            meters.nameless.refusals.add(RefusalCode::ModelNotFound);
            complaints.look(&table, &meters, at);
        }
        let (outcomes, refusals) = complaints.told();
        let [group] = &*outcomes else { panic!("{outcomes:?}") };
        assert_eq!((group.status, group.what, group.count), (503, "overloaded", 2));
        assert_eq!((group.first, group.last), (2000, 3000));
        assert_eq!(
            (refusals[0].what, refusals[0].status, refusals[0].last),
            ("model_not_found", 404, 4000)
        );
    }
}
