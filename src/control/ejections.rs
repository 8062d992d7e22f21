//! Rulings on replicas: who is ejected for cause, who is tried out, who serves again. Decided here, set in place.
use super::action::Ruling;
use super::core::Core;
use crate::fleet::Replica;
use crate::health::{Carried, Cause, EjectionPlan, Faded, Stage, Standing};
use crate::stats::Moment;
use crate::table::{Member, ModelPlan, Table, Version};
use rand::RngExt as _;
use std::sync::Arc;
use std::time::Duration;

impl Core {
    /// Rules on all that wait for it.
    pub fn judge_suspects(&mut self, now: Moment) -> Vec<Ruling> {
        let table = Arc::clone(self.table());
        let waiting = self.suspects().take();
        let mut rulings = Vec::new();
        for replica in waiting {
            // One that left the table is nobody's any more.
            let Some((plan, version)) = whose(&table, &replica) else { continue };
            rulings.extend(self.rule(plan, version, &replica, now));
        }
        rulings
    }

    /// What passes with time: counts fade, ejections end, refused ones are looked at again.
    pub(super) fn pass_time(&mut self, passed: Duration, now: Moment) -> Vec<Ruling> {
        let table = Arc::clone(self.table());
        let mut rulings = Vec::new();
        for model in &table.models {
            for version in &model.versions {
                fade(version, passed, now);
                for member in &version.members {
                    let replica = &member.replica;
                    replica.forgive(now);
                    if !version.state.watched() {
                        replica.excuse(&version.state);
                    }
                    if replica.stage() != Stage::Free || replica.refused() {
                        rulings.extend(self.rule(&model.plan, version, replica, now));
                    }
                }
            }
        }
        rulings
    }

    /// Moves one replica on as far as what it did and the time allow.
    fn rule(
        &mut self,
        plan: &ModelPlan,
        version: &Version,
        replica: &Arc<Replica>,
        now: Moment,
    ) -> Option<Ruling> {
        let draw = self.chance().random();
        let again = Arc::clone(replica);
        let ruling = match (replica.stage(), &plan.ejection) {
            (Stage::Free, None) => None,
            (Stage::Free, Some(rules)) => convict(rules, version, replica, draw, now),
            (Stage::Ejected { by_hand: false, .. }, None) => {
                replica.restore(now).then_some(Ruling::Pardoned { replica: again })
            }
            (Stage::Ejected { .. }, _) => replica
                .try_out(plan.health.is_some(), now)
                .then_some(Ruling::OnProbation { replica: again }),
            (Stage::Probation { .. }, rules) => {
                replica.end_long_trial(now);
                match (replica.failed_trial(), rules) {
                    (None, _) => {
                        replica.reinstate(now).then_some(Ruling::Reinstated { replica: again })
                    }
                    (Some(_), None) => {
                        replica.restore(now).then_some(Ruling::Pardoned { replica: again })
                    }
                    // It may have been out by hand, or more replicas been there.
                    (Some(cause), Some(rules)) => {
                        Some(if let Some(why) = full(rules, version, replica) {
                            replica.restore(now);
                            Ruling::Kept { replica: again, why }
                        } else {
                            let lasts = replica.fail_probation(rules, cause, draw, now);
                            Ruling::FailedProbation { replica: again, lasts, cause }
                        })
                    }
                }
            }
        };
        if ruling.is_some() {
            version.count_probation();
        }
        ruling
    }
}

/// Lets what was learned of a version's replicas fade, and looks at what they carry and whose turn it is.
fn fade(version: &Version, passed: Duration, now: Moment) {
    let (state, n) = (&version.state, version.members.len());
    let (speed, pool) = (state.speed(), state.pool());
    let weights: f32 = version.members.iter().map(|member| member.weight).sum();
    let part = |member: &Member| member.weight * n as f32 / weights;
    let (mut counts, mut due) = (Faded::default(), 0);
    let (mut usable, mut carried) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for member in &version.members {
        let left = member.replica.fade(&speed, &pool, passed, now);
        counts.requests += left.counts.requests;
        counts.failures += left.counts.failures;
        due += usize::from(left.due);
        if member.replica.usable() {
            usable.push(member);
            carried.push(Carried { load: left.carried.load / part(member), ..left.carried });
        }
    }
    state.fade(counts);
    state.set_due(if n > 1 { due } else { 0 });
    let mut usual = state.usual_load.lock();
    let strains = usual.look(&carried);
    usual.learn(&carried, &strains, passed);
    drop(usual);
    for (member, strain) in usable.into_iter().zip(strains) {
        member.replica.set_strain(strain, part(member));
    }
}

