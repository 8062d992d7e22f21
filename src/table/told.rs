//! What people are told of a choice: the route that took a request, and the replicas that could serve it.
use super::model::{Model, Tier, Version};
use super::plan::ModelPlan;
use super::route_plan::RoutePlan;
use super::set_split::in_percent;
use crate::balance::Pool as _;
use crate::fleet::Replica;
use crate::stats::Moment;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteUsed {
    /// In the file, counted from 1.
    pub line: usize,
    /// What it asks of a request.
    pub takes: String,
}

impl RouteUsed {
    pub fn of(route: &RoutePlan) -> Self {
        let method = route.method.iter().map(|method| format!("method {method}"));
        let host = route.host.iter().map(|host| format!("host {host}"));
        let path = route.path.iter().map(|path| format!("path {path}"));
        let headers = route.headers.iter().map(|(name, value)| format!("header {name}: {value}"));
        let query = route.query.iter().map(|(name, value)| format!("query {name}={value}"));
        let cookies = route.cookies.iter().map(|(name, value)| format!("cookie {name}={value}"));
        let takes: Vec<String> =
            method.chain(host).chain(path).chain(headers).chain(query).chain(cookies).collect();
        let takes = if takes.is_empty() { "everything".to_owned() } else { takes.join(", ") };
        Self { line: route.line, takes }
    }
}

/// The part of all keys or requests that a version has, in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub version: String,
    pub share: f64,
}

impl Share {
    /// Of each version of a model.
    pub fn all_of(model: &Model) -> Vec<Self> {
        let share = |v: &Version| Self { version: v.name.to_string(), share: in_percent(v.share) };
        model.versions.iter().map(share).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub version: String,
    pub url: String,
    pub state: String,
    /// Why it stands so.
    pub reason: Option<String>,
    pub usable: bool,
    pub in_flight: u32,
    pub slots: Option<u32>,
    pub weight: f32,
    pub slowness: f32,
    /// The load that `balance` compares, the least wins; `None`: it may not be picked.
    pub score: Option<f32>,
}

/// What is told of a version's replicas.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    /// Those that the policy chose among have a score.
    pub tier: Tier,
    pub is_call: bool,
    /// Those that the request has asked before: they have none.
    pub tried: &'a [Arc<Replica>],
    /// Of more than so many, those with the least load are told, and the one that was picked.
    pub most: usize,
    pub picked: Option<&'a Arc<Replica>>,
}

impl Version {
    /// Its replicas as a request finds them.
    pub fn candidates(
        &self,
        plan: &ModelPlan,
        telling: Telling<'_>,
        now: Moment,
    ) -> Vec<Candidate> {
        let Telling { tier, is_call, tried, most, picked } = telling;
        let view = self.view(plan, tier, tried, now).within(self.reach(is_call));
        let score = |i: usize| view.usable(i).then(|| view.load(i));
        let mut told: Vec<usize> = (0..self.members.len()).collect();
        if told.len() > most {
            let is_picked =
                |i: usize| picked.is_some_and(|p| Arc::ptr_eq(&self.members[i].replica, p));
            // Loads change meanwhile: each is looked at once.
            let mut ranked: Vec<(f32, usize)> = told
                .iter()
                .map(|&i| (if is_picked(i) { -1.0 } else { score(i).unwrap_or(f32::MAX) }, i))
                .collect();
            ranked.select_nth_unstable_by(most, |a, b| a.0.total_cmp(&b.0));
            told = ranked[..most].iter().map(|(_, i)| *i).collect();
            told.sort_unstable();
        }
        let candidate = |i: usize| {
            let member = &self.members[i];
            let replica = &member.replica;
            let score = score(i);
            Candidate {
                version: self.name.to_string(),
                url: replica.id.url.to_string(),
                state: replica.standing().name().to_owned(),
                reason: replica.reason().map(|reason| reason.to_string()),
                usable: score.is_some() && replica.usable(),
                in_flight: replica.in_flight(),
                slots: member.slots,
                weight: member.weight,
                slowness: replica.slowness().at(replica.in_flight()),
                score,
            }
        };
        told.into_iter().map(candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::control::Core;
    use crate::table::Overrides;

    const NOW: Moment = Moment::from_millis(60_000);

    #[test]
    fn of_many_candidates_the_picked_and_the_least_loaded_are_told() {
        let urls: Vec<String> = (0..50).map(|i| format!("http://a:{}", i + 1)).collect();
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nmodels: {{m: {{versions: {{v: [{}]}}, health: false}}}}\n",
            urls.join(", ")
        );
        let plan = Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan);
        let (core, _) = Core::start(&plan, Overrides::default(), 7, Moment::ZERO);
        let model = &core.table().models[0];
        let version = &model.versions[0];
        let busy: Vec<_> =
            version.members.iter().take(40).map(|m| m.replica.begin(&version.state, NOW)).collect();
        let told = |most, picked: usize| {
            let picked = Some(&version.members[picked].replica);
            let telling = Telling { tier: Tier::Usable, is_call: false, tried: &[], most, picked };
            let told = version.candidates(&model.plan, telling, NOW);
            told.iter().map(|c| c.url.rsplit(':').next().unwrap().parse().unwrap()).collect()
        };
        let idle: Vec<usize> = (41..=50).collect();
        let of_many: Vec<usize> = told(11, 3);
        assert_eq!(of_many, [&[4][..], &idle].concat());
        let all: Vec<usize> = told(50, 3);
        assert_eq!(all, (1..=50).collect::<Vec<_>>());
        drop(busy);
    }
}
