//! What operators order of replicas: drain, undrain, eject, restore, probe.
use super::action::Action;
use super::core::Core;
use super::order::{Act, Target, Unable, unknown};
use crate::stats::Moment;
use crate::table::{Held, Hold, Table, Version};
use std::sync::Arc;

impl Core {
    /// Does it, in place. `None`: it changed no replica.
    pub(super) fn act(
        &mut self,
        target: &Target,
        act: Act,
        hold: Hold,
        now: Moment,
    ) -> Result<Option<Action>, Unable> {
        let table = Arc::clone(self.table());
        let (version, held) = find(&table, target).map_err(Unable::Unknown)?;
        let checked = table.model(&held.0).is_some_and(|model| model.plan.health.is_some());
        if act == Act::Probe && !checked {
            let what = format!("model `{}` has no health check", held.0);
            return Err(Unable::Impossible(what));
        }
        let url = held.2.as_deref();
        let targets = || {
            let members = version.members.iter().map(|member| &member.replica);
            members.filter(move |replica| url.is_none_or(|url| *replica.id.url == *url))
        };
        let state = &version.state;
        let changed = match act {
            Act::Drain => {
                let why = hold.why("drained");
                targets().filter(|replica| replica.drain(true, Some(&why), now)).count()
            }
            Act::Undrain => targets().filter(|replica| replica.drain(false, None, now)).count(),
            Act::Eject => {
                let until = hold.ends.map(|ends| ends.at);
                let why: Arc<str> = hold.why("ejected").into();
                targets().for_each(|r| r.hold(state, until, Arc::clone(&why), now));
                targets().count()
            }
            Act::Restore => targets().filter(|replica| replica.restore(now)).count(),
            Act::Probe => {
                targets().for_each(|replica| replica.poke());
                targets().count()
            }
        };
        let confirmed = confirmed(target, act, &hold, now);
        let urls = version.members.iter().map(|member| &*member.replica.id.url);
        let overrides = &mut self.overrides;
        match act {
            Act::Drain => {
                overrides.drained.release(&held, urls);
                overrides.drained.0.insert(held, hold);
            }
            Act::Undrain => overrides.drained.release(&held, urls),
            Act::Eject => {
                overrides.ejected.release(&held, urls);
                overrides.ejected.0.insert(held, hold);
            }
            Act::Restore => overrides.ejected.release(&held, urls),
            Act::Probe => {}
        }
        version.count_probation();
        Ok((changed > 0).then_some(confirmed))
    }

    /// Ends the drains whose time is over; an ejection's end is seen by its replica. Returns what was drained.
    pub(super) fn end_holds(&mut self, now: Moment) -> Vec<Held> {
        let table = Arc::clone(self.table());
        let overrides = &mut self.overrides;
        overrides.ejected.take_over(now);
        let over = overrides.drained.take_over(now);
        for (model, version, url) in &over {
            let target =
                Target { model: model.clone(), version: version.clone(), replica: url.clone() };
            let Ok((version, _)) = find(&table, &target) else { continue };
            for replica in version.members.iter().map(|member| &member.replica) {
                let id = &replica.id;
                if overrides.drained.on(&id.model, &id.version, &id.url).is_none() {
                    replica.drain(false, None, now);
                }
            }
        }
        over
    }
}

fn confirmed(target: &Target, act: Act, hold: &Hold, now: Moment) -> Action {
    let (kind, verb) = match act {
        Act::Drain => ("drain", "drains"),
        Act::Undrain => ("drain", "serves again"),
        Act::Eject => ("ejection", "is ejected"),
        Act::Restore => ("ejection", "is restored and serves again"),
        Act::Probe => ("standing", "is probed"),
    };
    let lasts = hold.ends.map(|ends| format!(" for {:?}", ends.at.since(now))).unwrap_or_default();
    Action::Confirm { kind, message: format!("{target} {verb}{lasts}"), split: None }
}

