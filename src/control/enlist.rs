//! What a new table changes in the fleet: who joins and who leaves, and what the file and operators say of each.
use crate::fleet::{Fleet, Replica, ReplicaId, VersionState};
use crate::health::Stage;
use crate::stats::Moment;
use crate::table::{Member, Model, Overrides, Table, Version};
use std::sync::Arc;

/// Has the fleet follow a table that was built. Returns the replicas that joined by it, and those that left.
pub(super) fn enlist(
    table: &Table,
    overrides: &Overrides,
    fleet: &mut Fleet,
    now: Moment,
) -> (Vec<Arc<Replica>>, Vec<Arc<Replica>>) {
    let mut joined = Vec::new();
    for model in &table.models {
        fleet.keep_model(&model.name, &model.state);
        model.state.mirror.follow(model.plan.mirror.as_ref().zip(model.plan.mirror_terms()), now);
        for version in &model.versions {
            fleet.keep_version(&model.name, &version.name, &version.state);
            version.state.watch(model.plan.ejection.as_ref(), version.members.len());
            for Member { replica, .. } in &version.members {
                if fleet.enlist(replica, table.generation) {
                    joined.push(Arc::clone(replica));
                }
                instruct(replica, model, version, now);
                hold(replica, &version.state, overrides, now);
            }
        }
    }
    for key in table.access.iter().flat_map(|access| access.keys()) {
        fleet.keep_allowance(&key.name, &key.allowance);
    }
    (joined, fleet.retire(table.generation, now))
}

/// What the file says of it.
fn instruct(replica: &Replica, model: &Model, version: &Version, now: Moment) {
    replica.upstream.follow(model.plan_of(version).tls.as_ref());
    if model.plan.health.is_none() {
        replica.trust(now);
    }
}

/// What operators said of it holds in every generation, and ends with what it names.
fn hold(replica: &Replica, state: &VersionState, overrides: &Overrides, now: Moment) {
    let ReplicaId { model, version, url } = &replica.id;
    let drained = overrides.drained.on(model, version, url);
    let why = drained.map(|hold| hold.why("drained"));
    replica.drain(drained.is_some(), why.as_deref(), now);
    let by_hand = match replica.stage() {
        Stage::Ejected { by_hand, until } => by_hand && until.is_none_or(|until| until > now),
        Stage::Free | Stage::Probation { .. } => false,
    };
    match overrides.ejected.on(model, version, url) {
        Some(hold) if !by_hand => {
            let until = hold.ends.map(|ends| ends.at);
            replica.hold(state, until, hold.why("ejected").into(), now);
        }
        None if by_hand => {
            replica.restore(now);
        }
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::control::order::{Act, Target};
    use crate::control::{Action, Core};
    use crate::health::Standing;
    use crate::table::{Hold, Plan};

    const NOW: Moment = Moment::from_millis(60_000);

    fn plan(model: &str) -> Arc<Plan> {
        let text = format!("listeners: [{{address: 127.0.0.1:0}}]\nmodels: {{m: {model}}}\n");
        Arc::new(parse_text(text, "test.yaml", &|_| None).unwrap().plan)
    }

    /// The URLs of those that join by these actions, and of those that leave.
    fn moves(actions: &[Action]) -> [Vec<&str>; 2] {
        let mut moves = [Vec::new(), Vec::new()];
        for action in actions {
            match action {
                Action::Join(replica) => moves[0].push(&*replica.id.url),
                Action::Retire(replica) => moves[1].push(&*replica.id.url),
                Action::Swap | Action::Rule(_) | Action::Tell(_) | Action::Confirm { .. } => {}
            }
        }
        for urls in &mut moves {
            urls.sort_unstable();
        }
        moves
    }

    #[test]
    fn replicas_join_and_leave_by_the_table_and_return_as_they_were() {
        let both = plan("{versions: {v: [http://a:1, http://b:1]}}");
        let (mut core, first) = Core::start(&both, Overrides::default(), 7, Moment::ZERO);
        assert_eq!(moves(&first), [vec!["http://a:1", "http://b:1"], vec![]]);
        let b = Arc::clone(&core.table().models[0].versions[0].members[1].replica);
        assert_eq!(moves(&core.apply(&both, NOW)), [vec![], vec![]] as [Vec<&str>; 2]);
        let other = core.apply(&plan("{versions: {v: [http://a:1, http://c:1]}}"), NOW);
        assert_eq!(moves(&other), [vec!["http://c:1"], vec!["http://b:1"]]);
        let back = core.apply(&both, NOW);
        assert_eq!(moves(&back), [vec!["http://b:1"], vec!["http://c:1"]]);
        let now = &core.table().models[0].versions[0].members[1].replica;
        assert!(Arc::ptr_eq(now, &b), "what was known of it is known still");
    }

    #[test]
    fn a_table_that_is_built_and_not_taken_up_changes_nothing() {
        let before = plan("{health: false, versions: {v: [http://a:1]}}");
        let (mut core, _) = Core::start(&before, Overrides::default(), 7, Moment::ZERO);
        let a = Arc::clone(&core.table().models[0].versions[0].members[0].replica);
        let mut overrides = core.overrides().clone();
        let held = ("m".to_owned(), "v".to_owned(), None);
        overrides.drained.0.insert(held, Hold { ends: None, reason: None });
        let after = plan(
            "{ejection: false, versions: {v: [http://a:1, http://b:1], v2: [http://c:1]}, split: {v: 50, v2: 50}}",
        );
        let fleet = &core.fleet;
        let built = Table::build(2, &after, &overrides, fleet, Some(core.table()), &mut || 7, NOW);
        assert!(Arc::ptr_eq(&built.models[0].versions[0].members[0].replica, &a));
        assert_eq!(a.standing(), Standing::Healthy);
        let c = &built.models[0].versions[1].members[0].replica;
        assert!(core.fleet.replica(&c.id).is_none(), "nobody knows the new ones");
        assert!(core.fleet.version(&"m".into(), &"v2".into()).is_none());
        drop(built);
        // Nor does the next table take the first one for a table that was before it.
        assert_eq!(moves(&core.apply(&before, NOW))[0], Vec::<&str>::new());
        let target = Target { model: "m".to_owned(), version: "v".to_owned(), replica: None };
        core.act(&target, Act::Drain, Hold { ends: None, reason: None }, NOW).unwrap();
        core.apply(&after, NOW);
        assert_eq!(a.standing(), Standing::Draining);
    }
}
