//! Building a generation: plan, overrides and what the fleet knows in, a table out, and nothing is changed by it.
use super::access::Access;
use super::choices::KeySource;
use super::generation::Table;
use super::holds::Holds;
use super::kept_canary::{KeptCanary, is_split_of};
use super::model::{Member, Model, Reach, Version};
use super::plan::{ModelPlan, Plan, ReplicaUrl, Scheme, VersionPlan};
use super::set_split::SetSplit;
use crate::balance::Segments;
use crate::canary::{CanaryPlan, Ending, OutputRules};
use crate::dialect::OutputWish;
use crate::fleet::{Fleet, ModelState, Replica, ReplicaId, VersionState};
use crate::stats::Moment;
use crate::wire::{Dialed, Upstream};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What is laid over the file: who owns which points, and who is out by an operator's hand.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Segments of the last generation, or of the state file, by model.
    pub segments: BTreeMap<String, Segments>,
    /// Shares that are not the file's, by model and version: a canary moves them.
    pub shares: BTreeMap<String, BTreeMap<String, f64>>,
    /// Splits that operators set, by model. They count before all other shares.
    pub splits: BTreeMap<String, Arc<SetSplit>>,
    /// Canaries as the last process left them.
    pub canaries: BTreeMap<String, KeptCanary>,
    /// Why those that it left are of no use, by model.
    pub unreadable: BTreeMap<String, String>,
    /// Webhooks that were not told yet, those to one receiver in their order.
    pub webhooks: Vec<KeptWebhook>,
    pub drained: Holds,
    pub ejected: Holds,
}

/// A message about a model's canary that was not told yet. Addresses and secrets are the file's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWebhook {
    pub model: String,
    pub event: String,
    /// Stays the same however often it is sent, and by whom.
    pub id: String,
    pub body: String,
}

impl std::fmt::Display for KeptWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.model, self.event)
    }
}

impl Overrides {
    /// Drops what is about something that the file no longer says. Shares that a canary moved are those of the split it
    /// began with: under another one the file's count.
    pub fn forget_gone(&mut self, plan: &Plan) {
        self.drained.forget_gone(plan);
        self.ejected.forget_gone(plan);
        let canaries = &self.canaries;
        self.shares.retain(|model, _| {
            let now = plan.models.iter().find(|now| now.name == *model);
            let began = canaries.get(model);
            now.zip(began).is_some_and(|(now, began)| {
                let promoted = began.ended.as_ref().map(|ended| ended.ending);
                let lasts = now.canary.is_some() || promoted == Some(Ending::Promoted);
                lasts && is_split_of(&began.split, now)
            })
        });
    }

    /// Drops the splits that operators set and the file is no longer the same under. Returns their models.
    pub fn forget_edited(&mut self, plan: &Plan) -> Vec<String> {
        let fits = |model: &String, set: &SetSplit| {
            let now = plan.models.iter().find(|now| now.name == *model);
            now.is_some_and(|now| set.fits(now))
        };
        let gone = self.splits.extract_if(.., |model, set| !fits(model, set));
        gone.map(|(model, _)| model).collect()
    }

    /// The shares that a model's versions have now, in the order of the plan.
    pub fn shares_of(&self, plan: &ModelPlan) -> Vec<f64> {
        if let Some(set) = self.splits.get(&plan.name) {
            return plan.versions.iter().map(|version| set.share_of(&version.name)).collect();
        }
        let live = self.shares.get(&plan.name);
        let of = |(version, file): (&VersionPlan, &f64)| {
            live.and_then(|live| live.get(&version.name)).copied().unwrap_or(*file)
        };
        plan.versions.iter().zip(&plan.split).map(of).collect()
    }
}

impl Table {
    /// Builds generation `generation`, and changes nothing: what is known of replicas, versions and models is taken from
    /// the fleet, and what is new is in the table alone until somebody takes it up. `before`: the table that it replaces;
    /// `None` at the start. `offset` starts the sequences of new models.
    pub fn build(
        generation: u64,
        plan: &Arc<Plan>,
        overrides: &Overrides,
        fleet: &Fleet,
        before: Option<&Self>,
        offset: &mut dyn FnMut() -> u64,
        now: Moment,
    ) -> Self {
        let builder = Builder { overrides, fleet, at_start: before.is_none(), now };
        let models: Box<[Arc<Model>]> = plan
            .models
            .iter()
            .map(|model| {
                let old = before.and_then(|table| table.model(&model.name));
                let old = old.filter(|old| *old.name == *model.name).map(|old| &**old);
                Arc::new(builder.model(model, old, offset()))
            })
            .collect();
        let (names, catch_all) = names_of(plan);
        let default_model =
            plan.default_model.as_ref().and_then(|name| names.get(&**name).copied());
        let max_buffered_body =
            plan.models.iter().map(|model| model.max_buffered_body).max().unwrap_or(0);
        let longest_total = plan.models.iter().map(|model| model.timeouts.total).max();
        Self {
            generation,
            plan: Arc::clone(plan),
            models,
            names,
            catch_all,
            default_model,
            access: Access::build(plan, fleet),
            wanted_fields: wanted_fields(plan),
            max_buffered_body,
            longest_total: longest_total.unwrap_or_default(),
        }
    }
}

/// What building needs at every step.
struct Builder<'a> {
    overrides: &'a Overrides,
    fleet: &'a Fleet,
    at_start: bool,
    now: Moment,
}

