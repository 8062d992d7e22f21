//! How a canary divides a model's requests, and what it is told of the fleet.
use crate::canary::{Judged, Load, RollOut, World};
use crate::health::{Class, Standing};
use crate::table::{Member, Model, ModelPlan, Shares, Version};

/// The file's.
pub(super) fn candidate_share(plan: &ModelPlan, candidate: &str) -> f64 {
    let split = plan.split_by_name();
    split.iter().find(|(version, _)| version == candidate).map_or(0.0, |(_, share)| *share)
}

/// The candidate with its share, the others in the file's proportions. `None`: a test of one against itself moves nothing.
pub(super) fn split_with(rollout: &RollOut, split: &[(String, f64)]) -> Option<Shares> {
    if rollout.plan().aa {
        return None;
    }
    let (candidate, share) = (&rollout.judged().candidate, rollout.share());
    let rest: f64 = split.iter().filter(|(v, _)| v != candidate).map(|(_, s)| s).sum();
    let others = split.len().saturating_sub(1).max(1) as f64;
    let of = |(version, file): &(String, f64)| {
        let live = match (version == candidate, rest > 0.0) {
            (true, _) => share,
            (false, true) => (1.0 - share) * file / rest,
            (false, false) => (1.0 - share) / others,
        };
        (version.clone(), live)
    };
    Some(split.iter().map(of).collect())
}

pub(super) fn judged_of(plan: &ModelPlan, candidate: &str) -> Judged {
    let version = plan.versions.iter().find(|version| version.name == candidate);
    Judged {
        model: plan.name.clone(),
        candidate: candidate.to_owned(),
        upstream_model: version.and_then(|version| version.upstream_model.clone()),
    }
}

/// What sentences call the other side.
pub(super) fn stable_name(plan: &ModelPlan, candidate: &str) -> String {
    let mut others = plan.versions.iter().filter(|version| version.name != candidate);
    match (others.next(), others.next()) {
        (Some(only), None) => only.name.clone(),
        _ => "the others".to_owned(),
    }
}

pub(super) fn world(model: &Model, rollout: &RollOut) -> World {
    let name = &rollout.judged().candidate;
    let is = |version: &&Version| *version.name == *name;
    let candidate_usable = model.versions.iter().find(is).is_some_and(|v| is_up(model, v));
    let candidate = load(model.versions.iter().filter(is));
    // Compared with itself, its load is its own.
    let stable = if rollout.plan().aa {
        candidate
    } else {
        load(model.versions.iter().filter(|version| !is(version)))
    };
    World { candidate_usable, candidate, stable }
}

/// May it be asked, and has one of its replicas passed a health check or served a request? What was not probed yet may
/// still be loading its model.
fn is_up(model: &Model, version: &Version) -> bool {
    let works = |member: &Member| {
        member.replica.standing() == Standing::Healthy
            || member.replica.outcomes.of_class(Class::Success) > 0
    };
    let probed = model.plan.health.is_some();
    version.any_usable(&[]) && (!probed || version.members.iter().any(works))
}

fn load<'a>(versions: impl Iterator<Item = &'a Version>) -> Load {
    let mut load = Load::default();
    // Who is given nothing carries nothing.
    for version in versions.filter(|version| version.share > 0.0) {
        load.share += version.share;
        let usable = version.members.iter().filter(|member| member.replica.usable());
        load.weight += usable.map(|member| f64::from(member.weight)).sum::<f64>();
    }
    load
}