fn convict(
    rules: &EjectionPlan,
    version: &Version,
    replica: &Arc<Replica>,
    draw: f64,
    now: Moment,
) -> Option<Ruling> {
    if replica.standing() == Standing::Draining {
        // What is wrong with it may be why: it is judged anew when it returns.
        return None;
    }
    let state = &version.state;
    let Some(evidence) = replica.conviction(state, now) else {
        replica.acquit();
        return None;
    };
    let strained =
        || evidence.cause() == Cause::Timeout && is_strained(version, replica, evidence.since, now);
    let overloaded =
        || replica.is_among_failing(state) && evidence.is_overload(peers_part(version, replica));
    if strained() || overloaded() {
        replica.excuse(state);
        return None;
    }
    let (again, sentence) = (Arc::clone(replica), state.sentence(&evidence, now));
    if let Some(why) = why_not(rules, version, replica) {
        // Where none may be out, none is as good as out.
        let capped = rules.max_percent > 0.0;
        return replica.refuse(state, evidence, &why, capped, now).then(|| {
            state.ejections_refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ruling::Refused { replica: again, why, evidence: sentence }
        });
    }
    let lasts = replica.eject(state, rules, evidence, draw, now);
    Some(Ruling::Ejected { replica: again, lasts, evidence: sentence })
}

/// How many times its own weight its usable peers weigh together.
fn peers_part(version: &Version, replica: &Arc<Replica>) -> f64 {
    let (mut own, mut peers) = (0.0, 0.0);
    for member in version.members.iter().filter(|m| m.replica.usable()) {
        let is_it = Arc::ptr_eq(&member.replica, replica);
        *(if is_it { &mut own } else { &mut peers }) += f64::from(member.weight);
    }
    if own > 0.0 { peers / own } else { 0.0 }
}

/// Are its peers beyond their capacity at this moment, so that its timeouts since then say nothing? What is noted by the
/// second is too late for the first that is overwhelmed.
fn is_strained(version: &Version, replica: &Arc<Replica>, since: Moment, now: Moment) -> bool {
    let usable: Vec<_> = version.members.iter().filter(|m| m.replica.usable()).collect();
    let weights: f32 = version.members.iter().map(|member| member.weight).sum();
    let part = |member: &Member| member.weight * version.members.len() as f32 / weights;
    let carries = |member: &&Member| {
        let carried = member.replica.carries(now);
        Carried { load: carried.load / part(member), ..carried }
    };
    let carried: Vec<Carried> = usable.iter().map(carries).collect();
    let place = usable.iter().position(|member| Arc::ptr_eq(&member.replica, replica));
    let strains = version.state.usual_load.lock().look(&carried);
    place.is_some_and(|place| {
        strains[place].time_out || (strains[place].crowded && replica.worked_since(since))
    })
}

/// Why this one must stay, if it must.
fn why_not(rules: &EjectionPlan, version: &Version, replica: &Arc<Replica>) -> Option<String> {
    let other = |m: &Member| !Arc::ptr_eq(&m.replica, replica) && m.replica.usable();
    full(rules, version, replica).or_else(|| {
        (!version.members.iter().any(other)).then(|| "no other replica is usable".to_owned())
    })
}

/// Are as many others out as may be? Those on probation count: each may be back out at once.
fn full(rules: &EjectionPlan, version: &Version, replica: &Arc<Replica>) -> Option<String> {
    let out = |stage| match stage {
        Stage::Ejected { by_hand, .. } => !by_hand,
        Stage::Probation { .. } => true,
        Stage::Free => false,
    };
    let (n, cap) = (version.members.len(), rules.cap(version.members.len()));
    let others = version.members.iter().filter(|m| !Arc::ptr_eq(&m.replica, replica));
    let already = others.filter(|m| out(m.replica.stage())).count();
    (already >= cap).then(|| format!("`max_percent` allows {cap} of {n} and {already} are out"))
}

/// The version that lists a replica.
fn whose<'a>(table: &'a Table, replica: &Arc<Replica>) -> Option<(&'a ModelPlan, &'a Version)> {
    let id = &replica.id;
    let model = table.models.iter().find(|model| model.name == id.model)?;
    let version = model.versions.iter().find(|version| version.name == id.version)?;
    let listed = version.members.iter().any(|member| Arc::ptr_eq(&member.replica, replica));
    listed.then_some((&*model.plan, version))
}