impl Builder<'_> {
    /// `offset` starts the sequence of a model that is new.
    fn model(&self, plan: &Arc<ModelPlan>, before: Option<&Model>, offset: u64) -> Model {
        let name: Arc<str> =
            before.map_or_else(|| plan.name.as_str().into(), |before| Arc::clone(&before.name));
        let live = self.overrides.shares_of(plan);
        let names = plan.versions.iter().map(|v| v.name.as_str());
        let shares: Vec<(&str, f64)> = names.zip(live.iter().copied()).collect();
        let segments = match self.overrides.segments.get(&plan.name) {
            Some(owned) => owned.moved_to(&shares),
            None => Segments::new(&shares),
        };
        let state =
            self.fleet.model(&name).map_or_else(|| Arc::new(ModelState::new(offset)), Arc::clone);
        let versions: Box<[Version]> = (0..plan.versions.len())
            .map(|index| {
                let named = |old: &&Version| *old.name == plan.versions[index].name;
                let old = before.and_then(|before| before.versions.iter().find(named));
                self.version(&name, plan, (index, live[index]), old)
            })
            .collect();
        let unchanged = before.is_some_and(|b| b.segments == segments);
        let baseline = match before {
            Some(before) if unchanged => before.baseline.clone(),
            _ => versions.iter().map(|v| v.state.served.load(Relaxed)).collect(),
        };
        let output = match before.filter(|before| before.plan.canary == plan.canary) {
            Some(before) => before.output.clone(),
            None => plan.canary.as_ref().filter(|c| c.reads_answers()).map(output_wish),
        };
        let set = self.overrides.splits.get(&plan.name).cloned();
        let members = versions.iter().flat_map(|version| &version.members);
        let lightest = members.map(|member| member.weight).fold(f32::INFINITY, f32::min);
        let plan = Arc::clone(plan);
        Model { name, plan, state, versions, segments, set, output, lightest, baseline }
    }

    fn version(
        &self,
        model: &Arc<str>,
        plan: &ModelPlan,
        (index, share): (usize, f64),
        before: Option<&Version>,
    ) -> Version {
        let version = &plan.versions[index];
        let name: Arc<str> =
            before.map_or_else(|| version.name.as_str().into(), |before| Arc::clone(&before.name));
        let old = before.map_or(&[][..], |before| &before.members);
        let state = self.fleet.version(model, &name).map_or_else(
            || Arc::new(VersionState::new(Arc::clone(self.fleet.suspects()))),
            Arc::clone,
        );
        let members = version
            .replicas
            .iter()
            .enumerate()
            .map(|(place, replica)| {
                // Most files list their replicas as before: then nothing need be looked up.
                let kept = old.get(place).filter(|old| *old.replica.id.url == replica.url.text);
                let found = match kept {
                    Some(kept) => Arc::clone(&kept.replica),
                    None => self.replica(model, &name, &replica.url),
                };
                Member { replica: found, weight: replica.weight, slots: replica.slots }
            })
            .collect::<Box<[_]>>();
        let others = members.iter().filter(|member| Reach::Others.takes(&member.replica)).count();
        let mixed = (1..members.len()).contains(&others);
        Version { name, index, state, share, members, mixed }
    }

    /// The one that is known, or a new one. At the start it may serve before its first probe.
    fn replica(&self, model: &Arc<str>, version: &Arc<str>, url: &ReplicaUrl) -> Arc<Replica> {
        let (model, version) = (Arc::clone(model), Arc::clone(version));
        let id = ReplicaId { model, version, url: url.text.as_str().into() };
        if let Some(known) = self.fleet.replica(&id) {
            return Arc::clone(known);
        }
        Arc::new(Replica::new(id, Upstream::new(dialed(url)), self.at_start, self.now))
    }
}

/// What a canary's rules look for.
fn output_wish(plan: &CanaryPlan) -> Arc<OutputWish> {
    let Some(rules) = plan.output_rules() else { return Arc::default() };
    let OutputRules { empty, json_invalid, truncated, matches, json, optional: _ } = rules;
    // The file says a value as text.
    let value = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into());
    Arc::new(OutputWish {
        empty: *empty,
        json_invalid: *json_invalid,
        truncated: *truncated,
        matches: matches.as_deref().and_then(|pattern| Regex::new(pattern).ok()),
        json: json.iter().map(|(at, text)| (at.clone(), value(text))).collect(),
    })
}

fn dialed(url: &ReplicaUrl) -> Dialed {
    match url.scheme {
        Scheme::Http => Dialed::Http(url.address.clone()),
        Scheme::H2c => Dialed::H2c(url.address.clone()),
        Scheme::Unix => Dialed::Unix(url.address.clone()),
        Scheme::Https => Dialed::Https(url.address.clone()),
        Scheme::Grpcs => Dialed::Grpcs(url.address.clone()),
    }
}

fn names_of(plan: &Plan) -> (HashMap<Box<str>, usize>, Option<usize>) {
    let mut names = HashMap::new();
    let mut catch_all = None;
    for (i, model) in plan.models.iter().enumerate() {
        names.insert(model.name.as_str().into(), i);
        for alias in &model.aliases {
            if alias == "*" {
                catch_all = Some(i);
            } else {
                names.insert(alias.as_str().into(), i);
            }
        }
    }
    (names, catch_all)
}

fn wanted_fields(plan: &Plan) -> Box<[String]> {
    let mut fields: Vec<String> = plan
        .models
        .iter()
        .flat_map(|model| &model.hash_on)
        .filter_map(|source| match source {
            KeySource::Json(field) => Some(field.clone()),
            KeySource::Header(_)
            | KeySource::Cookie(_)
            | KeySource::Query(_)
            | KeySource::ApiKey
            | KeySource::ClientIp => None,
        })
        .collect();
    fields.sort();
    fields.dedup();
    fields.into()
}