/// The version that a target is about, and the target by the names that last: an alias or a trailing slash may come
/// and go.
fn find<'a>(table: &'a Table, target: &Target) -> Result<(&'a Version, Held), String> {
    let model = table.model(&target.model).ok_or_else(|| {
        unknown("model", &target.model, table.models.iter().map(|model| &*model.name))
    })?;
    let mut versions = model.versions.iter();
    let version: &Version = versions.find(|v| *v.name == *target.version).ok_or_else(|| {
        unknown("version", &target.version, model.versions.iter().map(|version| &*version.name))
    })?;
    let url = target.replica.as_ref().map(|url| {
        let wanted = url.trim_end_matches('/');
        let urls = version.members.iter().map(|member| &*member.replica.id.url);
        urls.clone()
            .find(|known| *known == wanted)
            .map(str::to_owned)
            .ok_or_else(|| unknown("replica", url, urls))
    });
    Ok((version, (model.name.to_string(), version.name.to_string(), url.transpose()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;
    use crate::control::Ruling;
    use crate::health::Standing;
    use crate::table::{Ends, Overrides};
    use std::time::Duration;

    const NOW: Moment = Moment::from_millis(60_000);

    fn began(overrides: Overrides) -> Core {
        let text = "listeners: [{address: 127.0.0.1:0}]\nmodels:\n  m: {aliases: [gpt], health: false, versions: {v1: [http://a:1, http://a:2, http://a:3]}}\n";
        let plan = Arc::new(parse_text(text.to_owned(), "test.yaml", &|_| None).unwrap().plan);
        Core::start(&plan, overrides, 7, Moment::ZERO).0
    }

    fn order(
        core: &mut Core,
        act: Act,
        url: Option<&str>,
        ends: Option<Moment>,
    ) -> Result<bool, Unable> {
        let target = Target {
            model: "gpt".to_owned(),
            version: "v1".to_owned(),
            replica: url.map(str::to_owned),
        };
        let ends = ends.map(|at| Ends { at, wall: jiff::Timestamp::UNIX_EPOCH });
        core.act(&target, act, Hold { ends, reason: None }, NOW).map(|told| told.is_some())
    }

    fn standings(core: &Core) -> [Standing; 3] {
        let members = &core.table().models[0].versions[0].members;
        std::array::from_fn(|i| members[i].replica.standing())
    }

    use Standing::{Draining, Ejected, Healthy, Probation};

    #[test]
    fn restoring_one_of_an_ejected_version_leaves_the_others_out_over_reload_and_restart() {
        let mut core = began(Overrides::default());
        assert_eq!(order(&mut core, Act::Eject, None, None), Ok(true));
        assert_eq!(standings(&core), [Ejected; 3]);
        assert_eq!(order(&mut core, Act::Restore, Some("http://a:2/"), None), Ok(true));
        assert_eq!(standings(&core), [Ejected, Healthy, Ejected]);
        let plan = Arc::clone(&core.table().plan);
        core.apply(&plan, NOW);
        assert_eq!(standings(&core), [Ejected, Healthy, Ejected]);
        let mut next = began(core.overrides().clone());
        assert_eq!(standings(&next), [Ejected, Healthy, Ejected]);
        assert_eq!(order(&mut next, Act::Restore, None, None), Ok(true));
        assert_eq!(standings(&next), [Healthy; 3]);
        assert_eq!(next.overrides().ejected, crate::table::Holds::default());
    }

    #[test]
    fn what_holds_for_a_while_ends_by_itself() {
        let mut core = began(Overrides::default());
        let end = NOW + Duration::from_secs(5);
        order(&mut core, Act::Drain, Some("http://a:1"), Some(end)).unwrap();
        order(&mut core, Act::Eject, Some("http://a:2"), Some(end)).unwrap();
        assert!(core.tick(NOW + Duration::from_secs(4)).is_empty());
        assert_eq!(standings(&core), [Draining, Ejected, Healthy]);
        let rulings: Vec<_> = core.tick(end).iter().map(Ruling::to_string).collect();
        assert_eq!(
            rulings,
            ["m/v1/http://a:1 serves again: its drain is over", "m/v1/http://a:2 is on probation"]
        );
        assert_eq!(standings(&core), [Healthy, Probation, Healthy]);
        let plan = Arc::clone(&core.table().plan);
        core.apply(&plan, end);
        assert_eq!(standings(&core), [Healthy, Probation, Healthy], "over a reload too");
    }

    #[test]
    fn a_drain_of_the_whole_version_outlives_that_of_one_replica() {
        let mut core = began(Overrides::default());
        let end = NOW + Duration::from_secs(5);
        order(&mut core, Act::Drain, None, None).unwrap();
        order(&mut core, Act::Drain, Some("http://a:1"), Some(end)).unwrap();
        core.tick(end);
        assert_eq!(standings(&core), [Healthy, Draining, Draining], "the last order counts");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let mut core = began(Overrides::default());
        let unknown = order(&mut core, Act::Drain, Some("http://a:9"), None);
        assert!(matches!(unknown, Err(Unable::Unknown(why)) if why.contains("http://a:")));
        let impossible = order(&mut core, Act::Probe, None, None);
        assert_eq!(impossible, Err(Unable::Impossible("model `m` has no health check".to_owned())));
    }
}
