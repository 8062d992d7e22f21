//! What is known of each replica, for `/metrics`.
use super::exposition::Page;
use super::metrics::{EJECTIONS, EJECTIONS_REFUSED, IN_FLIGHT, REPLICA_REQUESTS, REPLICA_STATE};
use super::walk::{members, versions};
use crate::health::{Cause, Class, Standing};
use crate::table::{Member, Table};
use std::sync::atomic::Ordering::Relaxed;

/// Replicas of all models, up to which each has a row for each kind of failure.
const FEW: usize = 200;
/// What blames a replica.
const FAILURES: [Class; 5] =
    [Class::ServerError, Class::Overloaded, Class::Timeout, Class::ConnectFailure, Class::Reset];

pub(super) fn expose(page: &mut Page, table: &Table) {
    let family = page.family(&IN_FLIGHT);
    for (model, version, Member { replica, .. }) in members(table) {
        let labels = [&*model.name, &*version.name, &*replica.id.url];
        family.gauge(&labels, f64::from(replica.in_flight()));
    }
    let family = page.family(&REPLICA_REQUESTS);
    // Success stands there from the start, so that a rate has a zero to rise from; failures do in small fleets.
    let few = members(table).count() <= FEW;
    for (model, version, Member { replica, .. }) in members(table) {
        for class in Class::ALL {
            let n = replica.outcomes.of_class(class);
            if n > 0 || class == Class::Success || (few && FAILURES.contains(&class)) {
                family.count(&[&model.name, &version.name, &replica.id.url, class.name()], n);
            }
        }
    }
    let family = page.family(&REPLICA_STATE);
    for (model, version, Member { replica, .. }) in members(table) {
        let present = replica.standing();
        for state in Standing::ALL {
            let labels = [&*model.name, &*version.name, &*replica.id.url, state.name()];
            family.gauge(&labels, f64::from(u8::from(state == present)));
        }
    }
    ejections(page, table);
}

fn ejections(page: &mut Page, table: &Table) {
    let family = page.family(&EJECTIONS);
    for (model, version, Member { replica, .. }) in members(table) {
        for cause in Cause::ALL {
            let n = replica.ejections(cause);
            // From the start: each of them may come, an operator's also where `ejection` is off.
            if n > 0 || model.plan.ejection.is_some() || cause == Cause::Operator {
                family.count(&[&model.name, &version.name, &replica.id.url, cause.name()], n);
            }
        }
    }
    let family = page.family(&EJECTIONS_REFUSED);
    for (model, version) in versions(table) {
        let n = version.state.ejections_refused.load(Relaxed);
        family.count(&[&model.name, &version.name], n);
    }
}
